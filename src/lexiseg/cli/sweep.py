"""``lexiseg sweep``: the rows of one of the papers' tables, each over several seeds, in one table with spread."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lexiseg.cli.ablations import compose_row
from lexiseg.cli.composing import compose_config, hydra_at_work, plain
from lexiseg.cli.pixelclip import compose_tuning
from lexiseg.errors import ConfigError, LexisegError
from lexiseg.recipes.ablations import (
    AblationRow,
    choose_rows,
    choose_seeds,
    command_of,
    require_processes,
    table_names,
    table_source,
)
from lexiseg.recipes.run_folder import require_output_dir

if TYPE_CHECKING:
    from omegaconf import DictConfig

_OWN = ("ablation", "rows", "seeds", "output", "processes")
_SCORE = "score."
"""Before the overrides of the benchmark that PixelCLIP's tuned CLIPs are scored by."""


def run_sweep(overrides: Sequence[str]) -> int:
    """The command: overrides in, exit status out."""
    own = [o for o in overrides if o.partition("=")[0] in _OWN]
    of_hydra = [o for o in overrides if o.startswith("hydra")]
    of_runs = [o for o in overrides if o not in own and o not in of_hydra]
    if not any(o.startswith("ablation=") for o in own):
        raise ConfigError(f"which table? Give ablation= one of {', '.join(table_names())}")
    config = compose_config("sweep", own)
    require_output_dir(config.output, "output")
    require_processes(config.processes)
    rows, seeds = choose_rows(config.ablation, plain(config.rows)), choose_seeds(plain(config.seeds))
    from lexiseg.recipes.sweep_table import keeping_runs

    # A mistake shows before the first run.
    _open(config.ablation, [f"ablation={config.ablation}/{rows[0].name}", *of_runs])
    judges = _judges(config, of_runs)

    try:
        with keeping_runs(Path(config.output), rows, seeds, judges, processes=config.processes):
            _launch([*own, *of_hydra], config, rows, seeds, of_runs)
    finally:
        _report(config, rows, seeds, judges, [*of_hydra, *of_runs])
    return 0


def run_row(config: "DictConfig", of_runs: Sequence[str]) -> LexisegError | None:
    """One run of a sweep, in whichever process or machine Hydra's launcher starts it; its error, which Hydra would retell.

    Args:
        config: ``conf/sweep.yaml`` with its ``row`` and ``seed`` chosen.
        of_runs: Overrides of every run.
    """
    from lexiseg.recipes.sweep_table import run_folder

    folder = run_folder(Path(config.output), config.row, config.seed)
    print(f"\n{config.ablation}/{config.row}, seed {config.seed}: {folder}", flush=True)
    chosen = [f"ablation={config.ablation}/{config.row}", f"seed={config.seed}"]
    try:
        _open(config.ablation, [*of_runs, *chosen], folder)()
    except LexisegError as error:
        return error
    return None


def _open(table: str, overrides: Sequence[str], folder: Path | None = None) -> Callable[[], None]:
    """One run of a table, its settings read; calling it runs it.

    Raises:
        LexisegError: A setting that does not exist, a bad value, or data that are not there.
    """
    command = command_of(table)
    scoring = _scoring(overrides)
    rest = [override for override in overrides if not override.startswith(_SCORE)]
    composed = compose_tuning(rest) if command == "pixelclip" else compose_row(command, rest)
    composed.output_dir = composed.output_dir if folder is None else folder.as_posix()
    from lexiseg.recipes.records import training_run, tuning_run

    if command == "pixelclip":
        from lexiseg.cli.benchmark import read_run
        from lexiseg.recipes.tuned_scores import tune_and_measure

        tuning = tuning_run(plain(composed), print)
        return lambda: tune_and_measure(tuning, lambda more: read_run([*scoring, *more]))
    if scoring:
        raise ConfigError(
            f"{_SCORE}{scoring[0]}: a trained model is judged on its own validation data; leave it out"
        )
    from lexiseg.cli.train import tell_scores
    from lexiseg.recipes.training import train

    run = training_run(plain(composed), print)
    return lambda: tell_scores(train(run), run.output_dir)


def _scoring(overrides: Sequence[str]) -> list[str]:
    return [override.removeprefix(_SCORE) for override in overrides if override.startswith(_SCORE)]


def _judges(config: "DictConfig", of_runs: Sequence[str]) -> tuple[str, ...]:
    """Benchmarks that every tuned CLIP is measured on, opened once to see that they can be; of other tables none."""
    if command_of(config.ablation) != "pixelclip":
        return ()
    from lexiseg.cli.benchmark import read_run
    from lexiseg.recipes.tuned_scores import check_scores, on_processor

    return check_scores(lambda more: read_run([*_scoring(of_runs), *more], on_processor), Path(config.output))


def _launch(
    given: Sequence[str],
    config: "DictConfig",
    rows: Sequence[AblationRow],
    seeds: Sequence[int],
    of_runs: Sequence[str],
) -> None:
    """Hydra's own multirun over rows and seeds.

    Raises:
        LexisegError: The first failed run's, after all others have run.
        ConfigError: A launcher that is not installed, or an override that does not parse.
    """
    parallel = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={config.processes}"]
    settings = [
        f"row={','.join(row.name for row in rows)}",
        f"seed={','.join(map(str, seeds))}",
        *(parallel if config.processes != 1 else []),
        f"hydra.sweep.dir='{Path(config.output).as_posix()}'",
        "hydra.sweep.subdir=.",
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
        "hydra.mode=MULTIRUN",
    ]
    with hydra_at_work("`lexiseg sweep --help`") as hydra:
        if hydra is None:
            raise ConfigError("Hydra did not start; reinstall hydra-core")
        job = partial(run_row, of_runs=tuple(of_runs))
        jobs = hydra.multirun("sweep", job, [*settings, *given], with_log_configuration=False)
    for failed in (done.return_value for batch in jobs for done in batch):
        if failed is not None:
            raise failed


def _report(
    config: "DictConfig",
    rows: Sequence[AblationRow],
    seeds: Sequence[int],
    judges: Sequence[str],
    overrides: Sequence[str],
) -> None:
    """Write and show what has been run so far."""
    from rich.console import Console
    from rich.markdown import Markdown

    from lexiseg.recipes.sweep_table import write_report

    output = Path(config.output)
    table = write_report(output, rows, seeds, judges, overrides, table_source(config.ablation))
    if table is not None:
        Console().print(Markdown(table))
        print(f"mIoU in %, mean ± standard deviation over seeds; written to {output}: table.md, results.json")
