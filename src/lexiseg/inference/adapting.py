"""What a few photographs with masks teach about words, without a gradient, each part chosen on pixels that it did not see.

One photograph after another is left out; the others make its prototypes. A class that is in one photograph alone is cut in
two by the middle column of its mask, and each half is judged by the other. What is chosen is chosen by the mIoU on pixels
held out in this way; offsets and temperatures of classes stay only if they help on a photograph that had no part in them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.checkpoints.word_adaptation import WordAdaptation
from lexiseg.clip.templates import resolve_templates
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.inference.adaptable import made_for, require_adaptable
from lexiseg.inference.encoding import EncodedImage
from lexiseg.inference.exported import ExportedModel
from lexiseg.inference.segmenter import Segmenter
from lexiseg.inference.shots import Shot, require_shots
from lexiseg.inference.words import Words
from lexiseg.label_codes import label_codes
from lexiseg.metrics.calibration import Reliability
from lexiseg.metrics.functional import class_iou, confusion_matrix
from lexiseg.ops.class_vectors import best_word
from lexiseg.ops.line_search import best_candidate, coordinate_ascent
from lexiseg.ops.mask_pooling import pool_by_masks
from lexiseg.ops.prototypes import centred_prototypes, spread
from lexiseg.progress import doing

if TYPE_CHECKING:
    from lexiseg.inference.pipeline import Pipeline

_TEMPLATES = ("single", "multi15")
"""Tried beside the pipeline's own: short ones, for each costs as many sentences a word as it has templates."""

_PIXELS = 2048
"""Of a photograph that searches look at, on an even grid."""

_WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Of looks beside words, in units at which both spread alike; halves of one thing look more alike than two things do, so that
what is held out would ask for too much."""

_SHARES = (0.5, 1.0)
"""Of the level at which a word always stands, taken from it."""

_OFFSETS = (-1.0, -0.5, -0.25, -0.1, 0.1, 0.25, 0.5, 1.0)
"""Steps of a class's offset, in units of the scores' spread."""

_SCALES = (-0.5, -0.25, 0.25, 0.5)
"""Steps of the logarithm of a class's scale, to the base 2."""

_TEMPERATURES = tuple(2.0 ** (step / 2) for step in range(-10, 7))
_QUANTILES = tuple(step / 20 for step in range(1, 20))
_LEAST_GAIN = 0.002
"""Of mIoU, for a move of a search: less is noise of so few pixels."""

_LEFT_OUT = -1e4
"""Offset of a synonym that did not help."""


@dataclass(frozen=True)
class _Seen:
    """All sampled pixels of all shots, those of each photograph as they look to the others.

    Attributes:
        words: ``(M, N)`` logits of words.
        looks: ``(K, N)`` centred products with prototypes that the pixel had no part in; zeros without features.
        label: ``(N,)`` int64 class ids and codes.
        photo: ``(N,)`` which photograph.
        held: ``(N,)`` bool, whether the pixel is one of a class.
        free: ``(N,)`` bool, whether a class that was shown wins without adaptation.
        before: ``(N,)`` the class that wins without adaptation.
    """

    words: Tensor
    looks: Tensor
    label: Tensor
    photo: Tensor
    held: Tensor
    free: Tensor
    before: Tensor


@dataclass(frozen=True)
class _Means:
    """Mean unit features under masks.

    Attributes:
        whole: ``(P, K, D)`` of each class in each photograph; zeros where it is not.
        halves: Per photograph ``(K, D)`` of the left and of the right half of each class's mask.
        left: Per photograph ``(n,)`` bool, whether a sampled pixel is in the left half of its class.
    """

    whole: Tensor
    halves: Sequence[tuple[Tensor, Tensor]]
    left: Sequence[Tensor]


@dataclass(frozen=True)
class _Parts:
    """What was found.

    Attributes:
        weight: Of looks beside words.
        scale: ``(K,)``.
        shift: ``(K,)`` what is added to the scaled scores.
        dropped: ``(M,)`` bool, synonyms that did not help.
        temperature: Factor on all logits.
        threshold: Below it, none of these.
        errors: Of calibration, before and after.
    """

    weight: float
    scale: Tensor
    shift: Tensor
    dropped: Tensor
    temperature: float
    threshold: float
    errors: tuple[float, float]


