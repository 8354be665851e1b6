"""Two classifiers' scores as one: powers of probabilities, one number at a time."""

import pytest
import torch

from lexiseg.ops.region_scores import (
    append_thing_logit,
    best_region_of_each_class,
    fuse_with_seen_mean,
    geometric_mean,
)


def probabilities(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).softmax(-1)


def test_geometric_mean():
    p, q = probabilities(2, 5, 7, seed=0), probabilities(2, 5, 7, seed=1)
    scores = geometric_mean(p.log(), q.log(), 0.7)
    torch.testing.assert_close(scores, p**0.3 * q**0.7)


def test_fusion_of_seen_and_unseen():
    p, q = probabilities(5, 7, seed=2), probabilities(5, 7, seed=3)
    seen = torch.tensor([True, False, True, True, False, False, True])
    scores = fuse_with_seen_mean(p.log(), q.log(), seen, 0.6)
    for n in range(5):
        mean = sum(q[n, k] for k in range(7) if seen[k]) / 4
        for k in range(7):
            expected = p[n, k] ** 0.6 * mean**0.4 if seen[k] else p[n, k] ** 0.4 * q[n, k] ** 0.6
            torch.testing.assert_close(scores[n, k], expected)


def test_without_a_seen_class_all_are_unseen():
    p, q = probabilities(3, 5, seed=4).log(), probabilities(3, 5, seed=5).log()
    seen = torch.zeros(5, dtype=torch.bool)
    torch.testing.assert_close(fuse_with_seen_mean(p, q, seen, 0.6), geometric_mean(p, q, 0.6))


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_scores_that_underflow_stay_numbers(weight):
    p, q = torch.tensor([[-400.0, 0.0]]), torch.tensor([[-0.0, -300.0]])
    seen = torch.tensor([True, False])
    assert fuse_with_seen_mean(p, q, seen, weight).isfinite().all()
    assert geometric_mean(p, q, weight).isfinite().all()


def test_best_regions():
    scores = torch.tensor([[[0.1, 0.9, 0.2], [0.3, 0.8, 0.1], [0.2, 0.1, 0.1], [0.0, 0.0, 0.0]]])
    assert best_region_of_each_class(scores).tolist() == [[True, True, False, False]]


def test_things_by_hand():
    """``p(class) = sigmoid(t) softmax(l)``, and the rest is nothing's."""
    logits, things = torch.tensor([[1.0, 3.0, -2.0], [40.0, 0.0, 5.0]]), torch.tensor([0.7, -2.0])
    scores = append_thing_logit(logits, things).softmax(-1)
    expected = logits.softmax(-1) * things.sigmoid()[:, None]
    torch.testing.assert_close(scores[:, :3], expected)
    torch.testing.assert_close(scores[:, 3], 1 - things.sigmoid())
