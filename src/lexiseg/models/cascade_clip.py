"""Cascade-CLIP: stages of a prompted frozen tower, one text-image decoder each, masks summed (ICML 2024)."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.constants import IMAGENET_MEAN, IMAGENET_STD
from lexiseg.errors import ConfigError
from lexiseg.models.cascade_settings import CascadeSettings
from lexiseg.models.cascade_stage import CascadeStage
from lexiseg.models.parameter_groups import group_parameters
from lexiseg.models.relationship_descriptor import relationship_descriptor
from lexiseg.models.spectral_filter import SpectralFilter
from lexiseg.models.visual_prompts import VisualPrompts
from lexiseg.types import NO_NEEDS, Activation, GroupSettings, MaskOutput, VisionFeatures, chunks

_QUERY_CHUNK = 1024
"""Classes decoded at once where no gradient is needed; queries do not see each other, so the result is the same."""

_PROMPT_NORM_EPS = 1e-6


class CascadeCLIP(nn.Module):
    """Cascade-CLIP on a frozen tower: what it learns is prompts, stage weights, query projections and decoders.

    ``M = sum_s D_s(q_s([T * g, T]), Z_s)`` (eq. 2 before its soft-max), with ``Z_s`` the NGA of stage s (eq. 4),
    T the text embeddings and g the class token of the last block.

    The cascade is the list of stages and stands on any base: prompts and decoder are settings of their own. With one
    stage of the last block nothing of the cascade is left, so ZegCLIP and the other bases are choices of these parts,
    :mod:`~lexiseg.models.presets`, and ``stages`` puts the cascade on them (table 10).

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

    depends_on_text = False
    words_together = False
    names_regions = False
    needs = NO_NEEDS
    activation: Activation = "sigmoid"
    offers_features = False

    _mean: Tensor
    _std: Tensor

    def __init__(self, tower: VisionTower, settings: CascadeSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or CascadeSettings()
        _check_fit(tower, settings)
        self._tower = (
            tower,
        )  # in a tuple, so that the frozen tower is no submodule and enters no checkpoint
        self.prompts, self.spectral_filter = None, None
        self.prompt_norm: nn.Module = nn.Identity()
        if settings.prompts != "none":
            self.prompts = VisualPrompts(
                depth=tower.depth,
                width=tower.width,
                patch_size=tower.patch_size,
                length=settings.prompt_length,
                dropout=settings.prompt_dropout,
            )
            self.prompt_norm = nn.LayerNorm(tower.width, eps=_PROMPT_NORM_EPS)
        if settings.prompts == "spectral":
            self.spectral_filter = SpectralFilter(
                tower.width, side=settings.spectral_grid, trained=settings.spectral_filter_trained
            )
        self.query_projection = None
        if settings.queries == "shared":
            self.query_projection = nn.Linear(2 * tower.embed_dim, tower.embed_dim)
        self.stages = nn.ModuleList(CascadeStage(tower, blocks, settings) for blocks in settings.stages)
        own = settings.normalization == "clip"
        colors = (tower.mean, tower.std) if own else (IMAGENET_MEAN, IMAGENET_STD)
        mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in colors)
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

    @property
    def normalization(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of RGB in 0-255, each ``(3, 1, 1)``, as :meth:`normalize` applies them."""
        return self._mean, self._std

    @property
    def smallest_grid(self) -> int:
        """Patches per side that a traced program needs: two, or more than one window of three for the spectral decoder."""
        return 4 if self.settings.decoder == "spectral" else 2

    def parameter_groups(self, optim: GroupSettings) -> list[dict[str, Any]]:
        """What trains, in groups for AdamW; the prompts may learn at a rate of their own."""
        return group_parameters(self.named_parameters(), optim, prompts="prompts.")

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
        for block, tokens in enumerate(self._blocks(images), start=1):
            if block in tapped and block < self.tower.depth:
                taps[block] = self.prompt_norm(tokens[:, -patches:])
        final = self.tower.project(self.prompt_norm(tokens))
        cls = F.normalize(final[:, 0], dim=-1)
        last = final[:, -patches:]
        return VisionFeatures(tuple(stage.aggregate(taps, last, grid) for stage in self._stages()), cls)

    def block_tokens(self, images: Tensor) -> Iterator[Tensor]:
        """Patch tokens ``(B, h*w, D)`` of normalised images after every block of the prompted tower, from the first."""
        rows, columns = self.tower.grid(images)
        for tokens in self._blocks(images):
            yield tokens[:, -rows * columns :]

    def _blocks(self, images: Tensor) -> Iterator[Tensor]:
        """All tokens ``(B, 1 [+ P] + h*w, D)`` after every block."""
        grid = self.tower.grid(images)
        tokens = self.tower.embed(images, position_mode="bilinear", class_embedding_twice=True)
        for index in range(self.tower.depth):
            tokens = self.tower.block(index, self.enter(tokens, index, grid))
            yield tokens

    def enter(self, tokens: Tensor, index: int, grid: tuple[int, int]) -> Tensor:
        """Tokens ``(B, 1 [+ P] + h*w, D)`` as they enter block ``index`` (from 0): filtered, prompts put in or replaced."""
        if self.spectral_filter is not None:
            tokens = self.spectral_filter(tokens, index, grid)
        return tokens if self.prompts is None else self.prompts.insert(tokens, index)

    def _stages(self) -> list[CascadeStage]:
        return cast(list[CascadeStage], list(self.stages))

    def stage_alone(self, index: int) -> "CascadeCLIP":
        """The cascade of one of its stages only, on the same weights: what that decoder answers by itself.

        Args:
            index: Of the stage, from 0.
        """
        alone = copy.copy(self)
        alone._modules = {**self._modules, "stages": nn.ModuleList([self.stages[index]])}
        alone.settings = replace(self.settings, stages=(self.settings.stages[index],))
        return alone

    def bind(self, state: VisionFeatures, text: Tensor) -> VisionFeatures:
        """The state itself: queries do not see each other."""
        del text
        return state

    def features(self, state: VisionFeatures, text: Tensor | None = None) -> Tensor:
        """None: a mask model answers with masks.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            f"{type(self).__name__} gives masks, not features; use one of the training-free methods"
        )

    def decode(self, state: VisionFeatures, text: Tensor) -> MaskOutput:
        """Mask logits for any words.

        Args:
            state: From :meth:`encode`.
            text: ``(K, E)`` unit text embeddings.
        """
        text = text.to(state.cls.dtype)
        if len(text) <= _QUERY_CHUNK:
            return self.decode_together(state, text)
        parts = [self.decode_together(state, text[part]) for part in chunks(len(text), _QUERY_CHUNK)]
        stage_logits = tuple(
            torch.cat(masks, 1) for masks in zip(*(p.stage_logits for p in parts), strict=True)
        )
        return MaskOutput(torch.cat([part.logits for part in parts], 1), stage_logits)

    def decode_together(self, state: VisionFeatures, text: Tensor) -> MaskOutput:
        """:meth:`decode` with all words in one pass, however many."""
        descriptor = relationship_descriptor(text, state.cls)
        if self.query_projection is not None:
            descriptor = self.query_projection(descriptor)
        stage_logits = tuple(
            stage(descriptor, features) for stage, features in zip(self.stages, state.stages, strict=True)
        )
        return MaskOutput(torch.stack(stage_logits).sum(0), stage_logits)

    def forward(self, images: Tensor, text: Tensor) -> MaskOutput:
        """Normalised images ``(B, 3, H, W)`` and unit text ``(K, E)`` to mask logits ``(B, K, h, w)``, in one pass."""
        state = self.encode(images)
        return self.decode_together(state, text.to(state.cls.dtype))


def _check_fit(tower: VisionTower, settings: CascadeSettings) -> None:
    """Refuse settings that the tower cannot serve."""
    if not tower.takes_prompts:
        raise ConfigError(
            f"this model needs an image tower that takes learned prompts, CLIP's or MetaCLIP 2's ViT; got a {tower.kind}"
        )
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
