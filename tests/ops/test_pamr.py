"""Colour refinement against plain loops over pixels; both ways of propagating agree."""

import math
import statistics

import pytest
import torch

from lexiseg.ops import pamr as module
from lexiseg.ops.pamr import color_affinity, pamr

HEIGHT, WIDTH = 7, 11


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return (
        torch.randn(2, 3, HEIGHT, WIDTH, generator=generator),
        torch.randn(2, 19, HEIGHT, WIDTH, generator=generator),
    )


def plain_step(
    image: torch.Tensor, logits: torch.Tensor, row: int, column: int, dilations: list[int]
) -> torch.Tensor:
    def clamp(r: int, c: int) -> tuple[int, int]:
        return min(max(r, 0), HEIGHT - 1), min(max(c, 0), WIDTH - 1)

    places = [
        clamp(row + d * dy, column + d * dx) for d in dilations for dy in (-1, 0, 1) for dx in (-1, 0, 1)
    ]
    around = [p for i, p in enumerate(places) if i % 9 != 4]
    closeness = []
    for r, c in around:
        terms = []
        for channel in image:
            deviation = statistics.stdev(float(channel[p]) for p in places)
            terms.append(-abs(float(channel[row, column] - channel[r, c])) / (1e-8 + 0.1 * deviation))
        closeness.append(sum(terms) / 3)
    peak = max(closeness)
    weights = [math.exp(value - peak) for value in closeness]
    return sum(w * logits[:, r, c] for w, (r, c) in zip(weights, around, strict=True)) / sum(weights)


@pytest.mark.parametrize("dilations", [[1], [2, 4]])
@pytest.mark.parametrize("place", [(0, 0), (3, 5), (6, 9)])
def test_one_step_equals_plain_loops(dilations: list[int], place: tuple[int, int]) -> None:
    images, logits = scene()
    refined = pamr(logits, color_affinity(images, dilations), steps=1)
    for index in range(2):
        expected = plain_step(images[index], logits[index], *place, dilations)
        torch.testing.assert_close(refined[index, :, place[0], place[1]], expected)


def test_sparse_and_shifted_agree(monkeypatch) -> None:
    images, logits = scene()
    affinity = color_affinity(images, [1, 3])
    sparse = pamr(logits, affinity, steps=5)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    torch.testing.assert_close(pamr(logits, affinity, steps=5), sparse, rtol=1e-4, atol=1e-5)


def test_classes_do_not_mix_and_means_are_kept() -> None:
    images, logits = scene()
    affinity = color_affinity(images)
    torch.testing.assert_close(affinity.weights.sum(dim=1), torch.ones(2, HEIGHT, WIDTH))
    together = pamr(logits, affinity, steps=3)
    torch.testing.assert_close(pamr(logits[:, 4:5], affinity, steps=3), together[:, 4:5])
    constant = pamr(torch.full_like(logits, 2.5), affinity, steps=3)
    torch.testing.assert_close(constant, torch.full_like(constant, 2.5))


def test_color_scale_does_not_matter() -> None:
    images, logits = scene()
    other = images * torch.tensor([2.0, 5.0, 0.5]).view(3, 1, 1) + 3
    expected = pamr(logits, color_affinity(images), steps=2)
    torch.testing.assert_close(pamr(logits, color_affinity(other), steps=2), expected, rtol=1e-3, atol=1e-4)


def test_smaller_logits_are_resized_and_no_step_is_resizing_alone() -> None:
    images, logits = scene()
    resized = pamr(logits[..., :4, :6], color_affinity(images), steps=0)
    assert resized.shape == logits.shape
    torch.testing.assert_close(resized[..., -1, -1], logits[..., 3, 5])


def test_one_color_gives_the_mean_of_the_neighbours() -> None:
    logits = torch.zeros(1, 1, 3, 3)
    logits[..., 1, 1] = 8.0
    refined = pamr(logits, color_affinity(torch.zeros(1, 3, 3, 3), [1]), steps=1)
    torch.testing.assert_close(refined[0, 0, 0], torch.ones(3))
    assert refined[0, 0, 1, 1] == 0


def test_dilations_must_reach_somewhere() -> None:
    with pytest.raises(ValueError, match="dilations of at least 1 pixel"):
        color_affinity(torch.zeros(1, 3, 3, 3), [])
    with pytest.raises(ValueError, match="at least 1"):
        color_affinity(torch.zeros(1, 3, 3, 3), [0, 2])


def test_memory_beyond_the_result_does_not_grow_with_the_classes(monkeypatch) -> None:
    widths: list[int] = []
    original = module._propagate_sparse

    def watched(logits, matrix, steps):
        class Watched:
            def __matmul__(self, columns):
                widths.append(columns.shape[1])
                return matrix @ columns

        return original(logits, Watched(), steps)

    monkeypatch.setattr(module, "_propagate_sparse", watched)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    images, _ = scene()
    pamr(torch.randn(1, 100, HEIGHT, WIDTH), color_affinity(images[:1], [1]), steps=2)
    assert max(widths) <= 16
    assert sum(widths) == 2 * 100
