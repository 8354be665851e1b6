"""The checkpoint layout of the released ZegFormer."""

import math
from collections.abc import Iterator, Mapping

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
from lexiseg.models.zegformer import ZegFormerSettings

CLIP = f"{QUERIES}clip_model."
"""The whole CLIP, in OpenAI's names; files saved in training lack it."""

BACKGROUND = f"{QUERIES}bg_feature"
SCALE = f"{QUERIES}logit_scale"
"""The logarithm of 100, in every file; here it is a constant."""


def zegformer_layout(settings: ZegFormerSettings, tower: VisionTower) -> PublishedLayout:
    """The table for a model of these settings on this CLIP; nothing of the CLIP stands here, nor in a file of training."""
    rows = (
        *maskformer_rows(settings),
        *_class_rows(settings, tower.embed_dim),
        *tower_rows(tower, CLIP),
    )
    return PublishedLayout(rows, "ZegFormer as released")


def optional_shapes(found: Mapping[str, Shape]) -> dict[str, Shape]:
    """What a file may hold besides: a scale that never trains, the loss's class weights, and CLIP's text tower.

    Args:
        found: Names and shapes in the file, which alone tell the text tower's size.
    """
    single: dict[str, Shape] = {SCALE: (1,), CLASS_WEIGHTS: (ANY,)}
    weights = {name: shape for name, shape in single.items() if name in found}
    return weights | text_tower_shapes(found, CLIP)


def detect_zegformer(published: Mapping[str, Tensor]) -> ZegFormerSettings:
    """Settings of the ZegFormer in a state dict, read off its keys and shapes; heads and branch are the release's.

    Raises:
        CheckpointError: It holds none.
    """
    if BACKGROUND not in published:
        raise CheckpointError(f"expected the published layout of ZegFormer, which has a tensor {BACKGROUND}")
    sizes, scale = detect_maskformer(published), published.get(f"{CLIP}logit_scale")
    if scale is not None:
        sizes["clip_scale"] = round(math.exp(float(scale)), 4)
    return ZegFormerSettings(**sizes)


def clip_of_zegformer(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The CLIP inside a published file, in OpenAI's names; empty where the file was saved without it."""
    return clip_inside(published, CLIP)


def _class_rows(settings: ZegFormerSettings, embed: int) -> Iterator[Row]:
    yield Row(BACKGROUND, (1, embed), ("classifier.background",))
    yield from linear(f"{QUERIES}projection_layer", "classifier.projection", settings.query_width, embed)
