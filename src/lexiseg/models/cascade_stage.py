"""One stage of the cascade: its blocks' features aggregated, its own query projection, its own decoder."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.models.block_aggregation import build_aggregation
from lexiseg.models.block_projection import BlockProjection
from lexiseg.models.cascade_settings import CascadeSettings
from lexiseg.models.spectral_guided_decoder import SpectralGuidedDecoder
from lexiseg.models.text_image_decoder import TextImageDecoder
from lexiseg.ops.grid import tokens_to_map


class CascadeStage(nn.Module):
    """One stage: its blocks' features aggregated, its own query projection, its own decoder.

    Args:
        tower: The frozen tower.
        blocks: Block numbers from 1; the tower's last block needs no projection of its own.
        settings: The model's settings.
    """

    def __init__(self, tower: VisionTower, blocks: tuple[int, ...], settings: CascadeSettings) -> None:
        super().__init__()
        self.blocks = blocks
        self.projections = nn.ModuleDict(
            {str(b): BlockProjection(tower, settings.projection) for b in blocks if b != tower.depth}
        )
        self.aggregation = build_aggregation(
            settings.aggregation,
            len(blocks),
            tower.embed_dim,
            sigma=settings.aggregation_sigma,
            form=settings.aggregation_form,
            trained=settings.aggregation_trained,
        )
        self.query_projection = None
        if settings.queries == "independent":
            self.query_projection = nn.Linear(2 * tower.embed_dim, tower.embed_dim)
        decoder = SpectralGuidedDecoder if settings.decoder == "spectral" else TextImageDecoder
        self.decoder = decoder(
            tower.embed_dim,
            layers=settings.decoder_layers,
            heads=settings.decoder_heads,
            dropout=settings.decoder_dropout,
            unused_parameters=settings.unused_parameters,
        )

    def aggregate(self, taps: Mapping[int, Tensor], last: Tensor, grid: tuple[int, int]) -> Tensor:
        """Bring the stage's blocks to the text's space and aggregate them.

        Args:
            taps: ``(B, h*w, D)`` normed patch tokens per tapped block.
            last: ``(B, h*w, E)`` projected patch tokens of the last block.
            grid: h and w.

        Returns:
            ``(B, E, h, w)``.
        """
        layers = []
        for block in self.blocks:
            key = str(block)
            projected = self.projections[key](taps[block]) if key in self.projections else last
            layers.append(tokens_to_map(F.normalize(projected, dim=-1), grid))
        return self.aggregation(layers)

    def forward(self, descriptor: Tensor, features: Tensor) -> Tensor:
        """Mask logits of every class at every patch.

        Args:
            descriptor: ``(B, K, 2E)``; or queries ``(B, K, E)`` where the stages share one projection.
            features: ``(B, E, h, w)``.

        Returns:
            ``(B, K, h, w)``.
        """
        queries = descriptor if self.query_projection is None else self.query_projection(descriptor)
        return self.decoder(queries, features)