def fit_adaptation(pipeline: "Pipeline", words: Words, shots: Sequence[Shot]) -> WordAdaptation:
    """Learn all parts of an adaptation from a few photographs; see ``docs/adapting.md``.

    Args:
        pipeline: Without an adaptation.
        words: Classes in the order of the masks' ids, with synonyms.
        shots: Photographs with masks. Of one alone, halves of classes are held out, and offsets are fitted on it.

    Raises:
        ConfigError: A model that cannot be adapted, or no words.
        DataError: No photograph, a mask of another size or with other ids, or none with a pixel of a class.
    """
    require_adaptable(pipeline.model, pipeline.protocol)
    plain = replace(pipeline, adaptation=None)
    segmenter = plain.segmenter(words)
    count = len(segmenter.vocabulary)
    require_shots(shots, count)
    with doing("reading photographs", len(shots)) as work:
        encoded: list[EncodedImage] = []
        for shot in shots:
            encoded.append(segmenter.encode(shot.image))
            work.advance()
    every = [_step(shot) for shot in shots]
    label = [_labels(shot, step) for shot, step in zip(shots, every, strict=True)]
    # Of all pixels: a class may have a mask between those that the searches look at.
    present = torch.stack([_present(shot, count) for shot in shots])
    fit = _Fit(segmenter, encoded, every, label, present, _class_means(segmenter, shots, count))
    return fit.run(plain, _best_templates(plain, segmenter, fit))


