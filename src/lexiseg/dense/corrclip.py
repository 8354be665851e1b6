"""CorrCLIP: masks bound which patches may mix, another vision model says how much (Zhang et al., ICCV 2025)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.clip.loading import load_vision
from lexiseg.dense.base import DenseEncoder, DenseState, Idle, finish_block, require_class_token
from lexiseg.dense.proxyclip import ColoredFor, ProxyFeatures, resize_values
from lexiseg.dense.region_bank import RegionBank
from lexiseg.errors import ConfigError, LexisegError
from lexiseg.ops.affinity import cosine_affinity
from lexiseg.ops.attention import attend
from lexiseg.ops.bounded_attention import bounded_weights, merge_alike
from lexiseg.ops.grid import PositionMode, map_to_tokens, tokens_to_map
from lexiseg.ops.region_ids import UNSEGMENTED, ids_at, region_ids
from lexiseg.ops.region_memory import DescribedRegions, describe_regions, mix_memory
from lexiseg.types import BlockTower, ImageTower, MaskOutput, Needs

_SPATIAL_BLOCKS = {12: 5, 24: 12, 32: 28}
"""How many blocks the spatial branch averages, by the depth of the tower; of others all but four."""


PROXY = "facebook/dino-vitb8"
"""The release's second vision model."""


_WITHOUT_BANK: Idle = (lambda given: given["bank"] is None, "without a bank")


@dataclass(frozen=True)
class WindowState(DenseState):
    """Windows on their way to a whole photograph.

    Attributes:
        external: ``(B, C, h, w)`` unit features of the external model, on the same grid.
    """

    external: Tensor


