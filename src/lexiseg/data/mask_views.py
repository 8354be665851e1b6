"""One photograph with masks becomes a weak and a strong view of one window, and the masks in that window.

PixelCLIP resizes the photograph to a short side of 1024, crops 640x640, distorts colours, flips, pads, makes
the strong view, and stretches both views to the tower's size and the masks to 256x256. Here window, flip and
sizes are drawn first, and every pixel and mask cell is then taken from the photograph once:

* The image is resampled from its window straight to the final size (bilinear, antialiased), a quarter of the
  pixels to distort, jitter and blur. The blur is scaled along.
* Masks are never resized at full size: the centre of each of the 256x256 cells is followed back to one pixel
  of the photograph, which is one index per row and column. The published chain rounds to the nearest pixel
  twice (at 1024, then at 256, there with the cell's corner, not its centre), so a mask border may differ by a
  cell; ours lies where the image's does.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from lexiseg.constants import CLIP_MEAN
from lexiseg.data.strong_augmentation import StrongAugmentation
from lexiseg.data.transforms import Image8, PhotometricDistortion
from lexiseg.ops.resize import keep_ratio_size
from lexiseg.plain_settings import require_plain_settings, within

Indices = npt.NDArray[np.int64]

PAD_COLOUR = tuple(round(255 * value) for value in CLIP_MEAN)
"""What becomes 0 (to within half a grey level) once CLIP's mean is subtracted."""

SMALLEST_MASK = 2
"""Cells that a mask must keep in the window to count, as published: more than one."""


