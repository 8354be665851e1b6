"""Files that appear whole or not at all."""

import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lexiseg.errors import LexisegError


def write_json(content: Mapping[str, Any] | Sequence[Any], path: Path) -> None:
    """Write plain values as JSON; NaN, which JSON lacks, becomes null."""
    write_text(json_text(content), path)


def json_text(content: Mapping[str, Any] | Sequence[Any]) -> str:
    """What :func:`write_json` writes."""
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_text(text: str, path: Path) -> None:
    """Write a text in UTF-8."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_png(image: Image.Image, path: Path) -> None:
    """Write a picture as PNG."""
    write_atomically(path, lambda part: image.save(part, format="PNG"))


def png_bytes(image: Image.Image) -> bytes:
    """What :func:`write_png` writes."""
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()


def write_atomically(path: Path, write: Callable[[Path], Any], *, part_suffix: str = ".part") -> None:
    """Let ``write`` fill a file beside the target, then rename: a kill never leaves half a file.

    Args:
        path: The target; its folder is made if need be.
        write: Fills the file that it is given.
        part_suffix: Ending of that file's name until it is complete; a kill may leave it behind.

    Raises:
        LexisegError: The folder cannot be made or written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=part_suffix)
        os.close(handle)
        part = Path(name)
        try:
            write(part)
            part.chmod(0o644)  # mkstemp makes files that only their owner may read
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise LexisegError(
            f"cannot write {path} ({error.strerror or error}); choose another folder"
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
