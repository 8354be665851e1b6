"""The checkpoint layout of the published ZegCLIP, SPT-SEG and Cascade-CLIP (mmsegmentation: ``backbone.*``, ``decode_head.*``).

One table: every tensor's name there, its shape, and what it is here. Import, export and the account of keys read it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch import Tensor

from lexiseg.checkpoints.published_rows import ANY, PublishedLayout, Row, Shape
from lexiseg.checkpoints.text_rows import text_tower_shapes
from lexiseg.clip.formats.openai import vision_to_openai
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.models.cascade_settings import CascadeSettings

POSITIONS = "backbone.positional_embedding"
PROMPTS = ("backbone.prompt_embeddings", "backbone.deep_prompt_embeddings")
"""Before the first block, and before every other."""

FILTER = "backbone.complex_weight"
BLOCK_NORMS = "backbone.ln_layers."
PROJECTIONS = "backbone.proj_layers"
STAGE_WEIGHTS = "decode_head.weights_s"
"""Followed by the stage's number from 1."""

STAGE_DECODERS = "decode_head.cascade_decoders."
ONLY_DECODER = "decode_head.decoder_1."
SPLIT = "hlfs"
"""What the spectral decoder has in every layer, and the other in none."""

SPLIT_HEADS = 8
"""Of the spectral decoder, whatever the release's configuration says; the first of them reads high frequencies."""

_FILTER_OUTPUTS = 10
"""Of SPT-SEG's ``proj_fre``, which nothing reads."""

_UNUSED = "unused."


def published_layout(settings: CascadeSettings, tower: VisionTower) -> PublishedLayout:
    """The table for a model of these settings on this CLIP."""
    rows = (*_tower_rows(tower), *_prompt_rows(settings, tower), *_stage_rows(settings, tower))
    return PublishedLayout(
        tuple(replace(row, ours=()) if row.dead and not settings.unused_parameters else row for row in rows),
        "models as released: stages of blocks right below the last, and the last block alone as last stage",
    )


def published_tower(tower: VisionTower) -> dict[str, Tensor]:
    """The frozen image tower under its published names, position embedding at its native grid."""
    state = {
        name.replace("vision.", "vision_model.", 1): tensor for name, tensor in tower.state_dict().items()
    }
    return {
        name.replace("visual.", "backbone.", 1): tensor for name, tensor in vision_to_openai(state).items()
    }


def optional_shapes(found: Mapping[str, Shape]) -> dict[str, Shape]:
    """What a file may hold besides: the loss's class weights, and CLIP's text tower, whole or without token embedding.

    Args:
        found: Names and shapes in the file, which alone tell the text tower's size.
    """
    weights = {"decode_head.loss_decode.criterion.empty_weight": (ANY,)}
    shapes = {name: shape for name, shape in weights.items() if name in found}
    return shapes | text_tower_shapes(found, "text_encoder.")


def _tower_rows(tower: VisionTower) -> Iterator[Row]:
    """The frozen CLIP, under the names that OpenAI gave it."""
    for name, tensor in published_tower(tower).items():
        yield Row(name, (ANY, tower.width) if name == POSITIONS else tuple(tensor.shape))


