"""ResCLIP: attention of middle blocks, and feedback from a first segmentation (Yang et al., CVPR 2025)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.dense.base import BlockPosition, BoundState, DenseEncoder, cosines, finish_block, inner_block
from lexiseg.errors import ConfigError
from lexiseg.ops.attention import attention_map, attention_scores, neighborhood_bias
from lexiseg.ops.grid import tokens_to_map
from lexiseg.ops.pamr import ColorAffinity, color_affinity
from lexiseg.ops.semantic_feedback import confident_classes, patch_majority, semantic_affinity
from lexiseg.types import BlockTower

ResCLIPBase = Literal["naclip", "clearclip", "sclip", "clip"]

_KEEPS_BLOCK = {"sclip", "clip"}
"""Bases that keep the last block's residual and MLP."""

_REFINE_STEPS = 10
"""Steps of the colour refinement inside the feedback, fixed in the release."""

_FEEDBACK_SCALE = 40.0
"""Logit scale of the first pass, the release's for every data set."""


@dataclass(frozen=True)
class ResCLIPState:
    """All that the words are not needed for.

    Attributes:
        features: ``(B, E, h, w)`` features before any feedback, not normalised.
        tokens: ``(B, P, D)`` patches entering the last block.
        scores: Attention scores of the patches, one ``(B, M, P, prefix + P)`` per self-correlation of the base.
        value: ``(B, M, prefix + P, d)`` values of the last block.
        cross: ``(B, M, P, prefix + P)`` mean attention of the middle blocks, or None.
        colors: Affinity of the images' colours, or None without feedback.
    """

    features: Tensor
    tokens: Tensor
    scores: tuple[Tensor, ...]
    value: Tensor
    cross: Tensor | None
    colors: ColorAffinity | None


