"""GroupViT's own key layout (``group_vit_*.pth``) to transformers' GroupViT, with a strict account of every key."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lexiseg.clip.formats.openai import (
    TEXT_BLOCK,
    Activation,
    assign_checked,
    depth_under,
    materialise_positions,
    required,
)
from lexiseg.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import GroupViTConfig, GroupViTModel

_HEAD_WIDTH = 64
"""Channels per head in both towers as released; the file does not store the head count."""

_DROPPED = "multi_label_logit_scale"
"""Of a training loss over the nouns of captions, in the weights with YFCC; nothing reads it afterwards."""

_POSITIONS = "img_encoder.pos_embed"
_PREFIXES = {
    "img_encoder.pos_embed": "vision_model.embeddings.position_embeddings",
    "img_encoder.patch_embed.proj.": "vision_model.embeddings.patch_embeddings.projection.",
    "img_encoder.patch_embed.norm.": "vision_model.embeddings.layernorm.",
    "img_encoder.layers.": "vision_model.encoder.stages.",
    "img_encoder.norm.": "vision_model.layernorm.",
    "text_encoder.token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "text_encoder.positional_embedding": "text_model.embeddings.position_embedding.weight",
    "text_encoder.transformer.resblocks.": "text_model.encoder.layers.",
    "text_encoder.ln_final.": "text_model.final_layer_norm.",
    "img_projector.": "visual_projection.",
    "text_projector.": "text_projection.",
}
_IMAGE_BLOCK = {"attn.proj": "self_attn.out_proj", "norm1": "layer_norm1", "norm2": "layer_norm2"}
_PROJECTOR = {"linear_hidden.": "", "linear_out.": "3."}
"""Linear and batch norm keep their numbers, 0 and 1; after the activation, 2, comes the last."""


def is_groupvit_layout(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys are GroupViT's own (``img_encoder.pos_embed``, ``text_encoder…``)."""
    return _POSITIONS in state


def groupvit_from_original(
    state: Mapping[str, Tensor],
    *,
    activation: Activation = "quick_gelu",
    vision_heads: int | None = None,
    text_heads: int | None = None,
) -> "GroupViTModel":
    """Build transformers' GroupViT from the state dict of the release, in float32; sizes are read off the tensors.

    Args:
        state: What the file holds under ``model``.
        activation: Of the text tower; the image tower's is the exact GELU.
        vision_heads: Heads of the image tower; width / 64 if not given, as in every released model.
        text_heads: Heads of the text tower, likewise.

    Raises:
        CheckpointError: Names every key that is missing, superfluous or of a wrong shape.
    """
    from transformers import GroupViTModel

    config = _config(state, activation=activation, vision_heads=vision_heads, text_heads=text_heads)
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name != _DROPPED:
            converted |= _renamed(name, tensor.float() if tensor.is_floating_point() else tensor)
    with torch.device("meta"):
        model = GroupViTModel(config)
    assign_checked(model, converted, what="GroupViT")
    materialise_positions(model.text_model.embeddings)
    return model.eval()


