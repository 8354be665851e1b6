"""Rows of a table on benchmarks: which settings a method or a trained model has in a column, and its measurement."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from lexiseg.checkpoints.word_adaptation import WordAdaptation
from lexiseg.clip.loading import FrozenCLIP
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.dense.learned_projection import projection_fingerprint
from lexiseg.dense.methods import build_method
from lexiseg.dense.multi_view import MultiView
from lexiseg.dense.names import METHODS, TG_CLIP_TEXT, encoder_name
from lexiseg.dense.region_bank import RegionBank
from lexiseg.dense.wants import wants_masks
from lexiseg.errors import ConfigError, did_you_mean
from lexiseg.evaluation.benchmark_table import Cell
from lexiseg.evaluation.efficiency import Efficiency, count_operations, count_parameters
from lexiseg.evaluation.evaluate import EvaluationReport, evaluate
from lexiseg.evaluation.naming import NAMING_PROTOCOL, MaskSource
from lexiseg.evaluation.trained_row import TrainedRow
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import TRAINING_FREE, InferenceProtocol, square_changes
from lexiseg.inference.regions import masks_missing
from lexiseg.inference.segmenter import Segmenter
from lexiseg.inference.words import known_words
from lexiseg.plain_settings import require_plain_settings, within
from lexiseg.progress import doing
from lexiseg.types import ClassSplit, SegmentationDataset

log = logging.getLogger(__name__)

Words = tuple[tuple[str, ...], ...]

UNIFORM = {
    key: getattr(TRAINING_FREE, key) for key in ("logit_scale", "probability_threshold", "area_threshold")
}
"""One logit scale, no threshold and no area rule: what published settings change from data set to data set, beside sizes
and words."""


@dataclass(frozen=True, kw_only=True)
class MethodChoice:
    """A method as a table's row asks for it; whatever is None or empty is the published value.

    Attributes:
        name: One of :data:`METHODS`.
        label: What the row is called; by default the name and the choices that differ.
        settings: Constructor arguments of its encoder.
        strength: λ of text-guided recalibration.
        temperature: τ of text-guided recalibration.
        unit_features: See :class:`~lexiseg.dense.recalibration.Recalibrated`.
        after_upsampling: See there.
        views: Views to fuse.
        templates: Prompt templates.
        uniform: Read every benchmark alike: :data:`UNIFORM` in place of the benchmark's own (TG-CLIP, section 2.1). By default
            ``tg-clip-text`` does.
        protocol: Changes to the benchmark's protocol.
        adapted: A file that ``lexiseg adapt`` wrote for this method.

    Raises:
        ConfigError: No such method.
    """

    name: str
    label: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    strength: float | None = within(None, at_least=0)
    temperature: float | None = within(None, above=0)
    unit_features: bool | None = None
    after_upsampling: bool | None = None
    views: MultiView | None = None
    templates: str | None = None
    uniform: bool | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict)
    adapted: str | None = None

    def __post_init__(self) -> None:
        """Name the row, and refuse unknown methods before anything is measured."""
        if self.name not in METHODS:
            raise ConfigError(
                f"no training-free method '{self.name}'; choose from {', '.join(METHODS)}, or all"
                f"{did_you_mean(self.name, METHODS)}"
            )
        require_plain_settings(self, f"methods: {self.name}")
        if not self.label:
            object.__setattr__(self, "label", self.name)
        if self.uniform is None:
            object.__setattr__(self, "uniform", self.name == TG_CLIP_TEXT)

    @classmethod
    def from_entry(cls, entry: str | Mapping[str, Any]) -> "MethodChoice":
        """From a name, or from plain values with the attributes' names.

        Raises:
            ConfigError: Neither, or a key that does not exist.
        """
        if isinstance(entry, str):
            return cls(name=entry)
        known = [item.name for item in fields(cls)]
        if not isinstance(entry, Mapping) or "name" not in entry or set(entry) - set(known):
            raise ConfigError(
                f"methods: expected names or settings such as {{name: tg-clip, strength: 0.2}} with the keys "
                f"{', '.join(known)}; got {entry!r}"
            )
        values = dict(entry)
        if isinstance(values.get("views"), Mapping):
            values["views"] = MultiView.from_dict(values["views"])
        return cls(**values)

    @classmethod
    def many(cls, entries: str | Sequence[str | Mapping[str, Any]]) -> tuple["MethodChoice", ...]:
        """From ``all`` or a list of entries.

        Raises:
            ConfigError: An unknown method, or two rows of one label.
        """
        if isinstance(entries, str):
            entries = METHODS if entries == "all" else (entries,)
        if not isinstance(entries, list | tuple):
            raise ConfigError(f"methods: expected all, or a list of names, got {entries!r}")
        chosen = tuple(cls.from_entry(entry) for entry in entries)
        labels = [choice.label for choice in chosen]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice or not chosen:
            raise ConfigError(
                f"methods: two rows are called {', '.join(twice)}; give each a label of its own"
                if twice
                else "methods: the list is empty"
            )
        return chosen


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A labelled data set, the words its classes are asked for by, and every method's settings on it.

    Attributes:
        name: What tables call it.
        dataset: Photographs and labels.
        words: A group of words per class, by name of the list; ``None`` names the list most methods take.
        protocol: Settings of methods that have none of their own.
        methods: Per method what differs: ``words``, ``protocol``, ``settings``; nothing, but there, where its publication
            has the same values. Empty: every method has the same, of nobody's publication.
        training: Opens the training images of the same data set, for what is fitted on some; None: it has none.
    """

    name: str
    dataset: SegmentationDataset
    words: Mapping[str | None, Words]
    protocol: Mapping[str, Any]
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    training: Callable[[], SegmentationDataset] | None = None

    def own(self, method: str) -> Mapping[str, Any]:
        """What the benchmark says of a method; TG-CLIP stands on SC-CLIP and takes its values."""
        return self.methods.get(method) or self.methods.get(encoder_name(method), {})

    def borrows(self, method: str) -> bool:
        """Whether a method's settings here are SC-CLIP's, because none are known to be published; never where all share one."""
        return bool(self.methods) and method not in self.methods

    def words_for(self, method: str) -> Words:
        """The words that a method was published with."""
        return self.words[self.own(method).get("words")]

    def protocol_for(self, choice: MethodChoice, views: MultiView) -> InferenceProtocol:
        """The whole protocol of a row.

        Raises:
            ConfigError: A setting that does not exist or is out of range.
        """
        own = {**self.own(choice.name).get("protocol", {}), **(UNIFORM if choice.uniform else {})}
        merged = {"activation": "linear", **self.protocol, **own, "views": views, **choice.protocol}
        return InferenceProtocol.from_dict({**merged, "name": f"{self.name}/{choice.label}"})


