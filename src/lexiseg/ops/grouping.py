"""Patches gathered in groups: assignments, whole maps of them, and groups named by words (Xu et al., CVPR 2022).

Letters: B images, P patches, G groups of the last stage, K words, E channels of the joint space.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def hard_assignment(scores: Tensor) -> Tensor:
    """Every token to the one group that it fits best, with the gradient of the soft-max: straight through.

    Args:
        scores: ``(…, groups, tokens)``.

    Returns:
        The same shape; one 1 in every column, 0 elsewhere.
    """
    soft = scores.softmax(dim=-2)
    hard = F.one_hot(soft.argmax(dim=-2), scores.shape[-2]).movedim(-1, -2).to(soft.dtype)
    return hard + (soft - soft.detach())


def gumbel_assignment(scores: Tensor, noise: Tensor, temperature: float = 1.0) -> Tensor:
    """The assignment of training (section 3.2, eq. 3 and 5): :func:`hard_assignment` of noisy scores.

    Args:
        scores: ``(…, groups, tokens)``.
        noise: Drawn from Gumbel(0, 1), such as :func:`gumbel_noise`; the same shape.
        temperature: τ above 0, 1 in the release; changes the gradient and not the assignment.
    """
    return hard_assignment((scores + noise) / temperature)


def gumbel_noise(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draws of Gumbel(0, 1): ``-log E`` of an exponential ``E``; shape, type and device of ``like``."""
    return -torch.empty_like(like).exponential_(generator=generator).log()


def composed_assignment(stages: Sequence[Tensor]) -> Tensor:
    """Which last group every patch belongs to, by all stages of soft assignments.

    Args:
        stages: ``(B, groups, tokens)`` each, from the patches on; the tokens of one are the groups of the one before.

    Returns:
        ``(B, G, P)``, columns of sum 1: the product of the stages.
    """
    whole, *later = stages
    for stage in later:
        whole = stage @ whole
    return whole


def owners(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """The one group that every pixel belongs to.

    Args:
        maps: ``(B, G, h, w)`` soft assignments on the patch grid.
        size: Height and width in pixels.

    Returns:
        ``(B, H, W)`` int64: arg-max over the groups, after the maps were resized bilinearly.
    """
    return F.interpolate(maps.float(), size=size, mode="bilinear", align_corners=False).argmax(dim=1)


def name_groups(groups: Tensor, image: Tensor, text: Tensor, *, scale: float, top: int) -> Tensor:
    """How well each group fits each word.

    ``P = softmax(s)·softmax(s restricted to the words that fit the whole image best)`` with ``s = scale · g·t``. A row may sum
    to far less than 1: it is not brought back to 1.

    Args:
        groups: ``(B, G, E)``, of any length.
        image: ``(B, E)``, likewise.
        text: ``(K, E)`` unit vectors.
        scale: Factor on the cosines.
        top: How many words of the image stay; all where there are no more.

    Returns:
        ``(B, G, K)`` in [0, 1], float32.
    """
    words = text.float()
    scores = scale * F.normalize(groups.float(), dim=-1) @ words.T
    best = (F.normalize(image.float(), dim=-1) @ words.T).topk(min(top, len(words)), dim=-1).indices
    kept = torch.zeros(len(scores), len(words), dtype=torch.bool, device=scores.device).scatter_(
        1, best, True
    )
    restricted = scores.masked_fill(~kept[:, None], -torch.inf)
    return scores.softmax(dim=-1) * restricted.softmax(dim=-1)


def paint_groups(values: Tensor, owner: Tensor) -> Tensor:
    """Give every pixel the values of its group: ``(B, G, K)`` by ``(B, H, W)`` to ``(B, K, H, W)``."""
    flat = owner.flatten(1)[:, None].expand(-1, values.shape[2], -1)  # (B, K, H * W)
    return values.transpose(1, 2).gather(2, flat).unflatten(2, owner.shape[1:])


def background_groups(probabilities: Tensor, threshold: float) -> Tensor:
    """Which groups fit no word well enough; never the best of an image.

    Args:
        probabilities: ``(B, G, K)``.
        threshold: Lowered to the highest value of an image where that is lower.

    Returns:
        ``(B, G)`` bool.
    """
    best = probabilities.amax(dim=2)
    return best < best.amax(dim=1, keepdim=True).clamp(max=threshold)
