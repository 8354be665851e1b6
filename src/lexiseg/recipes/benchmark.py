"""Training-free methods and trained models side by side, each under its own settings: a cell is measured once."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lexiseg.clip.loading import FrozenCLIP
from lexiseg.clip.templates import resolve_templates
from lexiseg.data.resuming import MOST_SAMPLES, require_count
from lexiseg.dense.wants import wants_masks
from lexiseg.errors import ConfigError, DataError, LexisegError
from lexiseg.evaluation.benchmark import Benchmark, MethodChoice, Row, cell_key, measure, prepare
from lexiseg.evaluation.benchmark_table import Cell, read_cells, to_markdown, write_cells
from lexiseg.evaluation.naming import MaskSource
from lexiseg.evaluation.published import Published, is_published_tower, published_miou
from lexiseg.evaluation.trained_row import TrainedChoice, TrainedRow
from lexiseg.inference.devices import pick_device
from lexiseg.interruption import Kept, keeping
from lexiseg.progress import with_progress
from lexiseg.recipes.ablations import MEASURED, choose_rows, table_source
from lexiseg.recipes.projections import wants_projection, with_projection
from lexiseg.recipes.settings import require_changes, require_limit
from lexiseg.storage import write_text

RESULTS_FILE = "results.json"
TABLE_FILE = "table.md"

Refused = Callable[[Row, LexisegError], None]
"""Hears of a row that cannot read a benchmark, and why."""


@dataclass(frozen=True)
class BenchmarkRun:
    """Which methods and trained models to measure on which benchmarks.

    Attributes:
        methods: Rows of the table.
        benchmarks: Its columns, each with its data set opened.
        clip: That the methods read, on its device; None where there is no method.
        output: Folder of ``results.json`` and ``table.md``; what is there already is not measured again.
        templates: A template set for every method that names none; None for each one's published set.
        protocol: Changes for every row.
        limit: Only the first so many images of each benchmark.
        images_per_batch: Photographs whose windows share the tower's batches.
        compile: ``torch.compile`` the towers.
        trained: Further rows, below the methods.
        masks: Give every row these, and judge the names that they get.
        printed: What a table of a paper prints, by label and benchmark, besides what is known of the methods as published.
    """

    methods: Sequence[MethodChoice]
    benchmarks: Sequence[Benchmark]
    clip: FrozenCLIP | None
    output: Path
    templates: str | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    images_per_batch: int = 1
    compile: bool = False
    trained: Sequence[TrainedRow] = ()
    masks: MaskSource | None = None
    printed: Mapping[tuple[str, str], Published] = field(default_factory=dict)

    @property
    def rows(self) -> list[Row]:
        """Methods, then trained models."""
        return [*self.methods, *self.trained]

    def __post_init__(self) -> None:
        """Refuse what no table can be made with."""
        require_limit(self.limit)
        require_changes(self.protocol)
        require_count("images_per_batch", self.images_per_batch, 1, MOST_SAMPLES)
        if self.templates is not None:
            resolve_templates(self.templates)
        if not isinstance(self.compile, bool):
            raise ConfigError(f"compile: expected true or false, got {self.compile!r}")


def measure_all(run: BenchmarkRun, refused: Refused) -> str:
    """Measure every cell that is not there yet; results are written after each, the table at the end.

    Under ``torchrun`` the processes share the images and the first one writes.

    Args:
        run: What to measure.
        refused: Told of each cell that is left out.

    Returns:
        The table, in Markdown.

    Raises:
        ConfigError: Nothing could be measured.
        DataError: An image or label map is unreadable.
    """
    with keeping(partial(_kept, run)):
        cells = _cells(run, refused)
    rows, columns = [choice.label for choice in run.rows], [benchmark.name for benchmark in run.benchmarks]
    table = to_markdown(cells, rows, columns, _published(run))
    if run.masks is not None:
        table += (
            f"\nNames of given masks ({run.masks.told['source']}); every pixel has the name of its mask.\n"
        )
    table += _borrowed(run, cells)
    if run.limit:
        table += f"\nThe first {run.limit} images of each benchmark only.\n"
    if is_first_process():
        write_text(table, run.output / TABLE_FILE)
    return table


def table_rows(
    methods: str | Sequence[Any], checkpoints: str | Sequence[Any]
) -> tuple[tuple[MethodChoice, ...], tuple[TrainedChoice, ...]]:
    """The rows of a table, before anything is opened.

    Args:
        methods: See :meth:`MethodChoice.many`; may be an empty list where there are checkpoints.
        checkpoints: See :meth:`TrainedChoice.many`.

    Raises:
        ConfigError: No row, an unknown one, or two of one label.
    """
    trained = TrainedChoice.many(checkpoints)
    chosen = () if trained and isinstance(methods, list) and not methods else MethodChoice.many(methods)
    labels = [*(row.label for row in chosen), *(row.label for row in trained)]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ConfigError(
            f"checkpoints: two rows are called {', '.join(twice)}; give each a label of its own, such as "
            "{checkpoint: runs/a/last.ckpt, label: last}"
        )
    return chosen, trained


def rows_of_table(table: str, rows: str | Sequence[str]) -> list[dict[str, Any]]:
    """The methods of a table of a paper, as entries of ``methods`` under the table's labels.

    Args:
        table: One of ``conf/benchmark/ablation``.
        rows: ``all``, or names of its rows.

    Raises:
        ConfigError: No such table or row.
    """
    return [{**row.method, "label": row.label} for row in choose_rows(table, rows, MEASURED)]


def printed_in(table: str) -> dict[tuple[str, str], Published]:
    """What a table of a paper prints, by label and benchmark, with where it is printed.

    Raises:
        ConfigError: No such table.
    """
    source = table_source(table, MEASURED) or ""
    return {
        (row.label, benchmark): Published(percent[0] / 100, source)
        for row in choose_rows(table, "all", MEASURED)
        for benchmark, percent in row.published.items()
    }


def join_processes(device: str) -> torch.device:
    """Under ``torchrun``, join the other processes and take a device of one's own.

    Raises:
        ConfigError: The device does not exist here.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not torch.distributed.is_initialized():
        cuda = torch.cuda.is_available() and device in ("auto", "cuda")
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
        if cuda:
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
            torch.cuda.set_device(device)
    return pick_device(device)


