"""``lexiseg compare``: one photograph, one list of words, every method side by side in one picture."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lexiseg.cli.flags import read_vocabulary, warn_unknown
from lexiseg.cli.photographs import Photograph, Step, conclude, describe, each_photograph, find_photos
from lexiseg.clip.loading import DEFAULT_CLIP, FrozenCLIP, load_clip
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.dense.methods import METHODS, build_method
from lexiseg.drawing.grid import LabelledPanel, comparison, fit_labels, panel_size
from lexiseg.errors import ConfigError, DataError, LexisegError
from lexiseg.inference.loading import pick_device
from lexiseg.inference.pictures import NO_CLASS, drawable
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.segmenter import Segmenter
from lexiseg.storage import write_png

_PROXY = "proxyclip"
_ALL = "all"
_CAPTION = "seconds from pixels to labels; the first method's hold the start-up"


@dataclass(frozen=True)
class Contestant:
    """One column of the comparison: a method or a trained model, ready for the words."""

    title: str
    segmenter: Segmenter


@dataclass(frozen=True)
class Reading:
    """What a contestant made of one photograph.

    Attributes:
        title: Of the contestant.
        seconds: From pixels to labels.
        told: Its largest classes.
        labels: ``(h, w)`` class ids at the size of a panel.
        unseen: Names to be hatched.
    """

    title: str
    seconds: float
    told: str
    labels: npt.NDArray[np.integer]
    unseen: tuple[str, ...]


def run(args: argparse.Namespace, console: Console | None = None) -> int:
    """Compare on every photograph.

    Args:
        args: Parsed flags.
        console: Where to print.

    Returns:
        Exit status: 0, or 1 if a photograph was skipped.

    Raises:
        LexisegError: Nothing could be done at all: no image, bad words, no such method, no model.
    """
    console = console or Console()
    photos = find_photos(args.photos)
    methods = choose_methods(args.methods, proxy=args.proxy)
    vocabulary = read_vocabulary(args)
    if args.methods.strip() == _ALL and _PROXY not in methods:
        console.print(f"{_PROXY} is left out: it needs a second vision model; name one by --proxy")
    clip, trained = _load(args)
    contestants = gather(clip, methods, vocabulary, args, console)
    if trained is not None:
        contestants.append(_trained_contestant(trained, vocabulary, args))
    if not contestants:
        raise ConfigError(f"no method is left to compare; choose others of {', '.join(METHODS)}")
    asked = contestants[0].segmenter.vocabulary
    warn_unknown(console, clip, asked)

    def work(photograph: Photograph, step: Step) -> None:
        readings = read_all(photograph, contestants, console, step)
        path = args.out / f"{photograph.stem}_compare.png"
        write_png(draw(photograph, readings, asked.names), path)
        height, width = photograph.pixels.shape[:2]
        console.print(f"{escape(str(photograph.path))}: {height}x{width} pixels (height x width)")
        console.print(_table(readings))
        console.print(f"picture: {escape(str(path))}\n")

    failures = each_photograph(photos, console, work, told=contestants[0].title, steps=len(contestants))
    return conclude(console, photos, failures, done=f"compared; pictures in {args.out}")


def choose_methods(text: str, *, proxy: str | None) -> tuple[str, ...]:
    """Method names of a flag; ``all`` holds proxyclip only where its second model is named.

    Raises:
        ConfigError: No or unknown names, or a second model that no method would use.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if names == (_ALL,):
        return tuple(name for name in METHODS if name != _PROXY or proxy is not None)
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        told = f"no training-free method '{unknown[0]}'" if unknown else "--methods names no method"
        raise ConfigError(f"{told}; give {_ALL}, or some of {', '.join(METHODS)}, separated by commas")
    if proxy is not None and _PROXY not in names:
        raise ConfigError(
            f"--proxy is for {_PROXY}, which is not among --methods {text}; name it or drop --proxy"
        )
    return names


def gather(
    clip: FrozenCLIP,
    methods: Sequence[str],
    vocabulary: Vocabulary,
    args: argparse.Namespace,
    console: Console,
) -> list[Contestant]:
    """Build every method on one CLIP; those that refuse it are left out, with a message.

    Args:
        clip: On its device.
        methods: Of :data:`METHODS`.
        vocabulary: The words.
        args: Gives ``templates``, ``proxy`` and ``background``.
        console: Where to print.

    Raises:
        LexisegError: Words that this CLIP cannot read.
    """
    contestants = []
    for name in methods:
        settings = {"proxy": args.proxy} if name == _PROXY and args.proxy is not None else {}
        try:
            method = build_method(name, clip.tower, **settings)
        except LexisegError as error:
            _leave_out(console, name, error)
            continue
        pipeline = Pipeline.training_free(method, clip, templates=args.templates)
        contestants.append(Contestant(name, pipeline.segmenter(vocabulary, background=args.background)))
    return contestants


def read_all(
    photograph: Photograph, contestants: Sequence[Contestant], console: Console, step: Step
) -> list[Reading]:
    """Let every contestant label the photograph; those that refuse it are left out, with a message.

    Raises:
        DataError: All of them refuse.
    """
    height, width = photograph.pixels.shape[:2]
    readings: list[Reading] = []
    for index, contestant in enumerate(contestants):
        started = time.perf_counter()
        try:
            result = contestant.segmenter.segment(photograph.pixels, scores=False)
        except LexisegError as error:
            _leave_out(console, contestant.title, error)
        else:
            seconds = time.perf_counter() - started
            labels = fit_labels(result.labels, panel_size(height, width))
            told = describe(result, most=4).replace(" %", "\N{NO-BREAK SPACE}%")
            readings.append(Reading(contestant.title, seconds, told, labels, result.unseen))
        step(contestants[(index + 1) % len(contestants)].title)
    if not readings:
        raise DataError(f"{photograph.path}: no method could read it, for the reasons above")
    return readings


def draw(photograph: Photograph, readings: Sequence[Reading], names: Sequence[str]) -> Image.Image:
    """The picture; colours are shared by all panels however many classes there are."""
    small, shown = drawable(np.stack([reading.labels for reading in readings]), [*names, NO_CLASS])
    panels = [
        LabelledPanel(reading.title, label, reading.unseen)
        for reading, label in zip(readings, small, strict=True)
    ]
    return comparison(photograph.pixels, panels, shown)


def _load(args: argparse.Namespace) -> tuple[FrozenCLIP, Pipeline | None]:
    """One CLIP, and the trained model that stands on it if there is one."""
    if args.checkpoint is None:
        clip = load_clip(args.clip or DEFAULT_CLIP, tokenizer=args.tokenizer)
        return clip.to(pick_device(args.device)), None
    trained = Pipeline.load(
        args.checkpoint,
        clip=args.clip,
        tokenizer=args.tokenizer,
        templates=args.templates,
        device=args.device,
    )
    return trained.clip, trained


def _trained_contestant(trained: Pipeline, vocabulary: Vocabulary, args: argparse.Namespace) -> Contestant:
    title = f"trained: {Path(args.checkpoint).parent.name or args.checkpoint}"
    return Contestant(title, trained.segmenter(vocabulary, background=args.background))


def _leave_out(console: Console, title: str, error: LexisegError) -> None:
    console.print(f"[yellow]{escape(title)} is left out:[/yellow] {escape(str(error))}")


def _table(readings: Sequence[Reading]) -> Table:
    table = Table("method", caption=_CAPTION, caption_justify="left")
    table.add_column("seconds", justify="right")
    table.add_column("largest classes")
    for reading in readings:
        table.add_row(escape(reading.title), f"{reading.seconds:.2f}", escape(reading.told))
    return table
