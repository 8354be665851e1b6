"""PixelCLIP's DINO masks: patch tokens of a self-supervised vision transformer, clustered image by image."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from lexiseg.errors import ConfigError
from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.provider import Picture
from lexiseg.ops.k_means import k_means
from lexiseg.ops.nearest import nearest_indices

PatchEncoder = Callable[[Picture], Tensor]
"""``(H, W, 3)`` uint8 RGB to the last layer's patch tokens ``(C, h, w)``."""


@dataclass(frozen=True)
class KMeansSettings:
    """How patches are clustered; defaults are the release's.

    Attributes:
        clusters: Masks per image at most (K = 16).
        seed: Of the random start, which the release leaves open.
        iterations: Most rounds.
    """

    clusters: int = 16
    seed: int = 0
    iterations: int = 100

    def __post_init__(self) -> None:
        """Reject settings that give no mask.

        Raises:
            ConfigError: Names the setting.
        """
        if self.clusters < 2:
            raise ConfigError(
                f"dino.clusters: expected at least 2, got {self.clusters}; one cluster is the whole image"
            )
        if self.iterations < 1:
            raise ConfigError(f"dino.iterations: expected at least 1, got {self.iterations}")


class DinoKMeans:
    """k-means on raw patch tokens, labels brought to the image's size by nearest neighbour (PixelCLIP, section 4).

    Masks of one image do not overlap and together cover it; a mask may consist of several pieces. The release
    clusters each training crop anew; here the whole photograph is clustered once, and crops are cut from its masks.

    Args:
        encoder: The tower, with its own normalisation and working size.
        source: What identifies the tower and its working size, for the cache.
        settings: See :class:`KMeansSettings`.
    """

    def __init__(
        self,
        encoder: PatchEncoder,
        *,
        source: Mapping[str, Any],
        settings: KMeansSettings | None = None,
    ) -> None:
        self._encoder, self._source, self._settings = encoder, dict(source), settings or KMeansSettings()

    @property
    def name(self) -> str:
        """What the cache calls it."""
        return "dino"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The tower's identity and how its patches are clustered."""
        return {**self._source, **asdict(self._settings)}

    def __call__(self, image: Picture) -> MaskSet:
        """One mask per cluster of an ``(H, W, 3)`` uint8 RGB photograph, the largest first."""
        chosen = self._settings
        with torch.inference_mode():
            tokens = self._encoder(image).float()
            labels = k_means(
                tokens.flatten(1).T, chosen.clusters, seed=chosen.seed, iterations=chosen.iterations
            )
        grid = labels.view(tokens.shape[1:]).cpu().numpy()
        rows = nearest_indices(grid.shape[0], image.shape[0])
        return MaskSet.from_labels(grid[rows[:, None], nearest_indices(grid.shape[1], image.shape[1])])