@dataclass(frozen=True)
class PictureState(DenseState):
    """A whole photograph; its ``features`` are means over windows of unit ones, so that inner products are mean cosines.

    Attributes:
        regions: What its regions are like.
    """

    regions: DescribedRegions


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

    *Memory* (``bank``; the second version): windows are joined into one map of the photograph, and half of what a patch says
    is what the most alike regions of other photographs say, for all of its region
    (:mod:`~lexiseg.ops.region_memory`); the unsegmented patches count as one region. Published with another vision model
    than any of ``transformers`` and with a second bank of another CLIP; here one bank of any model.

    Differs from the release, which takes the smallest id in a window for unsegmented even where every pixel has a region,
    and joins padding with regions that are alike: here only what no mask covers is unsegmented, and padding stays alone.

    Args:
        tower: The frozen image tower.
        proxy: The external model: a hub name or folder of any vision model of ``transformers`` with square patches, or an
            image tower of blocks, whose last queries and keys are added; or a function to features. None is the bank's, and
            without a bank the release's DINO with patches of 8.
        sharpness: Factor on the cosines.
        merge_distance: Up to which regions are joined, from 0 to 2; None joins none. With a bank none are, as published.
        spatial_share: Weight of the spatial branch.
        semantic_share: Weight of the semantic branch; 0 runs without it.
        spatial_blocks: How many blocks before the last two the spatial branch averages; None: 5 of 12, 12 of 24, 28 of 32,
            otherwise all but four.
        bank: A bank that `lexiseg bank build` made with the same tower and external model, or its folder.
        neighbours: How many of its regions each region looks up.
        memory_share: Weight of what they say, from 0 to 1; the photograph's own has the rest.
        position_mode: How CLIP's position embedding reaches other grids.

    Attributes:
        whole_picture: Whether the windows of a photograph are joined: with a bank, and where one is being built.
        making: Settings that the values of a bank depend on.

    Raises:
        LexisegError: The external model or the bank cannot be loaded.
        ConfigError: A tower without a class token while the semantic branch is asked for, a setting out of range, or a bank
            that other models made.
    """

    needs = Needs(masks=True)
    one_label_per_region = True
    idle: ClassVar[Mapping[str, Idle]] = {
        "neighbours": _WITHOUT_BANK,
        "memory_share": _WITHOUT_BANK,
        "merge_distance": (lambda given: given["bank"] is not None, "beside a bank"),
    }

    def __init__(  # noqa: PLR0913  (one keyword per setting, as of every method)
        self,
        tower: BlockTower,
        *,
        proxy: str | Path | ImageTower | ProxyFeatures | None = None,
        sharpness: float = 4.0,
        merge_distance: float | None = 0.2,
        spatial_share: float = 1.0,
        semantic_share: float = 0.5,
        spatial_blocks: int | None = None,
        bank: str | Path | RegionBank | None = None,
        neighbours: int = 20,
        memory_share: float = 0.5,
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
        if not 0 <= memory_share <= 1:
            raise ConfigError(f"corrclip: expected a memory_share from 0 to 1, got {memory_share}")
        self.bank = RegionBank.open(bank) if isinstance(bank, str | Path) else bank
        own = proxy is None
        if proxy is None:
            proxy = PROXY if self.bank is None else self.bank.proxy
        self.making = {
            "sharpness": sharpness,
            "spatial_share": spatial_share,
            "semantic_share": semantic_share,
            "spatial_blocks": spatial_blocks,
            "position_mode": self.position_mode,
        }
        self.averaged = _spatial_blocks(tower.depth, spatial_blocks)
        try:
            self.correspondence = _correspondence(tower, proxy)
        except LexisegError as error:
            if self.bank is None or own:
                raise
            told = (
                f"{error}; or leave proxy out: the bank {self.bank.folder} brings its own, {self.bank.proxy}"
            )
            raise type(error)(told) from error
        if self.bank is not None:
            asking: dict[str, Any] = {"neighbours": neighbours, "method": self.making}
            self.bank.require(cast(nn.Module, tower), self.correspondence, **asking)
            merge_distance = None
        self.settled = {"proxy": proxy, "merge_distance": merge_distance}
        self.whole_picture = self.bank is not None
        self.cosine_logits = self.bank is None
        self.neighbours, self.memory_share = neighbours, memory_share
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
        spoken = tokens_to_map(joined, target)
        if not self.whole_picture:
            return DenseState(spoken)
        return WindowState(spoken, tokens_to_map(features, target))

    def gather(
        self,
        states: Sequence[WindowState],
        merge: Callable[[Tensor], Tensor],
        picture: Tensor,
        regions: Tensor | None = None,
    ) -> PictureState:
        """As in :class:`~lexiseg.types.PictureReader`, on the external grid; mixed with what the bank says if there is one."""
        with torch.autocast(
            picture.device.type, enabled=False
        ):  # means over many patches, and an exact search
            return self._gather(states, merge, regions)

    def _gather(
        self, states: Sequence[WindowState], merge: Callable[[Tensor], Tensor], regions: Tensor | None
    ) -> PictureState:
        spoken = merge(torch.cat([F.normalize(state.features.float(), dim=1) for state in states]))
        compared = merge(torch.cat([state.external for state in states]))
        grid = (spoken.shape[-2], spoken.shape[-1])
        if regions is None:
            regions = torch.full(grid, UNSEGMENTED)
        ids = ids_at(regions.to(spoken.device), grid).flatten()
        own = map_to_tokens(spoken[None])[0]
        described = describe_regions(map_to_tokens(compared[None])[0], own, ids)
        if self.bank is not None:
            said = self.bank.look_up(described.keys, neighbours=self.neighbours)
            own = mix_memory(own, said, described.places, share=self.memory_share)
        return PictureState(tokens_to_map(own[None], grid), described)

    def decode(self, state: DenseState, text: Tensor) -> MaskOutput:
        """Cosines ``(B, K, h, w)``; of a whole photograph means of them, with the bank's."""
        if isinstance(state, PictureState):
            products = text.float() @ state.features.flatten(2)
            return MaskOutput(products.unflatten(2, state.features.shape[-2:]))
        return super().decode(state, text)

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
        proxy = load_vision(proxy)
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
