"""The checkpoint layout of the published LSeg: ``net.pretrained.*``, ``net.scratch.*`` and ``net.clip_pretrained.*``."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from lexiseg.checkpoints.published_rows import ANY, PublishedLayout, Row, Shape, count
from lexiseg.errors import CheckpointError
from lexiseg.models.lseg_settings import LEVELS, LSegSettings
from lexiseg.models.registry import complete_settings

PREFIX = "net."
"""Before every name in a Lightning checkpoint; a bare state dict has none."""

_CLIP = "clip_pretrained."
_VIT = "pretrained.model."
_HEAD_WIDTH = 64
"""Channels per attention head of every released ViT; a file does not store the head count."""

_NORM = ("weight", "bias", "running_mean", "running_var")
_BLOCK_PARTS = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


CLIP = f"{PREFIX}{_CLIP}"
"""The whole CLIP, in OpenAI's names; its image tower is never read."""


def lseg_layout(
    settings: LSegSettings,
    embed_dim: int,
    *,
    clip: Mapping[str, Shape] | None = None,
    prefix: str = PREFIX,
) -> PublishedLayout:
    """The table for a model of these settings.

    Args:
        settings: Of the model.
        embed_dim: Channels of the space that it shares with words.
        clip: Names and shapes of the CLIP whose words it was trained with, in OpenAI's layout; the file holds all of it, and
            its image tower is never read. None leaves it out.
        prefix: Before every name.
    """
    encoder = _vit_rows(settings) if settings.encoder == "vit" else _resnet_rows(settings)
    frozen = [Row(_CLIP + name, shape) for name, shape in (clip or {}).items()]
    rows = (*frozen, *encoder, *_scratch_rows(settings, embed_dim))
    return PublishedLayout(tuple(row.within(prefix, "") for row in rows), "LSeg as released")


def detect_lseg(published: Mapping[str, Tensor], *, heads: int | None = None) -> dict[str, Any]:
    """Name and settings of the LSeg in a state dict, read off its keys and shapes.

    A file stores neither which blocks are tapped, taken to be every quarter of them, nor the kind of block, its
    depth and activation, nor attention heads.

    Args:
        published: With or without ``net.`` before its names.
        heads: Attention heads of the ViT; None for one per 64 channels, as in every released one.

    Raises:
        CheckpointError: It holds no LSeg.
    """
    shapes = {name.removeprefix(PREFIX): tuple(tensor.shape) for name, tensor in published.items()}
    if "scratch.head1.weight" not in shapes:
        raise CheckpointError(
            f"expected the published layout of LSeg (pretrained.*, scratch.*); got {', '.join(list(published)[:4])}, …"
        )
    settings: dict[str, Any] = {"name": "lseg", "features": shapes["scratch.head1.weight"][1]}
    if "scratch.head_block.depthwise.depthwise.weight" in shapes:
        settings["block"] = "bottleneck"
    of_encoder = _detect_vit(shapes, heads) if f"{_VIT}pos_embed" in shapes else _detect_resnet(shapes)
    return complete_settings(settings | of_encoder)


