"""Which published model a checkpoint holds, and a strict account of every key in it."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lexiseg.clip.formats.openai import vision_to_openai
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.errors import CheckpointError
from lexiseg.keys import check_keys
from lexiseg.models.cascade_settings import CascadeSettings
from lexiseg.models.registry import complete_settings
from lexiseg.ops.grid import resize_position_embedding

Shapes = dict[str, tuple[int, ...]]

_ANY = -1
"""A length that the model does not decide."""

_POSITIONS = "backbone.positional_embedding"
_POSITION_TOLERANCE = 1e-5
"""Of the resized position embedding, relative to its largest value: rounding of another machine's interpolation."""

_LAYER = re.compile(r"decode_head\.(?:cascade_decoders\.\d+|decoder_\d+)\.layers\.(\d+)\.")
_SPLIT_HEADS = 8
"""Of the spectral decoder, whatever the release's configuration says."""

_DEAD_FILTER_OUTPUTS = 10
"""Outputs of SPT-SEG's `proj_fre`, which nothing reads."""


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
    spectral = any(".hlfs." in name for name in published)
    settings: dict[str, Any] = {
        "stages": stages,
        "decoder_layers": 1 + max(layers),
        "decoder_heads": decoder_heads,
    }
    settings["decoder"] = "spectral" if spectral else "attention"
    settings["prompts"] = "none"
    if any(name.startswith("backbone.") and "prompt" in name for name in published):
        settings["prompts"] = "spectral" if "backbone.complex_weight" in published else "deep"
    for name in ("backbone.deep_prompt_embeddings", "backbone.prompt_embeddings"):
        if name in published and published[name].ndim == 3:
            settings["prompt_length"] = published[name].shape[1]
            break
    if spectral:
        settings["decoder_heads"] = _SPLIT_HEADS
    if settings["prompts"] == "spectral" and published["backbone.complex_weight"].ndim:
        settings["spectral_grid"] = len(published["backbone.complex_weight"])
    if spectral or settings["prompts"] == "spectral":
        name = "spt_seg"
    elif settings["prompts"] == "none":
        name = "frozen_clip"
    else:
        name = "zegclip" if len(stages) == 1 else "cascade_clip"
    return complete_settings({"name": name, **settings})


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
    expected = published_shapes(settings, tower) | _optional_shapes(found)
    for name, shape in expected.items():  # a free length takes the file's
        if name in found and len(shape) == len(found[name]):
            pairs = zip(shape, found[name], strict=True)
            expected[name] = tuple(there if here == _ANY else here for here, there in pairs)
    check_keys(expected, found, what="published checkpoint")


def check_tower(published: Mapping[str, Tensor], tower: VisionTower) -> None:
    """Compare the frozen CLIP inside a published checkpoint with the one at hand, value by value.

    Its position embedding is already resized to the training grid, so the given one is resized likewise.

    Raises:
        CheckpointError: Names the first tensor that differs.
    """
    for name, native in published_tower(tower).items():
        ours, theirs = native, published[name]
        same = torch.equal(ours.to(theirs.dtype), theirs)
        if name == _POSITIONS:
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


def published_tower(tower: VisionTower) -> dict[str, Tensor]:
    """The frozen image tower under its published names, position embedding at its native grid."""
    state = {
        name.replace("vision.", "vision_model.", 1): tensor for name, tensor in tower.state_dict().items()
    }
    return {
        name.replace("visual.", "backbone.", 1): tensor for name, tensor in vision_to_openai(state).items()
    }