def is_first_process() -> bool:
    """The one that writes and prints."""
    return int(os.environ.get("RANK", "0")) == 0


def _cells(run: BenchmarkRun, refused: Refused) -> dict[tuple[str, str], Cell]:
    path = run.output / RESULTS_FILE
    known = read_cells(path)
    cells: dict[tuple[str, str], Cell] = {}
    failures = 0
    pairs = list(_pairs(run))
    for choice, benchmark in with_progress(pairs, "benchmark", len(pairs)):
        try:
            cell = _cell(choice, benchmark, run, known)
        except DataError:
            raise
        except LexisegError as error:
            refused(choice, error)
            failures += 1
            continue
        cells[choice.label, benchmark.name] = cell
        if is_first_process():
            write_cells({**known, **cells}.values(), path)
    if not cells:
        raise ConfigError(f"none of the {failures} measurements could be made; the messages above say why")
    return cells


def _kept(run: BenchmarkRun) -> Kept:
    there, wanted = read_cells(run.output / RESULTS_FILE), list(_pairs(run))
    found = sum((choice.label, benchmark.name) in there for choice, benchmark in wanted)
    return Kept(f"{run.output / RESULTS_FILE} keeps {found} of {len(wanted)} scores")


def _pairs(run: BenchmarkRun) -> Iterator[tuple[Row, Benchmark]]:
    for benchmark in run.benchmarks:
        for choice in run.rows:
            if run.templates and isinstance(choice, MethodChoice) and choice.templates is None:
                choice = replace(choice, templates=run.templates)
            yield choice, benchmark


def _published(run: BenchmarkRun) -> dict[tuple[str, str], Published]:
    """What papers print of the methods; of names of given masks nothing, but of labels that were found inside masks.

    Nothing stands beside a row with choices of its own: no paper measured it. What is changed for all rows is the run's affair.
    """
    if run.clip is None:
        return {}
    found = {
        (choice.label, benchmark.name): published_miou(choice.name, benchmark.name, run.clip.tower)
        for choice in run.methods
        if choice == MethodChoice(name=choice.name, label=choice.label)
        and (run.masks is None or wants_masks(choice.name))
        for benchmark in run.benchmarks
    }
    of_table = run.printed if is_published_tower(run.clip.tower) and run.masks is None else {}
    return {**{place: number for place, number in found.items() if number is not None}, **of_table}


def _borrowed(run: BenchmarkRun, cells: Mapping[tuple[str, str], Cell]) -> str:
    """A line of the methods that run under SC-CLIP's settings, for want of published ones of their own."""
    told = []
    for choice in run.methods:
        where = [
            each.name
            for each in run.benchmarks
            if (choice.label, each.name) in cells and each.borrows(choice.name) and not choice.uniform
        ]
        if where:
            told.append(f"{choice.label} ({', '.join(where)})")
    return f"\nSettings of sc-clip, for want of published ones: {', '.join(told)}.\n" if told else ""


def _cell(
    choice: Row, benchmark: Benchmark, run: BenchmarkRun, known: Mapping[tuple[str, str], Cell]
) -> Cell:
    """Measured now, or before under the same settings."""
    clip = choice.pipeline.clip if isinstance(choice, TrainedRow) else run.clip
    if clip is None:
        raise ConfigError(f"{choice.label}: a training-free method needs a CLIP")
    if isinstance(choice, MethodChoice) and wants_projection(choice):
        choice = with_projection(choice, benchmark, clip, run.protocol, run.output)
    segmenter = prepare(choice, benchmark, clip, run.protocol, masks=run.masks)
    key = cell_key(choice, benchmark, segmenter, clip, run.limit, run.masks)
    before = known.get((choice.label, benchmark.name))
    if before is not None and before.key == key:
        return before
    if run.compile and isinstance(segmenter.model, nn.Module) and "encode" not in vars(segmenter.model):
        # A trained model is one for all benchmarks, and is compiled once.
        segmenter.model.encode = torch.compile(segmenter.model.encode)  # type: ignore[assignment]
    return measure(
        choice,
        benchmark,
        segmenter,
        clip,
        key=key,
        limit=run.limit,
        images_per_batch=run.images_per_batch,
        masks=run.masks,
    )
