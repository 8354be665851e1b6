"""The checkpoint layout of the released SAN (detectron2: ``side_adapter_network.*``, ``clip_*``, ``ov_classifier.*``)."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from lexiseg.checkpoints.published_rows import ANY, PublishedLayout, Row, Shape, count
from lexiseg.checkpoints.text_rows import text_tower_shapes
from lexiseg.clip.formats.openai import vision_to_openai
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.errors import CheckpointError
from lexiseg.models.san_settings import SAN_L14, SANSettings

SIDE = "side_adapter_network."
EARLY = "clip_visual_extractor."
"""CLIP's image tower up to where the shadow tokens join; its position embedding is the trained one."""

LATE = "clip_rec_head."
"""The rest of it; blocks count from 0 again."""

TEXT = "ov_classifier."
"""CLIP's text tower, and the trained row for nothing."""

NOTHING = f"{TEXT}bg_embed"
CAUSAL_MASK = f"{TEXT}attn_mask"
CLASS_WEIGHTS = "criterion.empty_weight"

_POSITIONS = f"{EARLY}positional_embedding"
_BLOCKS = "resblocks."
_VISUAL = "visual."
_VISUAL_BLOCKS = f"{_VISUAL}transformer.{_BLOCKS}"
_LATE_NAMES = ("proj", "ln_post.")
_BLOCK_PARTS = {
    "norm1": "norm1",
    "attn.qkv": "qkv",
    "attn.proj": "proj",
    "norm2": "norm2",
    "mlp.fc1": "fc1",
    "mlp.fc2": "fc2",
}
_HEAD_WIDTH = 40
"""Channels per head in the released side adapter; a file does not store the head count."""


def san_layout(settings: SANSettings, tower: VisionTower) -> PublishedLayout:
    """The table for a model of these settings on this CLIP; of the CLIP only the position embedding stands here."""
    rows = (*_side_rows(settings, tower), *_tower_rows(settings, tower))
    nothing = Row(NOTHING, (1, tower.embed_dim), ("classifier.nothing",))
    return PublishedLayout((*rows, nothing), "SAN as released")


def optional_shapes(found: Mapping[str, Shape]) -> dict[str, Shape]:
    """What a file may hold besides: the loss's class weights, and CLIP's text tower with its causal mask.

    Args:
        found: Names and shapes in the file, which alone tell the text tower's size.
    """
    rest = {CLASS_WEIGHTS: (ANY,), CAUSAL_MASK: (ANY, ANY)}
    return {name: shape for name, shape in rest.items() if name in found} | text_tower_shapes(found, TEXT)


