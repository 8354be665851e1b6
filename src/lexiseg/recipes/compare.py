"""One photograph, one list of words, every training-free method and perhaps a trained model side by side in one picture."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from lexiseg.checkpoints.run_checkpoint import trained_title
from lexiseg.clip.loading import FrozenCLIP, load_clip
from lexiseg.clip.templates import resolve_templates
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.constants import IGNORE_INDEX
from lexiseg.data.io import read_label
from lexiseg.dense.method_settings import method_arguments, require_use, shared_settings
from lexiseg.dense.methods import METHODS, build_method, default_clip
from lexiseg.dense.region_bank import RegionBank
from lexiseg.dense.registry import OWN_READINGS
from lexiseg.dense.wants import (
    left_wanting,
    require_taken,
    wants_bank,
    wants_masks,
    wants_sam,
    wants_second_model,
)
from lexiseg.drawing.grid import LabelledPanel, comparison, fit_labels, panel_size
from lexiseg.errors import ConfigError, DataError, LexisegError
from lexiseg.inference.devices import pick_device
from lexiseg.inference.given_masks import GivenMasks
from lexiseg.inference.pictures import NO_CLASS, drawable
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.regions import masks_missing
from lexiseg.inference.segmenter import Segmenter, require_reading
from lexiseg.models.cascade_clip import CascadeCLIP
from lexiseg.recipes.photographs import Photograph

NONE = "none"
"""Stands for no method: a trained model alone."""

TRUTH = "ground truth"
"""Title of the label map's panel."""

ALL = "all"
"""Stands for every method that reads patches; on a tower with a reading of its own, for that."""

_TOLD_IDS = 5

LeftOut = Callable[[str, LexisegError], None]
"""Hears which method cannot take part, and why."""


@dataclass(frozen=True)
class Comparison:
    """What to compare.

    Attributes:
        words: The classes.
        methods: Training-free methods, in the order in which they are drawn.
        background: What else may be there, a text with commas between; None: no background class.
        templates: Prompt templates for all; None: those that each was published or trained with.
        clip: Hub name, folder or file of CLIP weights, or ``toy``; None: the trained model's, or the hub's ViT-B/16.
        tokenizer: For CLIP files that bring none.
        proxy: Hub name or folder of the second vision model of the methods that take one; None: their own default.
        sam: Hub name or folder of the SAM of the methods that take one; None: their own default.
        masks: For the methods that read inside masks, as `GivenMasks` takes them; None: those are left out.
        bank: Folder of the bank that CorrCLIP looks regions up in; None: it looks none up.
        checkpoint: A trained model to stand beside the methods; its CLIP serves them all.
        stages: Every stage of its cascade alone, before the whole.
        device: See :func:`~lexiseg.inference.devices.pick_device`.
        settings: Of the methods, by name, as :func:`~lexiseg.dense.method_settings.shared_settings` takes them.
    """

    words: Vocabulary
    methods: Sequence[str] = field(default_factory=lambda: choose_methods(ALL, proxy=None))
    background: str | None = None
    templates: str | None = None
    clip: str | None = None
    tokenizer: str | None = None
    proxy: str | None = None
    sam: str | None = None
    masks: str | None = None
    bank: str | None = None
    checkpoint: str | None = None
    stages: bool = False
    device: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse masks that are nowhere, a bank that is none, settings that no method takes, and stages of no model."""
        require_use(self.methods, self.given)
        if self.masks is not None:
            GivenMasks(self.masks)
        if self.bank is not None:
            RegionBank.open(self.bank)
        if not self.methods and self.checkpoint is None:
            raise ConfigError(
                f"--methods {NONE} shows a trained model alone, and there is none; name one with --checkpoint, or name methods"
            )
        if self.stages and self.checkpoint is None:
            raise ConfigError(
                "--stages shows the stages of a trained Cascade-CLIP; name one with --checkpoint"
            )

    @property
    def given(self) -> dict[str, Any]:
        """The settings, with the bank among those of each method that looks regions up."""
        takers = [] if self.bank is None else [name for name in self.methods if wants_bank(name)]
        own = {name: {**self.settings.get(name, {}), "bank": self.bank} for name in takers}
        return {**self.settings, **own}


@dataclass(frozen=True)
class Contestant:
    """One column of the comparison: a method or a trained model, ready for the words, with masks if it reads inside them."""

    title: str
    segmenter: Segmenter
    masks: GivenMasks | None = None


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


def choose_methods(
    text: str,
    told: Callable[[str], None] = lambda line: None,
    *,
    proxy: str | None,
    masks: str | None = None,
    sam: str | None = None,
    bank: str | None = None,
) -> tuple[str, ...]:
    """Method names of a flag; ``all`` holds those that want other models or masks only where these are named.

    Args:
        text: Names with commas between, ``all``, or ``none`` for a trained model alone.
        told: Hears of each method that ``all`` does without, and why.
        proxy: The second model, if one is named.
        masks: Where masks are, if that is named.
        sam: The SAM, if one is named.
        bank: The bank, if one is named; it brings the second model of the methods that take one.

    Raises:
        ConfigError: No or unknown names, or another model or masks that no method would use.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if names == (ALL,):
        given = {"masks": masks is not None, "sam": sam is not None}
        wanting = {
            name: left_wanting(
                name, proxy=proxy is not None or (bank is not None and wants_bank(name)), **given
            )
            for name in METHODS
            if name not in OWN_READINGS
        }
        for name, what in wanting.items():
            if what:
                told(f"{name} is left out: {what}")
        for name, own in OWN_READINGS.items():
            told(
                f"{name} takes part with {own.called} alone, and then by itself; name one by --clip, such as {own.clip}"
            )
        return tuple(name for name, what in wanting.items() if not what)
    if names == (NONE,):
        return ()
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        wrong = f"no training-free method '{unknown[0]}'" if unknown else "--methods names no method"
        raise ConfigError(f"{wrong}; give {ALL}, or some of {', '.join(METHODS)}, separated by commas")
    require_taken({"proxy": proxy, "masks": masks, "sam": sam, "bank": bank}, names, "--methods")
    return names


