"""The checkpoint layout of the released OVSeg.

Keys are taken as they are. The released loader renames ``sem_seg_head.*`` of a state dict without version metadata, and so
leaves the pixel decoder of such a file at random.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from lexiseg.checkpoints.layouts.maskformer_rows import (
    CLASS_WEIGHTS,
    QUERIES,
    clip_inside,
    detect_maskformer,
    linear,
    maskformer_rows,
    tower_rows,
)
from lexiseg.checkpoints.published_rows import ANY, PublishedLayout, Row, Shape
from lexiseg.checkpoints.text_rows import text_tower_shapes
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.errors import CheckpointError
from lexiseg.models.ovseg import OVSegSettings

ADAPTER = "clip_adapter."
CLIP = f"{ADAPTER}clip_model."
"""The whole CLIP, in OpenAI's names, and the mask prompt tokens among them."""

NOTHING = f"{ADAPTER}non_object_embedding"
PROMPTS = "visual.mask_embedding"
HIDDEN = f"{QUERIES}class_embed.layers.0.bias"

R101C: dict[str, Any] = {"mask_threshold": 0.5, "backbone_lr_scale": 0.1, "backbone_frozen": 2}
"""What the release sets otherwise with its ResNet-101c; that part of it stays as it starts is detectron2's default there."""


def ovseg_layout(settings: OVSegSettings, tower: VisionTower) -> PublishedLayout:
    """The table for a model of these settings on this CLIP; of the CLIP the prompt tokens alone stand here."""
    rows = (*maskformer_rows(settings), *_class_rows(settings, tower), *tower_rows(tower, CLIP))
    return PublishedLayout(rows, "OVSeg as released")


def optional_shapes(found: Mapping[str, Shape]) -> dict[str, Shape]:
    """What a file may hold besides: the loss's class weights, and CLIP's text tower.

    Args:
        found: Names and shapes in the file, which alone tell the text tower's size.
    """
    weights = {CLASS_WEIGHTS: (ANY,)} if CLASS_WEIGHTS in found else {}
    return weights | text_tower_shapes(found, CLIP)


def detect_ovseg(published: Mapping[str, Tensor]) -> OVSegSettings:
    """Settings of the OVSeg in a state dict, read off its keys and shapes; heads, branch and weights are the release's.

    Raises:
        CheckpointError: It holds none.
    """
    if NOTHING not in published:
        raise CheckpointError(f"expected the published layout of OVSeg, which has a tensor {NOTHING}")
    sizes = detect_maskformer(published)
    hidden, prompts = published.get(HIDDEN), published.get(CLIP + PROMPTS)
    if hidden is None:
        raise CheckpointError(f"expected the published layout of OVSeg, which has a tensor {HIDDEN}")
    return OVSegSettings(
        **sizes,
        class_hidden=len(hidden),
        prompt_depth=0 if prompts is None else len(prompts),
        **({} if sizes["backbone"] == "swin" else R101C),
    )


def clip_of_ovseg(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The CLIP inside a published file, in OpenAI's names, without the prompt tokens."""
    return {name: tensor for name, tensor in clip_inside(published, CLIP).items() if name != PROMPTS}


def _class_rows(settings: OVSegSettings, tower: VisionTower) -> Iterator[Row]:
    for index, (inputs, outputs) in enumerate(
        ((settings.query_width, settings.class_hidden), (settings.class_hidden, tower.embed_dim))
    ):
        ours = f"classifier.projection.{2 * index}"
        yield from linear(f"{QUERIES}class_embed.layers.{index}", ours, inputs, outputs)
    yield Row(NOTHING, (1, tower.embed_dim), ("classifier.background",))
    for name in ("pixel_mean", "pixel_std"):
        yield Row(f"{ADAPTER}{name}", (1, 3, 1, 1))
    if settings.prompt_depth:
        patches = (tower.image_size // tower.patch_size) ** 2
        shape = (settings.prompt_depth, patches, tower.width)
        yield Row(CLIP + PROMPTS, shape, ("crops.prompts.tokens",))
