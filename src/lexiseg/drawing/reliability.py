"""A reliability diagram: of the pixels that are called with some confidence, how many are right."""

import math
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from lexiseg.drawing.overlay import FAINT, INK, MARGIN, PAPER, panels

_SIDE = 300
_BAR = (86, 128, 190)
_GAP = (222, 140, 92)

Bins = Sequence[tuple[int, float, float]]
"""Pixels, mean confidence and accuracy of each bin; NaN for the means of an empty one."""


def reliability_diagram(readings: Mapping[str, Bins]) -> Image.Image:
    """One panel per reading, side by side: a bar as high as the accuracy, and the gap to the mean confidence in another colour.

    Args:
        readings: By their titles.

    Raises:
        ValueError: No reading.
    """
    return panels([_panel(bins) for bins in readings.values()], list(readings))


def _panel(bins: Bins) -> Image.Image:
    font = ImageFont.load_default(size=12)
    left, foot = 34, 30
    sheet = Image.new("RGB", (left + _SIDE + MARGIN, MARGIN + _SIDE + foot), PAPER)
    pen = ImageDraw.Draw(sheet)

    def at(across: float, up: float) -> tuple[float, float]:
        return left + across * _SIDE, MARGIN + (1 - up) * _SIDE

    pen.rectangle((at(0, 1), at(1, 0)), outline=FAINT)
    for number, (pixels, confidence, accuracy) in enumerate(bins):
        if not pixels or math.isnan(confidence):
            continue
        first, last = number / len(bins), (number + 1) / len(bins)
        pen.rectangle((at(first, accuracy), at(last, 0)), fill=_BAR, outline=PAPER)
        low, high = sorted((confidence, accuracy))
        if high > low:
            pen.rectangle((at(first, high), at(last, low)), outline=_GAP, width=2)
    pen.line((at(0, 0), at(1, 1)), fill=INK)
    for tick in (0.0, 0.5, 1.0):
        pen.text((at(tick, 0)[0], at(0, 0)[1] + 4), f"{tick:g}", FAINT, font=font, anchor="ma")
        pen.text((left - 4, at(0, tick)[1]), f"{tick:g}", FAINT, font=font, anchor="rm")
    pen.text(
        (at(0.5, 0)[0], sheet.height - 2),
        "confidence; bars: share that is right",
        FAINT,
        font=font,
        anchor="md",
    )
    return sheet
