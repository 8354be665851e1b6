"""The smallest proposer: as many regions as learned queries, each where CLIP's patches are like it.

It shows what a combination of one's own needs: this file, ``conf/train/model/proposer/patch_queries.yaml`` with the fields of
its settings, and any classifier that there is. In the project it lies in ``src/lexiseg/models/proposers``, with its name in
``PROPOSERS`` there.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from lexiseg.models.patch_stages import clip_stride
from lexiseg.models.proposers.adapters import TrainedProposer
from lexiseg.models.proposers.registry import PROPOSERS
from lexiseg.models.region_parts import Found, Part
from lexiseg.types import Proposals

CONFIG = "name: patch_queries\nqueries: 5\nsharpness: 20.0\n"
"""Of its configuration file."""


@dataclass(frozen=True)
class PatchQueriesSettings:
    queries: int = 5
    sharpness: float = 20.0


class PatchQueries(TrainedProposer):
    def __init__(self, tower, settings):
        super().__init__()
        self.stride, self.sharpness = clip_stride(tower), settings.sharpness
        self.embed_dim = self.pixel_dim = tower.embed_dim
        self.map = nn.Conv2d(tower.embed_dim, tower.embed_dim, kernel_size=1)
        self.regions = settings.queries
        self.queries = nn.Parameter(torch.randn(settings.queries, tower.embed_dim))

    def forward(self, scene, *, every_layer=False):
        pixels = F.normalize(self.map(scene.patches), dim=1)
        queries = F.normalize(self.queries, dim=-1).expand(len(scene.images), -1, -1)
        masks = self.sharpness * torch.einsum("bnd,bdhw->bnhw", queries, pixels)
        return Found(Proposals(masks, queries, pixels), pixels)


def register():
    PROPOSERS["patch_queries"] = Part(PatchQueries, PatchQueriesSettings)
