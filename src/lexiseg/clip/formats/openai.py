"""OpenAI's and open_clip's key layout to transformers' CLIP, with a strict account of every key."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from lexiseg.errors import CheckpointError
from lexiseg.keys import check_keys

if TYPE_CHECKING:
    from transformers import (
        CLIPConfig,
        CLIPModel,
        CLIPTextConfig,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

Activation = Literal["quick_gelu", "gelu"]

_NOT_WEIGHTS = {"input_resolution", "context_length", "vocab_size", "logit_bias", "attn_mask"}
"""Entries of released files that describe the model and hold no weight."""

_HEAD_WIDTH = 64
"""Channels per head in every CLIP that OpenAI and open_clip released; a file does not store the head count."""

_LAYER_NORM_EPS = 1e-5
"""Of every OpenAI CLIP."""

_TOP = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
}
TEXT_BLOCK = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
"""Parts of a block, of OpenAI's image and text towers and of every text tower written after them."""


def is_openai_layout(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys are OpenAI's (``visual.conv1.weight``, ``transformer.resblocks…``)."""
    return "visual.conv1.weight" in state and "token_embedding.weight" in state


def config_from_openai(
    state: Mapping[str, Tensor],
    *,
    activation: Activation,
    vision_heads: int | None = None,
    text_heads: int | None = None,
) -> "CLIPConfig":
    """Architecture of a ViT CLIP, read off its tensor shapes.

    Args:
        state: OpenAI's or open_clip's state dict.
        activation: Not stored in the file.
        vision_heads: Heads of the image tower; width / 64 if not given, as in every released model.
        text_heads: Heads of the text tower, likewise.

    Raises:
        CheckpointError: The file is no ViT CLIP.
    """
    from transformers import CLIPConfig

    vision = vision_config_from_openai(state, activation=activation, heads=vision_heads)
    text = text_config_from_openai(state, activation=activation, heads=text_heads)
    return CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=text.projection_dim
    )


def text_config_from_openai(
    state: Mapping[str, Tensor], *, activation: Activation, heads: int | None = None
) -> "CLIPTextConfig":
    """The text tower's part of :func:`config_from_openai`; no ``visual.*`` key is read.

    Raises:
        CheckpointError: A tensor that tells the size is missing.
    """
    from transformers import CLIPTextConfig

    width = len(required(state, "ln_final.weight"))
    vocabulary = len(required(state, "token_embedding.weight"))
    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=len(required(state, "transformer.resblocks.0.mlp.c_fc.weight")),
        num_hidden_layers=depth_under(state, "transformer.resblocks."),
        num_attention_heads=heads or max(width // _HEAD_WIDTH, 1),
        max_position_embeddings=len(required(state, "positional_embedding")),
        vocab_size=vocabulary,
        # The end-of-text token is the last of OpenAI's vocabulary; transformers pools the text there.
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        hidden_act=activation,
        layer_norm_eps=_LAYER_NORM_EPS,
        projection_dim=required(state, "text_projection").shape[-1],
    )


def required(state: Mapping[str, Tensor], name: str) -> Tensor:
    """A tensor that tells a size, which therefore has to be there before anything can be built.

    Raises:
        CheckpointError: Names it.
    """
    if name not in state:
        raise CheckpointError(f"the file is not the expected CLIP. missing: {name}")
    return state[name]


def vision_config_from_openai(
    state: Mapping[str, Tensor], *, activation: Activation, heads: int | None = None
) -> "CLIPVisionConfig":
    """The image tower's part of :func:`config_from_openai`; only ``visual.*`` keys are read."""
    from transformers import CLIPVisionConfig

    if "visual.proj" not in state or not any(k.startswith("visual.transformer.resblocks.") for k in state):
        raise CheckpointError(
            "expected a CLIP with a ViT image tower (keys visual.proj, visual.transformer.resblocks.*); "
            "this file has none. Besides ViT, ConvNeXt towers (keys visual.trunk.*) and OpenAI's ResNets (visual.layer1.*, "
            "visual.attnpool.*) are supported"
        )
    width, _, patch, _ = state["visual.conv1.weight"].shape
    positions = len(state["visual.positional_embedding"]) - 1
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=len(state["visual.transformer.resblocks.0.mlp.c_fc.weight"]),
        num_hidden_layers=depth_under(state, "visual.transformer.resblocks."),
        num_attention_heads=heads or max(width // _HEAD_WIDTH, 1),
        patch_size=patch,
        image_size=round(positions**0.5) * patch,
        hidden_act=activation,
        layer_norm_eps=_LAYER_NORM_EPS,
        projection_dim=state["visual.proj"].shape[1],
    )


