"""The photographs of a folder; apart from the data sets, so that who only lists them need not wait for torch."""

from pathlib import Path

from lexiseg.data.io import IMAGE_SUFFIXES
from lexiseg.errors import DataError


def find_images(folder: Path) -> tuple[Path, ...]:
    """Image files of a folder and its subfolders, in the order of their paths; hidden ones do not count.

    Raises:
        DataError: No such folder, or no image in it.
    """
    if not folder.is_dir():
        raise DataError(f"expected a folder of images, found none at {folder}; check the path")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise DataError(
            f"no image in {folder} or its subfolders; expected files that end in {', '.join(IMAGE_SUFFIXES)}"
        )
    return tuple(found)
