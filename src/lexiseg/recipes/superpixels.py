"""Superpixels of a folder of photographs, made before the first step of a tuning."""

import os
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist

from lexiseg.data.io import read_image
from lexiseg.data.unlabelled import find_images
from lexiseg.errors import ConfigError, DataError
from lexiseg.masks.build import MaskTask, build_masks
from lexiseg.masks.store import MaskStore
from lexiseg.masks.superpixels import Superpixels
from lexiseg.progress import with_progress

_IMAGES_PER_PROCESS = 16
"""Masks of fewer photographs take less time than starting a process."""


def make_superpixels(images: Path, store: MaskStore, tell: Callable[[str], None]) -> None:
    """Superpixels of every photograph that has none yet; damaged photographs are named and left out.

    Args:
        images: A folder of photographs, searched with its subfolders.
        store: Where the masks go.
        tell: Takes a sentence about each photograph that is left out.

    Raises:
        ConfigError: Under torchrun, where every process would make them.
        DataError: Not one photograph could be read.
    """
    if dist.is_torchelastic_launched():
        raise ConfigError(
            "masks=superpixels: processes started by torchrun cannot make masks together; run `lexiseg masks build` on the "
            "photographs first and leave masks out, or start with trainer=ddp trainer.devices=N instead of torchrun"
        )
    tasks = [MaskTask(image, store) for image in find_images(images)]
    workers = min(os.cpu_count() or 1, -(-len(tasks) // _IMAGES_PER_PROCESS))
    outcomes = build_masks(tasks, Superpixels(), read_image, workers=workers)
    done = list(with_progress(outcomes, "making masks", len(tasks)))
    failed = [outcome for outcome in done if outcome.status == "failed"]
    for outcome in failed:
        tell(f"skipped: {outcome.reason}")
    if len(failed) == len(done):
        raise DataError(f"none of {len(done)} images in {images} can be read; the messages above say why")
