"""The checkpoint layout of the released FC-CLIP (detectron2: ``backbone.clip_model.*``, ``sem_seg_head.*``)."""

from collections.abc import Iterator, Mapping

from torch import Tensor

from lexiseg.checkpoints.published_rows import ANY, PublishedLayout, Row, Shape, count
from lexiseg.checkpoints.text_rows import text_tower_shapes
from lexiseg.clip.formats.visual import published_visual
from lexiseg.errors import CheckpointError
from lexiseg.models.fc_clip import FCClipSettings
from lexiseg.models.proposers.mask2former import LEVELS, POINTS
from lexiseg.types import StageTower

CLIP = "backbone.clip_model."
"""The whole CLIP, image and text tower, in open_clip's names."""

PIXELS = "sem_seg_head.pixel_decoder."
QUERIES = "sem_seg_head.predictor."
NOTHING = "void_embedding.weight"
CLASS_WEIGHTS = "criterion.empty_weight"

_ENCODER = f"{PIXELS}transformer.encoder.layers."
_SELF, _CROSS, _FORWARD = (
    f"{QUERIES}transformer_{part}_layers." for part in ("self_attention", "cross_attention", "ffn")
)
_OURS_PIXELS = "proposer.pixel_decoder."
_OURS_QUERIES = "proposer.transformer."
_OURS_CLASSES = "classifier."


def fc_clip_layout(settings: FCClipSettings, tower: StageTower) -> PublishedLayout:
    """The table for a model of these settings on this CLIP; nothing of the CLIP stands here."""
    rows = (
        *_tower_rows(tower),
        *_pixel_rows(settings, tower.stage_widths),
        *_query_rows(settings),
        *_class_rows(settings, tower.embed_dim),
    )
    return PublishedLayout(rows, "FC-CLIP as released")


def optional_shapes(found: Mapping[str, Shape]) -> dict[str, Shape]:
    """What a file may hold besides: the loss's class weights, and CLIP's text tower.

    Args:
        found: Names and shapes in the file, which alone tell the text tower's size.
    """
    weights = {CLASS_WEIGHTS: (ANY,)} if CLASS_WEIGHTS in found else {}
    return weights | text_tower_shapes(found, CLIP)