def published_shapes(settings: CascadeSettings, tower: VisionTower) -> Shapes:
    """Name and shape of every tensor that the release of such a model saves for certain; -1 is any length."""
    width, embed, length = tower.width, tower.embed_dim, settings.prompt_length
    shapes: Shapes = {name: tuple(tensor.shape) for name, tensor in published_tower(tower).items()}
    shapes[_POSITIONS] = (_ANY, width)
    if settings.prompts != "none":
        shapes |= {
            "backbone.prompt_embeddings": (1, length, width),
            "backbone.deep_prompt_embeddings": (tower.depth - 1, length, width),
            **_linear("backbone.prompt_proj", width, width),
            **_norm("backbone.prompt_norm", width),
        }
    if settings.prompts == "spectral":
        side = settings.spectral_grid
        shapes["backbone.complex_weight"] = (side, side // 2 + 1, width, 2)
        shapes |= _linear("backbone.proj_fre", side * side, _DEAD_FILTER_OUTPUTS)
    single = len(settings.stages) == 1
    tapped = sum(len(stage) for stage in settings.stages) - 1
    if tapped:
        shapes["backbone.proj_layers"] = (tapped, width, embed)
        for index in range(tapped):
            shapes |= _norm(f"backbone.ln_layers.{index}", width)
    for index, stage in enumerate(settings.stages):
        if len(stage) > 1:
            shapes[f"decode_head.weights_s{index + 1}"] = (len(stage),)
        shapes |= _linear(
            "decode_head.q_proj" if single else f"decode_head.q_projs.{index}", 2 * embed, embed
        )
        decoder = "decode_head.decoder_1" if single else f"decode_head.cascade_decoders.{index}"
        for layer in range(settings.decoder_layers):
            shapes |= _layer_shapes(f"{decoder}.layers.{layer}", embed, settings)
    return shapes


def _stages(published: Mapping[str, Tensor], depth: int) -> list[list[int]]:
    """The release taps the blocks right below the last, in stages whose weights say how many, then the last."""
    decoders = {name.split(".")[2] for name in published if name.startswith("decode_head.cascade_decoders.")}
    if len(decoders) < 2:
        return [[depth]]
    norms = {name.split(".")[2] for name in published if name.startswith("backbone.ln_layers.")}
    weights = [published.get(f"decode_head.weights_s{stage}") for stage in range(1, len(decoders))]
    sizes = [len(weight) for weight in weights if weight is not None and weight.ndim == 1]
    if len(sizes) != len(weights) or sum(sizes) != len(norms):
        # A key is missing or of a wrong shape. Equal stages are the likeliest, and the check will name the key.
        sizes = [max(len(norms) // len(weights), 1)] * len(weights)
    block, stages = depth - sum(sizes), []
    for size in sizes:
        stages.append(list(range(block, block + size)))
        block += size
    return [*stages, [depth]]


def _layer_shapes(base: str, embed: int, settings: CascadeSettings) -> Shapes:
    shapes: Shapes = {
        f"{base}.self_attn.in_proj_weight": (3 * embed, embed),
        f"{base}.self_attn.in_proj_bias": (3 * embed,),
        **_linear(f"{base}.self_attn.out_proj", embed, embed),
        **_linear(f"{base}.linear1", embed, 4 * embed),
        **_linear(f"{base}.linear2", 4 * embed, embed),
    }
    for name in ("norm1", "norm2", "norm3"):
        shapes |= _norm(f"{base}.{name}", embed)
    for name in ("q", "k", "v", "proj"):
        shapes |= _linear(f"{base}.multihead_attn.{name}", embed, embed)
    return shapes | _split_shapes(f"{base}.hlfs", embed) if settings.decoder == "spectral" else shapes


def _split_shapes(base: str, embed: int) -> Shapes:
    high = embed // _SPLIT_HEADS  # one head of eight
    low = embed - high
    return {
        f"{base}.prompt": (embed,),
        f"{base}.top_down_transform": (embed, embed),
        f"{base}.l_q.weight": (low, embed),
        f"{base}.l_kv.weight": (2 * low, embed),
        f"{base}.h_qkv.weight": (3 * high, embed),
        **_linear(f"{base}.l_proj", low, low),
        **_linear(f"{base}.h_proj", high, high),
        **_linear(f"{base}.proj", embed, embed),
    }


def _optional_shapes(found: Mapping[str, tuple[int, ...]]) -> Shapes:
    """What a file may hold besides: the loss's class weights, and CLIP's text tower, whole or without token embedding."""
    shapes: Shapes = {"decode_head.loss_decode.criterion.empty_weight": (_ANY,)}
    if len(found.get("text_encoder.ln_final.weight", ())) == 1:
        width = found["text_encoder.ln_final.weight"][0]
        shapes |= {
            "text_encoder.positional_embedding": (_ANY, width),
            "text_encoder.token_embedding.weight": (_ANY, width),
            "text_encoder.text_projection": (width, _ANY),
            "text_encoder.logit_scale": (),
            **_norm("text_encoder.ln_final", width),
        }
        blocks = {
            name.split(".")[3] for name in found if name.startswith("text_encoder.transformer.resblocks.")
        }
        for block in blocks:
            shapes |= _text_block(f"text_encoder.transformer.resblocks.{block}", width)
    return {name: shape for name, shape in shapes.items() if name in found or ".resblocks." in name}


def _text_block(base: str, width: int) -> Shapes:
    return {
        f"{base}.attn.in_proj_weight": (3 * width, width),
        f"{base}.attn.in_proj_bias": (3 * width,),
        **_linear(f"{base}.attn.out_proj", width, width),
        **_norm(f"{base}.ln_1", width),
        **_norm(f"{base}.ln_2", width),
        **_linear(f"{base}.mlp.c_fc", width, 4 * width),
        **_linear(f"{base}.mlp.c_proj", 4 * width, width),
    }


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
