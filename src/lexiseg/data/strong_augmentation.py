"""The strong view of an image, as PixelCLIP's student sees it: other colours, less sharp, and a hole."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageFilter

from lexiseg.data.transforms import Image8
from lexiseg.errors import ConfigError
from lexiseg.plain_settings import require_plain_settings

_HUES = 256
"""Hues of Pillow's HSV as torchvision turns them: eight bits that wrap around."""


@dataclass(frozen=True)
class Hole:
    """A rectangle that the strong view does not show: rows and columns of pixels, the ends excluded."""

    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def window(self) -> tuple[slice, slice]:
        """The rectangle as an index into an image."""
        return slice(*self.rows), slice(*self.columns)

    def cells(self, size: tuple[int, int], grid: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """Which cells of a grid laid over the image have their centre in the hole.

        Args:
            size: Height and width of the image in pixels.
            grid: Rows and columns of the grid.

        Returns:
            Bool of shape ``grid``.
        """
        inside = []
        for (start, end), pixels, cells in zip((self.rows, self.columns), size, grid, strict=True):
            centres = (np.arange(cells) + 0.5) * pixels / cells
            inside.append((start <= centres) & (centres < end))
        return inside[0][:, None] & inside[1][None, :]


@dataclass(frozen=True)
class StrongAugmentation:
    """Colour jitter, grey, Gaussian blur and a black hole, in this order; the defaults are PixelCLIP's.

    The jitter changes brightness, contrast, saturation and hue in random order, with torchvision's meaning of
    each factor: 1 keeps the image, 0 gives black, the mean grey, or grey; the hue turns by a part of the
    colour circle.

    Attributes:
        jitter_probability: Of any jitter.
        brightness: Factor uniform in 1 ± this; at most 1. So for the next two.
        contrast: Around the mean grey of the image.
        saturation: Around the grey image.
        hue: Largest turn of the colour circle either way, in turns; at most 0.5.
        grey_probability: Of losing all colour.
        blur_probability: Of any blur.
        blur_sigma: Range of the standard deviation, in pixels of the unscaled crop.
        hole_side: Range of the hole's height and width, each drawn on its own, as parts of the image's; the hole is
            always there unless the range is (0, 0).

    Raises:
        ConfigError: A probability, factor or range that is none.
    """

    jitter_probability: float = 0.8
    brightness: float = 0.5
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 0.25
    grey_probability: float = 0.2
    blur_probability: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    hole_side: tuple[float, float] = (0.1, 0.5)

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        require_plain_settings(self, "strong")
        for name, largest in _LARGEST.items():
            value = getattr(self, name)
            if not 0 <= value <= largest:
                raise ConfigError(f"strong.{name} is {value}; expected a number from 0 to {largest}")
        for name, largest in (("blur_sigma", float("inf")), ("hole_side", 1.0)):
            object.__setattr__(self, name, _checked_range(name, getattr(self, name), largest))

    def __call__(self, image: Image8, rng: np.random.Generator, *, scale: float = 1.0) -> tuple[Image8, Hole]:
        """Augment one image.

        Args:
            image: ``(H, W, 3)`` uint8; stays as it is.
            rng: The only source of randomness.
            scale: Pixels of ``image`` per pixel of the unscaled crop, which the blur is measured in.

        Returns:
            A new image of the same size, and its hole.
        """
        picture = Image.fromarray(np.ascontiguousarray(image))
        if rng.random() < self.jitter_probability:
            picture = self._jitter(picture, rng)
        if rng.random() < self.grey_probability:
            picture = picture.convert("L").convert("RGB")
        if rng.random() < self.blur_probability:
            picture = picture.filter(ImageFilter.GaussianBlur(scale * rng.uniform(*self.blur_sigma)))
        hole = self._draw_hole(image.shape[:2], rng)
        strong = np.array(picture)
        strong[hole.window] = 0
        return strong, hole

    def _jitter(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        brightness, contrast, saturation = (
            rng.uniform(1 - width, 1 + width) for width in (self.brightness, self.contrast, self.saturation)
        )
        turn = rng.uniform(-self.hue, self.hue)
        changes: tuple[Callable[[Image.Image], Image.Image], ...] = (
            lambda it: ImageEnhance.Brightness(it).enhance(brightness),
            lambda it: ImageEnhance.Contrast(it).enhance(contrast),
            lambda it: ImageEnhance.Color(it).enhance(saturation),
            lambda it: turn_hue(it, turn),
        )
        for index in rng.permutation(len(changes)):
            picture = changes[index](picture)
        return picture

    def _draw_hole(self, size: tuple[int, int], rng: np.random.Generator) -> Hole:
        spans = []
        for pixels in size:
            length = round(rng.uniform(*self.hole_side) * pixels)
            start = int(rng.integers(0, pixels - length + 1))
            spans.append((start, start + length))
        return Hole(spans[0], spans[1])


def turn_hue(picture: Image.Image, turn: float) -> Image.Image:
    """Turn every hue by ``turn`` of the colour circle; greys stay."""
    shift = round(turn * _HUES) % _HUES
    if shift == 0:
        return picture  # there and back would round each colour
    hue, saturation, value = picture.convert("HSV").split()
    table = [(step + shift) % _HUES for step in range(_HUES)]
    return Image.merge("HSV", (hue.point(table), saturation, value)).convert("RGB")


def _checked_range(name: str, value: Any, largest: float) -> tuple[float, float]:
    """Two numbers, however a configuration file writes them."""
    pair = tuple(value) if isinstance(value, Sequence) else ()
    numbers = all(isinstance(number, int | float) for number in pair)
    if len(pair) != 2 or not numbers or not 0 <= pair[0] <= pair[1] <= largest:
        raise ConfigError(
            f"strong.{name} is {value!r}; expected two numbers from 0 to {largest}, the smaller first"
        )
    return float(pair[0]), float(pair[1])


_LARGEST = {
    "jitter_probability": 1.0,
    "brightness": 1.0,
    "contrast": 1.0,
    "saturation": 1.0,
    "hue": 0.5,
    "grey_probability": 1.0,
    "blur_probability": 1.0,
}
