"""From named regions to the segments of a photograph: what that needs, and which classes are counted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.dense.multi_view import SINGLE_VIEW
from lexiseg.errors import ConfigError
from lexiseg.inference.instances import Instance, InstanceSegmentation
from lexiseg.inference.layout import ImageLayout
from lexiseg.inference.panoptic import PanopticSegmentation
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.words import EmbeddedWords
from lexiseg.ops.mask_classification import instances, panoptic_map
from lexiseg.types import ClassifiedMasks, Segmentable

SegmentKind = Literal["panoptic", "instances"]
"""``panoptic``: every pixel in one segment or in none. ``instances``: things one by one, whatever they overlap."""

Stuff = str | Sequence[str]
"""Classes that are not counted: a text with commas between, or a list."""

_KINDS = ("panoptic", "instances")

_OF_PIXELS = ("seen_penalty", "area_threshold", "pamr_steps")
"""Settings that change what a pixel is called, and say nothing of a segment."""


def require_segments(model: Segmentable, protocol: InferenceProtocol) -> None:
    """Refuse what cannot tell one thing from the next.

    Raises:
        ConfigError: A model that names pixels; or a protocol that cuts the photograph, or has rules for pixels alone.
    """
    if not model.names_regions:
        raise ConfigError(
            f"{type(model).__name__} names pixels, so that it cannot tell one thing from the next; panoptic and instance "
            "output need a checkpoint of a model of regions: san, fc_clip, zegformer, ovseg, open_seg or two_stage; pieces of "
            "labels, of any model, are Segmentation.to_panoptic and `lexiseg predict --format panoptic`"
        )
    if protocol.window is not None or protocol.views != SINGLE_VIEW:
        raise ConfigError(
            "panoptic and instance output read the photograph whole, for things are not joined across windows or views; set "
            "protocol.window=null and protocol.stride=null, and leave protocol.views alone"
        )
    for key in _OF_PIXELS:
        if getattr(protocol, key):
            raise ConfigError(
                f"protocol.{key} is {getattr(protocol, key)}, which is a rule for pixels and not for segments; set it to 0 for "
                "panoptic and instance output"
            )
    if protocol.probability_threshold not in (0, protocol.object_threshold):
        raise ConfigError(
            f"protocol.probability_threshold is {protocol.probability_threshold}, which is a rule for pixels; for panoptic and "
            "instance output set protocol.object_threshold instead"
        )


def segment_protocol(protocol: InferenceProtocol) -> tuple[InferenceProtocol, tuple[str, ...]]:
    """A protocol for pixels as one for segments: the photograph whole, and no rule for pixels alone.

    Returns:
        The protocol, and the keys that changed.
    """
    free: dict[str, Any] = {
        "window": None,
        "stride": None,
        "views": SINGLE_VIEW,
        **dict.fromkeys(_OF_PIXELS, 0),
    }
    changed = {key: value for key, value in free.items() if getattr(protocol, key) != value}
    return replace(protocol, **changed), tuple(changed)


def require_kind(kind: object, stuff: object) -> None:
    """Refuse what is no choice of segments, before anything is loaded.

    Args:
        kind: One of :data:`SegmentKind`, or None for labels of pixels.
        stuff: A list of names, or None.

    Raises:
        ConfigError: Another kind, no list of names, or stuff without segments.
    """
    if kind is not None and kind not in _KINDS:
        raise ConfigError(f"segments: expected panoptic or instances, or null for pixels, got {kind!r}")
    if stuff is None:
        return
    if not isinstance(stuff, list | tuple) or not all(isinstance(name, str) for name in stuff):
        raise ConfigError(f"stuff: expected a list of class names, such as [sky, road], got {stuff!r}")
    if kind is None:
        raise ConfigError(
            "stuff is what segments do not count; set segments=panoptic or segments=instances as well"
        )


def stuff_names(stuff: Stuff, vocabulary: Vocabulary) -> frozenset[str]:
    """The names of the classes that are not counted; a class may be called by any of its words, whatever their case.

    Raises:
        ConfigError: Not a class, or empty.
    """
    return names_of_stuff(stuff, dict(zip(vocabulary.names, vocabulary.words, strict=True)))


def names_of_stuff(stuff: Stuff, words: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """As :func:`stuff_names`, of class names and what else each is called."""
    given = stuff.split(",") if isinstance(stuff, str) else list(stuff)
    names = {word.strip().lower(): name for name, group in words.items() for word in group}
    wanted = [str(word).strip().lower() for word in given]
    unknown = [word for word in wanted if word not in names]
    if unknown:
        raise ConfigError(
            f"stuff: {unknown[0]!r} is none of the classes ({', '.join(list(words)[:12])}"
            f"{', …' if len(words) > 12 else ''}); name classes with commas between"
        )
    return frozenset(names[word] for word in wanted)


def find_panoptic(
    named: ClassifiedMasks,
    layout: ImageLayout,
    protocol: InferenceProtocol,
    words: EmbeddedWords,
    stuff: Stuff,
) -> PanopticSegmentation:
    """Segments that do not overlap.

    Args:
        named: Regions of the one window of a photograph, with their classes' scores.
        layout: Of the photograph.
        protocol: With the thresholds.
        words: The classes.
        stuff: Which of them are not counted.
    """
    names, (scores, nothing) = stuff_names(stuff, words.vocabulary), _scores(named, protocol)
    found = panoptic_map(
        layout.merge_masks(named),
        scores,
        nothing,
        _things(words.vocabulary, names).to(scores.device),
        size=layout.source,
        least_score=protocol.object_threshold,
        least_visible=protocol.overlap_threshold,
    )
    ids, classes = found.ids.cpu().numpy(), words.vocabulary.id2label
    told = (classes, names, words.unseen, protocol.to_dict(), words.known_words)
    return PanopticSegmentation(ids, found.segments, *told)


def find_instances(
    named: ClassifiedMasks,
    layout: ImageLayout,
    protocol: InferenceProtocol,
    words: EmbeddedWords,
    stuff: Stuff,
) -> InstanceSegmentation:
    """Things one by one; arguments as of :func:`find_panoptic`."""
    names, (scores, _) = stuff_names(stuff, words.vocabulary), _scores(named, protocol)
    found = instances(
        layout.merge_masks(named),
        scores,
        _things(words.vocabulary, names).to(scores.device),
        size=layout.source,
        most=protocol.most_instances,
    )
    each = zip(found.class_ids.tolist(), found.scores.tolist(), found.runs, strict=True)
    things = (Instance(class_id, score, runs) for class_id, score, runs in each)
    kept = tuple(thing for thing in things if thing.area and thing.score > protocol.object_threshold)
    told = (words.vocabulary.id2label, names, words.unseen, protocol.to_dict(), words.known_words)
    return InstanceSegmentation(layout.source, kept, *told)


def _things(vocabulary: Vocabulary, stuff: frozenset[str]) -> Tensor:
    """``(K,)`` bool, which classes are counted one by one."""
    return torch.tensor([name not in stuff for name in vocabulary.names])


def _scores(named: ClassifiedMasks, protocol: InferenceProtocol) -> tuple[Tensor, Tensor | None]:
    """Scores ``(N, K)`` of the classes that make segments, and ``(N,)`` of being none, as regions of a background class are."""
    scores = named.scores[0].float()
    nothing = None if named.nothing is None else named.nothing[0].float()
    if protocol.background == "class":
        background = scores[:, 0]
        nothing = background if nothing is None else torch.maximum(nothing, background)
        scores = scores.clone()
        scores[:, 0] = 0
    return scores, nothing
