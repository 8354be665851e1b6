"""From window logits to labels: merging, competition, penalty, area rule, threshold, in this order."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.ops.class_chunks import LinearMerge, Running, SigmoidMerge, running_argmax
from lexiseg.ops.sliding_window import WindowGrid
from lexiseg.ops.window_merge import (
    AxisPlan,
    Padding,
    cell_matrix,
    merge_features,
    padding_before,
    plan_axis,
)

WordPass = tuple[slice, Tensor]
"""Which words, and their ``(W, M, h, w)`` logits in all windows."""


@dataclass(frozen=True)
class WindowLayout:
    """Sizes on the way from a photograph to windows and back.

    Attributes:
        source: Height and width of the photograph.
        working: Height and width that the windows lie on.
        windows: The windows.
        patch_size: Windows are padded to multiples of it.
        padding: Where the padding lies.
    """

    source: tuple[int, int]
    working: tuple[int, int]
    windows: WindowGrid
    patch_size: int
    padding: Padding

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of a window after padding."""
        patch = self.patch_size
        return -(-self.windows.height // patch) * patch, -(-self.windows.width // patch) * patch

    def axes(self, grid: tuple[int, int], device: torch.device) -> tuple[AxisPlan, AxisPlan]:
        """Vertical and horizontal plan for windows of ``grid`` logits."""
        windows = self.windows
        vertical, horizontal = (
            plan_axis(
                starts=starts,
                window=window,
                padded=self.padded[axis],
                patches=grid[axis],
                working=self.working[axis],
                source=self.source[axis],
                padding=self.padding,
                device=device,
            )
            for axis, (starts, window) in enumerate(
                [(windows.tops, windows.height), (windows.lefts, windows.width)]
            )
        )
        return vertical, horizontal

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


def decide(
    passes: Iterable[WordPass],
    layout: WindowLayout,
    protocol: InferenceProtocol,
    *,
    class_ids: Tensor,
    seen_ids: tuple[int, ...] = (),
    scores: bool = True,
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.float32] | None]:
    """Label every source pixel.

    Args:
        passes: Words and their logits, in the order of the vocabulary, together all of them.
        layout: Of the windows.
        protocol: The settings.
        class_ids: ``(M,)`` class of each word, ascending.
        seen_ids: Classes that bear the seen penalty.
        scores: Whether the score map is wanted.

    Returns:
        ``(H, W)`` class ids, uint8, uint16 or int32 as the number of ids asks, and the ``(H, W)`` scores or
        None.
    """
    if protocol.area_threshold > 0:
        passes = list(passes)  # the second competition reads them again
    ids = int(class_ids[-1]) + 1 + protocol.rejects
    valued = scores or protocol.probability_threshold > 0
    penalty = _penalties(class_ids, seen_ids, protocol.seen_penalty)
    with_total = valued and protocol.activation == "linear"
    running = _compete(passes, layout, protocol, penalty=penalty, with_total=with_total)
    words, best = running.words, running.best
    if protocol.area_threshold > 0:
        kept = _kept_words(_look_up(words, class_ids), class_ids, protocol)
        subset = [(part, logits[:, kept[part]]) for part, logits in passes]
        final = _compete(subset, layout, protocol, penalty=None if penalty is None else penalty[kept])
        class_ids, penalty = class_ids[kept], None if penalty is None else penalty[kept]
        words, best = final.words, final.best
    labels = _look_up(words, class_ids)
    if not valued:
        return _to_numpy(labels, ids), None
    if with_total:
        values = running.probability()
        if best is not running.best:
            values *= (best - running.best).exp_()
    else:
        values = best if penalty is None else best + _look_up(words, penalty)
    if protocol.probability_threshold > 0:
        labels[values < protocol.probability_threshold] = ids - 1 if protocol.rejects else 0
    return _to_numpy(labels, ids), values.cpu().numpy() if scores else None


def _compete(
    passes: Iterable[WordPass],
    layout: WindowLayout,
    protocol: InferenceProtocol,
    *,
    penalty: Tensor | None,
    with_total: bool = False,
) -> Running:
    """Run all words against each other; words are counted in the order in which they come."""
    running: Running | None = None
    first = 0
    reduction = np.prod(layout.working) / np.prod(layout.source)
    for _, logits in passes:
        if running is None:
            running = Running.start(layout.source, with_total=with_total, device=logits.device)
            axes = layout.axes((logits.shape[-2], logits.shape[-1]), logits.device)
        count = logits.shape[1]
        if not count:
            continue
        kind = SigmoidMerge if protocol.activation == "sigmoid" else LinearMerge
        merge = kind(logits, *axes, scale=protocol.logit_scale)
        bias = None if penalty is None else -penalty[first : first + count]
        running_argmax(running, merge, words=count, first_word=first, bias=bias, reduction=float(reduction))
        first += count
    if running is None:
        raise ValueError("expected logits of at least one word")
    return running


def _penalties(class_ids: Tensor, seen_ids: tuple[int, ...], penalty: float) -> Tensor | None:
    """``(M,)`` what each word pays; None where nobody pays."""
    if not seen_ids or penalty == 0:
        return None
    seen = torch.tensor(seen_ids, device=class_ids.device)
    return torch.isin(class_ids, seen).float() * penalty


def _kept_words(labels: Tensor, class_ids: Tensor, protocol: InferenceProtocol) -> Tensor:
    """``(M,)`` boolean: words of classes that cover enough, and of the background."""
    counts = torch.bincount(labels.flatten(), minlength=int(class_ids[-1]) + 1)
    first = 1 if protocol.background == "class" else 0
    kept = counts > protocol.area_threshold * counts[first:].sum()
    kept[:first] = True
    if not kept.any():
        kept[counts.argmax()] = True
    return kept[class_ids]


def _look_up(words: Tensor, table: Tensor) -> Tensor:
    """``table[words]`` for an int32 map, without an int64 copy; the map itself where nothing changes."""
    if not table.is_floating_point() and torch.equal(table, torch.arange(len(table), device=table.device)):
        return words
    table = table if table.is_floating_point() else table.to(torch.int32)
    return table.index_select(0, words.flatten()).view(words.shape)


def _to_numpy(labels: Tensor, ids: int) -> npt.NDArray[np.integer]:
    kind = np.uint8 if ids <= 2**8 else np.uint16 if ids <= 2**16 else np.int32
    return labels.cpu().numpy().astype(kind, copy=False)
