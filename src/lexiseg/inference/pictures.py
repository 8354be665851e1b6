"""A label map of any number of classes as pictures: palette file, overlay with a legend, score map."""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from lexiseg.constants import IGNORE_INDEX
from lexiseg.drawing.overlay import PAPER, annotate, blend, legend, palette_image
from lexiseg.errors import LexisegError

NO_CLASS = "(no class)"
"""Name of the id that pixels get for which no word was good enough."""

_OTHERS = "(other classes)"
_EIGHT_BIT = 255
"""Ids that an 8-bit file can tell apart beside 255, which other tools take for "ignore"."""

MOST_IDS = 2**16
"""Of a label map's file."""

_BAND = 500
"""Rows drawn at once; a multiple of the hatching's period, so that stripes run on across bands."""


def require_writable(ids: int) -> None:
    """Refuse a label map of so many ids that two would share a pixel value.

    Raises:
        LexisegError: More than 16 bits hold.
    """
    if ids > MOST_IDS:
        raise LexisegError(
            f"{ids} classes, the one of no class included, do not fit the 16 bits of a label map's file, which holds "
            f"{MOST_IDS}; give fewer"
        )


def label_image(labels: npt.NDArray[np.integer], names: Sequence[str]) -> Image.Image:
    """Pixel values are class ids: palette PNG in the class colours up to 255 ids, 16-bit grey above.

    Raises:
        LexisegError: More ids than 16 bits hold.
    """
    require_writable(len(names))
    if len(names) <= _EIGHT_BIT:
        return palette_image(labels.astype(np.uint8), names)
    return Image.fromarray(labels.astype(np.uint16))


def score_image(scores: npt.NDArray[np.float32]) -> Image.Image:
    """Scores as 8-bit grey, 255 for 1."""
    return Image.fromarray(np.rint(scores.clip(0, 1) * 255).astype(np.uint8))


def overlay_image(
    image: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    names: Sequence[str],
    *,
    unseen: Collection[str] = (),
    outlines: npt.NDArray[np.integer] | None = None,
) -> Image.Image:
    """The photograph coloured by class with a legend beside it, unseen classes hatched.

    Args:
        image: ``(H, W, 3)`` RGB.
        labels: ``(H, W)`` class ids.
        names: By class id; the last may be :data:`NO_CLASS`.
        unseen: Names to hatch.
        outlines: ``(H, W)`` numbers of segments, of which each gets a border; None: of the classes.

    Raises:
        LexisegError: The photograph has another size than the label map.
    """
    height, width = image.shape[:2]
    if (height, width) != labels.shape:
        raise LexisegError(
            "the overlay needs the photograph that was segmented: expected "
            f"{labels.shape[0]}x{labels.shape[1]} pixels (height x width), got {height}x{width}"
        )
    small, shown = drawable(labels, names)
    if height <= _BAND:
        return annotate(image, small, shown, hatched=unseen, outlines=outlines)
    # Blending holds several float copies of what it gets, so a tall photograph is drawn band by band. Each
    # band sees one row of the next, for the borders between classes.
    key = legend(small, shown, hatched=unseen, height=height)
    sheet = Image.new("RGB", (width + key.width, max(height, key.height)), PAPER)
    for top in range(0, height, _BAND):
        part = slice(top, top + _BAND + 1)
        borders = None if outlines is None else outlines[part]
        picture = blend(image[part], small[part], shown, hatched=unseen, outlines=borders)[:_BAND]
        sheet.paste(Image.fromarray(picture), (0, top))
    sheet.paste(key, (width, 0))
    return sheet


def drawable(
    labels: npt.NDArray[np.integer], names: Sequence[str]
) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """An 8-bit label map and its names; pixels of :data:`NO_CLASS` become ignored ones.

    Up to 255 classes keep their ids, so that colours are the same in every picture of one vocabulary. Of
    more, the 254 largest of this picture are drawn and the rest share one colour.
    """
    classes = [name for name in names if name != NO_CLASS]
    table = np.full(len(names), IGNORE_INDEX)
    if len(classes) <= _EIGHT_BIT:
        table[: len(classes)] = np.arange(len(classes))
    else:
        counts = np.bincount(labels.ravel(), minlength=len(names))[: len(classes)]
        largest = np.sort(np.argsort(-counts, kind="stable")[: _EIGHT_BIT - 1])
        table[: len(classes)] = len(largest)
        table[largest] = np.arange(len(largest))
        classes = [*(classes[index] for index in largest), _OTHERS]
    return table.astype(np.uint8)[labels], classes
