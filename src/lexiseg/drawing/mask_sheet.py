"""Class-agnostic masks over their photograph, overlapping ones in panels side by side."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from lexiseg.constants import IGNORE_INDEX
from lexiseg.drawing.overlay import blend, panels

_PER_LAYER = 250
"""Masks of one layer at most: their ids share a byte with the code for "no mask"."""

_LET_PASS = 0.1
"""Part of a mask that may lie under others of its layer: borders of SAM's masks overlap by some pixels."""


def mask_layers(masks: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.uint8]]:
    """Sort masks into layers of masks that hardly overlap, large ones first.

    Args:
        masks: ``(N, H, W)``; empty ones are passed over.

    Returns:
        Label maps ``(H, W)``: ids from 0 on within a layer, ``IGNORE_INDEX`` where it has no mask.
    """
    layers: list[npt.NDArray[np.uint8]] = []
    counts: list[int] = []
    areas = masks.sum((1, 2))
    for index in np.argsort(-areas, kind="stable").tolist():
        if not areas[index]:
            continue
        place = next(
            (
                number
                for number, layer in enumerate(layers)
                if counts[number] < _PER_LAYER and (layer[masks[index]] != IGNORE_INDEX).mean() <= _LET_PASS
            ),
            len(layers),
        )
        if place == len(layers):
            layers.append(np.full(masks.shape[1:], IGNORE_INDEX, dtype=np.uint8))
            counts.append(0)
        layers[place][masks[index]] = counts[place]
        counts[place] += 1
    return layers


def mask_sheet(
    image: npt.NDArray[np.uint8], masks: npt.NDArray[np.bool_], *, title: str, most: int = 4
) -> Image.Image:
    """The photograph, then its masks layer by layer, each in a colour of its own.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        masks: ``(N, H, W)`` at the same size.
        title: Stands over the photograph.
        most: Layers drawn; the title of the last says how many masks are not shown.
    """
    layers = mask_layers(masks)
    pictures, titles = [image], [title]
    for number, layer in enumerate(layers[:most]):
        names = [str(index) for index in range(_count(layer))]
        left = sum(_count(hidden) for hidden in layers[most:]) if number == most - 1 else 0
        pictures.append(blend(image, layer, names))
        titles.append(f"{len(names)} masks" + (f" (and {left} more)" if left else ""))
    return panels(pictures, titles)


def _count(layer: npt.NDArray[np.uint8]) -> int:
    return len(np.unique(layer[layer != IGNORE_INDEX]))
