"""Searches without gradients: one number after another, each along a line of candidates."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def best_candidate(candidates: Sequence[float], score: Callable[[float], float]) -> tuple[float, float]:
    """The candidate of the highest score, the first among equals, and that score.

    Raises:
        ValueError: No candidate.
    """
    if not candidates:
        raise ValueError("expected at least one candidate")
    scores = [score(each) for each in candidates]
    place = max(range(len(scores)), key=scores.__getitem__)
    return candidates[place], scores[place]


def coordinate_ascent(
    start: Tensor,
    steps: Sequence[float],
    score: Callable[[Tensor], float],
    *,
    places: Sequence[int],
    rounds: int = 2,
    least_gain: float = 0.0,
) -> Tensor:
    """Move one number of a vector at a time to where the score is highest, and stay where little is won.

    Args:
        start: ``(K,)`` where to begin; it stays as it is.
        steps: What may be added to a number, each counted from where it stands.
        score: Of a whole vector; higher is better.
        places: Which numbers may move, in this order.
        rounds: How often all are tried; it ends earlier where none moves.
        least_gain: A move has to raise the score by more.

    Returns:
        ``(K,)`` the vector reached.
    """
    values, best = start.clone(), score(start)
    for _ in range(rounds):
        before = values.clone()
        for place in places:
            for step in steps:
                tried = values.clone()
                tried[place] = before[place] + step
                reached = score(tried)
                if reached > best + least_gain:
                    values, best = tried, reached
        if torch.equal(values, before):
            break
    return values
