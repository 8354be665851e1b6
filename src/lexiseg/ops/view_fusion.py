"""Two views of the same pixels become one; words lie along axis 1."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

Fusion = Literal["mean", "entropy", "maximum"]
"""``mean`` of both, their mean weighed by ``exp(-entropy)``, or the larger of both, word by word."""


def fuse_pair(
    plain: Tensor,
    mirrored: Tensor,
    fusion: Fusion,
    *,
    entropies: Sequence[Tensor] | None = None,
    uncertain_above: float | None = None,
) -> Tensor:
    """Fuse the logits of a view and of its mirror image, already mapped back.

    Args:
        plain: Logits, words along axis 1.
        mirrored: The same of the mirror image.
        fusion: How.
        entropies: Normalised entropy of both, 1 along axis 1; needed for ``entropy`` and ``uncertain_above``.
        uncertain_above: Leave the plain logits alone where their entropy is at most this.
    """
    if uncertain_above is not None:
        return torch.where(_both(entropies)[0] > uncertain_above, (plain + mirrored) / 2, plain)
    if fusion == "maximum":
        return torch.maximum(plain, mirrored)
    if fusion == "entropy":
        first, second = _both(entropies)
        share = torch.sigmoid(second - first)  # exp(-a) / (exp(-a) + exp(-b))
        return share * plain + (1 - share) * mirrored
    return (plain + mirrored) / 2


def word_entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax along axis 1 over ``ln K``: 0 for one sure word, 1 for all alike."""
    return running_entropy([logits])


def running_entropy(parts: Iterable[Tensor]) -> Tensor:
    """The same for words that come in parts, without ever holding all of them.

    Args:
        parts: Logits of a few words each, along axis 1.

    Returns:
        1 along axis 1; 0 where there is but one word.
    """
    highest = total = weighted = torch.zeros(())
    count = 0
    for part in parts:
        peak = part.amax(dim=1, keepdim=True)
        new_highest = torch.maximum(highest, peak) if count else peak
        fade = (highest - new_highest).exp() if count else torch.zeros_like(peak)
        grown = (part - new_highest).exp()
        total = total * fade + grown.sum(dim=1, keepdim=True)
        weighted = weighted * fade + (part * grown).sum(dim=1, keepdim=True)
        highest = new_highest
        count += part.shape[1]
    if count < 2:
        return torch.zeros_like(highest)
    return (total.log() + highest - weighted / total) / math.log(count)


def _both(entropies: Sequence[Tensor] | None) -> tuple[Tensor, Tensor]:
    if entropies is None or len(entropies) != 2:
        raise ValueError("this fusion needs the entropies of both views")
    return entropies[0], entropies[1]