class _Fit:
    """The parts one after another, each beside what it brings."""

    def __init__(
        self,
        segmenter: Segmenter,
        encoded: Sequence[EncodedImage],
        every: Sequence[int],
        label: Sequence[Tensor],
        present: Tensor,
        means: "_Means | None",
    ) -> None:
        self.segmenter, self.encoded, self.every, self.label = segmenter, encoded, every, label
        self.count = len(segmenter.vocabulary)
        self.class_ids = segmenter.embeddings.class_ids
        self.codes = label_codes(self.count)
        self.present = present
        self.shown = self.present.any(0)
        self.means = means
        self.alone = len(label) == 1
        self.steps: list[dict[str, Any]] = []

    def text(self, segmenter: Segmenter) -> Tensor:
        """``(M, N)`` logits of words at the sampled pixels of all photographs."""
        maps = (
            segmenter.logits(each, every=step) for each, step in zip(self.encoded, self.every, strict=True)
        )
        return torch.cat([each.cpu().flatten(1) for each in maps], 1)

    def miou(self, predicted: Tensor, pixels: Tensor, label: Tensor) -> float:
        """Over the classes that occur among some pixels; 0 where none does."""
        known = label < self.count
        chosen = pixels & known
        if not bool(chosen.any()):
            return 0.0
        return float(class_iou(confusion_matrix(predicted[chosen], label[chosen], self.count)).nanmean())

    def run(self, plain: "Pipeline", templated: Segmenter) -> WordAdaptation:
        """All parts in turn."""
        seen = self._seen(templated)
        dropped = self._synonyms(templated, seen)
        words = seen.words.clone()
        words[dropped] = _LEFT_OUT
        text = best_word(words.T, self.class_ids).T
        weight, level = self._mixture(text, seen)
        scores = text + weight * seen.looks - level[:, None]
        middle = scores[:, seen.held].mean(1) if bool(seen.held.any()) else scores.mean(1)
        unit = spread(scores[self.shown]) or spread(scores)  # of one class there is none
        zeros = torch.zeros(self.count)

        def moved(offset: Tensor) -> Tensor:
            return scores + offset[:, None] * unit

        offset = self._guarded("offsets of classes", moved, zeros, _OFFSETS, seen)

        def scaled(log: Tensor) -> Tensor:
            return (scores - middle[:, None]) * 2 ** log[:, None] + middle[:, None] + offset[:, None] * unit

        scale = 2 ** self._guarded("temperatures of classes", scaled, zeros, _SCALES, seen)
        shift = middle - scale * (middle + level) + offset * unit
        final = (
            scale[self.class_ids, None] * (words + weight * seen.looks[self.class_ids])
            + shift[self.class_ids, None]
        )
        temperature, errors = self._temperature(final, seen, plain)
        threshold = self._threshold(final * temperature, seen, plain)
        parts = _Parts(weight, scale, shift, dropped, temperature, threshold, errors)
        return self._adaptation(plain, templated, parts)

    def _seen(self, segmenter: Segmenter) -> _Seen:
        own, words = self.text(self.segmenter), self.text(segmenter)
        label = torch.cat(list(self.label))
        sizes = torch.tensor([len(each) for each in self.label])
        photo = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        held = label < self.count
        looks = torch.zeros(self.count, len(label))
        if self.means is not None:
            looks = torch.cat([self._looks(segmenter, self.means, index) for index in range(len(sizes))], 1)
        before = best_word(own.T, self.class_ids).argmax(1)
        seen = _Seen(words, looks, label, photo, held, self.shown[before], before)
        self._note("words as they were", self.miou(before, held, label), kept=True)
        if segmenter is not self.segmenter:
            told = segmenter.vocabulary.templates
            self._note(
                "templates", self._score(best_word(words.T, self.class_ids).T, seen), kept=True, chosen=told
            )
        return seen

    def _looks(self, segmenter: Segmenter, means: "_Means", index: int) -> Tensor:
        """``(K, n)`` how a photograph's pixels look to the others, and to the other halves of classes that it alone has."""
        rest = [number for number in range(len(self.label)) if number != index]
        present = self.present[rest].sum(0)
        lonely = self.present[index] & (present == 0)
        halves = []
        for half in means.halves[index]:
            sums = means.whole[rest].sum(0) + half * lonely[:, None]
            vectors, middle = centred_prototypes(sums, present + lonely)
            looks = segmenter.looks(self.encoded[index], vectors, every=self.every[index]).cpu().flatten(1)
            halves.append(looks - middle[:, None])
        return torch.where(means.left[index], halves[1], halves[0])

    def _predict(self, scores: Tensor, seen: _Seen) -> Tensor:
        return torch.where(seen.free, scores.argmax(0), seen.before)

    def _score(self, scores: Tensor, seen: _Seen) -> float:
        return self.miou(self._predict(scores, seen), seen.held, seen.label)

    def _synonyms(self, segmenter: Segmenter, seen: _Seen) -> Tensor:
        """``(M,)`` bool: words whose class is found better without them; a class keeps at least one."""
        dropped = torch.zeros(len(self.class_ids), dtype=torch.bool)
        words = seen.words.clone()
        best = self._score(best_word(words.T, self.class_ids).T, seen)
        names = [word for group in segmenter.vocabulary.words for word in group]
        left: list[str] = []
        for place, number in enumerate(self.class_ids.tolist()):
            own = (self.class_ids == number) & ~dropped
            if not bool(self.shown[number]) or int(own.sum()) < 2:
                continue
            tried = words.clone()
            tried[place] = _LEFT_OUT
            score = self._score(best_word(tried.T, self.class_ids).T, seen)
            if score > best + _LEAST_GAIN:
                best, words, dropped[place] = score, tried, True
                left.append(names[place])
        if len(self.class_ids) > self.count:
            self._note("synonyms", best, kept=bool(left), left_out=left)
        return dropped

    def _mixture(self, text: Tensor, seen: _Seen) -> tuple[float, Tensor]:
        """The weight of looks beside words, and ``(K,)`` what is taken from each class's words: by how much they always win."""
        looks = spread(seen.looks[self.shown])
        unit = spread(text[self.shown]) / looks if looks else 0.0
        level = self._levels(text, seen)

        def score(weight: float, share: float = 0.0) -> float:
            return self._score(text + weight * unit * seen.looks - share * level[:, None], seen)

        weights = _WEIGHTS if self.means is not None else (0.0,)
        weight, reached = best_candidate(weights, score)
        told = {"weight": weight} if self.means is not None else {"why": "the model offers no features"}
        self._note("prototypes", reached, kept=weight > 0, **told)
        share = 0.0
        for each in _SHARES:
            other, found = best_candidate(weights, partial(score, share=each))
            if found > reached + _LEAST_GAIN:
                weight, share, reached = other, each, found
        self._note("levels of words", reached, kept=share > 0, share=share, weight=weight)
        return weight * unit, share * level

    def _levels(self, text: Tensor, seen: _Seen) -> Tensor:
        """``(K,)`` mean score of each class over pixels of all that were shown, each as much as the others, from their mean."""
        own = [text[:, seen.label == number].mean(1) for number in seen.label[seen.held].unique().tolist()]
        if not own:
            return torch.zeros(self.count)
        level = torch.stack(own).mean(0)
        return (level - level[self.shown].mean()) * self.shown

    def _guarded(
        self,
        part: str,
        moved: Callable[[Tensor], Tensor],
        start: Tensor,
        steps: Sequence[float],
        seen: _Seen,
    ) -> Tensor:
        """What a search finds on all photographs, if what it finds on the others helps each; else where it began."""
        places = self.shown.nonzero().flatten().tolist()

        def search(pixels: Tensor) -> Tensor:
            def score(values: Tensor) -> float:
                return self.miou(self._predict(moved(values), seen), pixels, seen.label)

            return coordinate_ascent(start, steps, score, places=places, least_gain=_LEAST_GAIN)

        without = self._score(moved(start), seen)
        if self.alone:
            found = search(seen.held)
            self._note(part, self._score(moved(found), seen), kept=bool((found != start).any()))
            return found
        predicted = seen.before.clone()
        for index in range(len(self.label)):
            mine = seen.photo == index
            found = search(seen.held & ~mine)
            predicted[mine] = self._predict(moved(found), seen)[mine]
        helped = self.miou(predicted, seen.held, seen.label)
        kept = helped > without
        self._note(part, helped if kept else self.steps[-1]["miou"], kept=kept)
        return search(seen.held) if kept else start

    def _confidence(self, words: Tensor, plain: "Pipeline") -> Tensor:
        """``(N,)`` score of the winner of ``(M, N)`` logits, as the protocol gives it."""
        logits = words * plain.protocol.logit_scale
        if plain.protocol.activation == "sigmoid":
            return logits.amax(0).sigmoid()
        return logits.softmax(0).amax(0)

    def _temperature(
        self, words: Tensor, seen: _Seen, plain: "Pipeline"
    ) -> tuple[float, tuple[float, float]]:
        """The factor at which confidence tells best what is right (log loss), and the calibration error before and after."""
        labelled = seen.held | (seen.label == self.codes.unlabelled)  # the latter can only be wrong
        pixels = labelled & seen.free
        scores = best_word(words.T, self.class_ids).T
        right = (scores.argmax(0) == seen.label)[pixels]
        if not len(right):
            return 1.0, (float("nan"), float("nan"))

        def loss(factor: float) -> float:
            sure = self._confidence(words[:, pixels] * factor, plain).clamp(1e-6, 1 - 1e-6)
            return float(F.binary_cross_entropy(sure, right.float()))

        chosen, _ = best_candidate(_TEMPERATURES, lambda factor: -loss(factor))
        own = self._confidence(self.text(self.segmenter)[:, pixels], plain)
        before = Reliability.of(own, (seen.before == seen.label)[pixels]).error
        after = Reliability.of(self._confidence(words[:, pixels] * chosen, plain), right).error
        self._note("temperature", self.steps[-1]["miou"], kept=chosen != 1, factor=chosen)
        return chosen, (before, after)

    def _threshold(self, words: Tensor, seen: _Seen, plain: "Pipeline") -> float:
        """Below which a pixel is none of these; 0 where no mask says what that looks like, or nothing is won."""
        nothing = seen.label == self.codes.unlabelled
        if not bool(nothing.any()):
            return 0.0
        sure = self._confidence(words, plain)
        predicted = self._predict(best_word(words.T, self.class_ids).T, seen)
        pixels = seen.held | nothing
        label = torch.where(nothing, self.count, seen.label)

        def score(threshold: float) -> float:
            chosen = torch.where((sure < threshold) & seen.free, self.count, predicted)
            return float(class_iou(confusion_matrix(chosen[pixels], label[pixels], self.count + 1)).nanmean())

        candidates = [0.0, *torch.quantile(sure[pixels].double(), torch.tensor(_QUANTILES).double()).tolist()]
        threshold, reached = best_candidate(candidates, score)
        self._note(
            "threshold (none of these counts as a class)", reached, kept=threshold > 0, below=threshold
        )
        return min(threshold, 1 - 1e-6)

    def _adaptation(self, plain: "Pipeline", templated: Segmenter, parts: "_Parts") -> WordAdaptation:
        """All parts as numbers for each word that was shown, prototypes of all photographs among them."""
        weight, scale = parts.weight, parts.scale
        width = templated.embeddings.vectors.shape[1]
        vectors, middle = torch.zeros(self.count, width), torch.zeros(self.count)
        if self.means is not None:
            vectors, middle = centred_prototypes(self.means.whole.sum(0), self.present.sum(0))
        kept = self.shown[self.class_ids]
        ids = self.class_ids[kept]
        offset = parts.shift - scale * weight * middle
        names = [word for group in templated.vocabulary.words for word in group]
        shown = self.shown.tolist()
        told = zip(templated.vocabulary.names, shown, strict=True)
        account = {
            "photographs": len(self.label),
            "held_out": "halves of classes"
            if self.alone
            else "one photograph at a time, and halves of classes in one alone",
            "not_shown": [name for name, known in told if not known],
            "steps": self.steps,
            "calibration_error": {"before": parts.errors[0], "after": parts.errors[1]},
        }
        return WordAdaptation(
            words=tuple(word for word, here in zip(names, kept.tolist(), strict=True) if here),
            prototypes=(scale * weight)[ids, None] * vectors[ids],
            scale=scale[ids],
            offset=torch.where(parts.dropped[kept], _LEFT_OUT, offset[ids]),
            templates=resolve_templates(templated.vocabulary.templates or plain.templates),
            made_for=made_for(plain.model, plain.clip.fingerprint, plain.info, plain.method),
            temperature=parts.temperature,
            threshold=parts.threshold,
            account=account,
        )

    def _note(self, part: str, miou: float, *, kept: bool, **more: object) -> None:
        self.steps.append({"part": part, "miou": miou, "kept": kept, **more})


