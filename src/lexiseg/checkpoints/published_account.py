"""A strict account of every tensor in a published checkpoint: its name, its shape, and the frozen CLIP's values."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lexiseg.checkpoints.published_layout import (
    POSITIONS,
    optional_shapes,
    published_layout,
    published_tower,
)
from lexiseg.checkpoints.published_rows import free_lengths_taken
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.errors import CheckpointError
from lexiseg.keys import check_keys
from lexiseg.models.cascade_settings import CascadeSettings
from lexiseg.ops.grid import resize_position_embedding

_POSITION_TOLERANCE = 1e-5
"""Of the resized position embedding, relative to its largest value: rounding of another machine's interpolation."""


def check_published(published: Mapping[str, Tensor], settings: CascadeSettings, tower: VisionTower) -> None:
    """Compare every key and shape with what this model's release saves.

    Raises:
        CheckpointError: Another tower's file, or keys missing, superfluous or of a wrong shape: all are named.
    """
    found = {name: tuple(tensor.shape) for name, tensor in published.items()}
    patches = (tower.width, 3, tower.patch_size, tower.patch_size)
    if found.get("backbone.conv1.weight", patches) != patches:
        raise CheckpointError(
            f"the file was trained on a CLIP of patch embedding {found['backbone.conv1.weight']}, the CLIP given has "
            f"{patches}; give the CLIP that it was trained on"
        )
    expected = published_layout(settings, tower).shapes | optional_shapes(found)
    check_keys(free_lengths_taken(expected, found), found, what="published checkpoint")


def check_tower(published: Mapping[str, Tensor], tower: VisionTower) -> None:
    """Compare the frozen CLIP inside a published checkpoint with the one at hand, value by value.

    Its position embedding is already resized to the training grid, so the given one is resized likewise.

    Raises:
        CheckpointError: Names the first tensor that differs.
    """
    for name, native in published_tower(tower).items():
        ours, theirs = native, published[name]
        same = torch.equal(ours.to(theirs.dtype), theirs)
        if name == POSITIONS:
            side = round((len(theirs) - 1) ** 0.5)
            ours = resize_position_embedding(ours, (side, side), "bilinear")
            # Interpolated on another machine: equal up to rounding.
            tolerance = max(_POSITION_TOLERANCE, torch.finfo(theirs.dtype).eps) * float(theirs.abs().max())
            same = torch.allclose(ours, theirs.float(), rtol=0, atol=tolerance)
        if not same:
            largest = float((ours.float() - theirs.float()).abs().max())
            raise CheckpointError(
                f"the CLIP given is not the one that this file was trained on: {name} differs by up to {largest:.3g}; give "
                "the same CLIP weights with --clip"
            )