def _prompt_rows(settings: CascadeSettings, tower: VisionTower) -> Iterator[Row]:
    """What trains inside the tower."""
    width, length, side = tower.width, settings.prompt_length, settings.spectral_grid
    if settings.prompts != "none":
        yield Row(PROMPTS[0], (1, length, width), ("prompts.tokens",))
        yield Row(PROMPTS[1], (tower.depth - 1, length, width), ("prompts.tokens",))
        yield from _linear("backbone.prompt_proj", "prompts.projection", width, width)
        yield from _norm("backbone.prompt_norm", "prompt_norm", width)
    if settings.prompts == "spectral":
        yield Row(FILTER, (side, side // 2 + 1, width, 2), ("spectral_filter.weight",))
        yield from _linear("backbone.proj_fre", None, side * side, _FILTER_OUTPUTS)


def _stage_rows(settings: CascadeSettings, tower: VisionTower) -> Iterator[Row]:
    """Every stage's way from the blocks to its masks."""
    width, embed, layers = tower.width, tower.embed_dim, settings.decoder_layers
    last = max(block for stage in settings.stages for block in stage)
    tapped = [
        f"stages.{stage}.projections.{block}"
        for stage, blocks in enumerate(settings.stages)
        for block in blocks
        if block != last
    ]
    if tapped:
        weights = tuple(f"{block}.projection.weight" for block in tapped)
        yield Row(PROJECTIONS, (len(tapped), width, embed), weights, stacked=True)
    for index, block in enumerate(tapped):
        yield from _norm(f"{BLOCK_NORMS}{index}", f"{block}.norm", width)
    single = len(settings.stages) == 1
    layer_rows = _spectral_layer if settings.decoder == "spectral" else _attention_layer
    for index, stage in enumerate(settings.stages):
        if len(stage) > 1:
            yield Row(f"{STAGE_WEIGHTS}{index + 1}", (len(stage),), (f"stages.{index}.aggregation.weights",))
        projection = "decode_head.q_proj" if single else f"decode_head.q_projs.{index}"
        yield from _linear(projection, f"stages.{index}.query_projection", 2 * embed, embed)
        decoder = ONLY_DECODER if single else f"{STAGE_DECODERS}{index}."
        for layer in range(layers):
            for row in layer_rows(layer, layers, embed):
                yield row.within(f"{decoder}layers.{layer}.", f"stages.{index}.decoder.")


def _attention_layer(layer: int, layers: int, embed: int) -> Iterator[Row]:
    """A layer of the decoder of SegViT and ZegCLIP; of the last one only queries and keys are read."""
    last = layer == layers - 1
    attention = "last" if last else f"layers.{layer}.attention"
    yield from _self_attention("self_attn", f"{_UNUSED}{layer}", embed)
    yield from _norm("norm1", f"{_UNUSED}{layers + layer}", embed)
    for name in ("q", "k", "v", "proj"):
        for row in _linear(f"multihead_attn.{name}", f"{attention}.{name}", embed, embed):
            yield replace(row, dead=last and name in ("v", "proj"))
    yield from _feedforward(f"{_UNUSED}{2 * layers}" if last else f"layers.{layer}", embed)


def _spectral_layer(layer: int, layers: int, embed: int) -> Iterator[Row]:
    """A layer of SPT-SEG's decoder, which keeps ZegCLIP's attention and never reads it."""
    last, high = layer == layers - 1, embed // SPLIT_HEADS
    low, split, unread = embed - high, "last" if last else f"layers.{layer}.split", f"{_UNUSED}{layer}"
    rest = f"{_UNUSED}{layers}" if last else f"layers.{layer}"
    yield from _self_attention("self_attn", f"{unread}.self_attn", embed)
    yield from _norm("norm1", f"{unread}.norm1", embed)
    for name in ("q", "k", "v", "proj"):
        yield from _linear(f"multihead_attn.{name}", f"{unread}.multihead_attn.{name}", embed, embed)
    yield Row(f"{SPLIT}.prompt", (embed,), (f"{split}.prompt",))
    yield Row(f"{SPLIT}.top_down_transform", (embed, embed), (f"{split}.mixing",))
    yield Row(f"{SPLIT}.l_q.weight", (low, embed), (f"{split}.low_q.weight",))
    yield Row(f"{SPLIT}.l_kv.weight", (2 * low, embed), (f"{split}.low_kv.weight",))
    yield Row(f"{SPLIT}.h_qkv.weight", (3 * high, embed), (f"{split}.high_qkv.weight",))
    yield from _linear(f"{SPLIT}.l_proj", f"{split}.low_proj", low, low)
    yield from _linear(f"{SPLIT}.h_proj", f"{unread}.h_proj", high, high)
    yield from _linear(f"{SPLIT}.proj", f"{rest}.proj", embed, embed)
    yield from _feedforward(rest, embed)


def _feedforward(ours: str, embed: int) -> Iterator[Row]:
    """What both decoders have behind the comparison."""
    yield from _linear("linear1", f"{ours}.linear1", embed, 4 * embed)
    yield from _linear("linear2", f"{ours}.linear2", 4 * embed, embed)
    yield from _norm("norm2", f"{ours}.norm_attention", embed)
    yield from _norm("norm3", f"{ours}.norm_feedforward", embed)


def _self_attention(name: str, ours: str | None, width: int) -> Iterator[Row]:
    yield _one(f"{name}.in_proj_weight", (3 * width, width), ours, "in_proj_weight")
    yield _one(f"{name}.in_proj_bias", (3 * width,), ours, "in_proj_bias")
    yield from _linear(f"{name}.out_proj", None if ours is None else f"{ours}.out_proj", width, width)


def _linear(name: str, ours: str | None, inputs: int, outputs: int) -> Iterator[Row]:
    yield _one(f"{name}.weight", (outputs, inputs), ours, "weight")
    yield _one(f"{name}.bias", (outputs,), ours, "bias")


def _norm(name: str, ours: str | None, width: int) -> Iterator[Row]:
    yield _one(f"{name}.weight", (width,), ours, "weight")
    yield _one(f"{name}.bias", (width,), ours, "bias")


def _one(name: str, shape: Shape, ours: str | None, leaf: str) -> Row:
    if ours is None:
        return Row(name, shape)
    return Row(name, shape, (f"{ours}.{leaf}",), dead=ours.startswith(_UNUSED))
