import torch
import torch.nn.functional as F

from lexiseg.ops.class_vectors import best_word, mean_vectors

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