def gather(task: Comparison, left_out: LeftOut) -> tuple[FrozenCLIP, list[Contestant]]:
    """Load one CLIP, build every method on it, and the trained model that brought it; one at least is there.

    Args:
        task: What to compare.
        left_out: Told of each method that refuses the CLIP.

    Raises:
        ConfigError: Every method refuses.
        LexisegError: No such CLIP or checkpoint, or words that this CLIP cannot read.
    """
    clip, trained = _load(task)
    contestants = build_methods(task, clip, left_out)
    if trained is not None:
        contestants += [*stage_contestants(task, trained), trained_contestant(task, trained)]
    if not contestants:
        raise ConfigError(f"no method is left to compare; choose others of {', '.join(METHODS)}")
    return clip, contestants


def build_methods(task: Comparison, clip: FrozenCLIP, left_out: LeftOut) -> list[Contestant]:
    """Every method of the task on one CLIP, which is on its device; those that refuse it are left out.

    Raises:
        LexisegError: Words that this CLIP cannot read.
    """
    contestants = []
    masks = None if task.masks is None else GivenMasks(task.masks, task.device)
    every = choose_methods(ALL, proxy=task.proxy, masks=task.masks, sam=task.sam, bank=task.bank)
    own = clip.tower.own_reading
    for name in (own,) if own is not None and tuple(task.methods) == every else task.methods:
        settings = shared_settings(name, task.given)
        if task.proxy is not None and wants_second_model(name):
            settings["proxy"] = task.proxy
        if task.sam is not None and wants_sam(name):
            settings["sam"] = task.sam
        try:
            if masks is None and wants_masks(name):
                raise masks_missing(name)
            method = build_method(name, clip.tower, **method_arguments(name, settings))
            pipeline = Pipeline.training_free(method, clip, templates=task.templates)
            require_reading(pipeline.model, pipeline.protocol)
        except LexisegError as error:
            left_out(name, error)
            continue
        segmenter = pipeline.segmenter(task.words, background=task.background)
        contestants.append(Contestant(name, segmenter, masks if wants_masks(name) else None))
    return contestants


def trained_contestant(task: Comparison, trained: Pipeline) -> Contestant:
    """The task's trained model, called by the folder of its run."""
    title = trained_title(str(task.checkpoint))
    return Contestant(title, trained.segmenter(task.words, background=task.background))


def stage_contestants(task: Comparison, trained: Pipeline) -> list[Contestant]:
    """Each stage of the task's trained cascade alone, the shallowest first, if the task wants them (Cascade-CLIP, figure 6).

    Raises:
        ConfigError: A model of another kind.
    """
    if not task.stages:
        return []
    model = trained.model
    if not isinstance(model, CascadeCLIP):
        name = "a program" if trained.info is None else trained.info.model.get("name", "a program")
        raise ConfigError(f"--stages: {name} has no cascade of stages; give a checkpoint of a Cascade-CLIP")
    pipelines = [replace(trained, model=model.stage_alone(index)) for index in range(len(model.stages))]
    return [
        Contestant(_stage_title(blocks), pipeline.segmenter(task.words, background=task.background))
        for blocks, pipeline in zip(model.settings.stages, pipelines, strict=True)
    ]