def _best_templates(plain: "Pipeline", segmenter: Segmenter, fit: _Fit) -> Segmenter:
    """The segmenter whose templates find most in the photographs; its own unless others are clearly better."""
    vocabulary, best = segmenter.vocabulary, segmenter
    everything = torch.cat(list(fit.label)) < fit.count

    def score(candidate: Segmenter) -> float:
        predicted = best_word(fit.text(candidate).T, fit.class_ids).argmax(1)
        return fit.miou(predicted, everything, torch.cat(list(fit.label)))

    # A program brings its own words' embeddings, and perhaps no CLIP that could make others.
    if isinstance(plain.model, ExportedModel) or not plain.clip.require_text().pools:
        return best
    reached = score(segmenter)
    for name in _TEMPLATES:
        candidate = plain.segmenter(Vocabulary(vocabulary.words, name, vocabulary.shared))
        found = score(candidate)
        if found > reached + _LEAST_GAIN:
            best, reached = candidate, found
    return best


def _class_means(segmenter: Segmenter, shots: Sequence[Shot], count: int) -> "_Means | None":
    """Of all photographs; None of a model without features."""
    if not segmenter.model.offers_features:
        return None
    whole, halves, left = [], [], []
    for shot in shots:
        features = F.normalize(segmenter.encode_dense(shot.image).cpu(), dim=0)
        label = torch.from_numpy(shot.label.astype("int64"))
        ids = label.unique()
        ids = ids[ids < count]
        masks = label == ids[:, None, None]
        on_left = _left_halves(masks)
        own = torch.zeros(3, count, len(features))
        for number, part in enumerate((masks, masks & on_left, masks & ~on_left)):
            empty = part.flatten(1).sum(1) == 0
            part = torch.where(empty[:, None, None], masks, part)
            own[number, ids] = pool_by_masks(features[None], part, torch.zeros(len(ids), dtype=torch.long))
        whole.append(own[0])
        halves.append((own[1], own[2]))
        step = _step(shot)
        left.append((masks & on_left).any(0)[::step, ::step].flatten())
    return _Means(torch.stack(whole), halves, left)


def _left_halves(masks: Tensor) -> Tensor:
    """``(N, 1, W)`` bool: columns that hold the left half of each mask's pixels."""
    columns = masks.sum(1).cumsum(1)
    return (2 * columns <= columns[:, -1:])[:, None]


def _present(shot: Shot, count: int) -> Tensor:
    """``(K,)`` bool: which classes have a pixel in a photograph."""
    label = torch.from_numpy(shot.label.astype("int64"))
    return torch.bincount(label[label < count], minlength=count) > 0


def _step(shot: Shot) -> int:
    height, width = shot.label.shape
    return max(1, round((height * width / _PIXELS) ** 0.5))


def _labels(shot: Shot, step: int) -> Tensor:
    return torch.from_numpy(shot.label[::step, ::step].astype("int64")).flatten()
