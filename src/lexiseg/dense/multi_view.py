"""Multi-view consistency reasoning (MCR): scales and mirror images of a photograph, fused (TG-CLIP 1.2).

Works on anything that gives logits per view. :class:`MultiView` holds the settings and says which views there
are; :func:`multi_view_logits` is the plain form for whole maps; :class:`FusedTiles` gives the same a tile and
a few words at a time, for vocabularies of any size.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.errors import ConfigError
from lexiseg.ops.block_bounds import Blocks
from lexiseg.ops.class_chunks import Picked, TileSource
from lexiseg.ops.interpolate import bilinear_matrix
from lexiseg.ops.view_fusion import Fusion, fuse_pair, running_entropy, word_entropy
from lexiseg.ops.window_merge import AxisPlan, BandedMatrix
from lexiseg.plain_settings import require_known_keys, require_plain_settings, within
from lexiseg.types import chunks

Flip = Literal["none", "horizontal", "vertical", "uncertain"]
"""Which mirror image joins each scale; ``uncertain`` is a horizontal one, for uncertain pixels only."""

_ROUNDING = 1e-6
"""Patches by which a scaled side may exceed the grid before it rounds up: 0.75 · 448 / 16 is 21, not 22."""


@dataclass(frozen=True)
class View:
    """One way to look at an image.

    Attributes:
        scale: Factor on its sides.
        size: Height and width after scaling, multiples of the patch.
        flip: Axis of the mirror, after scaling.
    """

    scale: float
    size: tuple[int, int]
    flip: Literal["none", "horizontal", "vertical"] = "none"


@dataclass(frozen=True, kw_only=True)
class MultiView:
    """Which views of an image are read and how their logits become one.

    Sides are scaled to ``⌈s H / p⌉ p`` by resampling (eq. 2; the paper calls it padding as well). The mirror
    image is a second forward pass, mapped back (eq. 6). Plain and mirrored logits are fused within each scale
    (eq. 7), scales by their mean (eq. 8). Entropy weighting, the maximum and uncertain pixels have no
    equation in the paper: an entropy is that of ``softmax(γ L)`` over the words divided by ``ln K``, and
    views are weighed by ``exp(-entropy)``.

    Attributes:
        scales: Factors on the image's sides; the paper's table 4.
        flip: See :data:`Flip`; the paper's table 5.
        fusion: ``mean``, ``entropy`` or ``maximum`` of plain and mirrored logits; the paper's table 5.
        uncertain_above: Normalised entropy from which a pixel is uncertain, for ``flip="uncertain"``.

    Raises:
        ConfigError: No scale, a scale that is not above 0, or an unknown flip or fusion.
    """

    scales: tuple[float, ...] = within((0.75, 1.25), above=0)
    flip: Flip = "horizontal"
    fusion: Fusion = "mean"
    uncertain_above: float = within(0.5, at_least=0, at_most=1)

    def __post_init__(self) -> None:
        """Reject settings that no image could satisfy."""
        require_plain_settings(self, "views")
        if not self.scales:
            raise ConfigError("views.scales: expected at least one number, got none")
        if self.flip == "uncertain" and self.fusion != "mean":
            raise ConfigError(
                f"views: flip 'uncertain' already says how views join; set fusion=mean, not {self.fusion}"
            )

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "MultiView":
        """From plain values, as a configuration or a checkpoint holds them.

        Raises:
            ConfigError: A key that is no setting, or a bad value.
        """
        require_known_keys(settings, cls, "views")
        return cls(**settings)

    @property
    def compares_words(self) -> bool:
        """Whether the fusion needs all words of a pixel, so that words may not come in separate passes."""
        return self.flip == "uncertain" or (self.flip != "none" and self.fusion == "entropy")

    @property
    def flip_axis(self) -> Literal["none", "horizontal", "vertical"]:
        """Axis of the mirror."""
        return "horizontal" if self.flip == "uncertain" else self.flip

    def plan(self, size: tuple[int, int], patch_size: int) -> tuple[View, ...]:
        """Views of an image of this height and width: per scale the plain one, then the mirrored one."""
        views: list[View] = []
        for scale in self.scales:
            height, width = (
                max(math.ceil(scale * side / patch_size - _ROUNDING), 1) * patch_size for side in size
            )
            views.append(View(scale, (height, width)))
            if self.flip_axis != "none":
                views.append(View(scale, (height, width), self.flip_axis))
        return tuple(views)


SINGLE_VIEW = MultiView(scales=(1.0,), flip="none")
"""The image itself, on the patch grid."""


def render_view(images: Tensor, view: View) -> Tensor:
    """Bring images ``(B, C, H, W)`` to a view, bilinearly; the very tensor given where nothing changes."""
    if tuple(images.shape[-2:]) != view.size:
        images = F.interpolate(images.float(), size=view.size, mode="bilinear", align_corners=False)
    return mirror(images, view.flip)


def mirror(maps: Tensor, flip: Literal["none", "horizontal", "vertical"]) -> Tensor:
    """Mirror ``(…, H, W)`` maps; its own inverse."""
    return maps if flip == "none" else maps.flip(-1 if flip == "horizontal" else -2)


def multi_view_logits(
    images: Tensor,
    logits_of: Callable[[Tensor], Tensor],
    views: MultiView,
    *,
    patch_size: int,
    sharpness: float = 1.0,
) -> Tensor:
    """Fused logits of images, all words and pixels at once.

    Args:
        images: ``(B, C, H, W)`` floats.
        logits_of: Images of any patch-aligned size to logits ``(B, K, h, w)``, on any grid; called once per
            scale, with plain and mirrored images in one batch.
        views: The settings.
        patch_size: Sides of views are multiples of it.
        sharpness: γ of the entropies; the mean and the maximum do not need it.

    Returns:
        ``(B, K, H, W)``; with one view of the image's own size, just ``logits_of``, brought to that size.
    """
    size = (images.shape[-2], images.shape[-1])
    planned = views.plan(size, patch_size)
    step = 1 if views.flip_axis == "none" else 2
    scales: list[Tensor] = []
    for start in range(0, len(planned), step):
        group = planned[start : start + step]
        logits = logits_of(torch.cat([render_view(images, view) for view in group]))
        maps = [
            _resize(mirror(_resize(part, view.size), view.flip), size)
            for part, view in zip(logits.chunk(step), group, strict=True)
        ]
        scales.append(maps[0] if step == 1 else _fuse_maps(views, maps[0], maps[1], sharpness))
    return scales[0] if len(scales) == 1 else torch.stack(scales).mean(dim=0)


def route_through(plan: AxisPlan, middle: int, source: int) -> AxisPlan:
    """Axis of a view whose logits reach the photograph by way of the unscaled image, as eq. 4 and 8 do.

    Args:
        plan: Of the view; its ``working`` is the view's side.
        middle: Side of the unscaled image that windows would otherwise lie on.
        source: Side of the photograph.

    Returns:
        The plan with both interpolations in one matrix.
    """
    device = plan.upsample.device
    matrix = None if plan.working == middle else bilinear_matrix(plan.working, middle, device=device)
    if middle != source:
        last = bilinear_matrix(middle, source, device=device)
        matrix = last if matrix is None else BandedMatrix(last).times(matrix)
    return replace(plan, resample=matrix, source=source)


class FusedTiles(TileSource):
    """Several views as one tile source.

    Equal to :func:`multi_view_logits` for the mean. The other fusions compare plain and mirrored scores at
    the pixels that are asked for, which are the photograph's.

    Args:
        views: The settings.
        sources: One tile source per planned view, in the order of :meth:`MultiView.plan`. A mirrored view's
            source speaks of its own, mirrored pixels.
        size: Height and width of the pixels that tiles are cut from.
        words: How many words the sources hold; all of them where ``views.compares_words``.
        words_at_once: How many words' scores an entropy may hold at a time.

    Raises:
        ValueError: Another number of sources than views.
    """

    def __init__(
        self,
        views: MultiView,
        sources: Sequence[TileSource],
        *,
        size: tuple[int, int],
        words: int,
        words_at_once: int = 64,
    ) -> None:
        step = 1 if views.flip_axis == "none" else 2
        if len(sources) != step * len(views.scales):
            raise ValueError(
                f"expected {step * len(views.scales)} tile sources, one per view, got {len(sources)}"
            )
        self._views = views
        self._scales = [tuple(sources[start : start + step]) for start in range(0, len(sources), step)]
        self._size = size
        self._words = words
        self._words_at_once = words_at_once
        self._entropies: dict[int, tuple[tuple[slice, slice], list[Tensor]]] = {}

    def tile(self, rows: slice, columns: slice, words: Picked) -> Tensor:
        """``(R, M, C)`` fused scores of some words at some pixels."""
        return self._mean(self._scale_tile(index, rows, columns, words) for index in range(len(self._scales)))

    def bounds(self, blocks: Blocks, words: slice) -> tuple[Tensor, Tensor] | None:
        """As :class:`~lexiseg.ops.class_chunks.TileSource` says; None where words are compared.

        What is fused rises with each view, so the bounds of the views fuse to those of the whole, rounding and all.
        """
        if self._views.compares_words:
            return None
        lower: list[Tensor] = []
        upper: list[Tensor] = []
        for sources in self._scales:
            known = [self._view_bounds(which, source, blocks, words) for which, source in enumerate(sources)]
            pairs = [pair for pair in known if pair is not None]
            if len(pairs) < len(known):
                return None
            for side, fused in enumerate((lower, upper)):
                maps = [pair[side] for pair in pairs]
                fused.append(maps[0] if len(maps) == 1 else fuse_pair(maps[0], maps[1], self._views.fusion))
        return self._mean(lower), self._mean(upper)

    def rows_at_once(self, columns: int, wanted: int) -> int:
        """The fewest of all views."""
        return min(source.rows_at_once(columns, wanted) for sources in self._scales for source in sources)

    def _mean(self, scales: Iterable[Tensor]) -> Tensor:
        total, count = functools.reduce(torch.add, scales), len(self._scales)
        return total if count == 1 else total / count

    def _scale_tile(self, index: int, rows: slice, columns: slice, words: Picked) -> Tensor:
        count = len(self._scales[index])
        tiles = [self._view_tile(index, which, rows, columns, words) for which in range(count)]
        if count == 1:
            return tiles[0]
        entropies = self._entropies_of(index, rows, columns) if self._views.compares_words else None
        return fuse_pair(
            tiles[0],
            tiles[1],
            self._views.fusion,
            entropies=entropies,
            uncertain_above=self._views.uncertain_above if self._views.flip == "uncertain" else None,
        )

    def _view_bounds(
        self, which: int, source: TileSource, blocks: Blocks, words: slice
    ) -> tuple[Tensor, Tensor] | None:
        """A view's bounds, mapped back."""
        if which == 0:
            return source.bounds(blocks, words)
        axis = 1 if self._views.flip_axis == "horizontal" else 0
        mirrored = source.bounds(blocks.mirrored(axis), words)
        return None if mirrored is None else (mirrored[0].flip(axis), mirrored[1].flip(axis))

    def _view_tile(self, index: int, which: int, rows: slice, columns: slice, words: Picked) -> Tensor:
        """A view's tile, mapped back: a mirrored view is asked for the mirrored pixels."""
        source = self._scales[index][which]
        if which == 0:
            return source.tile(rows, columns, words)
        if self._views.flip_axis == "horizontal":
            return source.tile(rows, _mirrored(columns, self._size[1]), words).flip(-1)
        return source.tile(_mirrored(rows, self._size[0]), columns, words).flip(0)

    def _entropies_of(self, index: int, rows: slice, columns: slice) -> list[Tensor]:
        """Entropy of plain and mirrored view over all words, ``(R, 1, C)`` each; kept for the last tile."""
        kept = self._entropies.get(index)
        if kept is not None and kept[0] == (rows, columns):
            return kept[1]
        entropies = [
            running_entropy(
                self._view_tile(index, which, rows, columns, part)
                for part in chunks(self._words, self._words_at_once)
            )
            for which in (0, 1)
        ]
        self._entropies[index] = ((rows, columns), entropies)
        return entropies


def _fuse_maps(views: MultiView, plain: Tensor, mirrored: Tensor, sharpness: float) -> Tensor:
    pair = (plain, mirrored)
    entropies = [word_entropy(maps * sharpness) for maps in pair] if views.compares_words else None
    return fuse_pair(
        plain,
        mirrored,
        views.fusion,
        entropies=entropies,
        uncertain_above=views.uncertain_above if views.flip == "uncertain" else None,
    )


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(maps.shape[-2:]) == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def _mirrored(part: slice, length: int) -> slice:
    return slice(length - part.stop, length - part.start)
