"""Trainable image encoders that give maps at four strides, built from transformers' parts at random weights."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import DPTConfig

_NORM_EPS = 1e-6
"""Of the ViT that LSeg starts from."""

_FACTORS = (4, 2, 1, 0.5)
"""By how much DPT enlarges the patch grid for each level."""


class ResNetPyramid(nn.Module):
    """A ResNet with bottlenecks, its stride in the 3x3 convolution; every batch norm trains.

    Args:
        stem: Channels of its first convolution.
        stages: Channels of its stages.
        depths: Blocks of its stages.
    """

    def __init__(self, *, stem: int, stages: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        from transformers import ResNetBackbone, ResNetConfig

        names = [f"stage{number}" for number in range(1, len(stages) + 1)]
        described: Any = ResNetConfig
        self.network = ResNetBackbone(
            described(
                embedding_size=stem,
                hidden_sizes=list(stages),
                depths=list(depths),
                layer_type="bottleneck",
                out_features=names,
            )
        )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised ``(B, 3, H, W)`` to one map per stage, strides 4, 8, 16, 32."""
        return tuple(self.network(images).feature_maps)


class VitPyramid(nn.Module):
    """A ViT whose tokens after some blocks become maps at four strides (DPT, Ranftl et al., 2021, sec. 3.1).

    Tokens are taken raw, before any final norm. The class token joins every patch ("project"). Position embeddings go to
    the image's grid bilinearly.

    Args:
        config: Of the ViT and of DPT's neck; see :func:`dpt_config`.
    """

    def __init__(self, config: "DPTConfig") -> None:
        super().__init__()
        from transformers import DPTModel
        from transformers.models.dpt.modeling_dpt import DPTReassembleStage

        self.network = cast(Any, DPTModel(config, add_pooling_layer=False))
        self.network.layernorm = nn.Identity()  # its output is read by nobody
        self.reassemble = DPTReassembleStage(config)
        self._patch: Any = config.patch_size
        self._taps = [index + 1 for index in config.backbone_out_indices or ()]

    def tokens(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised ``(B, 3, H, W)`` to the tapped tokens ``(B, 1 + h*w, D)``, class token first."""
        states = self.network(images, output_hidden_states=True).hidden_states
        return tuple(states[tap] for tap in self._taps)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised ``(B, 3, H, W)`` to one map per tap, strides 1/4, 1/2, 1 and 2 times the patch size."""
        rows, columns = (side // self._patch for side in images.shape[-2:])
        return tuple(self.reassemble(list(self.tokens(images)), rows, columns))


class FusionDecoder(nn.Module):
    """DPT's decoder: maps at four strides to one at half the finest stride (Ranftl et al., 2021, sec. 3.2).

    Each level by a 3x3 convolution to the same channels; then from coarse to fine: add the level after a residual unit,
    another such unit, twice the size with corners aligned, a 1x1 convolution. The coarsest has nothing to be added to, so
    it lacks the first unit.

    Args:
        config: See :func:`dpt_config`.
    """

    def __init__(self, config: "DPTConfig") -> None:
        super().__init__()
        from transformers.models.dpt.modeling_dpt import DPTNeck

        neck = DPTNeck(config)
        self.convolutions, self.fusion = neck.convs, neck.fusion_stage
        self.fusion.layers[0].residual_layer1 = nn.Identity()

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps from fine to coarse to the fused ones from coarse to fine; the last has half the finest stride."""
        levels = [convolution(level) for convolution, level in zip(self.convolutions, maps, strict=True)]
        return tuple(self.fusion(levels))


def dpt_config(
    *,
    levels: Sequence[int],
    features: int,
    patch_size: int = 16,
    grid: int = 24,
    width: int = 1024,
    heads: int = 16,
    mlp_width: int = 4096,
    taps: Sequence[int] = (6, 12, 18, 24),
) -> "DPTConfig":
    """How transformers describes LSeg's ViT and decoder, which differs from its defaults in norms, biases and sizes.

    Args:
        levels: Channels of the maps that the decoder gets.
        features: Channels of the decoder.
        patch_size: In pixels.
        grid: Patches per side of the stored position embedding.
        width: Channels of the ViT.
        heads: Of its attention.
        mlp_width: Hidden channels of its blocks.
        taps: Blocks that are read, from 1; the last is the ViT's last.
    """
    from transformers import DPTConfig

    return DPTConfig(
        hidden_size=width,
        num_hidden_layers=taps[-1],
        num_attention_heads=heads,
        intermediate_size=mlp_width,
        layer_norm_eps=_NORM_EPS,
        image_size=grid * patch_size,
        patch_size=patch_size,
        qkv_bias=True,
        readout_type="project",
        backbone_out_indices=[tap - 1 for tap in taps],
        reassemble_factors=list(_FACTORS),
        neck_hidden_sizes=list(levels),
        fusion_hidden_size=features,
        use_batch_norm_in_fusion_residual=True,
        use_bias_in_fusion_residual=False,
    )
