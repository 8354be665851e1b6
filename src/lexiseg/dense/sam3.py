"""SAM 3 as a reader of words: a pixel takes the word whose answer is surest of it (Carion et al., 2025)."""

from typing import Any

import torch
from torch import Tensor

from lexiseg.dense.base import DenseReading
from lexiseg.errors import ConfigError
from lexiseg.ops.concept_masks import concept_map, stuff_map
from lexiseg.types import ConceptTower, MaskOutput


class SAM3(DenseReading):
    """Every word is asked for by itself, of a photograph that is looked at once; for a SAM 3 alone.

    The value of a word at a pixel is the score of the best mask over it, the mask's own certainty of the pixel included
    (:func:`~lexiseg.ops.concept_masks.concept_map`), so that a word that is not there has low values everywhere. Of several
    words the highest value wins, a rule of ours: the release answers one word at a time, with masks that may overlap.
    Values are no cosines and lie in [0, 1]; with a threshold, pixels that no word is sure of get no class.

    The photograph is stretched to the model's square, here without the release's antialiasing.

    Args:
        tower: The frozen SAM 3.
        stuff: Ask the head without queries as well, and take the higher value: of stuff it sees more than single things.
    """

    activation = "scores"
    offers_features = False
    cosine_logits = False
    reads_square = True
    templates = "plain"

    def __init__(self, tower: ConceptTower, *, stuff: bool = False) -> None:
        super().__init__(tower)
        self.tower = tower
        self.stuff = stuff
        self.cells_per_patch = tower.cells_per_patch

    def encode(self, images: Tensor) -> Any:
        """Look once at normalised ``(B, 3, H, W)``, squares of the tower's native side."""
        return self.tower.look(images)

    def features(self, state: Any, text: Tensor | None = None) -> Tensor:
        """There are none.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            "sam3 answers words with masks and has no features that words compare with; choose another method"
        )

    def decode(self, state: Any, text: Tensor) -> MaskOutput:
        """Values ``(B, K, h, w)`` in [0, 1] of words ``(K, E)`` as the text tower gives them, one after the other."""
        maps = []
        for word in text:
            found = self.tower.answer(state, word)
            values = concept_map(found.masks, found.queries, found.presence)
            maps.append(values.maximum(stuff_map(found.semantic, found.presence)) if self.stuff else values)
        return MaskOutput(torch.stack(maps, dim=1))
