"""Files and folders that appear whole or not at all."""

import errno
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lexiseg.errors import LexisegError

if TYPE_CHECKING:
    from PIL.Image import Image

_SHOWN_LETTERS = 1024
_LONGEST_TEXT = 2**26


def write_json(content: Mapping[str, Any] | Sequence[Any], path: Path) -> None:
    """Write plain values as JSON; NaN, which JSON lacks, becomes null."""
    write_text(json_text(content), path)


def json_text(content: Mapping[str, Any] | Sequence[Any]) -> str:
    """What :func:`write_json` writes."""
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def require_folder(path: Path, name: str) -> None:
    """Refuse a folder for results that is a file or a dead link, lies below one, or may not be written to; nothing is made.

    Args:
        path: Where results shall go.
        name: What the user calls it, for the message.

    Raises:
        LexisegError: It can be no folder, or nothing can be written there.
    """
    with writing(path):
        there = next(
            place for place in (path, *path.absolute().parents) if place.exists() or place.is_symlink()
        )
        nowhere = not there.exists()
    if nowhere:
        raise LexisegError(
            f"{name} {path}: {there} is a link that leads nowhere; choose a folder for the results"
        )
    if not there.is_dir():
        raise LexisegError(f"{name} {path}: {there} is a file; choose a folder for the results")
    with writing(path), tempfile.TemporaryFile(dir=there):
        pass


def require_file_place(path: Path, name: str) -> None:
    """Refuse the name of a file to write that is a folder's, or whose folder :func:`require_folder` refuses.

    Args:
        path: The file.
        name: What the user calls it, for the message.

    Raises:
        LexisegError: No such file can be written.
    """
    if is_folder(path):
        raise LexisegError(f"{name} {path} is a folder; give the name of a file")
    require_folder(path.parent, name)


def write_text(text: str, path: Path) -> None:
    """Write a text in UTF-8."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def read_words(path: Path) -> str:
    """A text that a person wrote, in UTF-8 with or without its mark.

    Raises:
        OSError: It cannot be read, or is longer than any person writes: a device may have no end.
        UnicodeDecodeError: It is no such text.
    """
    with path.open("rb") as file:
        content = file.read(_LONGEST_TEXT + 1)
    if len(content) > _LONGEST_TEXT:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def tell_unreadable(path: Path, error: Exception) -> str:
    """Why a text could not be read, as the beginning of a sentence of ours."""
    if isinstance(error, FileNotFoundError):
        return f"no file at {_shown(path)}"
    if isinstance(error, IsADirectoryError):
        return f"{_shown(path)} is a folder"
    if isinstance(error, UnicodeDecodeError):
        return f"{_shown(path)} is no UTF-8 text ({error})"
    return f"cannot read {_shown(path)} ({getattr(error, 'strerror', None) or error})"


def write_png(image: "Image", path: Path) -> None:
    """Write a picture as PNG."""
    write_atomically(path, lambda part: image.save(part, format="PNG"))


def png_bytes(image: "Image") -> bytes:
    """What :func:`write_png` writes."""
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()


def write_atomically(
    path: Path, write: Callable[[Path], Any], *, part_suffix: str = ".part", durable: bool = False
) -> None:
    """Let ``write`` fill a file beside the target, then rename: a kill never leaves half a file.

    Args:
        path: The target; its folder is made if need be.
        write: Fills the file that it is given.
        part_suffix: Ending of that file's name until it is complete; a kill may leave it behind.
        durable: Force the bytes to disk before the rename, so that not even a power cut costs both files; and write under
            one name, the target's with ``part_suffix``, so that many kills leave one half file. For one writer at a time.

    Raises:
        LexisegError: The folder cannot be made or written to.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + part_suffix) if durable else _fresh(path.parent, part_suffix)
        try:
            write(part)
            if durable:
                _force_to_disk(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        if durable:
            _force_to_disk(path.parent)


@contextmanager
def folder_or_nothing(path: Path) -> Iterator[Path]:
    """A folder that takes the name ``path`` when all went well, and is gone otherwise.

    Args:
        path: Not there yet, or an empty folder; a link to one stays a link, and the folder it leads to is filled.

    Raises:
        LexisegError: It cannot be made or written to.
    """
    with writing(path):
        place = path.resolve() if path.is_symlink() and path.is_dir() else path
        place.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.", suffix=".part"))
        try:
            yield part
            part.chmod(0o755)  # mkdtemp makes folders that only their owner may read
            part.replace(place)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file; what is not there, or is a link to itself, is nobody's."""
    return one.exists() and other.exists() and one.samefile(other)


def leads_somewhere(path: Path | str) -> bool:
    """Whether a word that may be a path is one of something; what is too long for a path is none."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def is_there(path: Path) -> bool:
    """Whether a file stands in a folder that is, or is to be, written to.

    Raises:
        LexisegError: The folder cannot be looked into, or its name is longer than the system takes.
    """
    with writing(path):
        return path.is_file()


def is_folder(path: Path) -> bool:
    """Whether a folder that is to be written to is there already, and lets one in.

    Raises:
        LexisegError: It cannot be looked into, or its name is longer than the system takes.
    """
    with writing(path):
        if not path.is_dir():
            return False
        next(path.iterdir(), None)
        return True


def remove_file(path: Path) -> None:
    """Remove a file that is to be written anew, if it is there.

    Raises:
        LexisegError: It stays where it is.
    """
    with writing(path):
        path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder, with those above it, where there is none yet.

    Raises:
        LexisegError: It cannot be made, or a file stands there.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system says against writing ``path``, as a message of ours."""
    try:
        yield
    except OSError as error:
        raise LexisegError(
            f"cannot write {_shown(path)} ({error.strerror or error}); choose another folder"
        ) from error


def _shown(path: Path) -> str:
    """A path for a message; of one longer than any system takes, its two ends."""
    text = str(path)
    return text if len(text) <= _SHOWN_LETTERS else f"{text[:60]}…{text[-60:]}"


def _fresh(folder: Path, suffix: str) -> Path:
    """An empty file of a name that nobody else has."""
    handle, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=suffix)
    os.close(handle)
    Path(name).chmod(0o644)  # mkstemp makes files that only their owner may read
    return Path(name)


def _force_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _plain(value: Any) -> Any:
    import numpy as np  # whoever writes values has them loaded already

    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
