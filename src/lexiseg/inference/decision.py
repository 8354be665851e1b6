"""From window logits to labels: merging, refinement, competition, penalty, area rule, threshold, vote, in this order."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lexiseg.inference.layout import AxisPlans, ImageLayout, WindowMaps
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.refine import MaskVote, PreparedPAMR
from lexiseg.inference.regions import PictureRegions
from lexiseg.label_codes import MOST_CLASSES, label_codes
from lexiseg.ops.class_chunks import HeldMaps, Running, TileSource, running_argmax
from lexiseg.types import chunks

WordPass = tuple[slice, tuple[WindowMaps, ...]]
"""Which words, and their logits in all windows of each view, or features that are compared with them at pixels; or which
classes, and the regions with their scores."""

Redraw = Callable[[Tensor, Callable[[int], Tensor], int], tuple[Tensor, Tensor]]
"""Labels, the probabilities of each class and how many classes there are to new labels and their scores; see
:class:`~lexiseg.types.Redrawing`."""

_MAP_BYTES = 64 * 2**20
"""Size of whole-image maps that refinement and vote hold at once."""


@dataclass(frozen=True)
class LastTouches:
    """What works on whole maps of a word instead of single pixels.

    Attributes:
        refine: Spreads scores between pixels of like colour.
        vote: Gives every mask one class.
        named: ``(K, M)`` scores of the vote's masks by a model that looks under them; None: the mean of its maps.
        regions: That the model has read inside: each may take its most frequent label, after all else. Instead of a vote.
        redraw: Draws the labels anew, before the vote.
    """

    refine: PreparedPAMR | None = None
    vote: MaskVote | None = None
    named: Tensor | None = None
    regions: PictureRegions | None = None
    redraw: Redraw | None = None


NO_TOUCHES = LastTouches()


class Decided(NamedTuple):
    """What became of a photograph.

    Attributes:
        labels: ``(H, W)`` class ids, uint8, uint16 or int32 as the number of ids asks.
        scores: ``(H, W)``, or None where they are not wanted.
        mask_classes: ``(M,)`` int64 class of each mask of the vote, or label of most of its pixels where there are regions, in
            the order in which they came; None without either.
    """

    labels: npt.NDArray[np.integer]
    scores: npt.NDArray[np.float32] | None
    mask_classes: npt.NDArray[np.int64] | None


def decide(
    passes: Iterable[WordPass],
    layout: ImageLayout,
    protocol: InferenceProtocol,
    *,
    class_ids: Tensor,
    seen_ids: tuple[int, ...] = (),
    scores: bool = True,
    touches: LastTouches = NO_TOUCHES,
) -> Decided:
    """Label every source pixel.

    Args:
        passes: Words and their logits, in the order of the vocabulary, together all of them.
        layout: Of the views and their windows.
        protocol: The settings.
        class_ids: ``(M,)`` class of each word, ascending.
        seen_ids: Classes that bear the seen penalty.
        scores: Whether the score map is wanted.
        touches: Refinement and vote, or regions, where they are wanted. These two change labels, not scores.
    """
    if protocol.area_threshold > 0 or touches.vote is not None or touches.redraw is not None:
        passes = list(passes)  # another competition reads them again
    ids = int(class_ids[-1]) + 1 + protocol.rejects
    valued = scores or protocol.probability_threshold > 0 or touches.redraw is not None
    penalty = _penalties(class_ids, seen_ids, protocol.seen_penalty)
    named = touches.named
    contest = _Contest(layout, protocol, touches)
    with_total = valued and protocol.activation == "linear"
    running = contest.run(passes, penalty=penalty, with_total=with_total)
    words, best = running.words, running.best
    if protocol.area_threshold > 0:
        kept = _kept_words(_look_up(words, class_ids), class_ids, protocol)
        passes = [(part, tuple(_only(maps, kept[part]) for maps in logits)) for part, logits in passes]
        class_ids, penalty = class_ids[kept], None if penalty is None else penalty[kept]
        named = None if named is None else named[kept]
        final = contest.run(passes, penalty=penalty)
        words, best = final.words, final.best
    labels = _look_up(words, class_ids)
    values = share = None
    if valued:
        values = best if penalty is None else best + _look_up(words, penalty)
        if with_total:
            values = share = running.probability()
            if best is not running.best:
                values = share * (best - running.best).exp_()
        if protocol.probability_threshold > 0:
            labels[values < protocol.probability_threshold] = ids - 1 if protocol.rejects else 0
    if touches.redraw is not None and share is not None and values is not None:
        probabilities = contest.class_probabilities(passes, class_ids, running.best, share)
        labels, anew = touches.redraw(labels, probabilities, int(class_ids[-1]) + 1)
        values = torch.where(anew > 0, anew, values)
    mask_classes = None
    if touches.vote is not None:
        means = contest.means(passes, touches.vote) if named is None else named
        best = (means if penalty is None else means - penalty[:, None]).argmax(dim=0)
        chosen = class_ids[best]
        labels = touches.vote.paint(labels, chosen)
        mask_classes = touches.vote.as_given(chosen).long().cpu().numpy()
    if touches.regions is not None:
        labels, under = touches.regions.correct(labels)
        mask_classes = under.cpu().numpy()
    return Decided(
        _to_numpy(labels, ids),
        values.cpu().numpy() if scores and values is not None else None,
        mask_classes,
    )


def only_where(shown: npt.NDArray[np.bool_], after: Decided, before: Decided) -> Decided:
    """What was decided ``after``, but only where one of some classes had won ``before``; all else stays.

    Args:
        shown: ``(K,)`` those classes; an id beyond them is "no class", which stays as well.
        after: The new decision.
        before: The old one.
    """
    table = np.append(shown, False)
    change = table[np.minimum(before.labels.astype(np.int64), len(shown))]
    kind = np.promote_types(after.labels.dtype, before.labels.dtype)
    mask_classes = after.mask_classes
    if mask_classes is not None and before.mask_classes is not None:
        of_shown = table[before.mask_classes.clip(max=len(shown))]
        mask_classes = np.where(of_shown, mask_classes, before.mask_classes)
    scores: npt.NDArray[np.float32] | None = None
    if after.scores is not None and before.scores is not None:
        scores = np.asarray(np.where(change, after.scores, before.scores), np.float32)
    labels = np.asarray(np.where(change, after.labels, before.labels), kind)
    return Decided(labels, scores, mask_classes)


def class_scores(
    passes: Iterable[WordPass],
    layout: ImageLayout,
    protocol: InferenceProtocol,
    *,
    class_ids: Tensor,
    classes: Sequence[int],
    window: tuple[slice, slice],
    refine: PreparedPAMR | None = None,
) -> Tensor:
    """Scores of some classes in a window of the photograph: what :func:`decide` tells of the winner, also of the others.

    That is before a model draws labels anew; of words that it leaves out by the area rule there are scores too.

    Args:
        passes: As in :func:`decide`.
        layout: Likewise.
        protocol: Likewise.
        class_ids: Likewise.
        classes: Which, one or more; only these cost memory.
        window: Rows and columns of the photograph, with a beginning and an end.
        refine: Spreads scores over the whole photograph before the window is cut out.

    Returns:
        ``(len(classes), rows, columns)``.
    """
    contest = _Contest(layout, protocol, LastTouches(refine))
    size = (window[0].stop - window[0].start, window[1].stop - window[1].start)
    best = torch.full((len(classes), *size), -torch.inf, device=class_ids.device)
    total = torch.full(size, -torch.inf, device=class_ids.device)
    for words, merge, _ in contest._merges(passes):
        for part, maps in contest.windows(words, merge, window):
            total = torch.logaddexp(total, maps.logsumexp(dim=0))
            for place, index in enumerate(classes):
                mine = maps[class_ids[part] == index]
                if len(mine):
                    best[place] = best[place].maximum(mine.amax(dim=0))
    return (best - total).exp_() if protocol.activation == "linear" else best


@dataclass(frozen=True)
class _Contest:
    """Lets words compete for the pixels of one photograph, or for its masks."""

    layout: ImageLayout
    protocol: InferenceProtocol
    touches: LastTouches
    plans: AxisPlans = field(default_factory=dict)

    def run(self, passes: Iterable[WordPass], *, penalty: Tensor | None, with_total: bool = False) -> Running:
        """All words against each other; words are counted in the order in which they come."""
        running: Running | None = None
        for words, merge, device in self._merges(passes):
            if running is None:
                running = Running.start(self.layout.source, with_total=with_total, device=device)
            bias = None if penalty is None else -penalty[words]
            if self.touches.refine is None:
                count, reduction = words.stop - words.start, self._reduction()
                running_argmax(
                    running, merge, words=count, first_word=words.start, bias=bias, reduction=reduction
                )
                continue
            for part, maps in self._maps(words, merge):
                of_part = None if penalty is None else -penalty[part]
                running_argmax(running, HeldMaps(maps), words=len(maps), first_word=part.start, bias=of_part)
        if running is None:
            raise ValueError("expected logits of at least one word")
        return running

    def means(self, passes: Iterable[WordPass], vote: MaskVote) -> Tensor:
        """Mean score of each word inside each mask, ``(words, masks)``."""
        means = [
            vote.mean_logits(maps)
            for words, merge, _ in self._merges(passes)
            for _, maps in self._maps(words, merge)
        ]
        return torch.cat(means)

    def class_probabilities(
        self, passes: Iterable[WordPass], class_ids: Tensor, best: Tensor, share: Tensor
    ) -> Callable[[int], Tensor]:
        """A class to its probabilities ``(H, W)``, those of its best word among all words.

        Args:
            passes: Words and their logits.
            class_ids: ``(M,)`` class of each word, ascending.
            best: ``(H, W)`` highest logit.
            share: ``(H, W)`` its probability.
        """
        merges = [(words, merge) for words, merge, _ in self._merges(passes)]

        def of_class(index: int) -> Tensor:
            mine = (class_ids == index).nonzero().flatten()
            first, last = (int(mine[0]), int(mine[-1]) + 1) if len(mine) else (0, 0)
            highest = torch.full_like(best, -torch.inf)
            for words, merge in merges:
                for word in range(max(first, words.start), min(last, words.stop)):
                    place = word - words.start
                    highest = highest.maximum(self._whole(merge, slice(place, place + 1))[0])
            return (highest - best).exp_() * share

        return of_class

    def _merges(self, passes: Iterable[WordPass]) -> Iterator[tuple[slice, TileSource, torch.device]]:
        """Words, their scores, and where those are computed."""
        first = 0
        for _, logits in passes:
            maps = logits[0]
            count = maps.shape[1] if isinstance(maps, Tensor) else len(maps)
            if count:
                protocol = self.protocol
                merge = self.layout.merge(
                    logits, protocol.activation, protocol.logit_scale, protocol.combine, self.plans
                )
                yield slice(first, first + count), merge, maps.device
            first += count

    def _maps(self, words: slice, merge: TileSource) -> Iterator[tuple[slice, Tensor]]:
        """Whole maps ``(m, H, W)`` of a few words at a time, refined if that is wanted."""
        height, width = self.layout.source
        step = max(1, _MAP_BYTES // (4 * height * width))
        for part in chunks(words.stop - words.start, step):
            yield slice(words.start + part.start, words.start + part.stop), self._whole(merge, part)

    def _whole(self, merge: TileSource, words: slice) -> Tensor:
        """Whole maps ``(m, H, W)`` of some of a source's words, counted from its first, refined if that is wanted."""
        height, width = self.layout.source
        maps = merge.tile(slice(0, height), slice(0, width), words).transpose(0, 1)
        refine = self.touches.refine
        return maps if refine is None else refine(maps[None])[0]

    def windows(
        self, words: slice, merge: TileSource, window: tuple[slice, slice]
    ) -> Iterator[tuple[slice, Tensor]]:
        """What :meth:`_maps` gives, in a window alone; without refinement nothing is computed outside it."""
        if self.touches.refine is not None:
            yield from ((part, maps[:, *window]) for part, maps in self._maps(words, merge))
            return
        area = (window[0].stop - window[0].start) * (window[1].stop - window[1].start)
        for part in chunks(words.stop - words.start, max(1, _MAP_BYTES // (4 * area))):
            maps = merge.tile(*window, part).transpose(0, 1)
            yield slice(words.start + part.start, words.start + part.stop), maps

    def _reduction(self) -> float:
        """Working pixels per pixel of the photograph, in the largest view."""
        largest = max(view.working[0] * view.working[1] for view in self.layout.windows)
        return largest / (self.layout.source[0] * self.layout.source[1])


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


def _only(maps: WindowMaps, kept: Tensor) -> WindowMaps:
    """Of some words, ``(M,)`` bool."""
    return maps[:, kept] if isinstance(maps, Tensor) else maps.part(kept)


def _look_up(words: Tensor, table: Tensor) -> Tensor:
    """``table[words]`` for an int32 map, without an int64 copy; the map itself where nothing changes."""
    if not table.is_floating_point() and torch.equal(table, torch.arange(len(table), device=table.device)):
        return words
    table = table if table.is_floating_point() else table.to(torch.int32)
    return table.index_select(0, words.flatten()).view(words.shape)


def _to_numpy(labels: Tensor, ids: int) -> npt.NDArray[np.integer]:
    kind = np.int32 if ids > MOST_CLASSES else label_codes(ids).dtype
    return labels.cpu().numpy().astype(kind, copy=False)