def clip_of_lseg(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The CLIP inside the file in OpenAI's layout, as :mod:`lexiseg.clip.formats.openai` reads it."""
    found = {name.removeprefix(PREFIX): tensor for name, tensor in published.items()}
    return {name.removeprefix(_CLIP): tensor for name, tensor in found.items() if name.startswith(_CLIP)}


def _detect_vit(shapes: Mapping[str, Shape], heads: int | None) -> dict[str, Any]:
    depth = count(shapes, f"{_VIT}blocks.")
    if depth % LEVELS:
        raise CheckpointError(f"its ViT has {depth} blocks, which cannot be tapped at every quarter")
    _, positions, width = shapes[f"{_VIT}pos_embed"]
    return {
        "encoder": "vit",
        "patch_size": shapes[f"{_VIT}patch_embed.proj.weight"][-1],
        "grid": round((positions - 1) ** 0.5),
        "width": width,
        "heads": heads or max(width // _HEAD_WIDTH, 1),
        "mlp_width": shapes[f"{_VIT}blocks.0.mlp.fc1.weight"][0],
        "taps": [depth * level // LEVELS for level in range(1, LEVELS + 1)],
        "reassembled": [shapes[f"scratch.layer{level}_rn.weight"][1] for level in range(1, LEVELS + 1)],
    }


def _detect_resnet(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    starts = ["pretrained.layer1.4.", *(f"pretrained.layer{stage}." for stage in range(2, LEVELS + 1))]
    blocks = [
        {name[len(start) :].split(".")[0] for name in shapes if name.startswith(start)} for start in starts
    ]
    return {
        "encoder": "resnet",
        "stem": shapes["pretrained.layer1.0.weight"][0],
        "stages": [shapes[f"scratch.layer{level}_rn.weight"][1] for level in range(1, LEVELS + 1)],
        "depths": [len(names) for names in blocks],
    }


def _affine(name: str, ours: str, *shape: int) -> Iterator[Row]:
    """Weight and bias of a linear map, a convolution or a norm."""
    yield Row(f"{name}.weight", shape, (f"{ours}.weight",))
    yield Row(f"{name}.bias", shape[:1], (f"{ours}.bias",))


def _batch_norm(name: str, ours: str, channels: int) -> Iterator[Row]:
    for kind in _NORM:
        yield Row(f"{name}.{kind}", (channels,), (f"{ours}.{kind}",))
    yield Row(f"{name}.num_batches_tracked", (), (f"{ours}.num_batches_tracked",))


def _vit_rows(settings: LSegSettings) -> Iterator[Row]:
    width, patch, mlp = settings.width, settings.patch_size, settings.mlp_width
    ours = "encoder.network.embeddings."
    yield Row(f"{_VIT}cls_token", (1, 1, width), (f"{ours}cls_token",))
    yield Row(f"{_VIT}pos_embed", (1, settings.grid**2 + 1, width), (f"{ours}position_embeddings",))
    yield from _affine(
        f"{_VIT}patch_embed.proj", f"{ours}patch_embeddings.projection", width, 3, patch, patch
    )
    shapes = {"attn.proj": (width, width), "mlp.fc1": (mlp, width), "mlp.fc2": (width, mlp)}
    for index in range(settings.taps[-1]):
        block, here = f"{_VIT}blocks.{index}.", f"encoder.network.encoder.layer.{index}."
        for name, part in _BLOCK_PARTS.items():
            yield from _affine(block + name, here + part, *shapes.get(name, (width,)))
        for kind, shape in (("weight", (3 * width, width)), ("bias", (3 * width,))):
            parts = (f"{here}attention.attention.{part}.{kind}" for part in ("query", "key", "value"))
            yield Row(f"{block}attn.qkv.{kind}", shape, tuple(parts), joined=True)
    yield Row(f"{_VIT}norm.weight", (width,))
    yield Row(f"{_VIT}norm.bias", (width,))
    yield Row(f"{_VIT}head.weight", (ANY, width))
    yield Row(f"{_VIT}head.bias", (ANY,))
    for level, (channels, kernel) in enumerate(zip(settings.reassembled, (4, 2, 0, 3), strict=True)):
        name, here = f"pretrained.act_postprocess{level + 1}.", "encoder.reassemble."
        yield from _affine(f"{name}0.project.0", f"{here}readout_projects.{level}.0", width, 2 * width)
        yield from _affine(f"{name}3", f"{here}layers.{level}.projection", channels, width, 1, 1)
        if kernel:
            square = (channels, channels, kernel, kernel)
            yield from _affine(f"{name}4", f"{here}layers.{level}.resize", *square)


def _resnet_rows(settings: LSegSettings) -> Iterator[Row]:
    here = "encoder.network."
    stem = f"{here}embedder.embedder."
    yield Row("pretrained.layer1.0.weight", (settings.stem, 3, 7, 7), (f"{stem}convolution.weight",))
    yield from _batch_norm("pretrained.layer1.1", f"{stem}normalization", settings.stem)
    inputs = settings.stem
    for stage, (outputs, depth) in enumerate(zip(settings.stages, settings.depths, strict=True)):
        start = "pretrained.layer1.4." if stage == 0 else f"pretrained.layer{stage + 1}."
        for index in range(depth):
            ours = f"{here}encoder.stages.{stage}.layers.{index}."
            yield from _bottleneck(
                f"{start}{index}.", ours, inputs, outputs, strided=index == 0 and stage > 0
            )
            inputs = outputs


def _bottleneck(name: str, ours: str, inputs: int, outputs: int, *, strided: bool) -> Iterator[Row]:
    """A residual block of a ResNet in torchvision's names."""
    inner = outputs // 4
    shapes = ((inner, inputs, 1, 1), (inner, inner, 3, 3), (outputs, inner, 1, 1))
    for index, shape in enumerate(shapes):
        here = f"{ours}layer.{index}."
        yield Row(f"{name}conv{index + 1}.weight", shape, (f"{here}convolution.weight",))
        yield from _batch_norm(f"{name}bn{index + 1}", f"{here}normalization", shape[0])
    if inputs != outputs or strided:
        here = f"{ours}shortcut."
        yield Row(f"{name}downsample.0.weight", (outputs, inputs, 1, 1), (f"{here}convolution.weight",))
        yield from _batch_norm(f"{name}downsample.1", f"{here}normalization", outputs)


def _scratch_rows(settings: LSegSettings, embed_dim: int) -> Iterator[Row]:
    width = settings.features
    for level, channels in enumerate(settings.levels):
        shape = (width, channels, 3, 3)
        yield Row(f"scratch.layer{level + 1}_rn.weight", shape, (f"decoder.convolutions.{level}.weight",))
    for level in range(LEVELS):
        block, here = f"scratch.refinenet{LEVELS - level}.", f"decoder.fusion.layers.{level}."
        yield from _affine(f"{block}out_conv", f"{here}projection", width, width, 1, 1)
        for unit in (1, 2):
            dead = level == 0 and unit == 1  # the coarsest level has nothing to be added to
            for row in _unit_rows(f"{block}resConfUnit{unit}.", f"{here}residual_layer{unit}.", width):
                yield Row(row.name, row.shape) if dead else row
    yield from _affine("scratch.head1", "head", embed_dim, width, 1, 1)
    if settings.block != "none":
        yield from _affine("scratch.head_block.depthwise.depthwise", "block.convolution", 1, 1, 3, 3)


def _unit_rows(name: str, ours: str, width: int) -> Iterator[Row]:
    for index in (1, 2):
        yield Row(f"{name}conv{index}.weight", (width, width, 3, 3), (f"{ours}convolution{index}.weight",))
        yield from _batch_norm(f"{name}bn{index}", f"{ours}batch_norm{index}", width)
