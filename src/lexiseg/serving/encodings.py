"""Encoded photographs that clients come back to: bounded in bytes, under names that nobody guesses."""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from torch import Tensor

from lexiseg.inference.encoding import EncodedImage

_NAME_BYTES = 24


class Encodings:
    """Keeps what was used last.

    Args:
        most_bytes: Of all together.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._kept: OrderedDict[str, tuple[EncodedImage, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, encoded: EncodedImage) -> str | None:
        """Keep one; those unused for longest make room.

        Returns:
            Its name; None where it is larger than all that may be kept.
        """
        size = encoded_bytes(encoded)
        if size > self.most_bytes:
            return None
        name = secrets.token_urlsafe(_NAME_BYTES)
        with self._lock:
            while self.bytes + size > self.most_bytes:
                _, (_, freed) = self._kept.popitem(last=False)
                self.bytes -= freed
            self._kept[name] = encoded, size
            self.bytes += size
        return name

    def get(self, name: str) -> EncodedImage | None:
        """The one of a name, which counts as used now; None where there is none, or no more."""
        with self._lock:
            if name not in self._kept:
                return None
            self._kept.move_to_end(name)
            return self._kept[name][0]


def encoded_bytes(encoded: EncodedImage) -> int:
    """Memory of all tensors and arrays of an encoding, wherever they lie; what two of them share counts once."""
    return sum(dict(_storages(encoded)).values())


def _storages(value: Any) -> Iterator[tuple[int, int]]:
    """Address and bytes of everything that holds numbers; a part counts as the whole, which it keeps alive."""
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        yield storage.data_ptr(), storage.nbytes()
    elif isinstance(value, np.ndarray):
        whole = value
        while isinstance(whole.base, np.ndarray):
            whole = whole.base
        yield whole.ctypes.data, whole.nbytes
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _storages(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _storages(part)
    elif is_dataclass(value) and not isinstance(value, type):
        for part in fields(value):
            yield from _storages(getattr(value, part.name))
