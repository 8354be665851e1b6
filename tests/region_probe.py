"""The smallest model of regions: learned queries over a frozen tower's patches, regions named by their mean feature.

It shows what a new one needs: this file as ``src/lexiseg/models/region_probe.py``, one line in ``models/registry.py``, and
``conf/train/model/region_probe.yaml`` with the fields of its settings.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from lexiseg.models.region_model import RegionModel
from lexiseg.ops.class_vectors import best_word
from lexiseg.types import ClassifiedMasks, ClassWords, SegmentOutput, SegmentPrediction


@dataclass(frozen=True)
class RegionProbeSettings:
    name: str = "region_probe"
    queries: int = 5
    sharpness: float = 20.0


class RegionProbe(RegionModel):
    """One linear map of the tower's patches, as many regions as queries, and one trained vector for "nothing"."""

    def __init__(self, tower, settings):
        super().__init__(tower, settings, stride=tower.patch_size)
        self.map = nn.Linear(tower.embed_dim, tower.embed_dim)
        self.queries = nn.Parameter(torch.randn(settings.queries, tower.embed_dim))
        self.nothing = nn.Parameter(torch.randn(1, tower.embed_dim))

    def encode(self, images, content=None):
        patches = self.tower.dense_features(images)
        mapped = self.map(patches.movedim(1, -1)).movedim(-1, 1)
        masks = torch.einsum("nd,bdhw->bnhw", self.queries, F.normalize(mapped, dim=1))
        return masks, self.pooled(masks.sigmoid(), mapped)

    def encode_masks(self, images, masks, content=None):
        mapped = self.map(self.tower.dense_features(images).movedim(1, -1)).movedim(-1, 1)
        return masks, self.pooled(F.interpolate(masks.sigmoid(), size=mapped.shape[-2:], mode="area"), mapped)

    def pooled(self, weight, mapped):
        return torch.einsum("bnhw,bdhw->bnd", weight, mapped) / weight.sum((-2, -1))[..., None]

    def logits(self, pooled, words):
        pooled = self.settings.sharpness * F.normalize(pooled, dim=-1)
        named = best_word(pooled @ words.text.to(pooled.dtype).T, words.class_ids, words.classes)
        return torch.cat([named, pooled @ F.normalize(self.nothing, dim=-1).T], dim=-1)

    def classify(self, state, words):
        masks, pooled = state
        return ClassifiedMasks(masks, self.logits(pooled, words).softmax(-1)[..., :-1])

    def forward(self, images, text):
        masks, pooled = self.encode(images)
        return SegmentOutput((SegmentPrediction(self.logits(pooled, ClassWords.plain(text)), masks),))
