"""Mask2Former's proposals: a deformable pixel decoder, and queries that look only where their last mask was."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lexiseg.errors import ConfigError
from lexiseg.ops.tracing import is_exporting
from lexiseg.plain_settings import require_plain_settings, within
from lexiseg.types import Proposals

if TYPE_CHECKING:
    from transformers import Mask2FormerConfig

LEVELS, POINTS = 3, 4
"""Maps that the deformable attention looks at, and places in each."""

_FLOAT_BYTES = 4
_NORM_GROUPS = 32
"""Of every group norm in the pixel decoder."""


@dataclass(frozen=True)
class Mask2FormerSettings:
    """Sizes; defaults are those of FC-CLIP's release.

    Attributes:
        queries: Regions per photograph.
        width: Channels of both decoders and of the map that masks are read from; a multiple of 32.
        heads: Attention heads of both; they divide the width.
        encoder_layers: Deformable layers of the pixel decoder.
        encoder_feedforward: Hidden channels in each of them.
        decoder_layers: Layers of the transformer decoder. There is one prediction more, before the first.
        decoder_feedforward: Hidden channels in each of them.
    """

    queries: int = within(250, at_least=1)
    width: int = within(256, at_least=_NORM_GROUPS)
    heads: int = within(8, at_least=1)
    encoder_layers: int = within(6, at_least=1)
    encoder_feedforward: int = within(1024, at_least=1)
    decoder_layers: int = within(9, at_least=1)
    decoder_feedforward: int = within(2048, at_least=1)

    def __post_init__(self) -> None:
        """Reject impossible sizes."""
        require_plain_settings(self, "model")
        if self.width % _NORM_GROUPS or self.width % self.heads:
            raise ConfigError(
                f"model.width: expected a multiple of {_NORM_GROUPS} and of model.heads ({self.heads}), got {self.width}"
            )


class Mask2Former(nn.Module):
    """Masked-attention decoder on a multi-scale deformable pixel decoder (Cheng et al., CVPR 2022), without its classifier.

    Both decoders are transformers' own, which agree with the published ones. The pixel decoder computes in float32 under
    mixed precision, as released.

    Args:
        channels: Of the maps at strides 4, 8, 16 and 32.
        settings: Sizes.

    Raises:
        ConfigError: Not four maps.
    """

    untraceable = (
        "Mask2Former's decoders cannot be traced for images of any size; export the model --to folder"
    )

    def __init__(self, channels: Sequence[int], settings: Mask2FormerSettings) -> None:
        super().__init__()
        from transformers.models.mask2former.modeling_mask2former import (
            Mask2FormerPixelDecoder,
            Mask2FormerTransformerModule,
        )

        if len(channels) != LEVELS + 1:
            raise ConfigError(
                f"Mask2Former reads maps at strides 4, 8, 16 and 32; this image tower has {len(channels)} stages"
            )
        self.settings = settings
        config = _config(settings)
        self.pixel_decoder = Mask2FormerPixelDecoder(config, list(channels))
        self.transformer = Mask2FormerTransformerModule(settings.width, config)
        _initialise(self)

    def encode_bytes(self, height: int, width: int) -> int:
        """About what its largest tensors take for an image.

        Every layer's masks at stride 4, which are kept; the features at all places that the deformable attention looks at; the
        decoder's attention at stride 8 with its mask, three times.
        """
        sizes, fine = self.settings, height * width // 16
        levels = fine * (4**LEVELS - 1) // (3 * 4**LEVELS)  # strides 8, 16 and 32 together
        masks = (sizes.decoder_layers + 1) * sizes.queries * fine
        places = sizes.width * LEVELS * POINTS * levels
        attention = 3 * sizes.heads * sizes.queries * fine // 4
        return _FLOAT_BYTES * (masks + places + attention)

    def forward(self, maps: Sequence[Tensor]) -> Proposals:
        """Find regions.

        Args:
            maps: ``(B, C, h, w)`` at strides 4, 8, 16 and 32.

        Returns:
            Masks ``(B, N, H / 4, W / 4)``, normed queries ``(B, N, width)`` and the map of ``width`` channels that the
            masks were read from; ``earlier`` holds the prediction before the first layer and after each but the last.

        Raises:
            ConfigError: A program is traced: transformers' decoders hold the sizes that they were traced with.
        """
        if is_exporting():
            raise ConfigError(self.untraceable)
        with torch.autocast(maps[0].device.type, enabled=False):
            dtype = self.pixel_decoder.level_embed.dtype
            pixels = self.pixel_decoder([each.to(dtype) for each in maps])
        found = self.transformer(list(pixels.multi_scale_features), pixels.mask_features)
        steps = [
            Proposals(masks, queries.transpose(0, 1), pixels.mask_features)
            for masks, queries in zip(
                found.masks_queries_logits, found.intermediate_hidden_states, strict=True
            )
        ]
        last = steps[-1]
        return Proposals(last.masks, last.embeddings, last.pixels, tuple(steps[:-1]))


def _config(settings: Mask2FormerSettings) -> "Mask2FormerConfig":
    from transformers import Mask2FormerConfig

    return Mask2FormerConfig(
        feature_size=settings.width,
        mask_feature_size=settings.width,
        hidden_dim=settings.width,
        encoder_feedforward_dim=settings.encoder_feedforward,
        encoder_layers=settings.encoder_layers,
        decoder_layers=settings.decoder_layers + 1,  # transformers counts the prediction before the first
        num_attention_heads=settings.heads,
        dim_feedforward=settings.decoder_feedforward,
        num_queries=settings.queries,
        dropout=0.0,  # it would also drop whole layers
    )


@torch.no_grad()
def _initialise(proposer: Mask2Former) -> None:
    """Start values as Mask2Former releases them; transformers gives them only to its whole model."""
    decoder: Any = proposer.pixel_decoder
    layers: Any = proposer.transformer.decoder.layers
    nn.init.normal_(decoder.level_embed)
    for name, module in decoder.named_modules():
        if isinstance(module, nn.Conv2d):
            if name.startswith("input_projections"):
                nn.init.xavier_uniform_(module.weight)
            else:
                nn.init.kaiming_uniform_(module.weight, a=1)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for layer in decoder.encoder.layers:
        _xavier(layer)
        _initialise_offsets(layer.self_attn)
    for layer in layers:
        _xavier(layer)
        attention = layer.self_attn
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            # One matrix there, three here: the bounds of one three times as high.
            nn.init.xavier_uniform_(projection.weight, gain=math.sqrt(0.5))
            nn.init.zeros_(projection.bias)
        nn.init.zeros_(attention.out_proj.bias)


def _xavier(module: nn.Module) -> None:
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)


def _initialise_offsets(attention: Any) -> None:
    """Every head looks in a direction of its own, at one to four positions' distance (Deformable DETR, sec. A.4)."""
    heads = attention.n_heads
    for layer in (attention.sampling_offsets, attention.attention_weights):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    for layer in (attention.value_proj, attention.output_proj):
        nn.init.zeros_(layer.bias)
    angle = torch.arange(heads) * (2 * math.pi / heads)
    direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
    direction = direction / direction.abs().amax(dim=-1, keepdim=True)
    steps = direction[:, None, None] * torch.arange(1, POINTS + 1)[:, None]  # (heads, 1, points, 2)
    attention.sampling_offsets.bias.copy_(steps.expand(heads, LEVELS, POINTS, 2).flatten())