def _config(
    state: Mapping[str, Tensor], *, activation: Activation, vision_heads: int | None, text_heads: int | None
) -> "GroupViTConfig":
    """Architecture of both towers, read off tensor shapes."""
    from transformers import GroupViTConfig

    patches = required(state, "img_encoder.patch_embed.proj.weight")
    width, patch = patches.shape[0], patches.shape[-1]
    side = math.isqrt(state[_POSITIONS].shape[1])
    stages = range(depth_under(state, "img_encoder.layers."))
    depths = [depth_under(state, f"img_encoder.layers.{stage}.blocks.") for stage in stages]
    grouping = [stage for stage in stages if f"img_encoder.layers.{stage}.group_token" in state]
    if not grouping or 0 not in grouping:
        raise CheckpointError(
            "the file is not the expected GroupViT. missing: img_encoder.layers.0.group_token"
        )
    tokens = [state[f"img_encoder.layers.{stage}.group_token"].shape[1] for stage in grouping]
    inner = [f"img_encoder.layers.{stage}.downsample.mlp_inter.fc2.weight" for stage in grouping]
    outputs = [len(required(state, name)) for name in inner]
    first = "img_encoder.layers.0.downsample"
    ratios = [
        len(required(state, f"{first}.{mlp}.fc1.weight")) / width for mlp in ("mlp_inter", "mlp_channels")
    ]
    unused = len(depths) - len(grouping)  # stages that group nothing
    vision = {
        "hidden_size": width,
        "intermediate_size": len(required(state, "img_encoder.layers.0.blocks.0.mlp.fc1.weight")),
        "num_hidden_layers": sum(depths),
        "depths": depths,
        "num_group_tokens": tokens + [0] * unused,
        "num_output_groups": outputs + outputs[-1:] * unused,
        "num_attention_heads": vision_heads or max(width // _HEAD_WIDTH, 1),
        "image_size": side * patch,
        "patch_size": patch,
        "assign_mlp_ratio": ratios,
    }
    vocabulary, text_width = required(state, "text_encoder.token_embedding.weight").shape
    text = {
        "hidden_size": text_width,
        "intermediate_size": len(required(state, "text_encoder.transformer.resblocks.0.mlp.c_fc.weight")),
        "num_hidden_layers": depth_under(state, "text_encoder.transformer.resblocks."),
        "num_attention_heads": text_heads or max(text_width // _HEAD_WIDTH, 1),
        "max_position_embeddings": len(required(state, "text_encoder.positional_embedding")),
        "vocab_size": vocabulary,
        # The end marker is the last token of OpenAI's vocabulary; transformers reads the text there.
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "hidden_act": activation,
    }
    out = required(state, "img_projector.linear_out.weight")
    return GroupViTConfig(
        text_config=text,
        vision_config=vision,
        projection_dim=out.shape[0],
        projection_intermediate_dim=out.shape[1],
    )


def _renamed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """One tensor of the release under transformers' name, a fused projection as three; an unknown name is kept."""
    old = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None)
    if old is None:
        return {name: tensor}
    new, rest = _PREFIXES[old], name.removeprefix(old)
    if old.endswith("_projector."):
        part = next((each for each in _PROJECTOR if rest.startswith(each)), None)
        if part is None:
            return {name: tensor}
        if tensor.ndim == 3 and tensor.shape[-1] == 1:  # a convolution over one position
            tensor = tensor[..., 0]
        return {f"{new}{_PROJECTOR[part]}{rest.removeprefix(part)}": tensor.contiguous()}
    if "resblocks" in old:
        index, stem = rest.split(".", 1)
        return _of_block(f"{new}{index}", stem, TEXT_BLOCK, tensor)
    if old == "img_encoder.layers." and ".blocks." in rest:
        stage, _, index, stem = rest.split(".", 3)
        return _of_block(f"{new}{stage}.layers.{index}", stem, _IMAGE_BLOCK, tensor)
    return {new + rest.replace("pre_assign_attn.attn.proj.", "pre_assign_attn.attn.out_proj."): tensor}


def _of_block(base: str, name: str, table: Mapping[str, str], tensor: Tensor) -> dict[str, Tensor]:
    """A tensor of a block; queries, keys and values are fused, in this order."""
    for fused in ("attn.qkv.", "attn.in_proj_"):
        if name.startswith(fused) and tensor.shape[0] % 3 == 0:
            kind, parts = name.removeprefix(fused), zip("qkv", tensor.chunk(3), strict=True)
            return {f"{base}.self_attn.{each}_proj.{kind}": part.contiguous() for each, part in parts}
    stem, _, kind = name.rpartition(".")
    return {f"{base}.{table.get(stem, stem)}.{kind}": tensor}
