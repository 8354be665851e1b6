"""``lexiseg benchmark``: training-free methods side by side under their published settings, in one table."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.markdown import Markdown

from lexiseg.cli.building import build_clip, instantiate_config
from lexiseg.cli.composing import compose_config, conf_dir, plain
from lexiseg.clip.loading import FrozenCLIP
from lexiseg.data.class_files import builtin_classes
from lexiseg.dense.methods import METHODS
from lexiseg.errors import ConfigError, DataError, LexisegError
from lexiseg.evaluation.benchmark import Benchmark, MethodChoice, cell_key, measure, prepare
from lexiseg.evaluation.benchmark_table import Cell, read_cells, to_markdown, write_cells
from lexiseg.inference.loading import pick_device
from lexiseg.storage import write_text

_HELP = f"""usage: lexiseg benchmark [benchmarks=[…]] [methods=[…]] [group=choice ...] [key=value ...]

Put training-free methods side by side: mIoU on every benchmark, parameters, operations, seconds per image, in one table
(table.md) and with every setting beside each score (results.json). A run that was stopped goes on where it stood.

  lexiseg benchmark clip=toy                                             all methods on the toy world, offline
  lexiseg benchmark benchmarks=[voc21,voc20] data_root=/data             data sets in mmsegmentation's layout
  lexiseg benchmark benchmarks=[ade20k] methods=[sclip,sc-clip,tg-clip] ade20k.data.root=/other/ADEChallengeData2016
  lexiseg benchmark benchmarks=[folder] folder.data.images=… folder.data.masks=… folder.data.classes=…
  lexiseg benchmark clip=toy methods='[{{name: tg-clip, strength: 0.2, label: strong}},{{name: gem, templates: single}}]'

methods:    {", ".join(METHODS)}
"""


def run_benchmark(overrides: Sequence[str]) -> int:
    """The command: overrides in, exit status out."""
    if any(flag in overrides for flag in ("-h", "--help")):
        print(_HELP + _describe())
        return 0
    own, of_benchmarks = _sort_overrides(overrides)
    config = compose_config("benchmark", own)
    choices = MethodChoice.many(plain(config.methods))
    benchmarks = [load_benchmark(name, config, of_benchmarks.get(name, ())) for name in _names(config)]
    device = _join_processes(config.device)
    clip = build_clip(config.clip).to(device)
    cells = run_all(choices, benchmarks, clip, config)
    if _is_first_process():
        rows, columns = [choice.label for choice in choices], [benchmark.name for benchmark in benchmarks]
        table = to_markdown(cells, rows, columns)
        if config.limit:
            table += f"\nThe first {config.limit} images of each benchmark only.\n"
        write_text(table, Path(config.output) / "table.md")
        Console().print(Markdown(table))
        print(f"written to {config.output}: table.md, results.json")
    return 0


def load_benchmark(name: str, config: DictConfig, overrides: Sequence[str] = ()) -> Benchmark:
    """One file of ``conf/benchmark`` with its data set opened.

    Raises:
        LexisegError: No such benchmark, a key that does not exist, or data that is not there.
    """
    given = [f"+data_root={config.data_root}", *(f"benchmark.{override}" for override in overrides)]
    entry = compose_config(f"benchmark/{name}", given).benchmark
    dataset = instantiate_config(entry.data)
    methods: Mapping[str, Mapping[str, Any]] = plain(entry.methods)
    lists = {entry.words, *(own["words"] for own in methods.values() if "words" in own)}
    words = {key: builtin_classes(key) for key in lists if key is not None}
    default = words[entry.words] if entry.words else getattr(dataset, "words", None)
    groups = default or tuple((label,) for label in dataset.classes)
    return Benchmark(
        name=entry.name,
        dataset=dataset,
        words={None: groups, **words},
        protocol=plain(entry.protocol),
        methods=methods,
    )


def run_all(
    choices: Sequence[MethodChoice], benchmarks: Sequence[Benchmark], clip: FrozenCLIP, config: DictConfig
) -> dict[tuple[str, str], Cell]:
    """Measure every cell that is not there yet; results are written after each."""
    path, console = Path(config.output) / "results.json", Console()
    known = read_cells(path)
    cells: dict[tuple[str, str], Cell] = {}
    failures = 0
    for benchmark in benchmarks:
        for choice in choices:
            try:
                cell = _cell(choice, benchmark, clip, config, known)
            except DataError:
                raise
            except LexisegError as error:
                console.print(f"[red]{choice.label} left out:[/red] {error}", highlight=False)
                failures += 1
                continue
            cells[choice.label, benchmark.name] = cell
            if _is_first_process():
                write_cells({**known, **cells}.values(), path)
    if not cells:
        raise ConfigError(f"none of the {failures} measurements could be made; the messages above say why")
    return cells


def _cell(
    choice: MethodChoice,
    benchmark: Benchmark,
    clip: FrozenCLIP,
    config: DictConfig,
    known: Mapping[tuple[str, str], Cell],
) -> Cell:
    if config.templates and choice.templates is None:
        choice = MethodChoice(**{**vars(choice), "templates": config.templates})
    segmenter = prepare(choice, benchmark, clip, plain(config.protocol))
    key = cell_key(choice, benchmark, segmenter, clip, config.limit)
    before = known.get((choice.label, benchmark.name))
    if before is not None and before.key == key:
        return before
    if config.compile and isinstance(segmenter.model, torch.nn.Module):
        segmenter.model.encode = torch.compile(segmenter.model.encode)  # type: ignore[assignment]
    return measure(
        choice,
        benchmark,
        segmenter,
        clip,
        key=key,
        limit=config.limit,
        images_per_batch=config.images_per_batch,
    )


def _sort_overrides(overrides: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Overrides of the run, and those of single benchmarks (``toy.data.length=40``) without their name."""
    own: list[str] = []
    of_benchmarks: dict[str, list[str]] = {}
    available = _available()
    for override in overrides:
        name, dot, rest = override.partition(".")
        if dot and name in available:
            of_benchmarks.setdefault(name, []).append(rest)
        else:
            # Changes to a protocol are keys that the composed file cannot know.
            own.append(f"+{override}" if override.startswith("protocol.") else override)
    return own, of_benchmarks


def _names(config: DictConfig) -> list[str]:
    names = plain(config.benchmarks)
    names = [names] if isinstance(names, str) else list(names)
    unknown = [name for name in names if name not in _available()]
    if unknown or not names:
        raise ConfigError(
            f"no benchmark '{unknown[0] if unknown else ''}'; choose from {', '.join(_available())}"
        )
    return names


def _available() -> list[str]:
    return sorted(path.stem for path in (conf_dir() / "benchmark").glob("*.yaml"))


def _describe() -> str:
    text = (conf_dir() / "benchmark.yaml").read_text(encoding="utf-8")
    keys = [line for line in text.splitlines() if line and not line.startswith(("#", "defaults", "  - "))]
    clips = ", ".join(sorted(path.stem for path in (conf_dir() / "clip").glob("*.yaml")))
    lines = [f"benchmarks: {', '.join(_available())}", f"clip:       {clips}", "", "keys:"]
    return "\n".join([*lines, *(f"  {key}" for key in keys)])


def _join_processes(device: str) -> torch.device:
    """Under ``torchrun``, join the other processes and take a device of one's own."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not torch.distributed.is_initialized():
        cuda = torch.cuda.is_available() and device in ("auto", "cuda")
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
        if cuda:
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
            torch.cuda.set_device(device)
    return pick_device(device)


def _is_first_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0
