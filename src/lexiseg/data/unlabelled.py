"""Photographs without labels and their class-agnostic masks, from a folder or from a labelled data set."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lexiseg.data.image_folder import find_images
from lexiseg.data.io import read_image
from lexiseg.data.label_regions import Regions, label_regions
from lexiseg.data.mask_views import Masks
from lexiseg.data.transforms import Image8
from lexiseg.errors import ConfigError, DataError
from lexiseg.types import SegmentationDataset

_SHOWN = 4
"""How many images a message names before it only counts."""


@dataclass(frozen=True, eq=False)
class MaskedImage:
    """One photograph and its masks.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        masks: N masks of its size, N may be 0.
        name: Unique within the data set.

    Raises:
        DataError: The sizes differ.
    """

    image: Image8
    masks: Masks
    name: str

    def __post_init__(self) -> None:
        """Masks of another size would be learnt from without a sign of it."""
        if tuple(self.masks.size) != self.image.shape[:2]:
            image, masks = (f"{size[0]}x{size[1]}" for size in (self.image.shape, self.masks.size))
            raise DataError(
                f"image {self.name} is {image} (height x width), turned upright, but its masks are {masks}; make them "
                "again on this image at its full size"
            )


class MaskedDataset(Protocol):
    """What learning from masks draws from."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> MaskedImage: ...


class MaskSource(Protocol):
    """Where the masks of image files come from."""

    def find(self, image: Path) -> Path | None:
        """The file that holds an image's masks; None if there is none."""

    def read(self, image: Path, size: tuple[int, int]) -> Masks:
        """The masks of an image of this height and width; a `DataError` names both files if they are not its."""


class UnlabelledImages:
    """Photographs of a folder, or of a list, that have a mask file.

    Those without one (masks not built yet, or not built because the image is damaged) are left out, and a warning counts
    them. A mask file without a mask is in order: such an image stays and adds nothing.

    Args:
        images: A folder, searched with its subfolders, or the image files themselves.
        masks: Finds and reads mask files.

    Attributes:
        paths: Image files in use.
        names: Their paths below the folder, or as listed.
        skipped: Image files without a mask file.

    Raises:
        DataError: No such folder, no image in it, or no mask file for any.
    """

    def __init__(self, *, images: str | Path | Sequence[str | Path], masks: MaskSource) -> None:
        root = Path(images) if isinstance(images, str | Path) else None
        paths = find_images(root) if root is not None else tuple(map(Path, images))  # type: ignore[arg-type]
        if not paths:
            raise DataError("the list of images is empty; name at least one image file, or a folder")
        found = [masks.find(path) is not None for path in paths]
        self.paths = tuple(path for path, has in zip(paths, found, strict=True) if has)
        self.skipped = tuple(path for path, has in zip(paths, found, strict=True) if not has)
        self.names = tuple(
            (path if root is None else path.relative_to(root)).as_posix() for path in self.paths
        )
        self.masks = masks
        self._report_skipped()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> MaskedImage:
        """Read one photograph and its masks.

        Raises:
            DataError: The image or its mask file is damaged, or they do not belong together.
        """
        path = self.paths[index]
        image = read_image(path)
        return MaskedImage(image, self.masks.read(path, (image.shape[0], image.shape[1])), self.names[index])

    def _report_skipped(self) -> None:
        shown = ", ".join(map(str, self.skipped[:_SHOWN]))
        if not self.paths:
            raise DataError(
                f"none of {len(self.skipped)} images has a mask file ({shown}); make masks first: `lexiseg masks build`"
            )
        if self.skipped:
            warnings.warn(
                f"{len(self.skipped)} of {len(self.skipped) + len(self.paths)} images have no mask file and are left out "
                f"({shown}); `lexiseg masks build` makes what is missing",
                stacklevel=3,
            )


class ForgottenLabels:
    """A labelled data set as if nobody had labelled it: its images, and masks without names.

    Args:
        dataset: The toy world, or any labelled data set.
        make_masks: Makes the masks of an ``(H, W, 3)`` image, as for an unlabelled photograph; None: the exact masks
            that the label map holds.
        regions: How exact masks are cut from a label map; see `label_regions`.

    Raises:
        ConfigError: Unknown kind of regions.
    """

    def __init__(
        self,
        *,
        dataset: SegmentationDataset,
        make_masks: Callable[[Image8], Masks] | None = None,
        regions: Regions = "component",
    ) -> None:
        if regions not in ("component", "class"):
            raise ConfigError(f"regions: expected 'component' or 'class', got {regions!r}")
        if make_masks is not None and not callable(make_masks):
            raise ConfigError(
                f"make_masks: expected what makes masks of an image, or null, got {make_masks!r}"
            )
        self.dataset, self.make_masks, self.regions = dataset, make_masks, regions

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> MaskedImage:
        sample = self.dataset[index]
        if self.make_masks is not None:
            return MaskedImage(sample.image, self.make_masks(sample.image), sample.name)
        return MaskedImage(sample.image, label_regions(sample.label, self.regions), sample.name)
