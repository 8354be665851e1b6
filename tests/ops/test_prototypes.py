"""Directions from the middle of all classes."""

import pytest
import torch

from lexiseg.ops.prototypes import centred_prototypes, spread


def test_a_feature_at_the_middle_is_of_no_class_and_each_mean_is_most_of_its_own():
    torch.manual_seed(0)
    means = torch.randn(5, 7) + 3  # a large common part
    counts = torch.tensor([1, 2, 3, 1, 2])
    vectors, middle = centred_prototypes(means * counts[:, None], counts)
    products = means @ vectors.T - middle
    assert products.argmax(1).tolist() == [0, 1, 2, 3, 4]
    torch.testing.assert_close(means.mean(0) @ vectors.T - middle, torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))


def test_a_class_that_was_not_shown_has_no_direction_and_moves_no_middle():
    torch.manual_seed(1)
    sums, counts = torch.randn(3, 7), torch.tensor([1, 0, 1])
    vectors, middle = centred_prototypes(sums, counts)
    assert not vectors[1].any()
    assert middle[1] == 0
    alone, _ = centred_prototypes(sums[[0, 2]], counts[[0, 2]])
    torch.testing.assert_close(vectors[[0, 2]], alone)
    assert not centred_prototypes(sums, torch.zeros(3))[0].any()


def test_spread_is_between_classes_not_between_pixels():
    assert spread(torch.tensor([[1.0, 5.0, 9.0], [3.0, 7.0, 11.0]])) == pytest.approx(1.0)
    assert spread(torch.zeros(3, 0)) == 0
