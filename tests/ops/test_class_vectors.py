import pytest
import torch
import torch.nn.functional as F

from lexiseg.ops.class_vectors import best_word, mean_vectors, scaled_cosines

CLASS_IDS = torch.tensor([0, 0, 1, 2, 2, 2])


def test_mean_vectors_are_unit_means_of_each_class():
    text = F.normalize(torch.randn(6, 5, generator=torch.Generator().manual_seed(1)), dim=-1)
    vectors = mean_vectors(text, CLASS_IDS)
    for index, rows in enumerate((text[:2], text[2:3], text[3:])):
        mean = rows.mean(0)
        torch.testing.assert_close(vectors[index], mean / mean.norm())


def test_best_word_takes_the_highest_of_each_class():
    scores = torch.tensor([[[1.0, 3.0, -2.0, 0.5, 0.0, 4.0]], [[2.0, 1.0, 7.0, -1.0, -5.0, -3.0]]])
    assert best_word(scores, CLASS_IDS).tolist() == [[[3.0, -2.0, 4.0]], [[2.0, 7.0, -1.0]]]


def test_one_word_a_class_changes_nothing():
    scores = torch.randn(2, 3)
    assert best_word(scores, torch.arange(3)) is scores


@pytest.mark.parametrize(("log_scale", "factor"), [(2.0, 7.389056), (5.3, 100.0)], ids=["below", "capped"])
def test_cosines_are_scaled_and_the_scale_is_capped(log_scale, factor):
    generator = torch.Generator().manual_seed(2)
    vectors = torch.randn(2, 3, 5, generator=generator)
    text = F.normalize(torch.randn(7, 5, generator=generator), dim=-1)
    found = scaled_cosines(vectors, text, torch.tensor(log_scale))
    expected = factor * F.cosine_similarity(vectors[:, :, None], text, dim=-1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
