"""The smallest trainable model: one linear map behind a frozen tower of any kind, and nothing of Cascade-CLIP.

It shows what a new model needs: this file as ``src/lexiseg/models/linear_probe.py``, one line in ``models/registry.py``,
and ``conf/train/model/linear_probe.yaml`` with the fields of its settings.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from lexiseg.errors import ConfigError
from lexiseg.models.parameter_groups import group_parameters
from lexiseg.types import NO_NEEDS, MaskOutput


@dataclass(frozen=True)
class LinearProbeSettings:
    name: str = "linear_probe"
    sharpness: float = 10.0


class LinearProbe(nn.Module):
    """Cosines of words with the tower's own patches after one trained map."""

    depends_on_text = False
    words_together = False
    names_regions = False
    needs = NO_NEEDS
    activation = "sigmoid"
    offers_features = False
    smallest_grid = 2  # patches per side that tracing can tell from an axis of one

    def __init__(self, tower, settings):
        super().__init__()
        self.settings = settings
        self._tower = (tower,)  # in a tuple: no submodule, so it enters no checkpoint
        self.map = nn.Linear(tower.embed_dim, tower.embed_dim)
        for name, values in (("_mean", tower.mean), ("_std", tower.std)):
            # Not persistent: a state dict holds what was trained, and these are the tower's.
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
        """Take the tower along to another device or type, though it is no submodule."""
        self.tower._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def parameter_groups(self, optim):
        return group_parameters(self.named_parameters(), optim)

    def normalize(self, images):
        return (images - self._mean) / self._std

    def encode(self, images):
        patches = self.tower.dense_features(images)
        return self.map(patches.movedim(1, -1)).movedim(-1, 1)

    def bind(self, state, text):
        return state

    def features(self, state, text=None):
        raise ConfigError("linear_probe gives masks, not features; use one of the training-free methods")

    def decode(self, state, text):
        cosines = torch.einsum("bdhw,kd->bkhw", F.normalize(state, dim=1), text.to(state.dtype))
        return MaskOutput(self.settings.sharpness * cosines)

    def forward(self, images, text):
        return self.decode(self.encode(images), text)
