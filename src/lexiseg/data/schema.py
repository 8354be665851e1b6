"""The declared meaning of every raw id in a label map; nothing outside it passes silently."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from lexiseg.constants import IGNORE_INDEX, LABEL_CODES
from lexiseg.errors import ConfigError, DataError

Background = Literal["class", "ignore", "threshold"]
BACKGROUND_NAME = "background"
"""What the background is called where it counts as a class."""

_UNDECLARED = -1


@dataclass(frozen=True)
class LabelSchema:
    """How raw ids of a data set's label maps become class ids.

    Attributes:
        num_classes: K, the classes that the data set names; class ids are 0 to K - 1.
        id_map: Raw id to class id. Several raw ids may share a class. mmsegmentation's
            ``reduce_zero_label`` is the map ``{1: 0, 2: 1, ...}`` with ``background_id=0``.
        ignore_ids: Raw ids of pixels that take no part in training or scoring.
        background: What the raw id ``background_id`` means. ``class``: an ordinary class with words of its
            own. ``ignore``: no part in training or scoring. ``threshold``: a class in scoring, given by the
            segmenter where no word is confident enough; no part in training.
        background_id: The raw id of background pixels; None if the data set has none.

    Raises:
        ConfigError: The settings contradict each other.
    """

    num_classes: int
    id_map: Mapping[int, int]
    ignore_ids: Sequence[int] = (IGNORE_INDEX,)
    background: Background = "ignore"
    background_id: int | None = None
    _table: npt.NDArray[np.int16] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Build the look-up table once, and refuse contradictions where they are declared."""
        table = np.full(LABEL_CODES, _UNDECLARED, dtype=np.int16)
        for raw, target in self.id_map.items():
            self._check_code(raw, "id_map")
            if not 0 <= int(target) < self.num_classes:
                raise ConfigError(
                    f"id_map sends raw id {raw} to class {target}, but class ids are 0 to "
                    f"{self.num_classes - 1}"
                )
            table[int(raw)] = int(target)
        for raw in self._ignored():
            self._check_code(raw, "ignore_ids or background_id")
            if table[raw] != _UNDECLARED:
                raise ConfigError(
                    f"raw id {raw} is declared both ignored and class {table[raw]}; take it out of id_map or "
                    "out of ignore_ids / background_id"
                )
            table[raw] = IGNORE_INDEX
        self._check_complete(table)
        object.__setattr__(self, "_table", table)

    def apply(self, raw: npt.NDArray[np.uint8], where: object) -> npt.NDArray[np.uint8]:
        """Translate raw ids to class ids.

        Args:
            raw: ``(H, W)`` raw ids.
            where: What a message calls the label map; its path.

        Returns:
            ``(H, W)`` uint8 class ids, ``IGNORE_INDEX`` where nothing counts.

        Raises:
            DataError: An id that the schema does not declare.
        """
        found = np.flatnonzero(np.bincount(raw.ravel(), minlength=LABEL_CODES))
        undeclared = [int(i) for i in found if self._table[i] == _UNDECLARED]
        if undeclared:
            raise DataError(
                f"label map {where}: ids {undeclared} are not in the schema (found {found.tolist()}, allowed "
                f"{format_ids(self.allowed_ids)}); add them to id_map if they are classes, or to ignore_ids "
                "if they do not count"
            )
        return self._table[raw].astype(np.uint8)

    @property
    def allowed_ids(self) -> tuple[int, ...]:
        """Raw ids that may occur, ascending."""
        return tuple(int(i) for i in np.flatnonzero(self._table != _UNDECLARED))

    @property
    def threshold_class(self) -> int | None:
        """The class id given by confidence instead of words, under ``background="threshold"``."""
        if self.background != "threshold" or self.background_id is None:
            return None
        return int(self._table[self.background_id])

    def describe(self, classes: Sequence[str]) -> list[tuple[str, str]]:
        """Rows ``(raw ids, meaning)`` of the whole mapping, for a person to check."""
        rows = []
        for target, name in enumerate(classes):
            raws = np.flatnonzero(self._table == target).tolist()
            rows.append((", ".join(map(str, raws)), f"{target} {name}"))
        ignored = np.flatnonzero(self._table == IGNORE_INDEX).tolist()
        return [*rows, (", ".join(map(str, ignored)), "ignored")]

    def _ignored(self) -> list[int]:
        ignored = [int(i) for i in self.ignore_ids]
        if self.background == "ignore" and self.background_id is not None:
            ignored.append(int(self.background_id))
        return ignored

    def _check_complete(self, table: npt.NDArray[np.int16]) -> None:
        if self.background not in ("class", "ignore", "threshold"):
            raise ConfigError(f"background is '{self.background}'; expected 'class', 'ignore' or 'threshold'")
        if self.background == "threshold" and self.background_id is None:
            raise ConfigError("background='threshold' needs background_id, the raw id of background pixels")
        if self.background != "ignore" and self.background_id is not None:
            self._check_code(self.background_id, "background_id")
            if table[int(self.background_id)] == _UNDECLARED:
                raise ConfigError(
                    f"background='{self.background}' makes raw id {self.background_id} a class, but id_map "
                    "has no class for it; add it to id_map, or set background='ignore'"
                )
        missing = sorted(set(range(self.num_classes)) - set(table.tolist()))
        if missing:
            raise ConfigError(
                f"no raw id stands for class ids {missing}; id_map must reach each of the "
                f"{self.num_classes} classes"
            )

    @staticmethod
    def _check_code(raw: int, key: str) -> None:
        if not 0 <= int(raw) < LABEL_CODES:
            raise ConfigError(f"{key} names raw id {raw}; a label map holds 0 to {LABEL_CODES - 1}")


def plain_schema(num_classes: int, ignore_ids: Sequence[int] = (IGNORE_INDEX,)) -> LabelSchema:
    """Raw id i is class i; there is no background."""
    return LabelSchema(num_classes, {i: i for i in range(num_classes)}, tuple(ignore_ids))


def zero_background_schema(
    names: Sequence[str], background: Background
) -> tuple[tuple[str, ...], LabelSchema]:
    """Raw 0 is background and raw i is the i-th name: PASCAL VOC and PASCAL Context.

    Args:
        names: Class names without the background.
        background: ``ignore`` leaves the names as they are; otherwise "background" becomes class 0.

    Returns:
        The class names in label-id order, and the schema.
    """
    if background == "ignore":
        shifted = {i + 1: i for i in range(len(names))}
        return tuple(names), LabelSchema(len(names), shifted, (IGNORE_INDEX,), "ignore", 0)
    kept = {i: i for i in range(len(names) + 1)}
    schema = LabelSchema(len(names) + 1, kept, (IGNORE_INDEX,), background, 0)
    return (BACKGROUND_NAME, *names), schema


def format_ids(ids: Sequence[int]) -> str:
    """Write ascending ids shortly: ``0-10, 255``."""
    runs: list[list[int]] = []
    for i in ids:
        if runs and i == runs[-1][1] + 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