Row = MethodChoice | TrainedRow
"""What a table's row may be."""


def prepare(
    choice: Row,
    benchmark: Benchmark,
    clip: FrozenCLIP,
    changes: Mapping[str, Any] | None = None,
    *,
    masks: MaskSource | None = None,
) -> Segmenter:
    """The segmenter of one row on one benchmark; words are embedded, or read from the cache.

    Args:
        choice: The row.
        benchmark: The column.
        clip: The frozen CLIP of the row: the methods' common one, or the trained model's own.
        changes: Protocol settings for every row; those of the row itself win.
        masks: That the segmenter will be given, if any.

    Raises:
        ConfigError: A method that reads inside masks, and there are none; or settings that cannot be.
    """
    # Masks that a method reads inside are its own: the task stays what it was.
    inside = isinstance(choice, MethodChoice) and wants_masks(choice.name)
    changes = {**({} if masks is None or inside else NAMING_PROTOCOL), **(changes or {})}
    if isinstance(choice, TrainedRow):
        return choice.segmenter(benchmark.name, benchmark.dataset.classes, benchmark.words[None], changes)
    if masks is None and wants_masks(choice.name):
        raise masks_missing(choice.name)
    own = benchmark.own(choice.name).get("settings", {})
    method = build_method(
        choice.name,
        clip.tower,
        strength=choice.strength,
        temperature=choice.temperature,
        unit_features=choice.unit_features,
        after_upsampling=choice.after_upsampling,
        views=choice.views,
        **{**own, **choice.settings},
    )
    # What a benchmark sets is of other methods' windows and soft-max; what was typed for this row or for all holds.
    square = {**UNIFORM, **square_changes(clip.tower.image_size)}
    reads_square = getattr(method.model, "reads_square", False)
    row = replace(choice, protocol={**(square if reads_square else {}), **changes, **choice.protocol})
    pipeline = Pipeline.training_free(method, clip, templates=choice.templates)
    protocol = benchmark.protocol_for(row, method.views)
    _tell_other_sizes(choice, benchmark, protocol, getattr(method.model, "bank", None))
    pipeline = replace(pipeline, protocol=protocol)
    if choice.adapted is not None:
        pipeline = pipeline.adapted(WordAdaptation.read(choice.adapted), choice.adapted)
    return pipeline.segmenter(Vocabulary(benchmark.words_for(choice.name), shared=True))