def detect_fc_clip(published: Mapping[str, Tensor]) -> FCClipSettings:
    """Settings of the FC-CLIP in a state dict, read off its keys and shapes; weights of the classifiers are the release's.

    Raises:
        CheckpointError: It holds none.
    """
    try:
        queries, width = published[f"{QUERIES}query_feat.weight"].shape
        offsets = len(published[f"{_ENCODER}0.self_attn.sampling_offsets.bias"])
        return FCClipSettings(
            queries=queries,
            width=width,
            heads=offsets // (LEVELS * POINTS * 2),
            encoder_layers=count(published, _ENCODER),
            encoder_feedforward=len(published[f"{_ENCODER}0.linear1.bias"]),
            decoder_layers=count(published, _FORWARD),
            decoder_feedforward=len(published[f"{_FORWARD}0.linear1.bias"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"expected the published layout of FC-CLIP ({PIXELS}*, {QUERIES}*); got "
            f"{', '.join(list(published)[:4]) or 'no tensor'}, …"
        ) from error


def clip_of_fc_clip(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The CLIP inside a published file, in open_clip's names; empty where the file was saved without it."""
    return {name.removeprefix(CLIP): tensor for name, tensor in published.items() if name.startswith(CLIP)}


def _tower_rows(tower: StageTower) -> Iterator[Row]:
    """The frozen image tower; of its text tower the file alone knows the size."""
    for name, shape in published_visual(tower).items():
        yield Row(CLIP + name, shape)


def _pixel_rows(settings: FCClipSettings, channels: tuple[int, ...]) -> Iterator[Row]:
    width, heads = settings.width, settings.heads
    for level, inputs in enumerate(reversed(channels[-LEVELS:])):
        for row in (*_weights("0", "0", (width, inputs, 1, 1), (width,)), *_norm("1", "1", width)):
            yield row.within(f"{PIXELS}input_proj.{level}.", f"{_OURS_PIXELS}input_projections.{level}.")
    yield Row(f"{PIXELS}transformer.level_embed", (LEVELS, width), (f"{_OURS_PIXELS}level_embed",))
    places = heads * LEVELS * POINTS
    for layer in range(settings.encoder_layers):
        for row in (
            *_linear("self_attn.sampling_offsets", "self_attn.sampling_offsets", width, 2 * places),
            *_linear("self_attn.attention_weights", "self_attn.attention_weights", width, places),
            *_linear("self_attn.value_proj", "self_attn.value_proj", width, width),
            *_linear("self_attn.output_proj", "self_attn.output_proj", width, width),
            *_norm("norm1", "self_attn_layer_norm", width),
            *_feedforward(width, settings.encoder_feedforward),
            *_norm("norm2", "final_layer_norm", width),
        ):
            yield row.within(f"{_ENCODER}{layer}.", f"{_OURS_PIXELS}encoder.layers.{layer}.")
    for row in (
        *_weights("mask_features", "mask_projection", (width, width, 1, 1), (width,)),
        Row("adapter_1.weight", (width, channels[0], 1, 1), ("adapter_1.0.weight",)),
        *_norm("adapter_1.norm", "adapter_1.1", width),
        Row("layer_1.weight", (width, width, 3, 3), ("layer_1.0.weight",)),
        *_norm("layer_1.norm", "layer_1.1", width),
    ):
        yield row.within(PIXELS, _OURS_PIXELS)


def _query_rows(settings: FCClipSettings) -> Iterator[Row]:
    width, queries = settings.width, settings.queries
    for layer in range(settings.decoder_layers):
        ours = f"{_OURS_QUERIES}decoder.layers.{layer}."
        for row in (*_self_attention(width), *_norm("norm", "self_attn_layer_norm", width)):
            yield row.within(f"{_SELF}{layer}.", ours)
        for row in (*_cross_attention(width), *_norm("norm", "cross_attn_layer_norm", width)):
            yield row.within(f"{_CROSS}{layer}.", ours)
        for row in (
            *_feedforward(width, settings.decoder_feedforward),
            *_norm("norm", "final_layer_norm", width),
        ):
            yield row.within(f"{_FORWARD}{layer}.", ours)
    for row in (
        *_norm("decoder_norm", "decoder.layernorm", width),
        Row("query_feat.weight", (queries, width), ("queries_features.weight",)),
        Row("query_embed.weight", (queries, width), ("queries_embedder.weight",)),
        Row("level_embed.weight", (LEVELS, width), ("level_embed.weight",)),
        *(
            row
            for layer in range(3)
            for row in _linear(
                f"mask_embed.layers.{layer}",
                f"decoder.mask_predictor.mask_embedder.{layer}.0",
                width,
                width,
            )
        ),
    ):
        yield row.within(QUERIES, _OURS_QUERIES)


def _class_rows(settings: FCClipSettings, embed: int) -> Iterator[Row]:
    width = settings.width
    for row in (
        *_norm("_mask_pooling_proj.0", "pooling.0", width),
        *_linear("_mask_pooling_proj.1", "pooling.1", width, width),
        *_linear("class_embed.layers.0", "embedding.0", width, width),
        *_linear("class_embed.layers.1", "embedding.2", width, width),
        *_linear("class_embed.layers.2", "embedding.4", width, embed),
        Row("logit_scale", (), ("logit_scale",)),
    ):
        yield row.within(QUERIES, _OURS_CLASSES)
    yield Row(NOTHING, (1, embed), (f"{_OURS_CLASSES}nothing.weight",))


def _self_attention(width: int) -> Iterator[Row]:
    for kind, shape in (("weight", (3 * width, width)), ("bias", (3 * width,))):
        ours = tuple(f"self_attn.{letter}_proj.{kind}" for letter in "qkv")
        yield Row(f"self_attn.in_proj_{kind}", shape, ours, joined=True)
    yield from _linear("self_attn.out_proj", "self_attn.out_proj", width, width)


def _cross_attention(width: int) -> Iterator[Row]:
    yield Row("multihead_attn.in_proj_weight", (3 * width, width), ("cross_attn.in_proj_weight",))
    yield Row("multihead_attn.in_proj_bias", (3 * width,), ("cross_attn.in_proj_bias",))
    yield from _linear("multihead_attn.out_proj", "cross_attn.out_proj", width, width)


def _feedforward(width: int, hidden: int) -> Iterator[Row]:
    yield from _linear("linear1", "fc1", width, hidden)
    yield from _linear("linear2", "fc2", hidden, width)


def _linear(name: str, ours: str, inputs: int, outputs: int) -> Iterator[Row]:
    yield from _weights(name, ours, (outputs, inputs), (outputs,))


def _norm(name: str, ours: str, width: int) -> Iterator[Row]:
    yield from _weights(name, ours, (width,), (width,))


def _weights(name: str, ours: str, weight: Shape, bias: Shape) -> Iterator[Row]:
    yield Row(f"{name}.weight", weight, (f"{ours}.weight",))
    yield Row(f"{name}.bias", bias, (f"{ours}.bias",))
