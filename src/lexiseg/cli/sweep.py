"""``lexiseg sweep``: the rows of one of the paper's tables, each over several seeds, in one table with spread."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.markdown import Markdown
from yaml import YAMLError

from lexiseg.cli.composing import compose_config, conf_dir, plain
from lexiseg.cli.train import train_as_configured
from lexiseg.errors import ConfigError
from lexiseg.recipes.sweep_table import SweepRow, read_results, run_folder, to_markdown
from lexiseg.storage import write_json, write_text

_OWN = ("ablation", "rows", "seeds", "output", "processes")


def run_sweep(overrides: Sequence[str]) -> int:
    """The command: overrides in, exit status out."""
    own = [o for o in overrides if o.partition("=")[0] in _OWN]
    config = _own_settings(own)
    of_runs = [o for o in overrides if o not in own]
    rows, seeds, output = read_rows(config), _seeds(config), Path(config.output)
    compose_config(
        "train", _for_one_run(of_runs, config.ablation, rows[0])
    )  # a mistake shows before the first run
    try:
        _launch(config, rows, seeds, of_runs)
    finally:
        _report(rows, seeds, output, of_runs)
    return 0


def _own_settings(own: Sequence[str]) -> DictConfig:
    """``conf/sweep.yaml`` with changes; not composed, because ``ablation`` there names a table, not one choice of its group.

    Raises:
        ConfigError: No table was named, or a value that does not parse.
    """
    try:
        config = OmegaConf.merge(OmegaConf.load(conf_dir() / "sweep.yaml"), OmegaConf.from_dotlist(list(own)))
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{' '.join(str(error).split())} See `lexiseg sweep --help`") from error
    if OmegaConf.is_missing(config, "ablation"):
        raise ConfigError(f"which table? Give ablation= one of {', '.join(_tables())}")
    return cast(DictConfig, config)


def read_rows(config: DictConfig) -> list[SweepRow]:
    """The rows of a table, in its order.

    Raises:
        ConfigError: No such table or row.
    """
    folder = conf_dir() / "ablation" / str(config.ablation)
    files = {path.stem: path for path in folder.glob("*.yaml")}
    if not files:
        raise ConfigError(f"no table '{config.ablation}'; choose from {', '.join(_tables())}")
    rows = plain(config.rows)
    names = list(files) if rows == "all" else [rows] if isinstance(rows, str) else list(rows)
    unknown = [name for name in names if name not in files]
    if unknown or not names:
        raise ConfigError(
            f"rows: {config.ablation} has no row {', '.join(unknown) or 'in an empty list'}; it has "
            f"{', '.join(sorted(files))}"
        )
    read = [SweepRow(**plain(OmegaConf.load(files[name]))["row"]) for name in names]
    return sorted(read, key=lambda row: row.number)


def run_row(config: DictConfig) -> None:
    """One run of a sweep, in whichever process or machine Hydra's launcher starts it."""
    choice = HydraConfig.get().runtime.choices["ablation"]
    print(f"\n{choice}, seed {config.seed}: {config.output_dir}", flush=True)
    OmegaConf.resolve(config)
    train_as_configured(config)


def _launch(
    config: DictConfig, rows: Sequence[SweepRow], seeds: Sequence[int], of_runs: Sequence[str]
) -> None:
    """Hydra's own multirun over rows and seeds.

    Raises:
        LexisegError: The first failed run's, after all others have run.
        ConfigError: A launcher that is not installed, or an override that does not parse.
    """
    output = Path(config.output)
    choices = ",".join(f"{config.ablation}/{row.name}" for row in rows)
    launcher = (
        []
        if config.processes == 1
        else ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={config.processes}"]
    )
    folder = (
        run_folder(output, "ROW", 0).as_posix().replace("ROW", "${row.name}").replace("seed0", "seed${seed}")
    )
    settings = [
        f"ablation={choices}",
        f"seed={','.join(map(str, seeds))}",
        f"output_dir='{folder}'",
        *launcher,
        f"hydra.sweep.dir='{output.as_posix()}'",
        "hydra.sweep.subdir=.",
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
        "hydra.mode=MULTIRUN",
    ]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            if hydra is None:  # initialize_config_dir has just made it
                raise ConfigError("Hydra did not start; reinstall hydra-core")
            jobs = hydra.multirun("train", run_row, [*settings, *of_runs], with_log_configuration=False)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"{' '.join(str(error).split())} See `lexiseg sweep --help`") from error
    _raise_failures(jobs)


def _raise_failures(jobs: Sequence[Sequence[JobReturn]]) -> None:
    for batch in jobs:
        for job in batch:
            _ = job.return_value  # Hydra raises a failed job's own error here


def _report(rows: Sequence[SweepRow], seeds: Sequence[int], output: Path, of_runs: Sequence[str]) -> None:
    """Write and show what has been run so far."""
    results = read_results(output, rows, seeds)
    if not any(results.values()):
        return
    table = to_markdown(rows, results)
    write_text(table, output / "table.md")
    stored = [
        {**vars(row), "runs": [vars(run) for run in results[row.name]], "overrides": list(of_runs)}
        for row in rows
    ]
    write_json(stored, output / "results.json")
    Console().print(Markdown(table))
    print(f"mIoU in %, mean ± standard deviation over seeds; written to {output}: table.md, results.json")


def _for_one_run(of_runs: Sequence[str], table: str, row: SweepRow) -> list[str]:
    return [f"ablation={table}/{row.name}", *(o for o in of_runs if not o.startswith("hydra"))]


def _seeds(config: DictConfig) -> list[int]:
    seeds = plain(config.seeds)
    seeds = [seeds] if isinstance(seeds, int) else list(seeds)
    if not seeds or any(not isinstance(seed, int) for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds: expected different whole numbers such as [0,1,2], got {seeds}")
    return seeds


def _tables() -> list[str]:
    return sorted(path.name for path in (conf_dir() / "ablation").iterdir() if path.is_dir())
