"""Pairs by the similarity of words and regions: which region a word takes, and what a file of them says."""

import pytest
import torch

from lexiseg.recipes.region_pairs import best_regions


def test_each_word_takes_its_nearest_region():
    regions = torch.tensor([[2.0, 0, 0], [0, 0.1, 0], [1, 1, 0]])
    words = torch.tensor([[0.0, 5, 0], [1, 0, 0], [0, 3, 0], [1, 1, 1]])
    cosines, best = best_regions(regions, words)
    assert best == [1, 0, 1, 2]
    assert cosines == pytest.approx([1, 1, 1, 2 / (2**0.5 * 3**0.5)])
