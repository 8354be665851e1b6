"""A bank of regions of unlabelled photographs: what each is like and what CLIP says of it, on disk and looked up from there.

The folder holds ``bank.json``, and ``keys.npy`` ``(N, C)`` and ``values.npy`` ``(N, E)`` in half precision, which are mapped
into memory and never read as a whole. Nothing in it is executed.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lexiseg.clip.model import fingerprint
from lexiseg.errors import ConfigError, DataError
from lexiseg.ops.region_memory import remember
from lexiseg.ops.top_matches import top_matches
from lexiseg.storage import write_atomically, write_json
from lexiseg.types import chunks

RECORD = "bank.json"
"""Written last: a folder without it holds no bank, or one that is not finished."""

FORMAT = 1
"""Of the record and the files beside it."""

NUMBERS = np.dtype(np.float16)
"""Keys are of unit length, so that products err by less than 1e-3; they are computed in float32."""

_FILES = ("keys", "values")
_PART_BYTES = 64 * 2**20
"""Keys held at once, in float32."""


@dataclass(frozen=True, eq=False)
class RegionBank:
    """Keys and values of N regions.

    Attributes:
        folder: Where it lies.
        about: Its record: ``clip`` and ``proxy``, each with ``source`` and ``weights``, the ``method`` and
            ``protocol`` that they read by, how much it holds.
        keys: ``(N, C)`` float16, unit mean features of the comparing model.
        values: ``(N, E)`` float16, mean unit features in the space shared with words.
    """

    folder: Path
    about: Mapping[str, Any]
    keys: npt.NDArray[np.float16]
    values: npt.NDArray[np.float16]

    @classmethod
    def open(cls, folder: str | Path) -> "RegionBank":
        """Map a bank into memory.

        Raises:
            ConfigError: There is none, or one that is not finished.
            DataError: It is damaged, or of a format that we do not know.
        """
        folder = Path(folder)
        about = read_record(folder)
        keys, values = (_map(folder / f"{name}.npy", about, name) for name in _FILES)
        return cls(folder, about, keys, values)

    @staticmethod
    def write(folder: Path, about: Mapping[str, Any], parts: Mapping[str, Iterator[Tensor]]) -> None:
        """Write a whole bank; it counts once all of it is there.

        Args:
            folder: Is made if need be.
            about: With ``regions``, and the ``width`` of ``keys`` and ``values``.
            parts: ``keys`` and ``values``, each ``(n, …)`` float16 one after the other.

        Raises:
            LexisegError: The folder cannot be written to.
        """
        for name in _FILES:

            def fill(path: Path, name: str = name) -> None:
                header = np.lib.format.header_data_from_array_1_0(np.zeros((0, 0), NUMBERS))
                header["shape"] = (about["regions"], about["width"][name])
                # Not mapped: on a full disk a write says so, where a page kills the process.
                with path.open("wb") as file:
                    np.lib.format.write_array_header_1_0(file, header)
                    for part in parts[name]:
                        file.write(part.numpy().astype(NUMBERS, copy=False).tobytes())

            write_atomically(folder / f"{name}.npy", fill, durable=True)
        write_json(about, folder / RECORD)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def proxy(self) -> str:
        """The comparing model that it was made with, as it was named."""
        return str(self.about["proxy"]["source"])

    def require(self, tower: nn.Module, proxy: object, *, neighbours: int, method: Mapping[str, Any]) -> None:
        """Refuse to look up what these models say, if others made the bank or read otherwise, or more regions than there are.

        Args:
            tower: The image tower that gives values.
            proxy: What gives keys.
            neighbours: How many regions are looked up.
            method: Settings of the reading that values depend on.

        Raises:
            ConfigError: In one sentence.
        """
        for kind, model in (("clip", tower), ("proxy", proxy)):
            weights, made = identify(model), self.about[kind]
            if weights != made["weights"]:
                said = "the CLIP" if kind == "clip" else "the second vision model"
                raise ConfigError(
                    f"the bank {self.folder} was built with another model: {said} was {made['source']} with the weights "
                    f"{made['weights']}, and is one with {weights}; give that one (--{kind}), or build a bank with this one"
                )
        for key, value in method.items():
            made = self.about["method"].get(key)
            if value != made:
                raise ConfigError(
                    f"the bank {self.folder} was built with {key} {made}, and the photograph would be read with {value}; leave "
                    f"{key} as it was there"
                )
        if not 1 <= neighbours <= len(self):
            raise ConfigError(
                f"corrclip: expected neighbours from 1 to the {len(self)} regions of the bank {self.folder}, got {neighbours}"
            )

    def look_up(self, keys: Tensor, *, neighbours: int) -> Tensor:
        """What the most alike regions say: ``(R, E)`` unit, of the unit keys ``(R, C)`` of R regions."""
        step = max(1, _PART_BYTES // (4 * self.keys.shape[1]))
        parts = (torch.from_numpy(self.keys[part].astype(np.float32)) for part in chunks(len(self), step))
        _, places = top_matches(keys.float(), parts, neighbours)
        found = self.values[places.flatten().cpu().numpy()].astype(np.float32)
        return remember(torch.from_numpy(found).to(keys.device).unflatten(0, tuple(places.shape)))


def read_record(folder: Path) -> Mapping[str, Any]:
    """``bank.json`` of a finished bank.

    Raises:
        ConfigError: There is none.
        DataError: It is damaged, or of a format that we do not know.
    """
    path = folder / RECORD
    if not path.is_file():
        raise ConfigError(
            f"no bank at {folder}: expected a folder with {RECORD}, as `lexiseg bank build` writes it at the end of its work; "
            "check the path, or run the build to its end"
        )
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        known = about["format"] == FORMAT
        for kind in ("clip", "proxy"):
            _ = about[kind]["source"], about[kind]["weights"]
        _ = about["method"].items(), about["protocol"].items()
        _ = int(about["regions"]), [int(about["width"][name]) for name in _FILES]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not the record of a bank ({error}); build the bank anew") from error
    if not known:
        raise DataError(f"{path}: a bank of format {about['format']}, and this reads {FORMAT}; build it anew")
    record: Mapping[str, Any] = about
    return record


def identify(model: object) -> str:
    """Hash of a model's weights.

    Raises:
        ConfigError: It has none that could be told, being a function.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"a bank needs a second vision model whose weights can be told from others', got a {type(model).__name__}; give "
            "proxy a hub name, a folder or a model"
        )
    return fingerprint(model)


def _map(path: Path, about: Mapping[str, Any], name: str) -> npt.NDArray[np.float16]:
    expected = (about["regions"], about["width"][name])
    try:
        numbers: npt.NDArray[np.float16] = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: missing, cut short or no array of numpy's; build the bank anew") from error
    if numbers.shape != expected or numbers.dtype != NUMBERS:
        raise DataError(
            f"{path}: expected {NUMBERS} of shape {expected}, got {numbers.dtype} of {numbers.shape}; build the bank anew"
        )
    return numbers
