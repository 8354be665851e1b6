"""Where the windows of a photograph lie, in each of its views, and the way from their logits back to its pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from lexiseg.dense.multi_view import SINGLE_VIEW, FusedTiles, MultiView, View, route_through
from lexiseg.errors import DataError
from lexiseg.inference.protocol import Combine, InferenceProtocol
from lexiseg.ops.class_chunks import LinearMerge, SigmoidMerge, TileSource
from lexiseg.ops.pixel_tiles import ComparedTiles
from lexiseg.ops.region_merge import RegionMerge
from lexiseg.ops.resize import fit_within, keep_ratio_size, patch_grid_size, shortest_edge_size
from lexiseg.ops.sliding_window import WindowGrid, window_grid
from lexiseg.ops.window_merge import (
    AxisPlan,
    Padding,
    cell_matrix,
    merge_features,
    padding_before,
    plan_axis,
)
from lexiseg.types import Activation, ClassifiedMasks, PixelFeatures

WindowMaps = Tensor | ClassifiedMasks | PixelFeatures
"""``(W, M, h, w)`` of all windows of a view; the regions of the one window that covers the image; or what is compared with
words at pixels only."""

_WORKING_PIXELS = 2**28
"""Largest image that windows are laid on."""

_WINDOW_PATCHES = 2**15
"""Most patches that a tower reads at once: its attention holds a number per pair of them and head."""

_MERGING_BYTES = 9 * 2**27
"""Most that the matrices from windows to pixels may take, of all views together."""


_ENCODING_BYTES = 6 * 2**30
"""Most that a model may say that its largest tensors take for the windows that it reads at once."""


@dataclass(frozen=True)
class WindowLayout:
    """Sizes on the way from a photograph to the windows of one view and back.

    Attributes:
        source: Height and width of the photograph.
        working: Height and width that the windows lie on.
        windows: The windows.
        patch_size: Windows are padded to multiples of it.
        padding: Where the padding lies.
        by_way_of: Height and width of the unscaled image, through which a scaled view's logits reach the
            photograph; None where they reach it directly.
        stretched_from: Height and width of the photograph that was stretched to ``working``; None where it was not. Logits of
            a stretched photograph go from their own grid to its pixels in one step.
        after: Windows above and to the left of these in the grid of the larger picture that this is a piece of.
    """

    source: tuple[int, int]
    working: tuple[int, int]
    windows: WindowGrid
    patch_size: int
    padding: Padding
    by_way_of: tuple[int, int] | None = None
    stretched_from: tuple[int, int] | None = None
    after: tuple[int, int] = (0, 0)

    @property
    def unscaled(self) -> tuple[int, int]:
        """Height and width of the resized photograph, before any view or stretching."""
        return self.by_way_of or self.stretched_from or self.working

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of a window after padding."""
        patch = self.patch_size
        return -(-self.windows.height // patch) * patch, -(-self.windows.width // patch) * patch

    def axes(self, grid: tuple[int, int], device: torch.device) -> tuple[AxisPlan, AxisPlan]:
        """Vertical and horizontal plan for windows of ``grid`` logits."""
        windows = self.windows
        return (
            self._axis(0, windows.tops, windows.height, grid[0], device),
            self._axis(1, windows.lefts, windows.width, grid[1], device),
        )

    def merge_features(self, maps: Tensor) -> Tensor:
        """Features ``(W, D, h, w)`` of all windows to ``(D, H', W')`` on the working image's patch grid."""
        windows = self.windows
        vertical, horizontal = (
            cell_matrix(
                starts=starts,
                window=window,
                patches=maps.shape[2 + axis],
                cell=self.padded[axis] / maps.shape[2 + axis],
                working=self.working[axis],
                before=padding_before(window, self.padded[axis], self.padding),
            ).to(maps.device)
            for axis, (starts, window) in enumerate(
                [(windows.tops, windows.height), (windows.lefts, windows.width)]
            )
        )
        grid = maps.unflatten(0, (len(windows.tops), len(windows.lefts)))
        return merge_features(grid, vertical, horizontal)

    def merging_bytes(self) -> int:
        """Of the largest matrices that :meth:`axes` makes and fuses, both axes together."""
        starts = (self.windows.tops, self.windows.lefts)
        columns = [
            len(first) * side // self.patch_size for first, side in zip(starts, self.padded, strict=True)
        ]
        return 4 * sum(self._axis_numbers(axis, count) for axis, count in enumerate(columns))

    def _axis_numbers(self, axis: int, columns: int) -> int:
        """Entries of one axis' matrices, from ``columns`` logits of all windows to the photograph's pixels."""
        sizes = [self.working[axis], self.source[axis]]
        if self.by_way_of is not None:
            sizes.insert(1, self.by_way_of[axis])
        steps = [after * before for before, after in pairwise(sizes) if after != before]
        joined = sizes[-1] * sizes[0] if len(steps) > 1 else 0  # both interpolations in one matrix
        return (sizes[0] + sizes[-1]) * columns + sum(steps) + joined

    def _axis(
        self, axis: int, starts: tuple[int, ...], window: int, patches: int, device: torch.device
    ) -> AxisPlan:
        if self.stretched_from is not None:
            side, source = patches, self.source[axis]
            return plan_axis(
                starts=(0,),
                window=side,
                padded=side,
                patches=side,
                working=side,
                source=source,
                device=device,
            )
        plan = plan_axis(
            starts=starts,
            window=window,
            padded=self.padded[axis],
            patches=patches,
            working=self.working[axis],
            source=self.source[axis] if self.by_way_of is None else self.working[axis],
            padding=self.padding,
            device=device,
        )
        if self.by_way_of is None:
            return replace(plan, after=self.after[axis])
        return route_through(plan, self.by_way_of[axis], self.source[axis])


AxisPlans = dict[WindowLayout, tuple[AxisPlan, AxisPlan]]
"""The vertical and the horizontal plan of each view; a view and its mirror image share theirs."""


@dataclass(frozen=True)
class ImageLayout:
    """Every view of a photograph with its windows.

    Attributes:
        views: What is looked at, in the order of :meth:`MultiView.plan`.
        windows: Where the windows of each view lie.
        rule: How the views become one.
    """

    views: tuple[View, ...]
    windows: tuple[WindowLayout, ...]
    rule: MultiView = SINGLE_VIEW

    @classmethod
    def single(cls, windows: WindowLayout) -> "ImageLayout":
        """The image as it is, in one view."""
        return cls((View(1.0, windows.working),), (windows,))

    @classmethod
    def of_picture(cls, source: tuple[int, int]) -> "ImageLayout":
        """One map over a photograph of this size, which reaches its pixels directly."""
        return cls.single(WindowLayout(source, source, window_grid(source, None), 1, "bottom_right"))

    @property
    def source(self) -> tuple[int, int]:
        """Height and width of the photograph."""
        return self.windows[0].source

    @property
    def patches(self) -> int:
        """Patches of all windows of all views together."""
        return sum(
            layout.padded[0] * layout.padded[1] // layout.patch_size**2 * len(layout.windows)
            for layout in self.windows
        )

    @property
    def is_whole(self) -> bool:
        """Whether one window of one view covers the photograph."""
        return len(self.views) == 1 and len(self.windows[0].windows) == 1

    def merge(
        self,
        logits: tuple[WindowMaps, ...],
        activation: Activation,
        scale: float,
        combine: Combine = "masks",
        plans: AxisPlans | None = None,
    ) -> TileSource:
        """Scores at the photograph's pixels, made when asked for.

        Args:
            logits: Per view, of all its windows; regions only where :attr:`is_whole`, features of pixels only where the
                activation is linear.
            activation: As in the protocol.
            scale: Factor on the logits.
            combine: As in the protocol.
            plans: Of other words' windows of the same photograph; what is missing is added.
        """
        first = logits[0]
        if isinstance(first, ClassifiedMasks):
            masks, axes = self._of_regions(first)
            return RegionMerge(masks, first.scores[0] * scale, *axes, sums_travel=combine == "scores")
        plans = {} if plans is None else plans
        sources: list[TileSource] = []
        for each, layout in zip(logits, self.windows, strict=True):
            maps = each.features if isinstance(each, PixelFeatures) else each
            if isinstance(maps, ClassifiedMasks):
                continue
            if layout not in plans:
                plans[layout] = layout.axes((maps.shape[-2], maps.shape[-1]), maps.device)
            if isinstance(each, PixelFeatures):
                features = LinearMerge(maps, *plans[layout])
                compared = ComparedTiles(
                    features, maps.shape[1], pull=each.pull, words=each.words, scale=scale
                )
                sources.append(compared)
            else:
                kind = SigmoidMerge if activation == "sigmoid" else LinearMerge
                sources.append(kind(maps, *plans[layout], scale=scale))
        if len(sources) == 1:
            return sources[0]
        words = first.shape[1] if isinstance(first, Tensor) else len(first)
        return FusedTiles(self.rule, sources, size=self.source, words=words)

    def merge_masks(self, regions: ClassifiedMasks) -> TileSource:
        """Mask logits at the photograph's pixels, made when asked for; only where :attr:`is_whole`."""
        masks, axes = self._of_regions(regions)
        return LinearMerge(masks[None], *axes)

    def _of_regions(self, regions: ClassifiedMasks) -> tuple[Tensor, tuple[AxisPlan, AxisPlan]]:
        """Mask logits ``(N, h, w)`` of the one window, and the way to the photograph."""
        masks = regions.masks[0].float()
        return masks, self.windows[0].axes((masks.shape[-2], masks.shape[-1]), masks.device)


def lay_out(
    source: tuple[int, int], protocol: InferenceProtocol, patch_size: int, *, whole_picture: bool = False
) -> ImageLayout:
    """Lay windows on every view of a photograph of this height and width.

    One view at scale 1 is the image as it is: windows are padded to the patch grid, nothing is resampled for
    it. Several views are resampled to the grid, as TG-CLIP's eq. 2 has it.

    Args:
        source: Height and width of the photograph.
        protocol: The settings.
        patch_size: Of the model.
        whole_picture: Whether the windows become one map: then the one view is resampled to whole patches, as Trident has
            it, so that those of all windows lie on one grid.

    Raises:
        DataError: The protocol would make an image, windows or matrices too large to work on; said before any is made.
    """
    working = _working_size(source, protocol)
    rule = protocol.views
    if protocol.stretch is not None:
        side = max(round(protocol.stretch / patch_size), 1) * patch_size
        _check_size(source, (side, side))
        grid = window_grid((side, side), None, None)
        square = WindowLayout(source, (side, side), grid, patch_size, protocol.padding, None, working)
        _check_work(source, (square,), protocol)
        return ImageLayout((View(1.0, (side, side)),), (square,), rule)
    single = rule == SINGLE_VIEW
    on_grid = patch_grid_size(working, patch_size, protocol.window or 1) if whole_picture else working
    views = (View(1.0, on_grid),) if single else rule.plan(working, patch_size)
    for view in views:
        _check_size(source, view.size)
    windows = tuple(
        WindowLayout(
            source,
            view.size,
            window_grid(view.size, protocol.window, protocol.stride),
            patch_size,
            protocol.padding,
            None if single and on_grid == working else working,
        )
        for view in views
    )
    _check_work(source, windows, protocol)
    return ImageLayout(views, windows, rule)


def require_room(layout: ImageLayout, window_batch: int, encode_bytes: Callable[[int, int], int]) -> None:
    """Refuse a photograph whose windows a model cannot read for memory; said before any is read.

    Args:
        layout: Of the photograph.
        window_batch: Windows that are read at once.
        encode_bytes: The model's estimate for one window of a height and width.

    Raises:
        DataError: It would need too much.
    """
    for view in layout.windows:
        count = min(window_batch, len(view.windows))
        needed = encode_bytes(*view.padded) * count
        if needed > _ENCODING_BYTES:
            height, width = layout.source
            raise DataError(
                f"an image of {height}x{width} pixels (height x width), read as {count} windows of "
                f"{view.padded[0]}x{view.padded[1]} at once, would need about {needed / 2**30:.1f} GiB in the model, at "
                f"most {_ENCODING_BYTES / 2**30:.0f}; set a smaller protocol.short_side, protocol.window or window_batch"
            )


def _working_size(source: tuple[int, int], protocol: InferenceProtocol) -> tuple[int, int]:
    if protocol.short_side is None:
        return source
    if protocol.resize == "pillow":
        return shortest_edge_size(source, protocol.short_side, protocol.long_side)
    size = keep_ratio_size(source, protocol.short_side)
    if max(size) <= protocol.long_side:
        return size
    height, width = fit_within(source, protocol.long_side, protocol.short_side)
    return max(height, 1), max(width, 1)


def _check_size(source: tuple[int, int], working: tuple[int, int]) -> None:
    """Before windows are counted: their places alone would fill the memory of an image that is far too large."""
    height, width = working
    if height * width > _WORKING_PIXELS:
        raise DataError(
            f"an image of {source[0]}x{source[1]} pixels (height x width) would be worked on at {height}x{width}, which is too "
            "large; crop it, or set a smaller short_side or scale"
        )


def _check_work(
    source: tuple[int, int], layouts: Sequence[WindowLayout], protocol: InferenceProtocol
) -> None:
    """Estimate what the photograph would need, from sizes alone."""
    told = f"an image of {source[0]}x{source[1]} pixels (height x width) would"
    for layout in layouts:
        patches = layout.padded[0] * layout.padded[1] // layout.patch_size**2
        if patches > _WINDOW_PATCHES:
            raise DataError(
                f"{told} be read in windows of {patches} patches, where at most {_WINDOW_PATCHES} fit; set a window of the "
                "tower's own size (protocol.window), or a smaller short_side"
            )
    count = sum(len(layout.windows) for layout in layouts)
    merging = sum(layout.merging_bytes() for layout in set(layouts))
    if merging > _MERGING_BYTES:
        raise DataError(
            f"{told} need {merging / 2**30:.1f} GiB to bring {count} windows back to its pixels; crop it, or set a larger "
            "stride"
        )
    if count > protocol.max_windows:
        raise DataError(
            f"{told} be read in {count} windows, where the protocol allows {protocol.max_windows}; set a smaller short_side, "
            "a larger window or stride, or raise max_windows"
        )