def detect_san(published: Mapping[str, Tensor], **known: Any) -> SANSettings:
    """Settings of the SAN in a state dict, read off its keys and shapes.

    What no shape tells is the release's: heads of 40 channels, CLIP's tokens entering at even distances, the last two side
    blocks decoded, CLIP's image at 0.7 of the size for patches of 14 pixels and at 0.5 for others.

    Args:
        published: The whole state dict.
        known: Settings by name, where another source knows them.

    Raises:
        CheckpointError: It holds none.
    """
    try:
        patches = published[f"{SIDE}vit_model.patch_embed.proj.weight"]
        decoder = published[f"{SIDE}mask_decoder.query_mlp.layers.2.weight"]
        width, depth = len(patches), count(published, f"{SIDE}vit_model.blocks.")
        early = count(published, EARLY + _BLOCKS)
        sides = sorted(
            {
                int(name.split(".")[2].removeprefix("layer_"))
                for name in published
                if ".fusion_layers." in name
            }
        )
        found: dict[str, Any] = {
            "queries": published[f"{SIDE}query_embed"].shape[1],
            "width": width,
            "depth": depth,
            "heads": max(width // _HEAD_WIDTH, 1),
            "hidden": len(published[f"{SIDE}vit_model.blocks.0.mlp.fc1.bias"]),
            "patch": patches.shape[-1],
            "grid": math.isqrt(published[f"{SIDE}vit_model.pos_embed"].shape[1]),
            "fusion": tuple((early * side // max(*sides, 1), side) for side in sides),
            "decoded": (depth - 1, depth) if depth > 1 else (1,),
            "decoder_hidden": decoder.shape[1],
            "decoder_width": decoder.shape[0],
            "early_blocks": early,
            "scale": float(published[f"{TEXT}logit_scale"].exp()),
        }
        large = published[f"{EARLY}conv1.weight"].shape[-1] == 14
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"expected the published layout of SAN ({SIDE}*, {EARLY}*, {LATE}*, {TEXT}*); got "
            f"{', '.join(list(published)[:4]) or 'no tensor'}, …"
        ) from error
    return replace(SAN_L14 if large else SANSettings(), **found | known)


def clip_of_san(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The CLIP inside a published file, in OpenAI's names; its position embedding is the trained one."""
    early = count(published, EARLY + _BLOCKS)
    found = {}
    for name, tensor in published.items():
        if name.startswith(EARLY):
            found[_visual_name(name.removeprefix(EARLY), 0)] = tensor
        elif name.startswith(LATE):
            found[_visual_name(name.removeprefix(LATE), early)] = tensor
        elif name.startswith(TEXT) and name not in (NOTHING, CAUSAL_MASK):
            found[name.removeprefix(TEXT)] = tensor
    return found


def clip_in_san(state: Mapping[str, Tensor], early_blocks: int) -> dict[str, Tensor]:
    """The inverse of :func:`clip_of_san`: a CLIP in OpenAI's names as SAN's files hold it."""
    return {_published_name(name, early_blocks): tensor for name, tensor in state.items()}


def _visual_name(name: str, first: int) -> str:
    """A name of a part of the image tower whose blocks count from ``first``, in OpenAI's layout."""
    if not name.startswith(_BLOCKS):
        return _VISUAL + name
    number, rest = name.removeprefix(_BLOCKS).split(".", 1)
    return f"{_VISUAL_BLOCKS}{int(number) + first}.{rest}"


def _published_name(name: str, early: int) -> str:
    if not name.startswith(_VISUAL):
        return TEXT + name
    if not name.startswith(_VISUAL_BLOCKS):
        short = name.removeprefix(_VISUAL)
        return (LATE if short.startswith(_LATE_NAMES) else EARLY) + short
    number, rest = name.removeprefix(_VISUAL_BLOCKS).split(".", 1)
    late = int(number) >= early
    return f"{LATE if late else EARLY}{_BLOCKS}{int(number) - early * late}.{rest}"


def _tower_rows(settings: SANSettings, tower: VisionTower) -> Iterator[Row]:
    """The frozen image tower, and the position embedding that trains; of the text tower the file alone knows the size."""
    state = {
        name.replace("vision.", "vision_model.", 1): tensor for name, tensor in tower.state_dict().items()
    }
    for name, tensor in clip_in_san(vision_to_openai(state), settings.early_blocks).items():
        yield Row(name, tuple(tensor.shape), ("early.positions",) if name == _POSITIONS else ())


def _side_rows(settings: SANSettings, tower: VisionTower) -> Iterator[Row]:
    width, patch = settings.width, settings.patch
    yield from (
        row.within(SIDE, "proposer.")
        for row in (
            Row("query_embed", (1, settings.queries, width), ("queries",)),
            Row("query_pos_embed", (1, settings.queries, width), ("query_positions",)),
            Row("vit_model.pos_embed", (1, settings.grid**2, width), ("positions",)),
            *_layer("vit_model.patch_embed.proj", "patches", (width, 3, patch, patch)),
        )
    )
    shapes: dict[str, Shape] = {
        "norm1": (width,),
        "attn.qkv": (3 * width, width),
        "attn.proj": (width, width),
        "norm2": (width,),
        "mlp.fc1": (settings.hidden, width),
        "mlp.fc2": (width, settings.hidden),
    }
    for block in range(settings.depth):
        for name, shape in shapes.items():
            for row in _layer(name, _BLOCK_PARTS[name], shape):
                yield row.within(f"{SIDE}vit_model.blocks.{block}.", f"proposer.blocks.{block}.")
    for _, side in settings.fusion:
        for row in (
            *_layer("0", "norm", (tower.width,)),
            *_layer("1", "projection", (width, tower.width, 1, 1)),
        ):
            yield row.within(f"{SIDE}fusion_layers.layer_{side}.input_proj.", f"proposer.fusions.{side}.")
    yield from _decoder_rows(settings, tower.num_heads)


def _decoder_rows(settings: SANSettings, clip_heads: int) -> Iterator[Row]:
    hidden, out = settings.decoder_hidden, settings.decoder_width
    for name, ours, outputs, pointwise in (
        ("query_mlp", "proposer.query_decoder", out, False),
        ("pix_mlp", "proposer.pixel_decoder", out, True),
        ("attn_mlp", "classifier.pixels", clip_heads * out, True),
    ):
        widths = (settings.width, hidden, hidden, outputs)
        for layer, shape in enumerate(zip(widths[1:], widths[:-1], strict=True)):
            yield from _layer(
                f"{SIDE}mask_decoder.{name}.layers.{layer}",
                f"{ours}.{2 * layer}",
                (*shape, 1, 1) if pointwise else shape,
            )
    yield from _layer(f"{SIDE}mask_decoder.bias_scaling", "classifier.bias_scaling", (1, 1))


def _layer(name: str, ours: str, weight: Shape) -> Iterator[Row]:
    """Weight and bias; the bias is as long as the weight's first axis."""
    yield Row(f"{name}.weight", weight, (f"{ours}.weight",))
    yield Row(f"{name}.bias", weight[:1], (f"{ours}.bias",))
