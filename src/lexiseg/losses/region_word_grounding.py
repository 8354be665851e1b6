"""OpenSeg's grounding of a caption's words in an image's regions."""

import torch
import torch.nn.functional as F
from torch import Tensor


def caption_scores(
    regions: Tensor, words: Tensor, present: Tensor, *, attention_temperature: float = 1.0
) -> Tensor:
    """How well each caption fits each image (OpenSeg, eq. 3).

    ``G(I, C) = (1/K) sum_j sum_i softmax_i(<z_i, w_j> / t_a) <z_i, w_j>``: each word looks for its regions; the soft-max runs
    over the regions of one image, for each word by itself.

    Args:
        regions: ``(B, N, D)`` z, not normalised.
        words: ``(C, W, D)`` w of each of C captions, not normalised.
        present: ``(C, W)`` bool, which of them count: neither padding nor dropped; at least one of each caption.
        attention_temperature: ``t_a``.

    Returns:
        ``(B, C)``, row b for image b.
    """
    cosines = torch.einsum("bnd,cwd->bncw", F.normalize(regions, dim=-1), F.normalize(words, dim=-1))
    return pooled_scores(cosines, present, attention_temperature=attention_temperature)


def pooled_scores(cosines: Tensor, present: Tensor, *, attention_temperature: float = 1.0) -> Tensor:
    """:func:`caption_scores` of cosines ``(B, N, C, W)``."""
    found = ((cosines / attention_temperature).softmax(1) * cosines).sum(1)  # (B, C, W)
    return found.where(present, 0).sum(-1) / present.sum(-1)


def grounding_loss(scores: Tensor, *, temperature: float = 1.0) -> Tensor:
    """The caption among all of the batch for each image, and the image for each caption; both summed (OpenSeg, eq. 4).

    ``-1/B sum_b [log softmax over images of G(., b) / t + log softmax over captions of G(b, .) / t]``, taken at b.

    Args:
        scores: ``(B, B)``, captions in the order of the images.
        temperature: ``t``.
    """
    own = torch.arange(len(scores), device=scores.device)
    logits = scores / temperature
    return F.cross_entropy(logits.T, own) + F.cross_entropy(logits, own)


def drop_words(present: Tensor, keep: float, generator: torch.Generator | None = None) -> Tensor:
    """Leave words out at random, so that those that remain must be grounded by themselves.

    Args:
        present: ``(C, W)`` bool, on the generator's device.
        keep: Probability that a word stays.
        generator: Of the draw; torch's own if None.

    Returns:
        ``(C, W)`` bool; at least one word of each caption that has any: the one drawn lowest.
    """
    drawn = torch.rand(present.shape, generator=generator, device=present.device)
    drawn = drawn.where(present, torch.inf)
    lowest = drawn == drawn.amin(-1, keepdim=True)
    return present & ((drawn < keep) | lowest)
