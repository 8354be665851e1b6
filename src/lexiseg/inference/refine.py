"""Optional last touches on logits or labels: colour-adaptive refinement, and a vote inside given masks."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lexiseg.errors import ConfigError, DataError
from lexiseg.ops.pamr import DEFAULT_DILATIONS, ColorAffinity, color_affinity, pamr

_MASKS_AT_ONCE = 16

_REFINED_PIXELS = 2**24
"""Largest photograph that is refined: the colours of 16 neighbours take 200 bytes a pixel."""

MOST_REFINEMENT = 500_000_000
"""Pixels by words by rounds that strangers may ask for: about a minute of one core."""


def require_affordable(pixels: int, words: int, steps: int, *, most: int = MOST_REFINEMENT) -> None:
    """Refuse a refinement that would hold up everybody else.

    Args:
        pixels: Of the photograph.
        words: Each is refined by itself.
        steps: Rounds of :class:`PAMR`; 0 costs nothing.
        most: The bound of their product.

    Raises:
        ConfigError: More than that.
    """
    if pixels * words * steps > most:
        raise ConfigError(
            f"refine: {steps} rounds for {words} words on {pixels} pixels are more than is done here (the product may be "
            f"{most}); ask for fewer rounds or words, or shrink the photograph"
        )


class PAMR:
    """Pixel-adaptive mask refinement of logits at the photograph's size (Araslanov and Roth 2020).

    Usage: ``refined = PAMR().prepare(image)``, then ``refined(logits)`` for a few words at a time.

    Args:
        steps: How often logits spread to like-coloured neighbours; NACLIP takes 10.
        dilations: Distances to those neighbours in pixels.

    Raises:
        ConfigError: Negative steps, or no or too small dilations.
    """

    def __init__(self, *, steps: int = 10, dilations: Sequence[int] = DEFAULT_DILATIONS) -> None:
        if steps < 0 or not dilations or min(dilations) < 1:
            raise ConfigError(
                f"pamr: expected steps of at least 0 and dilations of at least 1 pixel, got steps {steps} "
                f"and dilations {list(dilations)}"
            )
        self.steps = steps
        self.dilations = tuple(dilations)

    def prepare(self, images: Tensor) -> "PreparedPAMR":
        """Measure the colours of ``(B, 3, H, W)`` images in any linear colour scale, once for all words.

        Raises:
            DataError: Too many pixels for the memory that colours take.
        """
        height, width = images.shape[-2:]
        if height * width > _REFINED_PIXELS:
            raise DataError(
                f"refinement works at the photograph's size, and {height}x{width} pixels (height x width) are "
                "too many for it; set pamr_steps=0 or give a smaller photograph"
            )
        return PreparedPAMR(color_affinity(images, self.dilations), self.steps)


class PreparedPAMR:
    """:class:`PAMR` for given images.

    Args:
        affinity: Of their colours.
        steps: As in :class:`PAMR`.
    """

    def __init__(self, affinity: ColorAffinity, steps: int) -> None:
        self._affinity = affinity
        self._steps = steps

    def __call__(self, logits: Tensor) -> Tensor:
        """Refine ``(B, k, h, w)`` logits of any number of words to ``(B, k, H, W)``; words do not mix."""
        return pamr(logits, self._affinity, steps=self._steps)


class MaskVote:
    """All pixels of a class-agnostic mask take one class.

    Where masks overlap, the smaller one decides; pixels outside all masks keep their label.

    Args:
        masks: ``(M, H, W)`` bool.

    Raises:
        DataError: Not such a tensor.
    """

    def __init__(self, masks: Tensor) -> None:
        if masks.ndim != 3 or masks.dtype != torch.bool:
            raise DataError(
                f"expected masks as a (count, height, width) boolean tensor, got {masks.dtype} "
                f"{tuple(masks.shape)}"
            )
        areas = masks.flatten(1).sum(dim=1)
        self._order = areas.argsort(descending=True, stable=True)
        self._masks = masks[self._order]

    @property
    def masks(self) -> Tensor:
        """``(M, H, W)`` bool, the largest first: the order that classes and scores stand in here."""
        return self._masks

    def as_given(self, classes: Tensor) -> Tensor:
        """``(M,)`` classes in the order in which the masks came."""
        return torch.empty_like(classes).index_copy_(0, self._order.to(classes.device), classes)

    @classmethod
    def of(cls, masks: npt.NDArray[np.bool_], size: tuple[int, int]) -> "MaskVote":
        """From an array, for a photograph of this height and width.

        Raises:
            DataError: Not ``(M, H, W)`` bool of that size.
        """
        if not isinstance(masks, np.ndarray) or masks.dtype != np.bool_ or masks.shape[1:] != size:
            found = f"{masks.dtype} {masks.shape}" if isinstance(masks, np.ndarray) else type(masks).__name__
            raise DataError(
                f"expected masks as a (count, {size[0]}, {size[1]}) boolean array, the photograph's height and "
                f"width, got {found}"
            )
        return cls(torch.from_numpy(masks))

    def mean_logits(self, logits: Tensor) -> Tensor:
        """Mean logit of each word inside each mask, largest mask first: ``(k, H, W)`` to ``(k, M)``.

        Words may come in parts; concatenate the results and take the argmax over the words.
        """
        flat = logits.float().flatten(1)
        parts = self._masks.flatten(1).split(
            _MASKS_AT_ONCE
        )  # they stay where they are; logits may be elsewhere
        means = [flat @ _shares(part.to(flat.device)).T for part in parts]
        return torch.cat(means, dim=1) if means else flat.new_zeros(len(flat), 0)

    def by_logits(self, labels: Tensor, logits: Tensor) -> Tensor:
        """Labels ``(H, W)`` in which every mask has the class of the highest mean logit of ``(K, H, W)``."""
        return self.paint(labels, self.mean_logits(logits).argmax(dim=0))

    def by_labels(self, labels: Tensor) -> Tensor:
        """Labels ``(H, W)`` in which every mask has its most frequent label."""
        return self.paint(labels, self.label_votes(labels))

    def label_votes(self, labels: Tensor) -> Tensor:
        """``(M,)`` int64, the most frequent label of ``(H, W)`` inside each mask, largest mask first."""
        flat = labels.flatten().long()
        votes = [
            torch.bincount(flat[mask.flatten().to(flat.device)], minlength=1).argmax() for mask in self._masks
        ]
        return torch.stack(votes) if votes else flat.new_zeros(0)

    def paint(self, labels: Tensor, classes: Tensor) -> Tensor:
        """Labels with one class per mask, largest mask first; masks without a pixel change nothing.

        Args:
            labels: ``(H, W)``; is not changed.
            classes: ``(M,)`` in the order of :meth:`mean_logits`.

        Raises:
            DataError: Labels of another size than the masks.
        """
        if labels.shape != self._masks.shape[1:]:
            raise DataError(
                f"masks of {tuple(self._masks.shape[1:])} do not fit labels of {tuple(labels.shape)} "
                "(height, width); give masks at the photograph's size"
            )
        painted = labels.clone()
        for mask, chosen in zip(self._masks, classes, strict=True):
            painted[mask] = chosen.to(painted.dtype)
        return painted


def _shares(masks: Tensor) -> Tensor:
    """``(m, H * W)`` rows that average over a mask; an empty mask gives zeros."""
    weights = masks.float()
    return weights / weights.sum(dim=1, keepdim=True).clamp_min(1)
