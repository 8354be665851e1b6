"""ResCLIP's feedback by hand."""

import math

import torch
import torch.nn.functional as F

from lexiseg.ops import semantic_feedback as module
from lexiseg.ops.pamr import color_affinity, pamr
from lexiseg.ops.semantic_feedback import confident_classes, patch_majority, semantic_affinity


def test_classes_equal_the_plain_way_in_any_chunks(monkeypatch) -> None:
    generator = torch.Generator().manual_seed(6)
    images = torch.randn(2, 3, 12, 20, generator=generator)
    logits = torch.randn(2, 9, 3, 5, generator=generator) * 0.1
    colors = color_affinity(images, [2])
    whole = pamr(F.interpolate(logits, size=(12, 20), mode="bilinear"), colors, steps=3)
    probabilities = (40 * whole).softmax(dim=1)
    expected = torch.where(probabilities.amax(dim=1) < 0.4, 0, probabilities.argmax(dim=1))
    for chunk in (2, 4, 100):
        monkeypatch.setattr(module, "_CLASSES_AT_ONCE", chunk)
        found = confident_classes(logits, colors, scale=40.0, threshold=0.4, refine_steps=3)
        assert torch.equal(found, expected)
    assert 0.05 < (expected == 0).double().mean() < 0.95


def test_majority_of_whole_patches() -> None:
    classes = torch.tensor([[1, 1, 2, 3, 9], [1, 0, 3, 3, 9]])
    assert patch_majority(classes[None], 2).tolist() == [[[1, 3]]]


def test_affinity_of_a_row_by_hand() -> None:
    """One row of patches a a b a: the last a cannot be reached on a straight line of a's."""
    affinity = semantic_affinity(torch.tensor([[0, 0, 1, 0]]), decay_detached=True, sigma=0.1)
    decayed = {(0, 3): math.exp(-1), (1, 3): math.exp(-2 / 3)}
    expected = torch.tensor(
        [
            [1, 1, 0, decayed[0, 3]],
            [1, 1, 0, decayed[1, 3]],
            [0, 0, 1, 0],
            [decayed[0, 3], decayed[1, 3], 0, 1],
        ]
    )
    torch.testing.assert_close(affinity, expected / expected.sum(dim=1, keepdim=True), rtol=1e-4, atol=1e-4)


def test_without_decay_only_the_class_counts() -> None:
    affinity = semantic_affinity(torch.tensor([[0, 1], [1, 0]]), decay_detached=False, sigma=0.1)
    half = torch.tensor([[0.5, 0, 0, 0.5], [0, 0.5, 0.5, 0], [0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5]])
    torch.testing.assert_close(affinity, half, rtol=1e-4, atol=1e-4)


def test_smoothing_spreads_along_the_patch_index() -> None:
    affinity = semantic_affinity(torch.tensor([[0, 1, 2, 3, 4]]), decay_detached=True, sigma=1.0)
    kernel = torch.exp(-(torch.arange(5.0) ** 2) / 2)
    torch.testing.assert_close(
        affinity[0],
        kernel / kernel.sum() * torch.tensor([1, 1, 1, 0, 0]) / (kernel[:3].sum() / kernel.sum()),
        rtol=1e-4,
        atol=1e-4,
    )


def test_a_single_patch_is_like_itself() -> None:
    assert semantic_affinity(torch.tensor([[4]]), decay_detached=True, sigma=5.0).item() > 0.999