def _stage_title(blocks: Sequence[int]) -> str:
    return f"block {blocks[0]} alone" if len(blocks) == 1 else f"blocks {blocks[0]}-{blocks[-1]} alone"


def read_truth(
    truth: Path | None,
    photograph: Photograph,
    classes: int,
    told: Callable[[str], None] = lambda line: None,
) -> list[Reading]:
    """The panel of a photograph's label map, if there is one; it has no seconds.

    Args:
        truth: Its file, or the folder of a ``STEM.png`` for each photograph; class ids in the order of the classes, others are
            no class. None: nobody knows the truth.
        photograph: Which.
        classes: How many.
        told: Hears of ids that no class has.

    Raises:
        DataError: No such file, no label map, or one of another size.
    """
    if truth is None:
        return []
    path = truth / f"{photograph.path.stem}.png" if truth.is_dir() else truth
    label, size = read_label(path), photograph.pixels.shape[:2]
    if label.shape != size:
        raise DataError(
            f"--truth {path}: {label.shape[0]}x{label.shape[1]} pixels (height x width), but {photograph.path} has "
            f"{size[0]}x{size[1]}; give its own label map"
        )
    strange = [number for number in np.unique(label).tolist() if number >= classes and number != IGNORE_INDEX]
    if strange:
        which = ", ".join(map(str, strange[:_TOLD_IDS])) + (", …" if len(strange) > _TOLD_IDS else "")
        told(
            f"--truth {path}: ids beyond the {classes} classes of the words are drawn as no class, {len(strange)} in "
            f"all ({which}); give a word for every id, in their order"
        )
    known = np.minimum(label.astype(np.int64), classes)
    return [Reading(TRUTH, math.nan, "", fit_labels(known, panel_size(size[0], size[1])), ())]


def read_all(
    photograph: Photograph,
    contestants: Sequence[Contestant],
    left_out: LeftOut,
    step: Callable[[str], None] = lambda following: None,
) -> list[Reading]:
    """Let every contestant label the photograph; those that refuse it are left out.

    Args:
        photograph: Of any size.
        contestants: One or more.
        left_out: Told of each that refuses the photograph.
        step: Told after each which comes next.

    Raises:
        DataError: All of them refuse.
    """
    height, width = photograph.pixels.shape[:2]
    readings: list[Reading] = []
    for index, contestant in enumerate(contestants):
        started = time.perf_counter()
        try:
            masks = None if contestant.masks is None else contestant.masks.read(photograph)[0]
            result = contestant.segmenter.segment(photograph.pixels, scores=False, masks=masks)
        except LexisegError as error:
            left_out(contestant.title, error)
        else:
            seconds = time.perf_counter() - started
            labels = fit_labels(result.labels, panel_size(height, width))
            told = result.describe(most=4).replace(" %", "\N{NO-BREAK SPACE}%")
            readings.append(Reading(contestant.title, seconds, told, labels, result.unseen))
        step(contestants[(index + 1) % len(contestants)].title)
    if not readings:
        raise DataError(f"{photograph.path}: no method could read it, for the reasons above")
    return readings


def draw(photograph: Photograph, readings: Sequence[Reading], names: Sequence[str]) -> Image.Image:
    """The picture; colours are shared by all panels however many classes there are.

    Args:
        photograph: Stands first.
        readings: A panel each.
        names: Of the classes, in the order of their ids.
    """
    small, shown = drawable(np.stack([reading.labels for reading in readings]), [*names, NO_CLASS])
    panels = [
        LabelledPanel(reading.title, label, reading.unseen)
        for reading, label in zip(readings, small, strict=True)
    ]
    return comparison(photograph.pixels, panels, shown)


def _load(task: Comparison) -> tuple[FrozenCLIP, Pipeline | None]:
    """One CLIP, and the trained model that stands on it if there is one."""
    where = pick_device(task.device)  # a mistake shows before any weight is read
    if task.templates:
        resolve_templates(task.templates)
    if task.checkpoint is None:
        only = task.methods[0] if len(task.methods) == 1 else None
        return load_clip(task.clip or default_clip(only), tokenizer=task.tokenizer).to(where), None
    trained = Pipeline.load(
        task.checkpoint,
        clip=task.clip,
        tokenizer=task.tokenizer,
        templates=task.templates,
        device=task.device,
    )
    return trained.clip, trained