class ResCLIP(DenseEncoder):
    """Residual cross-correlation attention and semantic feedback on top of another method's last block.

    ``A = softmax(τ_s ((1 - λ_s) S + λ_s B) + w)``, ``A <- τ_r ((1 - λ_r) A + λ_r C)``, ``y = O(A v)``. S and
    w are the base's scores (NACLIP by default), C the mean attention of middle blocks 6 to 9 of 12 (counted
    from 1), B the semantic affinity of a first pass without B, divided by its largest entry. The first pass
    is upsampled, refined by colour, and turned into one class per patch
    (:mod:`lexiseg.ops.semantic_feedback`), so the features depend on all words together.

    Differs from the release: B stays in single precision (the release casts it to half, 2e-4 of a feature);
    any batch size; largest entries are taken per image.

    Args:
        tower: The frozen image tower.
        base: Whose last block is changed; ``sclip`` and ``clip`` keep residual and MLP.
        cross_weights: ``(τ_r, λ_r)``; None leaves the middle blocks out.
        feedback_weights: ``(τ_s, λ_s)``; None leaves the feedback out, and nothing depends on the words.
        cross_blocks: First and last middle block, both included.
        feedback_threshold: Pixels of the first pass below this probability count as the first word.
        decay_detached: Weaken pairs whose straight line leaves their class.
        sigma: Width in patches of the neighbourhood and of the feedback's smoothing.

    Raises:
        ConfigError: An unknown base or no such block.
    """

    def __init__(
        self,
        tower: BlockTower,
        *,
        base: ResCLIPBase = "naclip",
        cross_weights: tuple[float, float] | None = (2.0, 0.3),
        feedback_weights: tuple[float, float] | None = (2.1, 0.7),
        cross_blocks: tuple[BlockPosition, BlockPosition] = (5 / 12, 8 / 12),
        feedback_threshold: float = 0.25,
        decay_detached: bool = True,
        sigma: float = 5.0,
    ) -> None:
        super().__init__(tower)
        first, last = cross_blocks
        self.base = base
        self.cross_weights = cross_weights
        self.feedback_weights = feedback_weights
        self.cross_blocks = (
            inner_block(first, tower.depth, what="resclip: cross_blocks"),
            inner_block(last, tower.depth, what="resclip: cross_blocks"),
        )
        self.feedback_threshold = feedback_threshold
        self.decay_detached = decay_detached
        self.sigma = sigma
        self.depends_on_text = feedback_weights is not None

    def encode(self, images: Tensor) -> ResCLIPState:
        """Run all blocks but the last, keep what any words need, and read the features without feedback."""
        grid = self.tower.grid(images)
        tokens, cross = self._run(images)
        last = self.tower.depth - 1
        normed = self.tower.norm1(last, tokens)
        scores = self._scores(normed)
        value = self.tower.value(last, normed)
        patches = tokens[:, self.prefix :]
        features = self._read(self._mix(scores, cross, None, grid), value, patches, grid)
        colors = color_affinity(images) if self.feedback_weights is not None else None
        return ResCLIPState(features, patches, scores, value, cross, colors)

    def features(self, state: ResCLIPState | BoundState, text: Tensor | None = None) -> Tensor:
        """Features ``(B, E, h, w)`` with the feedback of these words; without words, those before it."""
        if text is None or isinstance(state, BoundState) or state.colors is None:
            return state.features
        grid = (state.features.shape[-2], state.features.shape[-1])
        classes = self.first_classes(state, text)
        with torch.autocast(classes.device.type, enabled=False):  # the affinity stays in single precision
            feedback = torch.stack([self._affinity(each) for each in classes])  # (B, P, P)
        weights = self._mix(state.scores, state.cross, feedback, grid)
        return self._read(weights, state.value, state.tokens, grid)

    def bind(self, state: ResCLIPState, text: Tensor) -> ResCLIPState | BoundState:
        """The features with the feedback of all words."""
        return BoundState(self.features(state, text)) if self.depends_on_text else state

    def first_classes(self, state: ResCLIPState, text: Tensor) -> Tensor:
        """Class of every patch after the first pass, ``(B, h, w)``."""
        if state.colors is None:
            raise ConfigError("resclip: without feedback_weights there is no first pass; set them to (τ, λ)")
        classes = confident_classes(
            cosines(state.features, text),
            state.colors,
            scale=_FEEDBACK_SCALE,
            threshold=self.feedback_threshold,
            refine_steps=_REFINE_STEPS,
        )
        return patch_majority(classes, self.tower.patch_size)

    def _run(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens entering the last block and the mean attention map of the middle blocks, patch rows only."""
        tokens = self.embed(images)
        maps: list[Tensor] = []
        for index in range(self.tower.depth - 1):
            if self.cross_weights is None or not self.cross_blocks[0] <= index <= self.cross_blocks[1]:
                tokens = self.tower.block(index, tokens)
                continue
            query, key, value = self.tower.qkv(index, self.tower.norm1(index, tokens))
            weights = attention_map(query, key)
            maps.append(weights[:, :, self.prefix :])
            tokens = finish_block(self.tower, weights @ value, tokens, index=index)
        return tokens, torch.stack(maps).mean(dim=0) if maps else None

    def _scores(self, normed: Tensor) -> tuple[Tensor, ...]:
        """The base's self-correlations in the last block, patch rows only."""
        last = self.tower.depth - 1
        query = self.tower.query(last, normed) if self.base != "naclip" else None
        key = self.tower.key(last, normed) if self.base != "clearclip" else None
        pairs = {
            "naclip": [(key, key)],
            "clearclip": [(query, query)],
            "sclip": [(query, query), (key, key)],
            "clip": [(query, key)],
        }[self.base]
        return tuple(
            attention_scores(a[:, :, self.prefix :], b) for a, b in pairs if a is not None and b is not None
        )

    def _mix(
        self, scores: tuple[Tensor, ...], cross: Tensor | None, feedback: Tensor | None, grid: tuple[int, int]
    ) -> Tensor:
        """Final attention map ``(B, M, P, prefix + P)``."""
        device = scores[0].device
        bias: Tensor | float = 0.0
        if self.base == "naclip":
            near = neighborhood_bias(grid, sigma=self.sigma, device=device, prefix=self.prefix)
            bias = near[self.prefix :]
        total = torch.zeros_like(scores[0])
        for each in scores:
            if feedback is not None and self.feedback_weights is not None:
                sharpness, share = self.feedback_weights
                each = sharpness * ((1 - share) * each + share * F.pad(feedback, (self.prefix, 0))[:, None])
            total = total + (each + bias).softmax(dim=-1)
        if cross is not None and self.cross_weights is not None:
            sharpness, share = self.cross_weights
            total = sharpness * ((1 - share) * total + share * cross)
        return total

    def _affinity(self, classes: Tensor) -> Tensor:
        affinity = semantic_affinity(classes, decay_detached=self.decay_detached, sigma=self.sigma)
        return affinity / affinity.max()

    def _read(self, weights: Tensor, value: Tensor, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        keeps = self.base in _KEEPS_BLOCK
        mixed = finish_block(self.tower, weights @ value, patches, residual=keeps, feed_forward=keeps)
        return tokens_to_map(self.tower.project(mixed), grid)
