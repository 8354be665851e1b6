"""Where the masks of an image lie, and reading and writing them there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lexiseg.errors import DataError
from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.sa1b import MaskFile, read_mask_file, to_json
from lexiseg.storage import is_folder, write_atomically

SUFFIX = ".masks.json"
_PART_SUFFIX = ".masks.part"


@dataclass(frozen=True)
class MaskStore:
    """Masks beside their images, or in a folder that mirrors the images' folder.

    ``photo.jpg`` has its masks in ``photo.jpg.masks.json``, so that ``photo.png`` can stand beside it. Where there
    is no such file, SA-1B's own ``photo.json`` counts.

    Attributes:
        folder: Where masks lie; None for beside each image.
        root: The images' folder, which ``folder`` mirrors; needed with it.
    """

    folder: Path | None = None
    root: Path | None = None

    def path(self, image: Path) -> Path:
        """Where our masks of an image lie or will lie."""
        if self.folder is None:
            return image.with_name(image.name + SUFFIX)
        inner = image.relative_to(self.root) if self.root is not None else Path(image.name)
        return self.folder / inner.with_name(inner.name + SUFFIX)

    def find(self, image: Path) -> Path | None:
        """The file that holds an image's masks: ours, else one as SA-1B names it; None if there is neither."""
        ours = self.path(image)
        for candidate in (ours, ours.with_name(image.stem + ".json")):
            if candidate.is_file():
                return candidate
        return None

    def read(
        self, image: Path, size: tuple[int, int] | None = None, *, max_masks: int | None = None
    ) -> MaskSet:
        """The masks of an image.

        Args:
            image: Its path.
            size: Its height and width, upright; None if the caller compares them.
            max_masks: Keep only so many, the largest; all if None.

        Returns:
            Masks held as run lengths; ``arrays(at=…)`` and ``sample`` decode them, at any size.

        Raises:
            DataError: There is no mask file, it is damaged, or it belongs to another image.
        """
        path = self.find(image)
        if path is None:
            raise DataError(
                f"no masks for {image}: no {self.path(image)}; run `lexiseg masks build` on its folder"
            )
        file = read_mask_file(path)
        require_same_image(file, path, image, size)
        return file.masks if max_masks is None else file.masks.largest(max_masks)

    def write(self, image: Path, masks: MaskSet, origin: Mapping[str, Any]) -> None:
        """Write an image's masks, whole or not at all.

        Args:
            image: Its path.
            masks: At the image's size.
            origin: How they were made, as plain values.

        Raises:
            LexisegError: The folder cannot be written to.
        """
        text = to_json(MaskFile(image.name, masks, origin))
        write_atomically(
            self.path(image),
            lambda part: part.write_text(text, encoding="utf-8"),
            part_suffix=_PART_SUFFIX,
        )


def read_masks(
    image: str | Path,
    size: tuple[int, int] | None = None,
    *,
    folder: str | Path | None = None,
    root: str | Path | None = None,
    max_masks: int | None = None,
) -> MaskSet:
    """The masks of one image, beside it or in ``folder``, which mirrors ``root``; see :class:`MaskStore`."""
    store = MaskStore(*(None if place is None else Path(place) for place in (folder, root)))
    return store.read(Path(image), size, max_masks=max_masks)


def require_same_image(file: MaskFile, path: Path, image: Path, size: tuple[int, int] | None) -> None:
    """Stop unless a mask file belongs to an image; sizes are compared if given.

    Raises:
        DataError: It names another image, or one of another size.
    """
    if file.file_name is not None and file.file_name != image.name:
        raise DataError(
            f"mask file {path} belongs to the image '{file.file_name}', not to '{image.name}'; give each image its own "
            "masks (`lexiseg masks build` does)"
        )
    if size is not None and file.masks.size != size:
        came = "x".join(map(str, file.masks.size))
        raise DataError(
            f"mask file {path} holds masks of {came} pixels (height x width), but {image} is {size[0]}x{size[1]}; they "
            "are another image's, or the image was resized: make them again"
        )


def remove_stale_parts(folders: Iterable[Path]) -> int:
    """Remove half-written mask files that a killed run left in these folders; files of others stay.

    Returns:
        How many there were.
    """
    there = [folder for folder in set(folders) if is_folder(folder)]
    parts = [part for folder in there for part in folder.glob(f".*{_PART_SUFFIX}")]
    for part in parts:
        part.unlink(missing_ok=True)
    return len(parts)
