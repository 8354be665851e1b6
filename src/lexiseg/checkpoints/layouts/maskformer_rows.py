"""What ZegFormer and OVSeg store of MaskFormer (detectron2: ``backbone.*``, ``sem_seg_head.*``), and its sizes read back."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from lexiseg.checkpoints.published_rows import Row, Shape, count
from lexiseg.clip.formats.openai import vision_to_openai
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.errors import CheckpointError
from lexiseg.models.proposers.backbone import STAGES, BackboneSettings
from lexiseg.models.proposers.maskformer import MaskFormerSettings

HEAD = "sem_seg_head."
PIXELS = f"{HEAD}pixel_decoder."
QUERIES = f"{HEAD}predictor."
CLASS_WEIGHTS = "criterion.empty_weight"

_NORM_BUFFERS = ("weight", "bias", "running_mean", "running_var")
_LAYERS = f"{QUERIES}transformer.decoder.layers."
_NETWORK = "proposer.backbone.network."
_QUERY_HEADS = 8
"""Of every released configuration; a file does not store the number."""


def maskformer_rows(settings: MaskFormerSettings) -> Iterator[Row]:
    """Backbone, pixel decoder, transformer and mask embedding."""
    backbone = _swin_rows if settings.backbone == "swin" else _resnet_rows
    for row in backbone(settings):
        yield row.within("backbone.", _NETWORK)
    for row in _pixel_rows(settings):
        yield row.within(PIXELS, "proposer.pixel_decoder.")
    for row in _query_rows(settings):
        yield row.within(QUERIES, "proposer.")


def tower_rows(tower: VisionTower, prefix: str) -> Iterator[Row]:
    """The frozen image tower under OpenAI's names; of its text tower the file alone knows the size."""
    for name, tensor in vision_to_openai(tower.weights()).items():
        yield Row(prefix + name, tuple(tensor.shape))


def linear(name: str, ours: str, inputs: int, outputs: int) -> Iterator[Row]:
    """Weight and bias of a linear layer."""
    yield from _weights(name, ours, (outputs, inputs), (outputs,))


def detect_maskformer(published: Mapping[str, Tensor]) -> dict[str, Any]:
    """Sizes of the MaskFormer in a state dict, read off its keys and shapes; of its heads, the released number.

    Raises:
        CheckpointError: It holds none.
    """
    try:
        sizes = (
            _detect_swin(published)
            if "backbone.patch_embed.proj.weight" in published
            else _detect_resnet(published)
        )
        queries, width = published[f"{QUERIES}query_embed.weight"].shape
        mask_width, feature_width = published[f"{PIXELS}mask_features.weight"].shape[:2]
        return sizes | {
            "queries": queries,
            "query_width": width,
            "query_heads": _QUERY_HEADS,
            "query_layers": count(published, _LAYERS),
            "query_feedforward": len(published[f"{_LAYERS}0.linear1.bias"]),
            "mask_width": mask_width,
            "feature_width": feature_width,
        }
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"expected the published layout of a MaskFormer (backbone.*, {PIXELS}*, {QUERIES}*); got "
            f"{', '.join(list(published)[:4]) or 'no tensor'}, …"
        ) from error


