"""Numbers as colours: matrices side by side under one colour scale, and maps of patches over a photograph."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from lexiseg.drawing.grid import panel_grid, panel_size
from lexiseg.drawing.overlay import FAINT, INK, MARGIN, PAPER, panels
from lexiseg.drawing.palette import Colour

NOTHING: Colour = (168, 172, 178)
"""Of a value that is not a number."""

_RAMP = np.array(
    [(20, 24, 64), (82, 38, 124), (172, 50, 124), (232, 96, 90), (250, 172, 92), (253, 245, 200)], dtype=float
)
"""Dark to light in even steps of lightness, so that it also reads in grey and to colour-blind eyes."""

_LUMA = np.array([0.299, 0.587, 0.114])
_CELL = 36
_NUMBERED = 16
"""Matrices up to this many rows have their values written into the cells."""

_AXIS = 30
_BAR_WIDTH = 18
_TICKS = 5
_SMALL, _TINY = 15, 12
_SIDE = 320
"""Longer side of a map of patches in pixels."""

_PER_ROW = 7


def colour_scale(values: npt.NDArray[np.floating], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Colours of values, dark at ``low`` and light at ``high``; beyond them the end colours, grey for NaN.

    Args:
        values: Of any shape.
        low: Value of the darkest colour.
        high: Value of the lightest, above ``low``.

    Returns:
        The shape of ``values`` and 3, uint8 RGB.
    """
    known = np.nan_to_num((np.asarray(values, dtype=float) - low) / (high - low)).clip(0, 1)
    steps = np.arange(len(_RAMP)) / (len(_RAMP) - 1)
    colours = np.stack([np.interp(known, steps, channel) for channel in _RAMP.T], axis=-1)
    colours[np.isnan(values)] = NOTHING
    return np.rint(colours).astype(np.uint8)


def matrices(
    values: Mapping[str, npt.NDArray[np.floating]],
    labels: Sequence[str],
    *,
    captions: Sequence[str],
    low: float,
    high: float = 1.0,
) -> Image.Image:
    """Square matrices side by side under their titles, the last row of each framed, with one colour scale.

    Args:
        values: Title to ``(L, L)``.
        labels: Of rows and columns alike; the first row is the uppermost.
        captions: What stands below each.
        low: Value of the darkest colour.
        high: Value of the lightest.
    """
    drawn = [
        _matrix(matrix, labels, caption, low=low, high=high)
        for matrix, caption in zip(values.values(), captions, strict=True)
    ]
    bar = colour_bar(low, high, height=_CELL * len(labels))
    return panels([*drawn, bar], [*values, ""])


def patch_maps(
    image: npt.NDArray[np.uint8],
    maps: Mapping[str, Mapping[int, npt.NDArray[np.floating]]],
    patch: tuple[int, int],
) -> Image.Image:
    """Rows of their own per tower: the photograph, then one map per block, each on a scale of its own up to 1.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        maps: Tower to block number to ``(h, w)`` cosines with one patch.
        patch: Row and column of that patch.
    """
    height, width = image.shape[:2]
    size = panel_size(height, width, _SIDE)
    photograph = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC, reducing_gap=3.0)
    pictures, titles = [], []
    for tower, of_tower in maps.items():
        grid = next(iter(of_tower.values())).shape
        high, wide = size[0] / grid[0], size[1] / grid[1]
        box = (patch[1] * wide, patch[0] * high, (patch[1] + 1) * wide, (patch[0] + 1) * high)
        pictures.append(framed(photograph, box))
        titles.append(tower)
        for block, values in of_tower.items():
            low = min(float(values.min()), 0.999)  # all alike: any scale will do
            pictures.append(framed(heat_over(image, values, low=low, high=1, size=size), box))
            titles.append(f"block {block}: {low:.2f} to 1")
        per_row = min(len(of_tower) + 1, _PER_ROW)
        missing = -len(pictures) % per_row  # each tower begins a row of its own
        pictures += [Image.new("RGB", (1, 1), PAPER)] * missing
        titles += [""] * missing
    sheet = panel_grid(pictures, titles, per_row=per_row)
    return captioned(sheet, "cosine with the framed patch: dark the lowest of each map, light 1")


def point_maps(
    image: npt.NDArray[np.uint8],
    rows: Sequence[tuple[tuple[int, int], Mapping[str, npt.NDArray[np.floating]]]],
    caption: str,
) -> Image.Image:
    """A row for each point: the photograph, then one map per title, each on a scale of its own from 0 to its highest value.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        rows: Of each point the row and column of its patch, and title to ``(h, w)``, at least 0.
        caption: What stands below.
    """
    height, width = image.shape[:2]
    size = panel_size(height, width, _SIDE)
    photograph = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC, reducing_gap=3.0)
    pictures, titles = [], []
    for (row, column), maps in rows:
        grid = next(iter(maps.values())).shape
        high, wide = size[0] / grid[0], size[1] / grid[1]
        box = (column * wide, row * high, (column + 1) * wide, (row + 1) * high)
        pictures.append(framed(photograph, box))
        titles.append(f"patch {column}, {row}")
        for title, values in maps.items():
            highest = max(float(values.max()), 1e-12)
            pictures.append(framed(heat_over(image, values, low=0, high=highest, size=size), box))
            titles.append(f"{title}: 0 to {highest:.3f}")
    return captioned(panel_grid(pictures, titles, per_row=1 + len(rows[0][1])), caption)


