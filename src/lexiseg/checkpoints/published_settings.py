"""Which published model a checkpoint holds, read off its keys and shapes."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lexiseg.checkpoints.published_layout import (
    BLOCK_NORMS,
    FILTER,
    ONLY_DECODER,
    PROMPTS,
    SPLIT,
    SPLIT_HEADS,
    STAGE_DECODERS,
    STAGE_WEIGHTS,
)
from lexiseg.errors import CheckpointError
from lexiseg.models.registry import complete_settings

_LAYER = re.compile(rf"(?:{re.escape(STAGE_DECODERS)}\d+\.|{re.escape(ONLY_DECODER)})layers\.(\d+)\.")


def detect_settings(published: Mapping[str, Tensor], depth: int, *, decoder_heads: int = 8) -> dict[str, Any]:
    """Name and settings of the published model in a state dict, read off its keys and shapes.

    Args:
        published: ``backbone.*``, ``decode_head.*``.
        depth: Blocks of its CLIP.
        decoder_heads: Not stored in the file; 8 in every released configuration, and always in the spectral decoder.

    Raises:
        CheckpointError: It holds none of these models.
    """
    layers = [int(found.group(1)) for found in map(_LAYER.match, published) if found]
    if not layers or not any(name.startswith("backbone.") for name in published):
        raise CheckpointError(
            "expected the published layout of ZegCLIP, SPT-SEG or Cascade-CLIP (backbone.*, decode_head.decoder_1.* or "
            f"decode_head.cascade_decoders.*); got {', '.join(list(published)[:4]) or 'no tensor'}, …"
        )
    stages = _stages(published, depth)
    spectral = any(f".{SPLIT}." in name for name in published)
    settings: dict[str, Any] = {
        "stages": stages,
        "decoder_layers": 1 + max(layers),
        "decoder_heads": decoder_heads,
    }
    settings["decoder"] = "spectral" if spectral else "attention"
    settings["prompts"] = "none"
    if any(name.startswith("backbone.") and "prompt" in name for name in published):
        settings["prompts"] = "spectral" if FILTER in published else "deep"
    for name in reversed(PROMPTS):
        if name in published and published[name].ndim == 3:
            settings["prompt_length"] = published[name].shape[1]
            break
    if spectral:
        settings["decoder_heads"] = SPLIT_HEADS
    if settings["prompts"] == "spectral" and published[FILTER].ndim:
        settings["spectral_grid"] = len(published[FILTER])
    if spectral or settings["prompts"] == "spectral":
        name = "spt_seg"
    elif settings["prompts"] == "none":
        name = "frozen_clip"
    else:
        name = "zegclip" if len(stages) == 1 else "cascade_clip"
    return complete_settings({"name": name, **settings})


def _stages(published: Mapping[str, Tensor], depth: int) -> list[list[int]]:
    """The release taps the blocks right below the last, in stages whose weights say how many, then the last."""
    decoders = {name.split(".")[2] for name in published if name.startswith(STAGE_DECODERS)}
    if len(decoders) < 2:
        return [[depth]]
    norms = {name.split(".")[2] for name in published if name.startswith(BLOCK_NORMS)}
    weights = [published.get(f"{STAGE_WEIGHTS}{stage}") for stage in range(1, len(decoders))]
    sizes = [len(weight) for weight in weights if weight is not None and weight.ndim == 1]
    if len(sizes) != len(weights) or sum(sizes) != len(norms):
        # A key is missing or of a wrong shape. Equal stages are the likeliest, and the check will name the key.
        sizes = [max(len(norms) // len(weights), 1)] * len(weights)
    block, stages = depth - sum(sizes), []
    for size in sizes:
        stages.append(list(range(block, block + size)))
        block += size
    return [*stages, [depth]]
