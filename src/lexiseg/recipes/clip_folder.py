"""The CLIP that a run has trained, as a folder like any other CLIP."""

import shutil
from pathlib import Path

from torch import Tensor

from lexiseg.checkpoints.mask_prompts import write_mask_prompts
from lexiseg.clip.model import FrozenCLIP
from lexiseg.clip.saving import save_clip
from lexiseg.storage import folder_or_nothing

CLIP_FOLDER = "clip"
"""In the run folder."""


def write_clip_folder(clip: FrozenCLIP, folder: Path, prompts: Tensor | None = None) -> None:
    """Write a CLIP in the layout that its kind of tower has, whole or not at all.

    Args:
        clip: As it has become; goes to the processor.
        folder: Replaced where it is there, of a run that was stopped before its result.
        prompts: Mask prompt tokens ``(depth, P, D)`` that were tuned on it.
    """
    with folder_or_nothing(folder) as part:
        save_clip(clip.cpu(), part)
        if prompts is not None:
            write_mask_prompts(prompts, part)
        shutil.rmtree(folder, ignore_errors=True)