def clip_inside(published: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What lies under ``prefix``, in OpenAI's names; empty where the file was saved without it."""
    return {
        name.removeprefix(prefix): tensor for name, tensor in published.items() if name.startswith(prefix)
    }


def _detect_resnet(published: Mapping[str, Tensor]) -> dict[str, Any]:
    deep = "backbone.stem.conv3.weight" in published
    return {
        "backbone": "resnet",
        "stem": "deep" if deep else "plain",
        "stem_width": len(published[f"backbone.stem.conv{3 if deep else 1}.weight"]),
        "backbone_width": len(published["backbone.res2.0.conv3.weight"]),
        "backbone_depths": tuple(count(published, f"backbone.res{stage + 2}.") for stage in range(STAGES)),
        "last_dilations": (1, 2, 4) if deep and count(published, "backbone.res5.") == 3 else (),
    }


def _detect_swin(published: Mapping[str, Tensor]) -> dict[str, Any]:
    tables = [
        published[f"backbone.layers.{stage}.blocks.0.attn.relative_position_bias_table"]
        for stage in range(STAGES)
    ]
    return {
        "backbone": "swin",
        "backbone_width": len(published["backbone.patch_embed.proj.bias"]),
        "backbone_depths": tuple(
            count(published, f"backbone.layers.{stage}.blocks.") for stage in range(STAGES)
        ),
        "swin_heads": tuple(table.shape[1] for table in tables),
        "swin_window": (round(len(tables[0]) ** 0.5) + 1) // 2,
    }


def _resnet_rows(settings: BackboneSettings) -> Iterator[Row]:
    if settings.stem == "deep":
        half = settings.stem_width // 2
        widths = (3, half, half, settings.stem_width)
        for index in range(3):
            shape = (widths[index + 1], widths[index], 3, 3)
            yield from _convolution(f"stem.conv{index + 1}", f"embedder.layers.{index}", shape)
    else:
        yield from _convolution("stem.conv1", "embedder.embedder", (settings.stem_width, 3, 7, 7))
    inputs = settings.stem_width
    for stage, outputs in enumerate(settings.backbone_channels):
        inner = outputs // 4
        for block in range(settings.backbone_depths[stage]):
            name, ours = f"res{stage + 2}.{block}.", f"encoder.stages.{stage}.layers.{block}."
            shapes = ((inner, inputs, 1, 1), (inner, inner, 3, 3), (outputs, inner, 1, 1))
            if inputs != outputs:
                yield from _convolution(f"{name}shortcut", f"{ours}shortcut", (outputs, inputs, 1, 1))
            for index, shape in enumerate(shapes):
                yield from _convolution(f"{name}conv{index + 1}", f"{ours}layer.{index}", shape)
            inputs = outputs


def _convolution(name: str, ours: str, shape: Shape) -> Iterator[Row]:
    """A convolution and its fixed batch norm."""
    yield Row(f"{name}.weight", shape, (f"{ours}.convolution.weight",))
    for buffer in _NORM_BUFFERS:
        yield Row(f"{name}.norm.{buffer}", shape[:1], (f"{ours}.normalization.{buffer}",))


def _swin_rows(settings: BackboneSettings) -> Iterator[Row]:
    width, side = settings.backbone_width, settings.swin_window
    yield from _weights(
        "patch_embed.proj", "swin.embeddings.patch_embeddings.projection", (width, 3, 4, 4), (width,)
    )
    yield from _norm("patch_embed.norm", "swin.embeddings.norm", width)
    for stage, channels in enumerate(settings.backbone_channels):
        name, ours = f"layers.{stage}.", f"swin.encoder.layers.{stage}."
        for block in range(settings.backbone_depths[stage]):
            for row in _swin_block(channels, settings.swin_heads[stage], side):
                yield row.within(f"{name}blocks.{block}.", f"{ours}blocks.{block}.")
        if stage + 1 < STAGES:
            yield Row(
                f"{name}downsample.reduction.weight",
                (2 * channels, 4 * channels),
                (f"{ours}downsample.reduction.weight",),
            )
            yield from _norm(f"{name}downsample.norm", f"{ours}downsample.norm", 4 * channels)
        yield from _norm(f"norm{stage}", f"hidden_states_norms.stage{stage + 1}", channels)


def _swin_block(channels: int, heads: int, side: int) -> Iterator[Row]:
    table = "relative_position_bias_table"
    yield from _norm("norm1", "layernorm_before", channels)
    yield Row(f"attn.{table}", ((2 * side - 1) ** 2, heads), (f"attention.relative_position_bias.{table}",))
    yield Row("attn.relative_position_index", (side**2, side**2))
    yield from _joined("attn.qkv.", "attention", channels)
    yield from linear("attn.proj", "attention.o_proj", channels, channels)
    yield from _norm("norm2", "layernorm_after", channels)
    yield from linear("mlp.fc1", "mlp.fc1", channels, 4 * channels)
    yield from linear("mlp.fc2", "mlp.fc2", 4 * channels, channels)


def _pixel_rows(settings: MaskFormerSettings) -> Iterator[Row]:
    width, channels = settings.feature_width, settings.backbone_channels
    yield from _normed("layer_4", "fpn.stem.", (width, channels[-1], 3, 3))
    for level in range(STAGES - 1):
        ours = f"fpn.layers.{STAGES - 2 - level}."
        yield from _normed(f"adapter_{level + 1}", f"{ours}proj.", (width, channels[level], 1, 1))
        yield from _normed(f"layer_{level + 1}", f"{ours}block.", (width, width, 3, 3))
    mask_width = settings.mask_width
    yield from _weights("mask_features", "mask_projection", (mask_width, width, 3, 3), (mask_width,))


def _normed(name: str, ours: str, shape: Shape) -> Iterator[Row]:
    """A convolution without a bias and its group norm."""
    yield Row(f"{name}.weight", shape, (f"{ours}0.weight",))
    yield from _norm(f"{name}.norm", f"{ours}1", shape[0])


def _query_rows(settings: MaskFormerSettings) -> Iterator[Row]:
    width, hidden = settings.query_width, settings.query_feedforward
    yield Row("query_embed.weight", (settings.queries, width), ("transformer.queries_embedder.weight",))
    coarse = settings.backbone_channels[-1]
    if coarse != width:
        yield from _weights("input_proj", "transformer.input_projection", (width, coarse, 1, 1), (width,))
    for layer in range(settings.query_layers):
        for row in (
            *_joined("self_attn.in_proj_", "self_attn", width),
            *linear("self_attn.out_proj", "self_attn.o_proj", width, width),
            *_joined("multihead_attn.in_proj_", "encoder_attn", width),
            *linear("multihead_attn.out_proj", "encoder_attn.o_proj", width, width),
            *linear("linear1", "mlp.fc1", width, hidden),
            *linear("linear2", "mlp.fc2", hidden, width),
            *_norm("norm1", "self_attn_layer_norm", width),
            *_norm("norm2", "encoder_attn_layer_norm", width),
            *_norm("norm3", "final_layer_norm", width),
        ):
            yield row.within(f"transformer.decoder.layers.{layer}.", f"transformer.decoder.layers.{layer}.")
    yield from _norm("transformer.decoder.norm", "transformer.decoder.layernorm", width)
    for index, outputs in enumerate((width, width, settings.mask_width)):
        yield from linear(f"mask_embed.layers.{index}", f"mask_embedder.{index}.0", width, outputs)


def _joined(name: str, ours: str, width: int) -> Iterator[Row]:
    """Queries, keys and values as one tensor; ``name`` ends before ``weight`` and ``bias``."""
    for kind, shape in (("weight", (3 * width, width)), ("bias", (3 * width,))):
        parts = tuple(f"{ours}.{letter}_proj.{kind}" for letter in "qkv")
        yield Row(f"{name}{kind}", shape, parts, joined=True)


def _norm(name: str, ours: str, width: int) -> Iterator[Row]:
    yield from _weights(name, ours, (width,), (width,))


def _weights(name: str, ours: str, weight: Shape, bias: Shape) -> Iterator[Row]:
    yield Row(f"{name}.weight", weight, (f"{ours}.weight",))
    yield Row(f"{name}.bias", bias, (f"{ours}.bias",))