def vision_model_from_openai(
    state: Mapping[str, Tensor], config: "CLIPVisionConfig"
) -> "CLIPVisionModelWithProjection":
    """Build only the image tower, from the ``visual.*`` keys of an OpenAI-layout state dict."""
    from transformers import CLIPVisionModelWithProjection

    visual = {name: tensor for name, tensor in state.items() if name.startswith("visual.")}
    with torch.device("meta"):
        model = CLIPVisionModelWithProjection(config)
    assign_checked(model, openai_to_transformers(visual), what="CLIP image tower")
    materialise_positions(model.vision_model.embeddings)
    return model


def model_from_openai(state: Mapping[str, Tensor], config: "CLIPConfig") -> "CLIPModel":
    """Build transformers' CLIP from an OpenAI-layout state dict, in float32.

    Raises:
        CheckpointError: Names every key that is missing, superfluous or of a wrong shape.
    """
    from transformers import CLIPModel

    with torch.device("meta"):
        model = CLIPModel(config)
    assign_checked(model, openai_to_transformers(state), what="CLIP")
    materialise_positions(model.text_model.embeddings)
    materialise_positions(model.vision_model.embeddings)
    return model


def openai_to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and split OpenAI-layout tensors; unknown names are kept, for the strict check to report."""
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name in _NOT_WEIGHTS:
            continue
        value = tensor.float() if tensor.is_floating_point() else tensor
        for new_name, new_value in _convert_one(name, value):
            converted[new_name] = new_value.contiguous()
    return converted


def vision_to_openai(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`openai_to_transformers` for an image tower.

    Args:
        state: ``vision_model.*`` and ``visual_projection.weight``.

    Returns:
        ``visual.*``; query, key and value projections fused, in this order.
    """
    top = {new: old for old, new in _TOP.items() if old.startswith("visual.")}
    block = {new: old for old, new in TEXT_BLOCK.items()}
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        stem, _, kind = name.rpartition(".")
        if name == "visual_projection.weight":
            converted["visual.proj"] = tensor.T
        elif name in top:
            converted[top[name]] = tensor
        elif stem in top:
            converted[f"{top[stem]}.{kind}"] = tensor
        else:
            index, rest = stem.split("encoder.layers.")[1].split(".", 1)
            base = f"visual.transformer.resblocks.{index}"
            if rest == "self_attn.q_proj":
                parts = [state[f"{stem.removesuffix('q_proj')}{letter}_proj.{kind}"] for letter in "qkv"]
                converted[f"{base}.attn.in_proj_{kind}"] = torch.cat(parts)
            elif rest not in ("self_attn.k_proj", "self_attn.v_proj"):
                converted[f"{base}.{block[rest]}.{kind}"] = tensor
    return converted


def assign_checked(model: nn.Module, converted: dict[str, Tensor], *, what: str) -> None:
    """Give a model on the meta device these tensors, every key and shape accounted for.

    Raises:
        CheckpointError: Names every key that is missing, superfluous or of a wrong shape.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    check_keys(expected, {name: tuple(tensor.shape) for name, tensor in converted.items()}, what=what)
    model.load_state_dict(converted, assign=True)


def materialise_positions(embeddings: nn.Module) -> None:
    """Make the position ids, which are no part of a state dict and so are still on the meta device."""
    count = embeddings.position_embedding.num_embeddings  # type: ignore[union-attr]
    embeddings.position_ids = torch.arange(count).expand(1, -1)  # type: ignore[arg-type]


def depth_under(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered parts, from 0, the names that begin with ``prefix`` tell of.

    Raises:
        CheckpointError: There is not even the first.
    """
    if not any(name.startswith(prefix) for name in state):
        raise CheckpointError(f"the file is not the expected CLIP. missing: {prefix}0")
    return 1 + max(int(name[len(prefix) :].split(".")[0]) for name in state if name.startswith(prefix))


def _convert_one(name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """One OpenAI tensor as one or, for a fused query-key-value projection, three transformers tensors."""
    if name == "logit_scale":
        return [(name, tensor)]
    if name in ("visual.proj", "text_projection"):  # stored as (D, E); a Linear stores (E, D)
        return [("visual_projection.weight" if name == "visual.proj" else "text_projection.weight", tensor.T)]
    if ".resblocks." in name or name.startswith("transformer.resblocks."):
        tower = "vision_model" if name.startswith("visual.") else "text_model"
        index, rest = name.split("resblocks.")[1].split(".", 1)
        base = f"{tower}.encoder.layers.{index}"
        if rest.startswith("attn.in_proj_"):
            kind = rest.removeprefix("attn.in_proj_")
            parts = zip("qkv", tensor.chunk(3), strict=True)
            return [(f"{base}.self_attn.{letter}_proj.{kind}", part) for letter, part in parts]
        stem, kind = rest.rsplit(".", 1)
        return [(f"{base}.{TEXT_BLOCK.get(stem, stem)}.{kind}", tensor)]
    stem, _, kind = name.rpartition(".")
    if name in _TOP:
        return [(_TOP[name], tensor)]
    return [(f"{_TOP.get(stem, stem)}.{kind}", tensor)]
