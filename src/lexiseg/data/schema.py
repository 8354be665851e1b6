"""The declared meaning of every raw id in a label map; nothing outside it passes silently."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from lexiseg.constants import IGNORE_INDEX
from lexiseg.errors import ConfigError, DataError
from lexiseg.label_codes import EIGHT_BIT, SIXTEEN_BIT, LabelCodes, LabelMap, label_codes

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
    _table: npt.NDArray[np.int32] = field(init=False, repr=False, compare=False)
    _labels: LabelMap = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Build the look-up table once, and refuse contradictions where they are declared."""
        for raw in self.id_map:
            self._check_code(raw, "id_map")
        for raw in self._ignored():
            self._check_code(raw, "ignore_ids or background_id")
        table = np.full(self._raw_codes(), _UNDECLARED, dtype=np.int32)
        for raw, target in self.id_map.items():
            if not 0 <= int(target) < self.num_classes:
                raise ConfigError(
                    f"id_map sends raw id {raw} to class {target}, but class ids are 0 to "
                    f"{self.num_classes - 1}"
                )
            table[int(raw)] = int(target)
        for raw in self._ignored():
            if table[raw] != _UNDECLARED:
                raise ConfigError(
                    f"raw id {raw} is declared both ignored and class {table[raw]}; take it out of id_map or "
                    "out of ignore_ids / background_id"
                )
            table[raw] = self.codes.ignore
        self._check_complete(table)
        object.__setattr__(self, "_table", table)
        object.__setattr__(self, "_labels", table.astype(self.codes.dtype))

    @property
    def codes(self) -> LabelCodes:
        """Type and codes of the label maps that `apply` gives."""
        return label_codes(self.num_classes)

    def apply(self, raw: LabelMap, where: object) -> LabelMap:
        """Translate raw ids to class ids.

        Args:
            raw: ``(H, W)`` raw ids.
            where: What a message calls the label map; its path.

        Returns:
            ``(H, W)`` class ids in the type of :attr:`codes`, their ``ignore`` where nothing counts.

        Raises:
            DataError: An id that the schema does not declare.
        """
        found = np.flatnonzero(np.bincount(raw.ravel()))
        undeclared = [int(i) for i in found if i >= len(self._table) or self._table[i] == _UNDECLARED]
        if undeclared:
            raise DataError(
                f"label map {where}: ids {undeclared} are not in the schema (found {found.tolist()}, allowed "
                f"{format_ids(self.allowed_ids)}); add them to id_map if they are classes, or to ignore_ids "
                "if they do not count"
            )
        return self._labels[raw]

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
        ignored = np.flatnonzero(self._table == self.codes.ignore).tolist()
        return [*rows, (", ".join(map(str, ignored)), "ignored")]

    def _ignored(self) -> list[int]:
        ignored = [int(i) for i in self.ignore_ids]
        if self.background == "ignore" and self.background_id is not None:
            ignored.append(int(self.background_id))
        return ignored

    def _raw_codes(self) -> int:
        """Length of the table of raw ids: 8 bits unless one is declared beyond."""
        highest = max([*self.id_map, *self._ignored(), self.background_id or 0], default=0, key=int)
        return EIGHT_BIT.size if int(highest) < EIGHT_BIT.size else SIXTEEN_BIT.size

    def _check_complete(self, table: npt.NDArray[np.int32]) -> None:
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
        if not 0 <= int(raw) < SIXTEEN_BIT.size:
            raise ConfigError(f"{key} names raw id {raw}; a label map holds 0 to {SIXTEEN_BIT.size - 1}")


def usual_ignore_ids(highest: int) -> tuple[int, ...]:
    """The raw id that means "ignored" where nobody says so: 255 unless the classes reach it, then 65535.

    Args:
        highest: Highest raw id of a class.
    """
    return (EIGHT_BIT.ignore,) if highest < EIGHT_BIT.ignore else (SIXTEEN_BIT.ignore,)


def plain_schema(num_classes: int, ignore_ids: Sequence[int] | None = None) -> LabelSchema:
    """Raw id i is class i; there is no background. ``ignore_ids`` None: :func:`usual_ignore_ids`."""
    ignored = usual_ignore_ids(num_classes - 1) if ignore_ids is None else tuple(ignore_ids)
    return LabelSchema(num_classes, {i: i for i in range(num_classes)}, ignored)


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
    ignored = usual_ignore_ids(len(names))
    if background == "ignore":
        shifted = {i + 1: i for i in range(len(names))}
        return tuple(names), LabelSchema(len(names), shifted, ignored, "ignore", 0)
    kept = {i: i for i in range(len(names) + 1)}
    schema = LabelSchema(len(names) + 1, kept, ignored, background, 0)
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
