"""A photograph with its label map laid over it, a legend, and several such pictures side by side."""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from lexiseg.drawing.palette import Colour, class_colours, palette_bytes
from lexiseg.label_codes import LabelMap, codes_of

PAPER: Colour = (250, 250, 248)
INK: Colour = (34, 38, 44)
FAINT: Colour = (128, 134, 142)
MARGIN = 14
_HATCH_PERIOD = 10
_LEGEND_LIMIT = 24
"""Legend rows before the rest is summed up in one line."""

_LETTERS = 60
_LONGEST = 8192
"""To which a picture may be enlarged: of a thin one the short side would never be long enough."""


def palette_image(label: npt.NDArray[np.uint8], names: Sequence[str]) -> Image.Image:
    """A label map as palette PNG: pixel values are class ids, viewers show the class colours.

    Args:
        label: ``(H, W)`` uint8 class ids, ``IGNORE_INDEX`` for none.
        names: Class names in label-id order.
    """
    height, width = label.shape
    image = Image.frombytes("P", (width, height), np.ascontiguousarray(label).tobytes())
    image.putpalette(palette_bytes(names))
    return image


def blend(
    image: npt.NDArray[np.uint8],
    label: LabelMap,
    names: Sequence[str],
    *,
    hatched: Collection[str] = (),
    alpha: float = 0.55,
    outlines: npt.NDArray[np.integer] | None = None,
) -> npt.NDArray[np.uint8]:
    """Colour a photograph by class: filled, borders drawn, some classes hatched, ignored pixels greyed.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        label: ``(H, W)`` class ids.
        names: Class names in label-id order.
        hatched: Names drawn with diagonal stripes: the unseen classes.
        alpha: Opacity of the class colours.
        outlines: ``(H, W)`` ids of what gets a border; None: of the classes.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    ids = tuple(i for i, name in enumerate(names) if name in hatched)
    photograph = image.astype(np.float32)
    grey = photograph.mean(-1, keepdims=True)
    # A mostly grey ground keeps the class colours those of the legend, whatever the photograph's own colours.
    mixed = (1 - alpha) * (0.7 * grey + 0.3 * photograph) + alpha * _colour_table(
        names, codes_of(label).size
    )[label]
    striped = np.isin(label, ids) & _stripes(label.shape)
    mixed[striped] = 0.35 * mixed[striped] + 0.65 * 255
    nothing = label == codes_of(label).ignore
    mixed[nothing] = 0.55 * grey[nothing] + 40
    border = _borders(label if outlines is None else outlines)
    mixed[border] = 0.25 * mixed[border] + 0.75 * 255
    return np.rint(mixed).clip(0, 255).astype(np.uint8)


def annotate(
    image: npt.NDArray[np.uint8],
    label: LabelMap,
    names: Sequence[str],
    *,
    hatched: Collection[str] = (),
    alpha: float = 0.55,
    min_side: int = 360,
    outlines: npt.NDArray[np.integer] | None = None,
) -> Image.Image:
    """The blended picture with a legend beside it: class, share of the picture, unseen ones marked.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        label: ``(H, W)`` class ids.
        names: Class names in label-id order.
        hatched: Names drawn with stripes and called "unseen" in the legend.
        alpha: Opacity of the class colours.
        min_side: Pictures with a smaller short side are enlarged by a whole number, so that text fits beside; the long side
            stays below 8192 pixels.
        outlines: As in :func:`blend`.
    """
    height = len(label)
    image, label = _enlarged(image, label, min_side)
    if outlines is not None:
        outlines = outlines.repeat(len(label) // height, 0).repeat(len(label) // height, 1)
    picture = Image.fromarray(blend(image, label, names, hatched=hatched, alpha=alpha, outlines=outlines))
    key = legend(label, names, hatched=hatched, height=picture.height)
    sheet = Image.new("RGB", (picture.width + key.width, max(picture.height, key.height)), PAPER)
    sheet.paste(picture, (0, 0))
    sheet.paste(key, (picture.width, 0))
    return sheet


def legend(
    label: LabelMap, names: Sequence[str], *, hatched: Collection[str] = (), height: int = 360
) -> Image.Image:
    """Swatch, name and share of every class in the label map, the largest first.

    Args:
        label: ``(H, W)`` class ids.
        names: Class names in label-id order.
        hatched: Names called "unseen".
        height: Height to fill; more rows make the panel taller.
    """
    rows = _rows(label, names)
    size = int(np.clip((height - 2 * MARGIN) / max(len(rows), 1) / 1.7, 12, 18))
    step = round(1.7 * size)
    font = ImageFont.load_default(size=size)
    texts = [
        (elided(text, _LETTERS) + ("  · unseen" if text in hatched else ""), f"{share:.1f} %")
        for text, share, _ in rows
    ]
    name_width = max((font.getlength(text) for text, _ in texts), default=0)
    share_width = font.getlength("100.0 %")
    width = round(3 * MARGIN + step + name_width + share_width + 10)
    panel = Image.new("RGB", (width, max(height, 2 * MARGIN + step * len(rows))), PAPER)
    pen = ImageDraw.Draw(panel)
    for i, ((text, share), (name, _, colour)) in enumerate(zip(texts, rows, strict=True)):
        top = MARGIN + i * step
        draw_swatch(panel, (MARGIN, top), step - 6, colour, striped=name in hatched)
        middle = top + (step - 6) / 2
        pen.text((MARGIN + step + 4, middle), text, INK, font=font, anchor="lm")
        pen.text((width - MARGIN, middle), share, FAINT, font=font, anchor="rm")
    return panel


def require_titles(pictures: Sequence[object], titles: Sequence[str]) -> None:
    """Stop unless there is one title per picture, and a picture at all.

    Raises:
        ValueError: The numbers differ, or there are none.
    """
    if not pictures or len(pictures) != len(titles):
        raise ValueError(
            f"{len(pictures)} pictures with {len(titles)} titles; expected one title per picture"
        )


def panels(
    pictures: Sequence[Image.Image | npt.NDArray[np.uint8]], titles: Sequence[str], *, min_side: int = 0
) -> Image.Image:
    """Pictures side by side under their titles, on paper.

    Args:
        pictures: Images or ``(H, W, 3)`` arrays; heights may differ.
        titles: One per picture.
        min_side: Pictures with a smaller short side are enlarged by a whole number.

    Raises:
        ValueError: The numbers of pictures and titles differ, or there are none.
    """
    require_titles(pictures, titles)
    images = [_as_image(picture, min_side) for picture in pictures]
    font = ImageFont.load_default(size=18)
    head = 18 + 2 * MARGIN
    widths = [
        max(image.width, round(font.getlength(title))) for image, title in zip(images, titles, strict=True)
    ]
    width = sum(widths) + MARGIN * (len(images) + 1)
    sheet = Image.new("RGB", (width, max(image.height for image in images) + head + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    left = MARGIN
    for image, title, column in zip(images, titles, widths, strict=True):
        pen.text((left, head / 2), title, INK, font=font, anchor="lm")
        sheet.paste(image, (left, head))
        left += column + MARGIN
    return sheet


def elided(text: str, letters: int) -> str:
    """The text in one line, cut to so many letters."""
    line = " ".join(text.split())
    return line if len(line) <= letters else f"{line[: letters - 1]}…"


def _as_image(picture: Image.Image | npt.NDArray[np.uint8], min_side: int) -> Image.Image:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    factor = min(_factor(min(image.size), min_side), max(_LONGEST // max(image.size), 1))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _rows(label: LabelMap, names: Sequence[str]) -> list[tuple[str, float, Colour]]:
    """Name, percent of the picture and colour, largest first, "unlabelled" last."""
    ignore = codes_of(label).ignore
    counts = np.bincount(label.ravel(), minlength=ignore + 1)
    percent = 100 * counts / counts.sum()
    colours = class_colours(names)
    order = [i for i in np.argsort(-counts, kind="stable").tolist() if counts[i] and i != ignore]
    rows: list[tuple[str, float, Colour]] = [
        (names[i] if i < len(names) else f"id {i}", percent[i], colours[i] if i < len(names) else FAINT)
        for i in order
    ]
    if len(rows) > _LEGEND_LIMIT:
        rest = rows[_LEGEND_LIMIT - 1 :]
        rows = [*rows[: _LEGEND_LIMIT - 1], (f"{len(rest)} more", sum(row[1] for row in rest), FAINT)]
    if counts[ignore]:
        rows.append(("unlabelled", percent[ignore], (90, 90, 90)))
    return rows


def draw_swatch(
    panel: Image.Image, corner: tuple[int, int], side: int, colour: Colour, *, striped: bool
) -> None:
    """Paint a square in a class colour at ``(x, y)``, striped as an unseen class is."""
    square = np.empty((side, side, 3), dtype=np.uint8)
    square[:] = colour
    if striped:
        square[_stripes((side, side))] = (255, 255, 255)
    panel.paste(Image.fromarray(square), corner)


def _colour_table(names: Sequence[str], size: int) -> npt.NDArray[np.float32]:
    table = np.full((size, 3), 128, dtype=np.float32)
    table[: len(names)] = np.array(class_colours(names), dtype=np.float32).reshape(-1, 3)
    return table


def _stripes(shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows + columns) % _HATCH_PERIOD < 2


def _borders(label: LabelMap) -> npt.NDArray[np.bool_]:
    """Pixels whose right or lower neighbour has another id."""
    border = np.zeros(label.shape, dtype=bool)
    border[:, :-1] |= label[:, :-1] != label[:, 1:]
    border[:-1] |= label[:-1] != label[1:]
    return border


def _factor(side: int, min_side: int) -> int:
    return max(1, -(-min_side // side))


def _enlarged(
    image: npt.NDArray[np.uint8], label: LabelMap, min_side: int
) -> tuple[npt.NDArray[np.uint8], LabelMap]:
    factor = min(_factor(min(label.shape), min_side), max(_LONGEST // max(label.shape), 1))
    if factor == 1:
        return image, label
    height, width = label.shape
    larger = Image.fromarray(image).resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    return np.asarray(larger), label.repeat(factor, 0).repeat(factor, 1)