def _tell_other_sizes(
    choice: MethodChoice, benchmark: Benchmark, protocol: InferenceProtocol, bank: RegionBank | None
) -> None:
    """Warn of a bank whose photographs were read at other sizes than those of the benchmark will be."""
    made = {} if bank is None else bank.about["protocol"]
    other = [
        f"{key} {getattr(protocol, key, None)} (was {old})"
        for key, old in made.items()
        if getattr(protocol, key, None) != old
    ]
    if other:
        log.warning(
            "%s on %s reads otherwise than its bank: %s", choice.label, benchmark.name, ", ".join(other)
        )


def cell_key(
    choice: Row,
    benchmark: Benchmark,
    segmenter: Segmenter,
    clip: FrozenCLIP,
    limit: int | None,
    masks: MaskSource | None = None,
) -> str:
    """Hash of everything that decides the score."""
    row: dict[str, Any]
    if isinstance(choice, TrainedRow):
        row = {"weights": choice.fingerprint, "model": choice.info.model}
        # An import may name the classes of training anew, with the same weights: FC-CLIP weighs CLIP by them.
        row["known"] = known_words(segmenter.vocabulary, choice.info.split, choice.info.synonyms)
    else:
        row = {
            "choice": {**vars(choice), "views": None, "protocol": None, "settings": dict(choice.settings)},
            "own": benchmark.own(choice.name).get("settings", {}),
        }
        if choice.settings.get("learned") is not None:
            row["learned"] = projection_fingerprint(choice.settings["learned"])
        if choice.adapted is not None:
            row["adapted"] = hashlib.sha256(Path(choice.adapted).read_bytes()).hexdigest()
        bank = getattr(segmenter.model, "bank", None)
        if bank is not None:  # under its name another may lie today
            row["bank"] = dict(bank.about)
    settings = {
        **row,
        **({} if masks is None else {"masks": masks.told}),
        "protocol": segmenter.protocol.to_dict(),
        "words": segmenter.vocabulary.words,
        "templates": segmenter.vocabulary.templates,
        "clip": clip.fingerprint,
        "images": [len(benchmark.dataset), limit],
        "data": data_name(benchmark.dataset),
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def data_name(dataset: SegmentationDataset) -> str:
    """What tells a data set from another: its labels' fingerprint, or its public settings."""
    fingerprint = getattr(dataset, "fingerprint", None)
    if fingerprint is not None:
        return str(fingerprint())
    shown = {key: value for key, value in vars(dataset).items() if not key.startswith("_")}
    return f"{type(dataset).__name__} {shown}"


def measure(
    choice: Row,
    benchmark: Benchmark,
    segmenter: Segmenter,
    clip: FrozenCLIP,
    *,
    key: str,
    limit: int | None = None,
    images_per_batch: int = 1,
    masks: MaskSource | None = None,
) -> Cell:
    """Score one row on one benchmark and count what it costs."""
    names = tuple(benchmark.dataset.classes)
    split = ClassSplit(benchmark.name, names, setting="supervised")
    first = benchmark.dataset[0]
    given = (
        masks.masks(benchmark.dataset, 0, first)
        if masks is not None and segmenter.model.needs.masks
        else None
    )
    with doing(f"counting operations of {choice.label}"):
        operations = count_operations(segmenter, first.image, given)
    own: dict[str, Any] = {"method": segmenter.method}
    if isinstance(choice, MethodChoice) and choice.adapted is not None:
        own["adapted"] = choice.adapted
    if isinstance(choice, TrainedRow):
        own = choice.told(split)
    context = {
        "label": choice.label,
        **own,
        "clip": {"source": clip.source, "fingerprint": clip.fingerprint},
        "data": data_name(benchmark.dataset),
    }
    report = evaluate(
        segmenter,
        benchmark.dataset,
        split,
        limit=limit,
        context=context,
        images_per_batch=images_per_batch,
        masks=masks,
    )
    efficiency = Efficiency(count_parameters(segmenter, clip), operations, report.seconds_per_image)
    return Cell(
        choice.label, benchmark.name, key, report.scores["miou"], efficiency, _with_names(report, names)
    )


def _with_names(report: EvaluationReport, names: Sequence[str]) -> dict[str, Any]:
    """The report, its class names those of the data set: groups of negative words have no name of their own."""
    return {**report.to_dict(), "classes": list(names)}
