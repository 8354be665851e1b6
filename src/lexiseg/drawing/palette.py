"""A colour for every class name, the same in every picture, whatever its place in the list."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from lexiseg.label_codes import EIGHT_BIT

Colour = tuple[int, int, int]
"""Red, green, blue, 0-255."""

IGNORED_COLOUR: Colour = (255, 255, 255)
"""What ignored pixels get in a palette file."""

_LIGHTNESS = (0.62, 0.74, 0.84)
_CHROMA = (0.10, 0.145, 0.19)
_TRIES = 48
_DISTANCE = 0.13
"""Colours closer than this in OKLab are hard to tell apart side by side; a later name then draws again."""


def class_colours(names: Sequence[str]) -> tuple[Colour, ...]:
    """A well distinguishable colour per name.

    Each name has a colour of its own, drawn from a hash of the name. Where two names of one list come too
    close, the one whose hash is later draws again until it stands apart, so colours depend on which names are
    there but not on their order.

    Args:
        names: Class names, without repeats.

    Returns:
        One colour per name, in the order given.
    """
    return _class_colours(tuple(names))


@lru_cache(maxsize=8)
def _class_colours(names: tuple[str, ...]) -> tuple[Colour, ...]:
    """Remembered, for hundreds of names take a second."""
    chosen: dict[str, npt.NDArray[np.float64]] = {}
    for name in sorted(names, key=lambda name: (_draw(name, 0), name)):
        taken = np.array(list(chosen.values())).reshape(-1, 3)
        best, best_gap = np.zeros(3), -1.0
        for attempt in range(_TRIES):
            candidate = _oklab(name, attempt)
            gap = float(np.linalg.norm(taken - candidate, axis=1).min()) if len(taken) else np.inf
            if gap > best_gap:
                best, best_gap = candidate, gap
            if gap >= _DISTANCE:
                break
        chosen[name] = best
    return tuple(_to_rgb(chosen[name]) for name in names)


def palette_bytes(names: Sequence[str]) -> list[int]:
    """The 256 x 3 palette of a label PNG: class colours first, ignored white, unused codes black."""
    table = np.zeros((EIGHT_BIT.size, 3), dtype=np.uint8)
    table[: len(names)] = np.array(class_colours(names), dtype=np.uint8).reshape(-1, 3)
    table[EIGHT_BIT.ignore] = IGNORED_COLOUR
    return table.ravel().tolist()


def _draw(name: str, attempt: int) -> int:
    text = f"{' '.join(name.lower().split())}#{attempt}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _oklab(name: str, attempt: int) -> npt.NDArray[np.float64]:
    """A colour of even lightness and chroma, at a hue, lightness and chroma that the hash names."""
    draw = _draw(name, attempt)
    hue = 2 * np.pi * (draw % 3600) / 3600
    lightness = _LIGHTNESS[draw // 3600 % len(_LIGHTNESS)]
    chroma = _CHROMA[draw // 3600 // len(_LIGHTNESS) % len(_CHROMA)]
    return np.array([lightness, chroma * np.cos(hue), chroma * np.sin(hue)])


def _to_rgb(oklab: npt.NDArray[np.float64]) -> Colour:
    """OKLab to sRGB, cut to the gamut (B. Ottosson, A perceptual color space for image processing, 2020)."""
    cone = np.array(
        [
            [1, 0.3963377774, 0.2158037573],
            [1, -0.1055613458, -0.0638541728],
            [1, -0.0894841775, -1.2914855480],
        ]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(to_linear @ (cone @ oklab) ** 3, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (int(value) for value in np.rint(255 * encoded))
    return red, green, blue
