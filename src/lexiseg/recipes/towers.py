"""The towers to look into: a frozen CLIP's, and a trained model's that stands on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from lexiseg.analysis.block_tokens import (
    BlockReading,
    BlockTokens,
    PromptedModel,
    frozen_blocks,
    read_blocks,
    trained_blocks,
)
from lexiseg.clip.loading import DEFAULT_CLIP, load_clip
from lexiseg.errors import ConfigError
from lexiseg.inference.devices import pick_device
from lexiseg.inference.encoding import Picture
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.types import BlockTower

FROZEN = "frozen CLIP"
ALL = "all"


@dataclass(frozen=True)
class Towers:
    """The towers to look into, and what result files say of them.

    Attributes:
        tower: The frozen one itself.
        readings: Title to reading: the frozen tower, then the trained one if there is one.
        depth: Blocks.
        patch_size: In pixels.
        short_side: What photographs are brought to.
        device: Where they are.
        about: Of CLIP and checkpoint, plain values.
    """

    tower: BlockTower
    readings: Mapping[str, BlockReading]
    depth: int
    patch_size: int
    short_side: int
    device: torch.device
    about: Mapping[str, Any]

    def read(self, image: Picture) -> dict[str, BlockTokens]:
        """One photograph after every block, by title."""
        return {
            title: read_blocks(
                reading, image, short_side=self.short_side, patch_size=self.patch_size, device=self.device
            )
            for title, reading in self.readings.items()
        }


def load_towers(
    *,
    checkpoint: str | None = None,
    clip: str | None = None,
    device: str = "auto",
    short_side: int | None = None,
) -> Towers:
    """A frozen tower, and the trained one that stands on it if a checkpoint is given.

    Args:
        checkpoint: A trained model; its CLIP is the frozen one beside it.
        clip: Hub name, folder or file of CLIP weights, or ``toy``.
        device: See :func:`~lexiseg.inference.devices.pick_device`.
        short_side: What photographs are brought to; None for the checkpoint's, or 3/2 of the CLIP's own.

    Raises:
        LexisegError: What loading found wrong.
    """
    about: dict[str, Any] = {"checkpoint": checkpoint}
    if checkpoint is None:
        frozen = load_clip(clip or DEFAULT_CLIP).to(pick_device(device))
        if not frozen.tower.has_blocks:
            raise ConfigError(
                f"the CLIP '{frozen.source}' has a {frozen.tower.kind} image tower, which has no attention blocks to look "
                f"into one by one; this needs a transformer, such as {DEFAULT_CLIP}"
            )
        readings, own_side = {FROZEN: frozen_blocks(frozen.tower)}, None
    else:
        loaded = Pipeline.load(checkpoint, clip=clip, device=device)
        if not isinstance(loaded.model, PromptedModel) or loaded.info is None:
            raise ConfigError(f"{checkpoint}: expected a mask model on a prompted tower")
        frozen, own_side = loaded.clip, loaded.protocol.short_side
        place = Path(checkpoint).absolute()
        title = f"trained: {(place.parent if place.is_file() else place).name}"
        readings = {FROZEN: frozen_blocks(frozen.tower), title: trained_blocks(loaded.model)}
        about["model"] = loaded.info.model
    tower = frozen.tower
    default = InferenceProtocol.training_free(native_side=tower.image_size).short_side
    chosen = short_side or own_side or default or tower.image_size
    return Towers(
        cast(BlockTower, tower),
        readings,
        tower.depth,
        tower.patch_size,
        chosen,
        next(tower.parameters()).device,
        {"clip": {"source": frozen.source, "fingerprint": frozen.fingerprint}, **about, "short_side": chosen},
    )


def choose_blocks(text: str, depth: int, *, fewest: int = 1) -> tuple[int, ...]:
    """Block numbers from a text, from 1, in their order in the tower.

    Args:
        text: ``all``, or numbers with commas between.
        depth: Blocks of the tower.
        fewest: Numbers that there have to be.

    Raises:
        ConfigError: Not numbers, beyond the tower, or too few.
    """
    if text.strip() == ALL:
        return tuple(range(1, depth + 1))
    parts = [part.strip() for part in text.split(",") if part.strip()]
    blocks = tuple(sorted({int(part) for part in parts if part.isdecimal()}))
    valid = all(part.isdecimal() for part in parts) and all(1 <= block <= depth for block in blocks)
    if not valid or len(blocks) < fewest:
        raise ConfigError(
            f"--blocks {text}: expected {ALL}, or {fewest} or more numbers from 1 to {depth} with commas between"
        )
    return blocks
