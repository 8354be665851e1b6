"""A bank of the regions of unlabelled photographs, built a few photographs at a time: a kill costs those in work alone."""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lexiseg.clip.model import DEFAULT_CLIP
from lexiseg.data.io import read_image
from lexiseg.dense.corrclip import PROXY, CorrCLIP
from lexiseg.dense.region_bank import FORMAT, RECORD, RegionBank, identify
from lexiseg.dense.registry import build_dense
from lexiseg.errors import ConfigError, DataError
from lexiseg.inference.devices import pick_device
from lexiseg.inference.encoding import EncodedImage, Picture, WindowEncoder
from lexiseg.inference.given_masks import GivenMasks
from lexiseg.inference.layout import lay_out
from lexiseg.inference.memory import memory_of_a_photograph
from lexiseg.inference.protocol import reading_protocol
from lexiseg.inference.regions import PictureRegions
from lexiseg.interruption import Kept, keeping
from lexiseg.masks.build import MaskTask
from lexiseg.ops.region_ids import UNSEGMENTED
from lexiseg.progress import doing
from lexiseg.recipes.masks import mask_tasks
from lexiseg.recipes.photographs import Photograph
from lexiseg.recipes.settings import ClipSource
from lexiseg.storage import remove_file, require_folder, write_atomically, write_json

_UNFINISHED = "building.json"
"""The record of a bank that is being built."""

_GROUP = 16
"""Photographs of a part."""

_FAILED = -1
"""In the place of a photograph's number of regions: it could not be read."""

Skipped = Callable[[DataError], None]
"""Hears why a photograph is left out."""


@dataclass(frozen=True)
class BankBuild:
    """Which bank to build, of what.

    Attributes:
        photos: Photographs, or folders with all their subfolders.
        masks: As `GivenMasks` takes them.
        out: The bank's folder.
        clip: Says what each region shows.
        proxy: Hub name or folder of the vision model that says which regions are alike; None: CorrCLIP's own.
        device: See :func:`~lexiseg.inference.devices.pick_device`.
        overwrite: Replace a bank that is finished or was built otherwise; one of the same that was stopped goes on.
    """

    photos: Sequence[Path]
    masks: str
    out: Path
    clip: ClipSource = field(default_factory=lambda: ClipSource(DEFAULT_CLIP))
    proxy: str | None = None
    device: str = "auto"
    overwrite: bool = False


@dataclass(frozen=True)
class BankSummary:
    """What came of a build.

    Attributes:
        bank: Finished.
        counts: Regions of each photograph, -1 where it could not be read.
    """

    bank: RegionBank
    counts: Sequence[int]

    def tell(self) -> str:
        """In a sentence."""
        failed = sum(count == _FAILED for count in self.counts)
        return f"{self.bank.folder}: {len(self.bank)} regions of {len(self.counts) - failed} photographs, {failed} skipped"


