"""Training transforms as published; all randomness from the generator given.

The recipe is mmsegmentation 0.24's, which Cascade-CLIP, ZegCLIP and SPT-SEG train with: random scale, random
crop with a bound on the largest class, flip, photometric distortion, normalise, pad. Images stay uint8 here;
the model normalises.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from lexiseg.constants import IMAGENET_MEAN
from lexiseg.errors import ConfigError
from lexiseg.label_codes import LabelMap, codes_of
from lexiseg.ops.nearest import nearest_indices
from lexiseg.ops.resize import (
    fit_within,
    resize_image,
    resize_image_pillow,
    resize_label,
    shortest_edge_size,
)

Image8 = npt.NDArray[np.uint8]
"""``(H, W, 3)`` uint8 RGB."""

MEAN_COLOUR = tuple(round(255 * value) for value in IMAGENET_MEAN)
"""What becomes 0 (to within half a grey level) once ImageNet's mean is subtracted."""

CROP_TRIES = 10
"""How often mmsegmentation redraws a crop that one class dominates, before it takes the last draw."""

_GREYS = 256
_HUE_PER_TURN = 255
"""Pillow's HSV spreads the colour circle over 0-255."""


class Transform(Protocol):
    """Changes an image and its label map together."""

    def __call__(self, image: Image8, label: LabelMap, rng: np.random.Generator) -> tuple[Image8, LabelMap]:
        """Return new arrays; the inputs stay as they are."""


@dataclass(frozen=True)
class Compose:
    """One transform after the other, all drawing from the same generator."""

    transforms: Sequence[Transform]

    def __call__(self, image: Image8, label: LabelMap, rng: np.random.Generator) -> tuple[Image8, LabelMap]:
        """Apply each in turn."""
        for transform in self.transforms:
            image, label = transform(image, label, rng)
        return image, label


@dataclass(frozen=True)
class RandomScale:
    """Fit into ``ratio * base``, keeping the proportions.

    Attributes:
        base: Longest long side and longest short side at ratio 1.
        ratio: The ratio is uniform in this range.
    """

    base: tuple[int, int] = (2048, 512)
    ratio: tuple[float, float] = (0.5, 2.0)

    def __call__(self, image: Image8, label: LabelMap, rng: np.random.Generator) -> tuple[Image8, LabelMap]:
        """The very resizing that images meet at test time; label nearest."""
        factor = rng.uniform(*self.ratio)
        bounds = (int(self.base[0] * factor), int(self.base[1] * factor))
        size = fit_within((image.shape[0], image.shape[1]), *bounds)
        pixels, ids = (torch.from_numpy(np.ascontiguousarray(array)) for array in (image, label))
        return resize_image(pixels, size).numpy(), resize_label(ids, size).numpy()


@dataclass(frozen=True)
class RandomShortSide:
    """Bring the shorter side to one of several lengths, as detectron2 does: the image as Pillow resizes it, labels nearest.

    Attributes:
        sides: Lengths of the shorter side, each as likely as the others.
        long_side: The longer side becomes no longer than this.
    """

    sides: tuple[int, ...]
    long_side: int

    def __call__(self, image: Image8, label: LabelMap, rng: np.random.Generator) -> tuple[Image8, LabelMap]:
        """The very resizing of `protocol=regions`; a label is that of the pixel under its centre."""
        size = shortest_edge_size(
            (image.shape[0], image.shape[1]), int(rng.choice(self.sides)), self.long_side
        )
        resized = resize_image_pillow(torch.from_numpy(np.ascontiguousarray(image)), size).numpy()
        rows, columns = (nearest_indices(old, new) for old, new in zip(label.shape, size, strict=True))
        return resized, label[rows[:, None], columns]


