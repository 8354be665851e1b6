"""CLIPs with OpenAI's ResNet, in OpenAI's and open_clip's key layout, read and written."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lexiseg.clip.formats.open_clip import save_beside_text
from lexiseg.clip.formats.openai import (
    Activation,
    assign_checked,
    materialise_positions,
    openai_to_transformers,
    required,
    text_config_from_openai,
)
from lexiseg.clip.tokenizer import huggingface_tokenizer
from lexiseg.clip.towers.family import Family
from lexiseg.clip.towers.resnet import ModifiedResNet, ResNetClip, ResNetTower
from lexiseg.clip.towers.text import ClipTextTower
from lexiseg.constants import CLIP_MEAN, CLIP_STD

if TYPE_CHECKING:
    from lexiseg.clip.model import FrozenCLIP

COUNTER = ".num_batches_tracked"
"""End of the name of what every batch norm stores and none reads once its training is over."""

_POOL = "visual.attnpool.positional_embedding"
_STAGE = "visual.layer"
_STAGES = 4
_HEAD_WIDTH = 64
"""Channels per head of the pooling in every ResNet that OpenAI released."""


def is_resnet_layout(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of a CLIP with a ResNet (``visual.layer1…``, ``visual.attnpool…``)."""
    return _POOL in state and any(name.startswith(_STAGE) for name in state)


def resnet_from_openai(
    state: Mapping[str, Tensor],
    *,
    activation: Activation = "quick_gelu",
    vision_heads: int | None = None,
    text_heads: int | None = None,
) -> ResNetClip:
    """Build a CLIP with a ResNet from OpenAI's or open_clip's state dict, in float32; sizes are read off the tensors.

    Args:
        state: Both towers.
        activation: Of the text tower; OpenAI trained all of these with QuickGELU.
        vision_heads: Heads of the attention pool; its width / 64 if not given, as in every released model.
        text_heads: Heads of the text tower, likewise.

    Raises:
        CheckpointError: Names every key that is missing, superfluous or of a wrong shape.
    """
    text = {name: tensor for name, tensor in state.items() if not name.startswith("visual.")}
    visual = {
        name: tensor.float()
        for name, tensor in state.items()
        if name.startswith("visual.") and not name.endswith(COUNTER)
    }
    embed_dim, width = required(state, "visual.attnpool.c_proj.weight").shape
    with torch.device("meta"):
        tower = ModifiedResNet(
            len(required(state, "visual.conv3.weight")),
            [_depth(state, f"{_STAGE}{stage + 1}.") for stage in range(_STAGES)],
            side=round((len(required(state, _POOL)) - 1) ** 0.5),
            heads=vision_heads or max(width // _HEAD_WIDTH, 1),
            embed_dim=embed_dim,
        )
        model = ResNetClip(tower, text_config_from_openai(text, activation=activation, heads=text_heads))
    converted = visual | openai_to_transformers(text)
    assign_checked(model, converted, what="CLIP with a ResNet image tower")
    materialise_positions(model.text_model.embeddings)
    return model


def resnet_to_openai(tower: ResNetTower) -> dict[str, Tensor]:
    """The tower's weights under OpenAI's names (``visual.*``), but for the counters of its batch norms."""
    return dict(tower.state_dict())


def save_resnet(clip: "FrozenCLIP", folder: Path) -> None:
    """Write a CLIP with a ResNet and its text tower as open_clip publishes it.

    Raises:
        CheckpointError: The file that it came from cannot be read any more.
        LexisegError: The CLIP has no tokenizer, or the folder cannot be written to.
    """
    save_beside_text(clip, resnet_to_openai(clip.tower), folder)


def _depth(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


RESNET = Family(
    model_class=None,
    image_tower=ResNetTower,
    text_tower=ClipTextTower,
    tokenizer=huggingface_tokenizer,
    colors=(CLIP_MEAN, CLIP_STD),
    save=save_resnet,
)
"""A CLIP with OpenAI's ResNet, which lives in OpenAI's and open_clip's files alone."""
