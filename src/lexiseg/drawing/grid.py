"""One photograph labelled in several ways: panels in rows, all of one size, with one legend."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from lexiseg.drawing.overlay import (
    FAINT,
    INK,
    MARGIN,
    PAPER,
    blend,
    draw_swatch,
    elided,
    panels,
    require_titles,
)
from lexiseg.drawing.palette import Colour, class_colours
from lexiseg.label_codes import EIGHT_BIT

_SIDE = 420
"""Longer side of a panel in pixels."""

_NAMES_LIMIT = 60
_LETTERS = 40
_KEY_FONT = 16
_KEY_STEP = 28
_NOTHING: Colour = (90, 90, 90)
_MIN_WIDTH = 360


@dataclass(frozen=True)
class LabelledPanel:
    """One way to label the photograph.

    Attributes:
        title: Stands above it.
        label: ``(H, W)`` uint8 class ids, 255 for none.
        hatched: Names drawn with stripes: the unseen classes.
    """

    title: str
    label: npt.NDArray[np.uint8]
    hatched: Collection[str] = ()


def panel_size(height: int, width: int, side: int = _SIDE) -> tuple[int, int]:
    """Height and width to draw a picture at: longer side at most ``side``, small ones enlarged whole times."""
    longer = max(height, width)
    if longer <= side:
        factor = side // longer
        return height * factor, width * factor
    return max(1, round(height * side / longer)), max(1, round(width * side / longer))


def fit_labels(labels: npt.NDArray[np.integer], size: tuple[int, int]) -> npt.NDArray[np.integer]:
    """Nearest ids at another size ``(h, w)``."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for old, new in zip(labels.shape, size, strict=True)
    )
    return labels[rows[:, None], columns]


def comparison(
    image: npt.NDArray[np.uint8],
    readings: Sequence[LabelledPanel],
    names: Sequence[str],
    *,
    per_row: int = 4,
) -> Image.Image:
    """The photograph, then one overlay per reading, then a legend of the classes found in any of them.

    Args:
        image: ``(H, W, 3)`` uint8 RGB of any size.
        readings: Their label maps all have one size, at which everything is drawn; see :func:`panel_size`.
        names: Class names in label-id order.
        per_row: Most panels in a row; rows are filled evenly.

    Raises:
        ValueError: No readings, or label maps of different sizes.
    """
    sizes = {reading.label.shape for reading in readings}
    if len(sizes) != 1:
        raise ValueError(f"expected label maps of one size, got {sorted(sizes) or 'none'}")
    height, width = sizes.pop()
    photograph = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    pixels = np.asarray(photograph)
    pictures = [photograph] + [
        Image.fromarray(blend(pixels, reading.label, names, hatched=reading.hatched)) for reading in readings
    ]
    titles = ["photograph", *(reading.title for reading in readings)]
    grid = panel_grid(pictures, titles, per_row=per_row)
    return _stacked([grid, name_key(readings, names, width=max(grid.width, _MIN_WIDTH))])


def panel_grid(pictures: Sequence[Image.Image], titles: Sequence[str], *, per_row: int = 4) -> Image.Image:
    """Pictures under their titles, in rows whose columns stand below each other.

    Args:
        pictures: Of similar sizes.
        titles: One per picture; long ones are cut.
        per_row: Most pictures in a row; rows are filled evenly: five become three and two.

    Raises:
        ValueError: The numbers of pictures and titles differ, or there are none.
    """
    require_titles(pictures, titles)
    titles = [elided(title, _LETTERS) for title in titles]
    font = ImageFont.load_default(size=18)
    cell = max(
        max(picture.width for picture in pictures), math.ceil(max(font.getlength(title) for title in titles))
    )
    padded = [_widened(picture, cell) for picture in pictures]
    columns = math.ceil(len(pictures) / math.ceil(len(pictures) / per_row))
    return _stacked(
        [
            panels(padded[start : start + columns], titles[start : start + columns])
            for start in range(0, len(padded), columns)
        ]
    )


def name_key(readings: Sequence[LabelledPanel], names: Sequence[str], *, width: int) -> Image.Image:
    """Swatch and name of every class in any of the label maps, the largest first, in lines of this width."""
    entries = _entries(readings, names)
    font = ImageFont.load_default(size=_KEY_FONT)
    places: list[tuple[int, int]] = []
    left, top = MARGIN, 0
    for name, colour, _ in entries:
        needed = (0 if colour is None else _KEY_STEP) + math.ceil(font.getlength(name)) + 2 * MARGIN
        if left > MARGIN and left + needed > width:
            left, top = MARGIN, top + _KEY_STEP
        places.append((left, top))
        left += needed
    sheet = Image.new("RGB", (width, top + _KEY_STEP + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    side = _KEY_STEP - 8
    for (name, colour, striped), (x, y) in zip(entries, places, strict=True):
        middle = y + side / 2
        if colour is None:
            pen.text((x, middle), name, FAINT, font=font, anchor="lm")
            continue
        draw_swatch(sheet, (x, y), side, colour, striped=striped)
        pen.text((x + _KEY_STEP, middle), name, INK, font=font, anchor="lm")
    return sheet


def _entries(
    readings: Sequence[LabelledPanel], names: Sequence[str]
) -> list[tuple[str, Colour | None, bool]]:
    """Text, colour and stripes; a remark has no colour."""
    counts = sum(np.bincount(reading.label.ravel(), minlength=EIGHT_BIT.size) for reading in readings)
    counts = np.asarray(counts)
    hatched = {name for reading in readings for name in reading.hatched}
    colours = class_colours(names)
    found = [i for i in np.argsort(-counts, kind="stable").tolist() if counts[i] and i != EIGHT_BIT.ignore]
    entries: list[tuple[str, Colour | None, bool]] = [
        (elided(names[i], _LETTERS), colours[i], names[i] in hatched) for i in found[:_NAMES_LIMIT]
    ]
    if len(found) > _NAMES_LIMIT:
        entries.append((f"and {len(found) - _NAMES_LIMIT} more", None, False))
    if counts[EIGHT_BIT.ignore]:
        entries.append(("no class", _NOTHING, False))
    if any(striped for _, _, striped in entries):
        entries.append(("striped: unseen in training", None, False))
    return entries


def _widened(picture: Image.Image, width: int) -> Image.Image:
    if picture.width == width:
        return picture
    sheet = Image.new("RGB", (width, picture.height), PAPER)
    sheet.paste(picture, (0, 0))
    return sheet


def _stacked(sheets: Sequence[Image.Image]) -> Image.Image:
    whole = Image.new("RGB", (max(s.width for s in sheets), sum(s.height for s in sheets)), PAPER)
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    return whole