@dataclass(frozen=True)
class RandomCrop:
    """Cut out at most ``size``; redraw while one class covers too much of what is labelled.

    Attributes:
        size: Height and width; a smaller image is kept whole along that axis.
        cat_max_ratio: A crop is taken at once if it shows at least two classes and the largest covers less
            than this part of its labelled pixels. 1 switches the test off.
    """

    size: tuple[int, int] = (512, 512)
    cat_max_ratio: float = 0.75

    def __call__(self, image: Image8, label: LabelMap, rng: np.random.Generator) -> tuple[Image8, LabelMap]:
        """After ``CROP_TRIES`` redraws the last window is taken as it is."""
        window = self._draw(label.shape, rng)
        if self.cat_max_ratio < 1:
            for _ in range(CROP_TRIES):
                if self._varied(label[window]):
                    break
                window = self._draw(label.shape, rng)
        return image[window], label[window]

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[slice, slice]:
        top, left = (int(rng.integers(0, max(shape[i] - self.size[i], 0) + 1)) for i in (0, 1))
        return slice(top, top + self.size[0]), slice(left, left + self.size[1])

    def _varied(self, label: LabelMap) -> bool:
        ignore = codes_of(label).ignore
        counts = np.bincount(label.ravel(), minlength=ignore + 1)
        counts[ignore] = 0
        return bool(np.count_nonzero(counts) > 1 and counts.max() / counts.sum() < self.cat_max_ratio)


@dataclass(frozen=True)
class RandomFlip:
    """Mirror left and right with this probability."""

    probability: float = 0.5

    def __call__(self, image: Image8, label: LabelMap, rng: np.random.Generator) -> tuple[Image8, LabelMap]:
        """Mirror both or neither."""
        if rng.random() < self.probability:
            return image[:, ::-1], label[:, ::-1]
        return image, label


@dataclass(frozen=True)
class PhotometricDistortion:
    """Brightness, contrast, saturation and hue, each with probability one half.

    Contrast comes right after brightness or at the very end, as a fair coin says. Differs from mmsegmentation
    in that saturation and hue share one conversion to HSV, Pillow's with 255 hue steps instead of OpenCV's
    180.

    Attributes:
        brightness: Largest shift of grey levels, up or down.
        contrast: Range of the factor.
        saturation: Range of the factor.
        hue: Largest shift in OpenCV's hue unit of two degrees.
    """

    brightness: int = 32
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: int = 18

    def __call__(self, image: Image8, label: LabelMap, rng: np.random.Generator) -> tuple[Image8, LabelMap]:
        """Only the image changes."""
        if rng.random() < 0.5:
            image = _linear(image, 1.0, rng.uniform(-self.brightness, self.brightness))
        contrast_first = rng.random() < 0.5
        if contrast_first:
            image = self._contrast(image, rng)
        image = self._saturation_and_hue(image, rng)
        if not contrast_first:
            image = self._contrast(image, rng)
        return image, label

    def _contrast(self, image: Image8, rng: np.random.Generator) -> Image8:
        return _linear(image, rng.uniform(*self.contrast), 0.0) if rng.random() < 0.5 else image

    def _saturation_and_hue(self, image: Image8, rng: np.random.Generator) -> Image8:
        saturation = rng.uniform(*self.saturation) if rng.random() < 0.5 else 1.0
        turn = int(rng.integers(-self.hue, self.hue)) if self.hue and rng.random() < 0.5 else 0
        if saturation == 1.0 and turn == 0:
            return image
        hsv = np.array(Image.fromarray(np.ascontiguousarray(image)).convert("HSV"))
        hsv[..., 1] = _linear(hsv[..., 1], saturation, 0.0)
        shift = round(turn * _HUE_PER_TURN / 180)
        hsv[..., 0] = (hsv[..., 0].astype(np.int16) + shift) % _HUE_PER_TURN
        bands = [Image.fromarray(np.ascontiguousarray(hsv[..., i])) for i in range(3)]
        return np.array(Image.merge("HSV", bands).convert("RGB"))


