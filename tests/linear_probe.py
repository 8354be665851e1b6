"""The smallest trainable model: one linear map behind a frozen tower, and nothing of Cascade-CLIP.

It shows what a new model needs: this file, one line in the registry, and its choice in ``conf/model``.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from lexiseg.constants import CLIP_MEAN, CLIP_STD
from lexiseg.models.parameter_groups import group_parameters
from lexiseg.ops.grid import tokens_to_map
from lexiseg.types import MaskOutput


@dataclass(frozen=True)
class LinearProbeSettings:
    name: str = "linear_probe"
    sharpness: float = 10.0


class LinearProbe(nn.Module):
    """Cosines of words with the last block's patches after one trained map."""

    depends_on_text = False
    words_together = False
    offers_features = False
    smallest_grid = 2

    def __init__(self, tower, settings):
        super().__init__()
        self.settings = settings
        self._tower = (tower,)  # in a tuple: no submodule, so it enters no checkpoint
        self.map = nn.Linear(tower.embed_dim, tower.embed_dim)
        for name, values in (("_mean", CLIP_MEAN), ("_std", CLIP_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1) * 255, persistent=False)

    @property
    def tower(self):
        return self._tower[0]

    @property
    def patch_size(self):
        return self.tower.patch_size

    @property
    def normalization(self):
        return self._mean, self._std

    def _apply(self, fn, recurse=True):
        self.tower._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def parameter_groups(self, optim):
        return group_parameters(self.named_parameters(), optim)

    def normalize(self, images):
        return (images - self._mean) / self._std

    def encode(self, images):
        tokens = self.tower.embed(images, position_mode="bilinear")
        for index in range(self.tower.depth):
            tokens = self.tower.block(index, tokens)
        return tokens_to_map(self.map(self.tower.project(tokens[:, 1:])), self.tower.grid(images))

    def bind(self, state, text):
        return state

    def features(self, state, text=None):
        raise NotImplementedError

    def decode(self, state, text):
        cosines = torch.einsum("bdhw,kd->bkhw", F.normalize(state, dim=1), text.to(state.dtype))
        return MaskOutput(self.settings.sharpness * cosines)

    def forward(self, images, text):
        return self.decode(self.encode(images), text)
