"""What clusters of masks became: for each its typical masks, cut out, under the words it is nearest to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from lexiseg.drawing.overlay import FAINT, INK, MARGIN, PAPER, elided
from lexiseg.drawing.palette import Colour

Picture = npt.NDArray[np.uint8]

_TILE = 88
_GAP = 4
_HEAD = 46
_TITLE = 60
_LINE = 20
_COLUMNS = 3
_FONT, _SMALL_FONT = 16, 13
_EMPTY: Colour = (238, 238, 234)

_AROUND = 1.25
"""Side of a cut-out, in longer sides of its mask."""

_LEAST_SHARE = 0.12
"""Least side of a cut-out as a share of the picture: a mask of a few pixels would be shown as a few squares."""

_DIMMED = 0.3
"""How much of a cut-out's surroundings still shows."""


@dataclass(frozen=True)
class ClusterCard:
    """One cluster.

    Attributes:
        name: What it is called, such as its number.
        words: Nearest words and their cosines, the nearest first.
        count: Masks that went to it, of those looked at.
        tiles: Its typical masks as :func:`cut_out` shows them.
    """

    name: str
    words: tuple[tuple[str, float], ...]
    count: int
    tiles: tuple[Image.Image, ...]


def cut_out(image: Picture, mask: npt.NDArray[np.bool_], *, side: int = _TILE) -> Image.Image:
    """A square around a mask: inside it the photograph as it is, outside dimmed, a line between.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        mask: ``(H, W)``, with at least one pixel.
        side: Of the result in pixels.
    """
    top, left, width = _square(mask)
    box = (left, top, left + width, top + width)
    photograph = Image.fromarray(image).crop(box).resize((side, side), Image.Resampling.LANCZOS)
    share = Image.fromarray(mask.astype(np.uint8) * 255).crop(box)
    inside = (
        np.asarray(share.resize((side, side), Image.Resampling.BILINEAR), dtype=np.float32)[..., None] / 255
    )
    colour = np.asarray(photograph, dtype=np.float32)
    dimmed = _DIMMED * colour.mean(-1, keepdims=True) + (1 - _DIMMED) * np.array(PAPER, dtype=np.float32)
    shown = inside * colour + (1 - inside) * dimmed
    shown[_outline(inside[..., 0] >= 0.5)] = INK
    return Image.fromarray(np.rint(shown).clip(0, 255).astype(np.uint8))


def cluster_sheet(cards: Sequence[ClusterCard], *, title: str, tiles: int, remark: str = "") -> Image.Image:
    """Cards in columns, read line by line.

    Args:
        cards: In the order in which they stand.
        title: Stands above everything.
        tiles: Places for typical masks on each card; one with fewer has empty places.
        remark: A smaller line below the title.
    """
    card_width = tiles * (_TILE + _GAP) - _GAP
    columns = max(1, min(_COLUMNS, len(cards)))
    lines = -(-len(cards) // columns)
    width = max(columns * (card_width + 2 * MARGIN) + 2 * MARGIN, 6 * _TITLE)
    sheet = Image.new("RGB", (width, _TITLE + _LINE + lines * (_HEAD + _TILE + MARGIN) + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((2 * MARGIN, _TITLE / 2 + 4), title, INK, font=ImageFont.load_default(size=22), anchor="lm")
    pen.text((2 * MARGIN, _TITLE), remark, FAINT, font=ImageFont.load_default(size=_SMALL_FONT), anchor="lm")
    for number, card in enumerate(cards):
        line, column = divmod(number, columns)
        corner = (
            2 * MARGIN + column * (card_width + 2 * MARGIN),
            _TITLE + _LINE + line * (_HEAD + _TILE + MARGIN),
        )
        _draw_card(sheet, corner, card, tiles)
    return sheet


def _draw_card(sheet: Image.Image, corner: tuple[int, int], card: ClusterCard, tiles: int) -> None:
    pen, (left, top) = ImageDraw.Draw(sheet), corner
    large, small = ImageFont.load_default(size=_FONT), ImageFont.load_default(size=_SMALL_FONT)
    right = left + tiles * (_TILE + _GAP) - _GAP
    names = [f"{word} {cosine:.2f}" for word, cosine in card.words]
    pen.text((left, top + 12), names[0] if names else card.name, INK, font=large, anchor="lm")
    masks = "1 mask" if card.count == 1 else f"{card.count} masks"
    pen.text((right, top + 12), f"{card.name} · {masks}", FAINT, font=small, anchor="rm")
    pen.text((left, top + 32), elided(" · ".join(names[1:]), tiles * 14), FAINT, font=small, anchor="lm")
    for place in range(tiles):
        spot = (left + place * (_TILE + _GAP), top + _HEAD)
        if place < len(card.tiles):
            sheet.paste(card.tiles[place].resize((_TILE, _TILE), Image.Resampling.LANCZOS), spot)
        else:
            pen.rectangle((*spot, spot[0] + _TILE - 1, spot[1] + _TILE - 1), fill=_EMPTY)


def _square(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int]:
    """Top, left and side of a square around a mask; inside the picture where it fits."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    longer = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    side = min(max(round(_AROUND * longer), round(_LEAST_SHARE * max(mask.shape))), max(mask.shape))
    corner = [
        int(np.clip(round((ends[0] + ends[-1] + 1 - side) / 2), 0, max(0, size - side)))
        for ends, size in zip((rows, columns), mask.shape, strict=True)
    ]
    return corner[0], corner[1], side


def _outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels just outside a mask, left, right, above or below it."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown & ~mask