def colour_bar(low: float, high: float, *, height: int) -> Image.Image:
    """The colour scale standing upright, with its values."""
    font = ImageFont.load_default(size=_SMALL)
    ticks = np.linspace(high, low, _TICKS)
    texts = [f"{tick:.2f}" for tick in ticks]
    width = _BAR_WIDTH + 10 + round(max(font.getlength(text) for text in texts))
    sheet = Image.new("RGB", (width, height), PAPER)
    column = colour_scale(np.linspace(high, low, height)[:, None].repeat(_BAR_WIDTH, 1), low, high)
    sheet.paste(Image.fromarray(column), (0, 0))
    pen = ImageDraw.Draw(sheet)
    for text, place in zip(texts, np.linspace(0, height - 1, _TICKS), strict=True):
        anchor = "la" if place == 0 else "ls" if place == height - 1 else "lm"
        pen.text((_BAR_WIDTH + 8, place), text, INK, font=font, anchor=anchor)
    return sheet


def heat_over(
    image: npt.NDArray[np.uint8],
    values: npt.NDArray[np.floating],
    *,
    low: float,
    high: float,
    size: tuple[int, int],
    strength: float = 0.8,
) -> Image.Image:
    """A map of patches as a veil of colour over the photograph in grey.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        values: ``(h, w)``, one per patch.
        low: Value of the darkest colour.
        high: Value of the lightest.
        size: Height and width to draw at.
        strength: Opacity of the colours.
    """
    height, width = size
    photograph = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    smooth = Image.fromarray(np.asarray(values, dtype=np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    grey = np.asarray(photograph) @ _LUMA
    colours = colour_scale(np.asarray(smooth), low, high)
    # Shaded rather than mixed: half-tones of grey leave the colours at their place on the scale.
    shade = (1 - strength) * (grey / 255 - 0.5) * 255
    return Image.fromarray(np.rint(colours + shade[..., None]).clip(0, 255).astype(np.uint8))


def framed(picture: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    """A copy with a frame around left, top, right, bottom, readable on light and dark ground."""
    copy = picture.convert("RGB")
    pen = ImageDraw.Draw(copy)
    left, top, right, bottom = box
    pen.rectangle((left - 3, top - 3, right + 2, bottom + 2), outline=INK, width=5)
    pen.rectangle((left - 1, top - 1, right, bottom), outline=(255, 255, 255), width=2)
    return copy


def captioned(picture: Image.Image, text: str) -> Image.Image:
    """The picture with a line of text below it, on paper."""
    font = ImageFont.load_default(size=_SMALL)
    width = max(picture.width, round(font.getlength(text)) + 2 * MARGIN)
    sheet = Image.new("RGB", (width, picture.height + _AXIS), PAPER)
    sheet.paste(picture, (0, 0))
    ImageDraw.Draw(sheet).text((MARGIN, picture.height + 2), text, FAINT, font=font, anchor="la")
    return sheet


def _matrix(
    values: npt.NDArray[np.floating], labels: Sequence[str], caption: str, *, low: float, high: float
) -> Image.Image:
    """One matrix with numbered axes, the last row framed, and its caption."""
    count = len(labels)
    side = _CELL * count
    font, tiny = (ImageFont.load_default(size=size) for size in (_SMALL, _TINY))
    width = max(_AXIS + side, round(font.getlength(caption)))
    sheet = Image.new("RGB", (width + 2, side + 2 * _AXIS), PAPER)
    colours = colour_scale(values, low, high)
    sheet.paste(Image.fromarray(colours.repeat(_CELL, 0).repeat(_CELL, 1)), (_AXIS, 0))
    pen = ImageDraw.Draw(sheet)
    for index, label in enumerate(labels):
        middle = _CELL * index + _CELL / 2
        pen.text((_AXIS - 8, middle), label, FAINT, font=font, anchor="rm")
        pen.text((_AXIS + middle, side + 6), label, FAINT, font=font, anchor="ma")
    if count <= _NUMBERED:
        for row, column in np.ndindex(count, count):
            place = (_AXIS + _CELL * column + _CELL / 2, _CELL * row + _CELL / 2)
            ink = INK if colours[row, column] @ _LUMA > 130 else PAPER
            pen.text(place, _short(float(values[row, column])), ink, font=tiny, anchor="mm")
    pen.rectangle((_AXIS - 1, side - _CELL, _AXIS + side, side), outline=INK, width=2)
    pen.text((_AXIS, side + _AXIS + 4), caption, INK, font=font, anchor="la")
    return sheet


def _short(value: float) -> str:
    """Two decimals without the leading zero."""
    return "–" if np.isnan(value) else f"{value:.2f}".replace("0.", ".", 1)
