"""Cascade-CLIP: stages of a prompted frozen tower, one text-image decoder each, masks summed (ICML 2024)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.clip.vision import VisionTower
from lexiseg.constants import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD
from lexiseg.errors import ConfigError
from lexiseg.models.block_projection import BlockProjection, ProjectionKind
from lexiseg.models.neighborhood_gaussian_aggregation import NeighborhoodGaussianAggregation
from lexiseg.models.relationship_descriptor import relationship_descriptor
from lexiseg.models.text_image_decoder import TextImageDecoder
from lexiseg.models.visual_prompts import VisualPrompts
from lexiseg.ops.gaussian import NeighborhoodForm
from lexiseg.ops.grid import map_to_tokens, tokens_to_map
from lexiseg.types import MaskOutput, VisionFeatures, chunks, require_plain_types

_NORMALIZATIONS = {"imagenet": (IMAGENET_MEAN, IMAGENET_STD), "clip": (CLIP_MEAN, CLIP_STD)}

_QUERY_CHUNK = 1024
"""Classes decoded at once outside training; queries do not see each other, so the result is the same."""

_PROMPT_NORM_EPS = 1e-6


@dataclass(frozen=True)
class CascadeSettings:
    """Every architectural choice of Cascade-CLIP; defaults are the released code's on PASCAL VOC.

    Attributes:
        stages: Blocks of each stage, counted from 1 as in the paper, shallow to deep.
        prompt_length: Prompt tokens per block: VOC 10, Context 35, COCO-Stuff 50 in the released configurations.
        prompt_dropout: On prompts.
        projection: How an intermediate block reaches the text's space; see :class:`BlockProjection`.
        aggregation_sigma: Width of the Gaussian over a stage's blocks.
        aggregation_form: Initial Gaussian as released or as in eq. 4.
        aggregation_trained: Whether the stage weights train.
        decoder_layers: Layers of each text-image decoder.
        decoder_heads: Attention heads of each decoder.
        decoder_dropout: In each decoder.
        unused_parameters: Also allocate what the release allocates and never uses; see :class:`TextImageDecoder`.
        normalization: ``imagenet`` mean and deviation, as released (not CLIP's own), or ``clip``.
    """

    stages: tuple[tuple[int, ...], ...] = ((6, 7, 8), (9, 10, 11), (12,))
    prompt_length: int = 10
    prompt_dropout: float = 0.1
    projection: ProjectionKind = "random"
    aggregation_sigma: float = 1.0
    aggregation_form: NeighborhoodForm = "release"
    aggregation_trained: bool = True
    decoder_layers: int = 3
    decoder_heads: int = 8
    decoder_dropout: float = 0.1
    unused_parameters: bool = False
    normalization: Literal["imagenet", "clip"] = "imagenet"

    def __post_init__(self) -> None:
        """Bring lists from a configuration file to tuples and reject impossible settings."""
        require_plain_types(self, "model")
        object.__setattr__(self, "stages", tuple(tuple(int(b) for b in stage) for stage in self.stages))
        if not self.stages or any(not stage for stage in self.stages):
            raise ConfigError(f"model.stages: expected at least one block in every stage, got {self.stages}")
        for name, allowed in (
            ("projection", ("random", "clip", "trained")),
            ("aggregation_form", ("release", "paper")),
            ("normalization", tuple(_NORMALIZATIONS)),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"model.{name}: expected one of {', '.join(allowed)}, got '{getattr(self, name)}'"
                )
        if self.decoder_layers < 1 or self.prompt_length < 1:
            raise ConfigError(
                "model.decoder_layers and model.prompt_length: expected at least 1, "
                f"got {self.decoder_layers} and {self.prompt_length}"
            )


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
        self.aggregation = NeighborhoodGaussianAggregation(
            len(blocks),
            sigma=settings.aggregation_sigma,
            form=settings.aggregation_form,
            trained=settings.aggregation_trained,
        )
        self.query_projection = nn.Linear(2 * tower.embed_dim, tower.embed_dim)
        self.decoder = TextImageDecoder(
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
        """Descriptor ``(B, K, 2E)`` and stage features ``(B, E, h, w)`` to mask logits ``(B, K, h, w)``."""
        masks = self.decoder(self.query_projection(descriptor), map_to_tokens(features))  # (B, K, h*w)
        return masks.unflatten(2, features.shape[-2:])


class CascadeCLIP(nn.Module):
    """Cascade-CLIP on a frozen tower: what it learns is prompts, stage weights, query projections and decoders.

    ``M = sum_s D_s(q_s([T * g, T]), Z_s)`` (eq. 2 before its soft-max), with ``Z_s`` the NGA of stage s (eq. 4),
    T the text embeddings and g the class token of the last block.

    Differs from the paper where the release does, unless a setting says otherwise: the class embedding enters twice,
    position embeddings are resized bilinearly, and every read block passes one more trained layer norm. The release
    resizes position embeddings first to 32×32 and from there to the image's grid; here once, from the native grid,
    which is the same at its training size of 512×512. Drop-path is in the released configuration and never applied.

    Args:
        tower: Frozen image tower; not part of the state dict.
        settings: Architecture.

    Raises:
        ConfigError: A stage names a block that the tower does not have.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(self, tower: VisionTower, settings: CascadeSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or CascadeSettings()
        _check_fit(tower, settings)
        self._tower = (
            tower,
        )  # in a tuple, so that the frozen tower is no submodule and enters no checkpoint
        self.prompts = VisualPrompts(
            depth=tower.depth,
            width=tower.width,
            patch_size=tower.patch_size,
            length=settings.prompt_length,
            dropout=settings.prompt_dropout,
        )
        self.prompt_norm = nn.LayerNorm(tower.width, eps=_PROMPT_NORM_EPS)
        self.stages = nn.ModuleList(CascadeStage(tower, blocks, settings) for blocks in settings.stages)
        mean, std = (torch.tensor(v).view(3, 1, 1) * 255 for v in _NORMALIZATIONS[settings.normalization])
        self.register_buffer("_mean", mean, persistent=False)
        self.register_buffer("_std", std, persistent=False)

    @property
    def tower(self) -> VisionTower:
        """The frozen image tower."""
        return self._tower[0]

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.tower.patch_size

    def _apply(self, fn, recurse: bool = True) -> "CascadeCLIP":  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Take the tower along to another device or type, though it is no submodule."""
        self.tower._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def normalize(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` RGB in 0-255 to the tower's input."""
        return (images - self._mean) / self._std

    def encode(self, images: Tensor) -> VisionFeatures:
        """Run the prompted tower once.

        Args:
            images: ``(B, 3, H, W)`` normalised; H and W multiples of the patch size.

        Returns:
            One unit-channel feature map per stage before any word is known, and the unit class token.
        """
        grid = self.tower.grid(images)
        patches = grid[0] * grid[1]
        tapped = {block for stage in self.settings.stages for block in stage}
        taps: dict[int, Tensor] = {}
        tokens = self.tower.embed(images, position_mode="bilinear", class_embedding_twice=True)
        for index in range(self.tower.depth):
            tokens = self.tower.block(index, self.prompts.insert(tokens, index))
            if index + 1 in tapped and index + 1 < self.tower.depth:
                taps[index + 1] = self.prompt_norm(tokens[:, -patches:])
        final = self.tower.project(self.prompt_norm(tokens))
        cls = F.normalize(final[:, 0], dim=-1)
        last = final[:, -patches:]
        return VisionFeatures(tuple(stage.aggregate(taps, last, grid) for stage in self._stages()), cls)

    def _stages(self) -> list[CascadeStage]:
        return cast(list[CascadeStage], list(self.stages))

    def decode(self, state: VisionFeatures, text: Tensor) -> MaskOutput:
        """Mask logits for any words.

        Args:
            state: From :meth:`encode`.
            text: ``(K, E)`` unit text embeddings.
        """
        text = text.to(state.cls.dtype)
        if self.training or len(text) <= _QUERY_CHUNK:
            return self._decode(state, text)
        parts = [self._decode(state, text[part]) for part in chunks(len(text), _QUERY_CHUNK)]
        stage_logits = tuple(
            torch.cat(masks, 1) for masks in zip(*(p.stage_logits for p in parts), strict=True)
        )
        return MaskOutput(torch.cat([part.logits for part in parts], 1), stage_logits)

    def _decode(self, state: VisionFeatures, text: Tensor) -> MaskOutput:
        descriptor = relationship_descriptor(text, state.cls)
        stage_logits = tuple(
            stage(descriptor, features) for stage, features in zip(self.stages, state.stages, strict=True)
        )
        return MaskOutput(torch.stack(stage_logits).sum(0), stage_logits)

    def forward(self, images: Tensor, text: Tensor) -> MaskOutput:
        """Normalised images ``(B, 3, H, W)`` and unit text ``(K, E)`` to mask logits ``(B, K, h, w)``."""
        return self.decode(self.encode(images), text)


def _check_fit(tower: VisionTower, settings: CascadeSettings) -> None:
    """Refuse settings that the tower cannot serve."""
    blocks = [block for stage in settings.stages for block in stage]
    wrong = sorted({block for block in blocks if not 1 <= block <= tower.depth})
    if wrong:
        raise ConfigError(
            f"model.stages names block {', '.join(map(str, wrong))}, but this CLIP has blocks 1 to {tower.depth}; "
            "choose stages for its depth"
        )
    if tower.embed_dim % settings.decoder_heads:
        raise ConfigError(
            f"model.decoder_heads={settings.decoder_heads} does not divide the {tower.embed_dim} channels of this CLIP's "
            "text space"
        )
