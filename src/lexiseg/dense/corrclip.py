"""CorrCLIP: masks bound which patches may mix, another vision model says how much (Zhang et al., ICCV 2025)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.clip.towers.external import ExternalVision
from lexiseg.dense.base import DenseEncoder, DenseState, finish_block, require_class_token
from lexiseg.dense.proxyclip import ColoredFor, ProxyFeatures, resize_values
from lexiseg.errors import ConfigError
from lexiseg.ops.affinity import cosine_affinity
from lexiseg.ops.attention import attend
from lexiseg.ops.bounded_attention import bounded_weights, merge_alike
from lexiseg.ops.grid import PositionMode, map_to_tokens, tokens_to_map
from lexiseg.ops.region_ids import UNSEGMENTED, ids_at, region_ids
from lexiseg.types import BlockTower, ImageTower, Needs

_SPATIAL_BLOCKS = {12: 5, 24: 12, 32: 28}
"""How many blocks the spatial branch averages, by the depth of the tower; of others all but four."""


class CorrCLIP(DenseEncoder):
    """The last block's values, mixed within regions by the correspondences of an external vision model.

    With ``d`` the unit sum of the external model's last queries and keys, G its grid and T CLIP's:

    - regions whose mean ``d`` are alike are joined (:func:`~lexiseg.ops.bounded_attention.merge_alike`);
    - ``A`` is the soft-max of ``4 d dᵀ`` over the patches of one region
      (:func:`~lexiseg.ops.bounded_attention.bounded_weights`), one for all heads;
    - main branch ``O(A v)``, ``v`` the last block's values brought from T to G bilinearly; no residual, MLP or class token;
    - spatial branch: the same of the mean of the outputs of middle blocks, under the last block's norm and projections;
    - semantic branch: from the first block on, a copy of the class token per region sees the class token and the region's
      patches alone, and nobody sees it; every patch of the region takes its output of the whole last block.

    Their sum, the spatial branch times 1 and the semantic one times 0.5, each normed, lives on G. Afterwards every region
    of the photograph takes its most frequent label (:func:`~lexiseg.ops.region_ids.one_label_per_region`), for which, as
    for the windows, a segmenter asks for masks.

    Differs from the release, which takes the smallest id in a window for unsegmented even where every pixel has a region,
    and joins padding with regions that are alike: here only what no mask covers is unsegmented, and padding stays alone.

    Args:
        tower: The frozen image tower.
        proxy: The external model: a hub name or folder of any vision model of ``transformers`` with square patches, or an
            image tower of blocks, whose last queries and keys are added; or a function to features. The default is the
            release's DINO with patches of 8.
        sharpness: Factor on the cosines.
        merge_distance: Up to which regions are joined, from 0 to 2; None joins none, as the successor with memory has it.
        spatial_share: Weight of the spatial branch.
        semantic_share: Weight of the semantic branch; 0 runs without it.
        spatial_blocks: How many blocks before the last two the spatial branch averages; None: 5 of 12, 12 of 24, 28 of 32,
            otherwise all but four.
        position_mode: How CLIP's position embedding reaches other grids.

    Raises:
        LexisegError: The external model cannot be loaded.
        ConfigError: A tower without a class token while the semantic branch is asked for, or a setting out of range.
    """

    needs = Needs(masks=True)
    one_label_per_region = True

    def __init__(
        self,
        tower: BlockTower,
        *,
        proxy: str | Path | ImageTower | ProxyFeatures = "facebook/dino-vitb8",
        sharpness: float = 4.0,
        merge_distance: float | None = 0.2,
        spatial_share: float = 1.0,
        semantic_share: float = 0.5,
        spatial_blocks: int | None = None,
        position_mode: PositionMode = "bicubic_offset",
    ) -> None:
        super().__init__(tower, position_mode=position_mode)
        if semantic_share:
            require_class_token(
                tower, "corrclip's semantic branch copies the class token", "set semantic_share=0"
            )
        if merge_distance is not None and not 0 <= merge_distance <= 2:
            raise ConfigError(
                f"corrclip: expected a merge_distance from 0 to 2, or null, got {merge_distance}"
            )
        self.averaged = _spatial_blocks(tower.depth, spatial_blocks)
        self.correspondence = _correspondence(tower, proxy)
        self.sharpness, self.merge_distance = sharpness, merge_distance
        self.shares = (spatial_share, semantic_share)

    def region_map(self, masks: Tensor) -> Tensor:
        """Ids ``(H, W)`` of ``(M, H, W)`` bool masks, larger ones over smaller ones as released."""
        return region_ids(masks)

    def encode(self, images: Tensor, regions: Tensor | None = None) -> DenseState:
        """Run both models once.

        Args:
            images: ``(B, 3, H, W)`` normalised.
            regions: ``(B, H, W)`` int64 ids as of :mod:`lexiseg.ops.region_ids`; None: nothing is segmented, so that patches
                see those that are more alike than most.
        """
        external = self.correspondence(images)
        target = (external.shape[-2], external.shape[-1])
        features = F.normalize(map_to_tokens(external).float(), dim=-1)
        ids = self._bounds(images, regions, features, target)
        weights = bounded_weights(cosine_affinity(features), ids.flatten(1), sharpness=self.sharpness)
        branches = self.branches(images, weights, ids)
        spatial, semantic = self.shares
        joined = self.tower.project(branches[0]) + spatial * self.tower.project(branches[1])
        if len(branches) > 2:
            joined = joined + semantic * self.tower.project(branches[2])
        return DenseState(tokens_to_map(joined, target))

    def branches(self, images: Tensor, weights: Tensor, ids: Tensor) -> list[Tensor]:
        """Main, spatial and semantic branch before the final norm, each ``(B, L, D)`` on the external grid.

        Args:
            images: ``(B, 3, H, W)`` normalised.
            weights: ``(B, L, L)``.
            ids: ``(B, h', w')`` regions on that grid, L patches.
        """
        grid, target = self.tower.grid(images), (ids.shape[-2], ids.shape[-1])
        entering, averaged, copies, own = self._run(images, ids_at(ids, grid))
        last = self.tower.depth - 1
        found = []
        for tokens in (entering, averaged):
            value = self.tower.value(last, self.tower.norm1(last, tokens[:, self.prefix :]))
            value = resize_values(value, grid, target)
            found.append(self.tower.attention_output(last, weights[:, None].to(value.dtype) @ value))
        if copies is not None:
            painted = ids_at(own, target).flatten(1)[:, :, None].expand(-1, -1, copies.shape[-1])
            found.append(copies.gather(1, painted))
        return found

    def _bounds(
        self, images: Tensor, regions: Tensor | None, features: Tensor, target: tuple[int, int]
    ) -> Tensor:
        """Ids ``(B, h', w')`` of merged regions on the external grid."""
        if regions is None:
            regions = torch.full((len(images), *target), UNSEGMENTED, device=images.device)
        ids = ids_at(regions.to(images.device), target)
        if self.merge_distance is None:
            return ids
        merged = [
            merge_alike(own, each.flatten(), distance=self.merge_distance)
            for own, each in zip(features, ids, strict=True)
        ]
        return torch.stack(merged).view_as(ids)

    def _run(self, images: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """All blocks; of the last one the copies of the class token alone.

        Args:
            images: ``(B, 3, H, W)`` normalised.
            ids: ``(B, h, w)`` regions on CLIP's grid.

        Returns:
            Tokens ``(B, N, D)`` entering the last block, the spatial branch's mean of earlier ones, the copies ``(B, R, D)``
            after the last block or None, and ``(B, h, w)`` which copy stands for each patch.
        """
        tokens = self.embed(images)
        seen, own = _one_per_region(ids, self.prefix)
        copies = tokens[:, :1].expand(-1, seen.shape[1], -1) if self.shares[1] else None
        averaged = torch.zeros_like(tokens)
        for index in range(self.tower.depth):
            query, key, value = self.tower.qkv(index, self.tower.norm1(index, tokens))
            if copies is not None:
                asked = self.tower.query(index, self.tower.norm1(index, copies))
                told = attend(asked, key, value, bias=seen[:, None].to(asked.dtype))
                copies = finish_block(self.tower, told, copies, index=index)
            if index == self.tower.depth - 1:
                break
            tokens = finish_block(self.tower, attend(query, key, value), tokens, index=index)
            if index in self.averaged:
                averaged = averaged + tokens / len(self.averaged)
        return tokens, averaged, copies, own


def _one_per_region(ids: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
    """What the copy of each region may see, ascending by id, and each patch's copy.

    Args:
        ids: ``(B, h, w)``.
        prefix: Tokens before the patches, which all may see.

    Returns:
        ``(B, R, prefix + P)``, 0 where a copy sees and -inf elsewhere, R the most of any window: the others' last copies see
        the prefix alone and stand for nothing; and ``(B, h, w)`` int64.
    """
    own = torch.stack([each.unique(return_inverse=True)[1] for each in ids])
    numbers = torch.arange(int(own.max()) + 1, device=ids.device)
    hidden = own.flatten(1)[:, None] != numbers[:, None]
    bias = torch.zeros(hidden.shape, device=ids.device).masked_fill(hidden, -torch.inf)
    return F.pad(bias, (prefix, 0)), own


def _spatial_blocks(depth: int, count: int | None) -> Sequence[int]:
    """Blocks ``L - 2 - n`` to ``L - 3`` of L; of a tower too shallow for that its first."""
    if count is not None and not 1 <= count <= depth - 2:
        raise ConfigError(
            f"corrclip: expected spatial_blocks from 1 to {depth - 2} in a tower of {depth} blocks, got {count}"
        )
    blocks = count or _SPATIAL_BLOCKS.get(depth, depth - 4)
    last = max(depth - 2, 1)
    return range(max(last - max(blocks, 1), 0), last)


def _correspondence(tower: ImageTower, proxy: Any) -> ProxyFeatures:
    """Images normalised for the tower to the features ``(B, C, h', w')`` that are compared."""
    if isinstance(proxy, str | Path):
        proxy = ExternalVision(proxy)
    read_pairs = getattr(proxy, "queries_and_keys", None)
    if read_pairs is not None:
        return ColoredFor(tower, proxy, lambda images: torch.stack(read_pairs(images)).sum(0))
    if not hasattr(proxy, "dense_features"):
        given: ProxyFeatures = proxy
        return given
    if not proxy.has_blocks:
        raise ConfigError(
            f"corrclip compares queries and keys, and the external model ({proxy.kind}) has no attention; choose a ViT such as "
            "facebook/dino-vitb8"
        )
    return ColoredFor(tower, proxy, lambda images: _queries_plus_keys(proxy, images))


def _queries_plus_keys(tower: BlockTower, images: Tensor) -> Tensor:
    """``(B, D, h, w)`` of the last block."""
    tokens, last = tower.embed(images), tower.depth - 1
    for index in range(last):
        tokens = tower.block(index, tokens)
    query, key, _ = tower.qkv(last, tower.norm1(last, tokens))
    both = (query + key).transpose(1, 2).flatten(2)[:, tower.prefix_tokens :]
    return tokens_to_map(both, tower.grid(images))
