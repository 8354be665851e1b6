"""Seen and unseen classes: from a split's settings to what the data may show in training."""

import difflib
from collections.abc import Sequence

import numpy as np

from lexiseg.errors import ConfigError
from lexiseg.label_codes import LabelMap, label_codes
from lexiseg.types import ClassSplit, Setting, UnseenPixels

FOLDS = 4
"""Of PASCAL-5i and COCO-20i."""


def make_split(
    classes: Sequence[str],
    *,
    name: str,
    unseen: Sequence[str],
    seen: Sequence[str] | None = None,
    setting: Setting = "inductive",
    unseen_pixels: UnseenPixels = "shown",
) -> ClassSplit:
    """Build the split of a data set's classes from the settings in ``conf/split``.

    Args:
        classes: The data set's class names in label-id order.
        name: What results call the split.
        unseen: Names without a single labelled training pixel.
        seen: The other names, when a file wants to spell them out; None: all that are not unseen.
        setting: ``inductive``, ``transductive`` or ``supervised``.
        unseen_pixels: ``shown`` or ``excluded``: whether training images may contain unseen objects.

    Raises:
        ConfigError: A name that is no class (the closest class names are suggested), empty, repeated, both
            seen and unseen or neither, or a setting that does not exist.
    """
    if not isinstance(name, str):
        raise ConfigError(f"split: expected a name, got {name!r}")
    _check_choice(name, "setting", setting, ("inductive", "transductive", "supervised"))
    _check_choice(name, "unseen_pixels", unseen_pixels, ("shown", "excluded"))
    for kind, names in (("unseen", unseen), ("seen", seen or ())):
        _check_names(name, kind, names, classes)
    if seen is not None:
        _check_partition(name, classes, seen, unseen)
    if setting != "supervised" and not unseen:
        raise ConfigError(
            f"split '{name}' is {setting} but names no unseen class; list some (split.unseen=[...]) or set "
            "split.setting=supervised"
        )
    return ClassSplit(name, tuple(classes), tuple(unseen), setting, unseen_pixels)


def seen_label_map(split: ClassSplit) -> LabelMap:
    """Look-up table that hides unseen labels from training and keeps the full-class ids of seen ones.

    Under ``supervised`` nothing is hidden. Under ``inductive`` a pixel of an unseen class looks like one without
    any label; under ``transductive`` it is known to be unlabelled, as published (their -1 beside 255), so that
    self-training may label it and leaves background and borders alone. The published inductive code hides by
    renumbering to query indices instead; that is the training task's step here, so that data and metric speak
    one numbering.

    Returns:
        ``(256,)`` uint8, with more than 254 classes ``(65536,)`` uint16: the code ``ignore`` or ``unlabelled`` at unseen
        ids, ``ignore`` at every code that is no class; see `lexiseg.label_codes`.
    """
    codes = label_codes(len(split.classes))
    table = np.full(codes.size, codes.ignore, dtype=codes.dtype)
    shown = range(len(split.classes)) if split.setting == "supervised" else split.seen_ids
    table[list(shown)] = list(shown)
    if split.setting == "transductive":
        table[list(split.unseen_ids)] = codes.unlabelled
    return table


def fold_classes(classes: Sequence[str], fold: int, *, interleaved: bool) -> tuple[str, ...]:
    """The classes that a fold of the few-shot protocols leaves unseen: one quarter of all.

    Args:
        classes: All, in label-id order: 20 of PASCAL VOC (PASCAL-5i), or 80 of COCO (COCO-20i).
        fold: From 0 to 3.
        interleaved: Every fourth class (COCO-20i), instead of a run of them (PASCAL-5i).
    """
    size = len(classes) // FOLDS
    return tuple(classes[fold::FOLDS] if interleaved else classes[fold * size : (fold + 1) * size])


def _check_choice(split: str, key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"split '{split}': {key} is '{value}'; expected one of {', '.join(allowed)}")


def _check_names(split: str, kind: str, names: Sequence[str], classes: Sequence[str]) -> None:
    if isinstance(names, str):
        raise ConfigError(f"split '{split}': {kind} is the text '{names}'; expected a list: [{names}]")
    if not isinstance(names, Sequence):
        raise ConfigError(f"split '{split}': {kind} is {names!r}; expected a list of class names")
    for name in names:
        if not isinstance(name, str):
            raise ConfigError(f"split '{split}': {kind} class {name!r} is no text; list class names, not ids")
        if name in classes or not name.strip():
            continue
        close = difflib.get_close_matches(name, classes, n=3, cutoff=0.5)
        said = f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has: {', '.join(classes)}."
        raise ConfigError(
            f"split '{split}': {kind} class '{name}' is no class of this data set; {said} Take this data set's own split, name "
            "its unseen classes (split=custom split.unseen='[…]'), or none (split=all)"
        )


def _check_partition(split: str, classes: Sequence[str], seen: Sequence[str], unseen: Sequence[str]) -> None:
    both = [name for name in unseen if name in seen]
    if both:
        raise ConfigError(
            f"split '{split}': {', '.join(map(repr, both))} stands both as seen and as unseen; keep it in "
            "one list"
        )
    neither = [name for name in classes if name not in seen and name not in unseen]
    if neither:
        raise ConfigError(
            f"split '{split}': {', '.join(map(repr, neither))} is neither seen nor unseen; add it to one "
            "list, or leave the seen list out"
        )