class Masks(Protocol):
    """The class-agnostic masks of one image; they may overlap, and there may be none."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""

    def __len__(self) -> int: ...

    def sample(self, rows: Indices, columns: Indices) -> npt.NDArray[np.bool_]:
        """``(N, h, w)`` at h rows and w columns of the image, in any order."""


@dataclass(frozen=True)
class Window:
    """The part of a photograph that the views show, and where on their square canvas it lies.

    Attributes:
        start: Top and left, in pixels of the photograph, fractions allowed.
        extent: Height and width, in the same unit.
        filled: Rows and columns of the canvas that the window fills, from the top left.
        canvas: Rows and columns of the canvas; what is not filled is padding.
        flipped: Whether left and right are exchanged, within the filled part.
    """

    start: tuple[float, float]
    extent: tuple[float, float]
    filled: tuple[int, int]
    canvas: int
    flipped: bool

    def show(self, image: Image8) -> Image8:
        """The window of ``(H, W, 3)`` uint8, resampled to ``filled`` and flipped; not padded."""
        height, width = image.shape[:2]
        (top, left), (bottom, right) = self.start, np.add(self.start, self.extent).tolist()
        picture = Image.fromarray(np.ascontiguousarray(image)).resize(
            (self.filled[1], self.filled[0]),
            Image.Resampling.BILINEAR,
            box=(
                left,
                top,
                min(right, width),
                min(bottom, height),
            ),  # a rounding error may not leave the image
        )
        shown = np.asarray(picture)
        return shown[:, ::-1] if self.flipped else shown

    def pad(self, shown: Image8) -> Image8:
        """Lay the window on the canvas, ``(canvas, canvas, 3)`` uint8."""
        padded = np.empty((self.canvas, self.canvas, 3), dtype=np.uint8)
        padded[:] = PAD_COLOUR
        padded[: self.filled[0], : self.filled[1]] = shown
        return padded

    def sources(self, cells: int, axis: int, size: int) -> Indices:
        """Which row (axis 0) or column (axis 1) of the photograph each cell of a grid on the canvas shows.

        Args:
            cells: Cells of the grid along the axis.
            axis: 0 for rows, 1 for columns.
            size: Pixels of the photograph along the axis.

        Returns:
            One index for each cell whose centre is filled; the cells after them are padding.
        """
        place = (np.arange(cells) + 0.5) * self.canvas / cells / self.filled[axis]
        place = place[place < 1]
        if axis == 1 and self.flipped:
            place = 1 - place
        # A centre on the edge of two pixels belongs to the later one, whichever way its last digit was rounded.
        positions = np.round(self.start[axis] + place * self.extent[axis], 6)
        return np.floor(positions).astype(np.int64).clip(0, size - 1)

    def gather(self, masks: Masks, cells: int) -> npt.NDArray[np.bool_]:
        """The masks as the canvas shows them, nearest, ``(N, cells, cells)`` bool; False in the padding."""
        rows, columns = (self.sources(cells, axis, masks.size[axis]) for axis in (0, 1))
        shown = masks.sample(rows, columns)
        return np.pad(shown, ((0, 0), (0, cells - len(rows)), (0, cells - len(columns))))


@dataclass(frozen=True)
class Views:
    """What one photograph contributes to a batch.

    Attributes:
        weak: ``(S, S, 3)`` uint8.
        strong: ``(S, S, 3)`` uint8.
        masks: ``(N, R, R)`` bool, the largest first.
    """

    weak: Image8
    strong: Image8
    masks: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TwoViews:
    """Draws the weak and the strong view of a photograph; the defaults are the published ones for ViTs.

    Attributes:
        short_side: Short side that the photograph is thought to be resized to.
        crop: Side of the window at that scale; a photograph that is smaller along an axis is padded.
        size: Side S of both views (640 for the published ConvNeXt).
        mask_size: Side R of the masks.
        flip: Probability of mirroring.
        distort: Whether the colours of both views are distorted as for SSD.
        cut_masks: Whether what the hole hides is taken out of the masks: true for SA-1B's as published, false for
            DINO's.
        strong: What sets the strong view apart.

    Raises:
        ConfigError: A size below 1 or a probability that is none.
    """

    short_side: int = within(1024, at_least=1, at_most=65536)
    crop: int = within(640, at_least=1, at_most=8192)
    size: int = within(320, at_least=1, at_most=8192)
    mask_size: int = within(256, at_least=1, at_most=8192)
    flip: float = within(0.5, at_least=0, at_most=1)
    distort: bool = True
    cut_masks: bool = True
    strong: StrongAugmentation = field(default_factory=StrongAugmentation)

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        require_plain_settings(self, "views")

    def __call__(self, image: Image8, masks: Masks, rng: np.random.Generator) -> Views:
        """Draw both views.

        Args:
            image: ``(H, W, 3)`` uint8; stays as it is.
            masks: N masks of that image.
            rng: The only source of randomness.

        Returns:
            The views. Masks with fewer than ``SMALLEST_MASK`` cells left are dropped.
        """
        window = self.draw(image.shape[:2], rng)
        shown = window.show(image)
        if self.distort:
            shown, _ = PhotometricDistortion()(shown, shown[..., 0], rng)
        weak = window.pad(shown)
        strong, hole = self.strong(weak, rng, scale=self.size / self.crop)
        cells = window.gather(masks, self.mask_size)
        if self.cut_masks:
            cells &= ~hole.cells(weak.shape[:2], (self.mask_size, self.mask_size))
        return Views(weak, strong, _largest_first(cells))

    def draw(self, size: tuple[int, int], rng: np.random.Generator) -> Window:
        """Choose the window of a photograph of ``size`` (height, width)."""
        scaled = keep_ratio_size(size, self.short_side)
        sides = [min(self.crop, side) for side in scaled]
        corner = [int(rng.integers(0, side - part + 1)) for side, part in zip(scaled, sides, strict=True)]
        factors = [before / after for before, after in zip(size, scaled, strict=True)]
        return Window(
            start=(corner[0] * factors[0], corner[1] * factors[1]),
            extent=(sides[0] * factors[0], sides[1] * factors[1]),
            filled=(self._filled(sides[0]), self._filled(sides[1])),
            canvas=self.size,
            flipped=bool(rng.random() < self.flip),
        )

    def _filled(self, side: int) -> int:
        return max(1, round(side * self.size / self.crop))


def _largest_first(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Sort by area, equal ones in the order given, and drop what is too small to count."""
    areas = masks.sum((1, 2), dtype=np.int64)
    order = np.argsort(-areas, kind="stable")
    return masks[order[areas[order] >= SMALLEST_MASK]]
