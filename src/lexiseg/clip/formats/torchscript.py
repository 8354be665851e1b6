"""Read the tensors of a TorchScript archive without running anything in it.

OpenAI ships its CLIP weights as TorchScript. ``torch.jit.load`` would also load, and could run, the code in the
archive; here only its pickled state is walked, with a class for data where the archive names one of its own, so a
file can hold whatever it likes and nothing is executed.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lexiseg.errors import CheckpointError

_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Data:
    """Stands for any object of the archive: remembers its attributes, does nothing."""

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


class _Storage:
    """One flat buffer of the archive with its element type."""

    def __init__(self, flat: Tensor) -> None:
        self.flat = flat


def _rebuild_tensor(
    storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    """View ``size`` and ``stride`` into a storage; bounds are checked by ``as_strided``."""
    return storage.flat.as_strided(size, stride, offset)


class _Unpickler(pickle.Unpickler):
    """Builds tensors and plain containers; every other name becomes inert data or an error."""

    _INERT_PREFIXES: ClassVar[tuple[str, ...]] = ("__torch__", "torch.jit._pickle")

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")))
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch._utils" and name.startswith("_rebuild_tensor"):
            return _rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module.startswith(self._INERT_PREFIXES) or (module == "torch" and name == "device"):
            return _Data
        raise CheckpointError(
            f"the archive names '{module}.{name}', which no weight file needs; nothing was run. "
            "Use a file from a source you trust, or convert it to safetensors"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, _, elements = pid
        raw = bytearray(self._archive.read(f"{self._root}/data/{key}"))
        flat = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
        return _Storage(flat[:elements])


def is_torchscript(path: Path) -> bool:
    """Whether ``path`` is a TorchScript archive: a zip with pickled data and code."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return any("/code/" in name for name in names) and any(name.endswith("/data.pkl") for name in names)


def read_torchscript_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of the archive's module tree, under its dotted name.

    Args:
        path: A TorchScript archive, such as OpenAI's ``ViT-B-16.pt``.

    Returns:
        Names to CPU tensors in the archive's own types.

    Raises:
        CheckpointError: The archive is damaged, or names something that is neither tensor nor plain data.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            data = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            tree = _Unpickler(archive, data.removesuffix("/data.pkl")).load()
    except (pickle.UnpicklingError, zipfile.BadZipFile, KeyError, EOFError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"{path}: expected a TorchScript archive, could not read it ({error})"
        ) from error
    return dict(_walk(tree, ""))


def _walk(node: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Yield ``(dotted name, tensor)`` of a module tree."""
    if isinstance(node, Tensor):
        yield prefix, node
    elif isinstance(node, _Data):
        for name, child in vars(node).items():
            if isinstance(child, (Tensor, _Data)):
                yield from _walk(child, f"{prefix}.{name}" if prefix else name)