class RegionReader:
    """The regions of a photograph as a bank keeps them, read as `predict` reads it.

    Args:
        encoder: CorrCLIP on its device; it joins windows and no regions.
    """

    def __init__(self, encoder: CorrCLIP) -> None:
        encoder.whole_picture = True
        self._encoder = encoder
        self.protocol = reading_protocol(encoder, encoder.tower)

    @torch.inference_mode()
    def __call__(self, image: Picture, masks: npt.NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        """Keys ``(R, C)`` and values ``(R, E)``, float16, of the regions that have a patch.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.
            masks: ``(M, H, W)``.

        Raises:
            DataError: Masks of another size, or a photograph too large to work on.
        """
        size = (image.shape[0], image.shape[1])
        windows = WindowEncoder(self._encoder, window_batch=self.protocol.window_batch, precision="float32")
        layout = lay_out(size, self.protocol, self._encoder.patch_size, whole_picture=True)
        regions = PictureRegions(self._encoder, masks, size)
        with memory_of_a_photograph():
            batches = tuple(windows.encode([image], [layout], [regions]))
            state = windows.gather(EncodedImage(image, layout, batches, regions)).batches[0].state
        found = state.regions
        own = found.ids > UNSEGMENTED
        return found.keys[own].half().cpu(), found.values[own].half().cpu()


@dataclass(frozen=True)
class _Parts:
    """The photographs of a build in groups, each a file once it is read."""

    out: Path
    tasks: Sequence[MaskTask]
    states: Sequence[str]

    def __len__(self) -> int:
        return -(-len(self.tasks) // _GROUP)

    def path(self, index: int) -> Path:
        return self.out / f"part-{index:06d}.safetensors"

    def group(self, index: int) -> Sequence[MaskTask]:
        return self.tasks[index * _GROUP : (index + 1) * _GROUP]

    def missing(self) -> list[int]:
        """Those that are not there, lack a photograph that can be tried again, or are of masks that are others now."""
        return [index for index in range(len(self)) if not self._is_whole(index)]

    def write(self, index: int, tensors: dict[str, Tensor]) -> None:
        fill = partial(save_file, tensors, metadata=self._metadata(index))
        write_atomically(self.path(index), fill, durable=True)

    def _metadata(self, index: int) -> dict[str, str]:
        return {"masks": _short_hash(self.states[index * _GROUP : (index + 1) * _GROUP])}

    def tensors(self, name: str) -> Iterator[Tensor]:
        for index in range(len(self)):
            part = load_file(self.path(index))[name]
            if len(part):
                yield part

    def kept(self) -> Kept:
        done = sum(len(self.group(index)) for index in range(len(self)) if self.path(index).is_file())
        return Kept(f"{done} of {len(self.tasks)} photographs are in the bank {self.out}")

    def remove(self) -> None:
        for path in (*self.out.glob("part-*.safetensors*"), self.out / _UNFINISHED):
            remove_file(path)

    def _is_whole(self, index: int) -> bool:
        try:
            with safe_open(self.path(index), framework="pt") as part:
                same = part.metadata() == self._metadata(index)
                whole = same and {"keys", "values", "counts"} <= set(part.keys())
                return whole and not bool((part.get_tensor("counts") == _FAILED).any())
        except (OSError, SafetensorError):
            return False


def build_bank(build: BankBuild, skipped: Skipped) -> BankSummary:
    """Build a bank, or go on with one that was stopped; one that is finished and the same stays as it is.

    Args:
        build: What to build.
        skipped: Told of each photograph that is left out, once.

    Raises:
        ConfigError: Masks that are nowhere, or another bank is there.
        DataError: A place that does not exist, a folder without images, or no region anywhere.
        LexisegError: A model cannot be loaded, or the bank not be written.
    """
    maker = _Maker(build, skipped)
    states = maker.mask_states()
    parts, about = _Parts(build.out, maker.tasks, states), maker.about()
    finished = {**about, "mask_files": _short_hash(states)}
    if _settle(build, parts, about, finished):
        counts = json.loads((build.out / RECORD).read_text(encoding="utf-8"))["counts"]
        for task, count in zip(maker.tasks, counts, strict=True):
            if count == _FAILED:
                skipped(
                    DataError(
                        f"{task.image} was left out when the bank was built; --overwrite tries it again"
                    )
                )
        return BankSummary(RegionBank.open(build.out), counts)
    write_json(about, build.out / _UNFINISHED)
    with keeping(parts.kept):
        _read_missing(maker, parts)
        counts = torch.cat(list(parts.tensors("counts"))).tolist()
        regions = sum(count for count in counts if count > 0)
        if not regions:
            parts.remove()
            raise DataError(
                f"none of the {len(counts)} photographs has a region that covers a patch; give other --masks or photographs"
            )
        width = {name: next(parts.tensors(name)).shape[1] for name in ("keys", "values")}
        whole = {**finished, "regions": regions, "width": width, "counts": counts}
        RegionBank.write(build.out, whole, {name: parts.tensors(name) for name in ("keys", "values")})
        parts.remove()
    return BankSummary(RegionBank.open(build.out), counts)


def _read_missing(maker: "_Maker", parts: _Parts) -> None:
    missing = parts.missing()
    count = len(parts.tasks)
    done = count - sum(len(parts.group(index)) for index in missing)
    with warnings.catch_warnings(), doing("describing regions", count, done=done) as work:
        # Large photographs are welcome here; Pillow warns of them as a possible attack.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for index in missing:
            parts.write(index, maker.read(parts.group(index), work.advance))


class _Maker:
    """Everything of a build that is checked or loaded before the first photograph."""

    def __init__(self, build: BankBuild, skipped: Skipped) -> None:
        self.tasks = mask_tasks(build.photos, None)
        self._masks = GivenMasks(build.masks, build.device)
        if build.out.resolve() in {task.image.parent.resolve() for task in self.tasks}:
            raise ConfigError(
                f"--out {build.out} is a folder of the photographs; choose one of its own for the bank"
            )
        require_folder(build.out, "--out")
        where = pick_device(build.device)
        self._build, self._skipped = build, skipped
        self._clip = build.clip.load().to(where)
        made = build_dense("corrclip", self._clip.tower, proxy=build.proxy, merge_distance=None)
        self._encoder = cast(CorrCLIP, made.to(where))
        self._reader = RegionReader(self._encoder)

    def about(self) -> dict[str, Any]:
        """The record as far as it is known before any photograph is read."""
        protocol, masks, build = self._reader.protocol, self._masks.folder, self._build
        return {
            "format": FORMAT,
            "clip": {"source": self._clip.source, "weights": identify(self._clip.tower)},
            "proxy": {
                "source": _place(build.proxy or PROXY),
                "weights": identify(self._encoder.correspondence),
            },
            "masks": build.masks if masks is None else _place(masks),
            "method": self._encoder.making,
            "protocol": {name: getattr(protocol, name) for name in ("short_side", "window", "stride")},
            "photographs": {
                "count": len(self.tasks),
                "names": _short_hash([self._name(task) for task in self.tasks]),
            },
        }

    def mask_states(self) -> list[str]:
        """Size and time of each photograph's mask file, by which masks that are made anew are others; empty where none is."""
        files = [self._masks.file(task.image, task.store.root) for task in self.tasks]
        states = [None if file is None else file.stat() for file in files]
        return ["" if state is None else f"{state.st_size} {state.st_mtime_ns}" for state in states]

    @staticmethod
    def _name(task: MaskTask) -> tuple[str, int]:
        """What tells a photograph from another, wherever its folder lies."""
        root = task.store.root or task.image.parent
        return str(task.image.relative_to(root)), task.image.stat().st_size

    def read(self, tasks: Sequence[MaskTask], step: Callable[[], None]) -> dict[str, Tensor]:
        """Keys and values of some photographs, and how many regions each has; ``step`` is told after each."""
        counts, found = [], []
        for task in tasks:
            try:
                photograph = Photograph(task.image, task.image.stem, read_image(task.image))
                masks, _ = self._masks.read(photograph, task.store.root)
                found.append(self._reader(photograph.pixels, masks))
                counts.append(len(found[-1][0]))
            except DataError as error:
                self._skipped(error)
                counts.append(_FAILED)
            step()
        if not found:  # how wide they would be, nobody knows
            return {"keys": torch.zeros(0, 0), "values": torch.zeros(0, 0), "counts": torch.tensor(counts)}
        keys, values = (torch.cat(tensors) for tensors in zip(*found, strict=True))
        return {"keys": keys, "values": values, "counts": torch.tensor(counts)}


def _settle(build: BankBuild, parts: _Parts, about: Mapping[str, Any], finished: Mapping[str, Any]) -> bool:
    """Whether the bank is finished already; what is of another one goes, where that is wanted.

    Raises:
        ConfigError: Another bank is there.
    """
    for name, wanted in ((RECORD, finished), (_UNFINISHED, about)):
        path = build.out / name
        if not path.is_file():
            continue
        difference = _difference(path, wanted)
        if not difference and not (name == RECORD and build.overwrite):
            if name == RECORD:
                parts.remove()
            return name == RECORD
        if difference and not build.overwrite:
            what = "a bank" if name == RECORD else "the beginning of a bank"
            raise ConfigError(
                f"{build.out} holds {what} with {difference}; choose another --out, or --overwrite that one"
            )
        remove_file(path)
        parts.remove()
    return False


def _short_hash(items: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(items).encode()).hexdigest()[:16]


def _place(name: str | Path) -> str:
    """A hub name as it is; a folder as it is found from anywhere."""
    return str(Path(name).resolve()) if Path(name).is_dir() else str(name)


def _difference(path: Path, about: Mapping[str, Any]) -> str:
    """In words, how what is there was made otherwise than wanted; empty where it was not. Names of weights do not matter."""
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        pairs = [pair for key in about for pair in _said(key, there.get(key), about[key])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "a record that cannot be read"
    return ", ".join(f"{key} {old} (now {new})" for key, old, new in pairs if old != new)


def _said(key: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """An entry of two records as plain values that can be compared and told."""
    if key in ("clip", "proxy"):
        yield key, old["weights"], new["weights"]
    elif key == "photographs":
        yield key, old["count"], new["count"]
        yield "photographs' names and sizes", old["names"], new["names"]
    elif isinstance(new, Mapping):
        for name in new:
            yield name, old.get(name), new[name]
    else:
        yield key, old, new
