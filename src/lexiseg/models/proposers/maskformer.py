"""MaskFormer's proposals (Cheng et al., 2021): learned queries read a backbone and each gives a mask."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from lexiseg.errors import ConfigError
from lexiseg.models.proposers.backbone import Backbone, BackboneSettings
from lexiseg.plain_settings import within
from lexiseg.types import Proposals

_NORM_GROUPS = 32
"""Of the pixel decoder's group norms."""


@dataclass(frozen=True)
class MaskFormerSettings(BackboneSettings):
    """Sizes of MaskFormer; defaults are the released ones of ZegFormer, OVSeg and MaskFormer itself.

    Attributes:
        feature_width: Channels inside the pixel decoder, a multiple of 32.
        mask_width: Channels of the map that masks are read from.
        query_width: Channels of a query.
        query_heads: Attention heads of the transformer decoder.
        query_feedforward: Hidden channels of its feed-forward networks.
        query_layers: Its layers, each of which bears a loss.
        query_dropout: In it.
        queries: Regions that it proposes, N.
    """

    feature_width: int = within(256, at_least=_NORM_GROUPS)
    mask_width: int = within(256, at_least=1)
    query_width: int = within(256, at_least=4)
    query_heads: int = within(8, at_least=1)
    query_feedforward: int = within(2048, at_least=1)
    query_layers: int = within(6, at_least=1)
    query_dropout: float = within(0.1, at_least=0, below=1)
    queries: int = within(100, at_least=1)

    def __post_init__(self) -> None:
        """Reject impossible settings."""
        super().__post_init__()
        for name, divisor in (
            ("feature_width", _NORM_GROUPS),
            ("query_width", self.query_heads),
            ("query_width", 4),  # sines and cosines of two axes
        ):
            if getattr(self, name) % divisor:
                raise ConfigError(
                    f"model.{name}: expected a multiple of {divisor}, got {getattr(self, name)}"
                )


class MaskFormer(nn.Module):
    """A backbone, a pixel decoder without a transformer, and DETR's decoder over the coarsest map.

    The parts are transformers'. All queries start at zero and are told apart by their learned positions; padding is attended
    to like everything else (released code).

    Args:
        settings: Sizes.

    Attributes:
        embed_dim: Channels of the embeddings that it gives.
    """

    def __init__(self, settings: MaskFormerSettings) -> None:
        super().__init__()
        from transformers import DetrConfig, MaskFormerConfig
        from transformers.models.maskformer.modeling_maskformer import (
            MaskformerMLPPredictionHead,
            MaskFormerPixelDecoder,
            MaskFormerTransformerModule,
        )

        self.embed_dim, self.feature_width, self.count = (
            settings.query_width,
            settings.feature_width,
            settings.queries,
        )
        self.backbone = Backbone(settings)
        channels = list(self.backbone.channels)
        self.pixel_decoder = MaskFormerPixelDecoder(
            in_features=channels[-1],
            lateral_widths=channels[:-1],
            feature_size=settings.feature_width,
            mask_feature_size=settings.mask_width,
        )
        sizes: dict[str, Any] = {
            "use_timm_backbone": False,
            "d_model": settings.query_width,
            "encoder_attention_heads": settings.query_heads,
            "decoder_attention_heads": settings.query_heads,
            "decoder_ffn_dim": settings.query_feedforward,
            "decoder_layers": settings.query_layers,
            "num_queries": settings.queries,
            # The release's layers have one rate for all three.
            "dropout": settings.query_dropout,
            "attention_dropout": settings.query_dropout,
            "activation_dropout": settings.query_dropout,
        }
        config = MaskFormerConfig(decoder_config=DetrConfig(**sizes))
        self.transformer = MaskFormerTransformerModule(in_features=channels[-1], config=config)
        width = settings.query_width
        self.mask_embedder = MaskformerMLPPredictionHead(width, width, settings.mask_width)
        _start(self.pixel_decoder.modules(), self.transformer)

    def encode_bytes(self, height: int, width: int) -> int:
        """About what its largest tensors take for an image at stride 4, beside its backbone's: two maps, and the masks."""
        return 4 * (2 * self.feature_width + self.count) * (height * width // 16)

    def forward(self, images: Tensor, *, every_layer: bool = False) -> Proposals:
        """Propose regions.

        Args:
            images: ``(B, 3, H, W)`` normalised; H and W multiples of 32.
            every_layer: Whether the proposals of earlier layers are wanted too, for a loss on each.

        Returns:
            Masks ``(B, N, H/4, W/4)``, the normed queries ``(B, N, query_width)``, and the map ``(B, mask_width, H/4, W/4)``.
        """
        maps = self.backbone(images)
        pixels: Tensor = self.pixel_decoder(list(maps)).last_hidden_state
        layers = self.queries(maps[-1])
        earlier = (
            tuple(self._proposals(queries, pixels, ()) for queries in layers[:-1]) if every_layer else ()
        )
        return self._proposals(layers[-1], pixels, earlier)

    def queries(self, coarse: Tensor) -> list[Tensor]:
        """The coarsest map ``(B, C, h, w)`` to the normed queries ``(B, N, query_width)`` of every layer.

        One norm is shared by all layers; what is passed on to the next layer is not normed.
        """
        transformer = cast(Any, self.transformer)
        memory = coarse if transformer.input_projection is None else transformer.input_projection(coarse)
        positions = transformer.position_embedder(memory.shape, memory.device, memory.dtype)
        memory, positions = (each.flatten(2).transpose(1, 2) for each in (memory, positions))  # (B, h*w, C)
        identities = transformer.queries_embedder.weight.expand(memory.shape[0], -1, -1)
        queries, layers = torch.zeros_like(identities), []
        for layer in transformer.decoder.layers:
            queries = layer(queries, None, positions, identities, memory)
            layers.append(transformer.decoder.layernorm(queries))
        return layers

    def _proposals(self, queries: Tensor, pixels: Tensor, earlier: tuple[Proposals, ...]) -> Proposals:
        masks = torch.einsum("bnd,bdhw->bnhw", self.mask_embedder(queries), pixels)
        return Proposals(masks, queries, pixels, earlier)


def _start(convolutions: Iterable[nn.Module], transformer: nn.Module) -> None:
    """Initial values as MaskFormer's: convolutions by Kaiming's uniform rule for linear units, matrices by Xavier's."""
    for module in (*convolutions, *transformer.modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, a=1)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