@dataclass(frozen=True)
class Pad:
    """Fill up to ``size`` at the bottom and on the right.

    The published pipeline pads with 0 after normalising. Images are not normalised yet here, so the fill is
    the mean colour, which normalising turns into 0 to within half a grey level (0.009 deviations).

    Attributes:
        size: Height and width; nothing happens along an axis that is long enough.
        fill: Colour of new pixels; their label is the ignored one.
    """

    size: tuple[int, int] = (512, 512)
    fill: tuple[int, ...] = MEAN_COLOUR

    def __call__(self, image: Image8, label: LabelMap, rng: np.random.Generator) -> tuple[Image8, LabelMap]:
        """Nothing random here."""
        height, width = label.shape
        target = (max(height, self.size[0]), max(width, self.size[1]))
        if target == (height, width):
            return image, label
        padded = np.empty((*target, 3), dtype=np.uint8)
        padded[:] = self.fill
        padded[:height, :width] = image
        ids = np.full(target, codes_of(label).ignore, dtype=label.dtype)
        ids[:height, :width] = label
        return padded, ids


_MOST_PIXELS = 2**16
"""Of a side: more than any photograph has."""


def train_recipe(
    *,
    base: Sequence[int] = (2048, 512),
    ratio: Sequence[float] = (0.5, 2.0),
    crop: Sequence[int] = (512, 512),
    cat_max_ratio: float = 0.75,
    flip: float = 0.5,
    distort: bool = True,
    short_sides: Sequence[int] | None = None,
    fill: Sequence[int] = MEAN_COLOUR,
) -> Compose:
    """The published training transforms with their sizes as arguments.

    Args:
        base: Long and short side at ratio 1.
        ratio: Range of the random scale.
        crop: Height and width of a training sample.
        cat_max_ratio: Bound on the largest class of a crop.
        flip: Probability of mirroring.
        distort: Whether colours are distorted.
        short_sides: Lengths that the shorter side is drawn from instead of a ratio, as detectron2 does; the longer side is at
            most ``base``'s.
        fill: Colour of what a crop lacks; the released SAN, ZegFormer, OVSeg and FC-CLIP fill with 128.

    Raises:
        ConfigError: A size or range that is none.
    """
    for key, pair in (("base", base), ("ratio", ratio), ("crop", crop)):
        numbers = isinstance(pair, Sequence) and all(isinstance(n, int | float) for n in pair)
        if not numbers or len(pair) != 2 or not all(0 < n <= _MOST_PIXELS for n in pair):
            raise ConfigError(f"{key} is {pair}; expected two positive numbers up to {_MOST_PIXELS}")
    if ratio[0] > ratio[1]:
        raise ConfigError(f"ratio is {list(ratio)}; expected the smaller number first")
    for key, share in (("cat_max_ratio", cat_max_ratio), ("flip", flip)):
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ConfigError(f"{key} is {share!r}; expected a number from 0 to 1")
    if not isinstance(fill, Sequence) or len(fill) != 3 or not all(_is_grey(value) for value in fill):
        raise ConfigError(f"fill is {fill}; expected three whole numbers from 0 to 255")
    sizes: Transform = RandomScale((int(base[0]), int(base[1])), (float(ratio[0]), float(ratio[1])))
    if short_sides is not None:
        sizes = RandomShortSide(_lengths(short_sides), int(base[0]))
    window = (int(crop[0]), int(crop[1]))
    colours: list[Transform] = [PhotometricDistortion()] if distort else []
    return Compose(
        [
            sizes,
            RandomCrop(window, cat_max_ratio),
            RandomFlip(flip),
            *colours,
            Pad(window, tuple(fill)),
        ]
    )


def _lengths(short_sides: object) -> tuple[int, ...]:
    if not isinstance(short_sides, Sequence) or isinstance(short_sides, str) or not short_sides:
        raise ConfigError(f"short_sides is {short_sides!r}; expected a list of lengths in pixels, or null")
    if not all(type(side) is int and 0 < side <= _MOST_PIXELS for side in short_sides):
        raise ConfigError(f"short_sides is {short_sides}; expected whole numbers from 1 to {_MOST_PIXELS}")
    return tuple(short_sides)


def _is_grey(value: object) -> bool:
    return type(value) is int and 0 <= value < _GREYS


def _linear(values: npt.NDArray[np.uint8], factor: float, shift: float) -> npt.NDArray[np.uint8]:
    """``factor * values + shift`` through a table of 256 entries, cut to 0-255, truncated as in mmseg."""
    table = np.clip(np.arange(_GREYS) * factor + shift, 0, 255).astype(np.uint8)
    return table[values]
