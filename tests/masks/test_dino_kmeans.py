"""Clusters of patch tokens, brought to the photograph's size."""

import numpy as np
import pytest
import torch

from lexiseg.errors import ConfigError
from lexiseg.masks.dino_kmeans import DinoKMeans, KMeansSettings
from lexiseg.ops.k_means import k_means
from mask_cases import photograph


class FakeTokens:
    """Tokens ``(C, 5, 3)`` of three kinds."""

    kinds = torch.tensor([[0, 0, 1], [0, 2, 1], [2, 2, 1], [2, 2, 2], [0, 0, 0]])

    def __call__(self, image):
        assert image.dtype == np.uint8
        return torch.eye(3)[self.kinds].permute(2, 0, 1) * 10


def test_clusters_at_the_size_of_the_photograph():
    provider = DinoKMeans(FakeTokens(), source={}, settings=KMeansSettings(clusters=15))
    masks = provider(photograph(23, 31))
    rows, columns = (np.arange(23) + 0.5) * 5 // 23, (np.arange(31) + 0.5) * 3 // 31
    expected = FakeTokens.kinds.numpy()[rows.astype(int)[:, None], columns.astype(int)]
    assert {mask.tobytes() for mask in masks} == {(expected == kind).tobytes() for kind in range(3)}
    assert masks.areas.tolist() == sorted(masks.areas.tolist(), reverse=True)


def test_equals_clustering_the_tokens_by_hand():
    tokens = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    masks = DinoKMeans(lambda _: tokens, source={}, settings=KMeansSettings(clusters=4, seed=7))(
        photograph(10, 6)
    )
    points = torch.stack([tokens[:, row, column] for row in range(5) for column in range(3)])
    labels = k_means(points, 4, seed=7).view(5, 3).numpy().repeat(2, 0).repeat(2, 1)
    assert {mask.tobytes() for mask in masks} == {(labels == index).tobytes() for index in np.unique(labels)}


def test_settings_say_what_masks_depend_on():
    provider = DinoKMeans(FakeTokens(), source={"model": "dino"}, settings=KMeansSettings(seed=3))
    assert provider.settings == {"model": "dino", "clusters": 16, "seed": 3, "iterations": 100}


@pytest.mark.parametrize("name", ["clusters", "iterations"])
def test_impossible_settings(name):
    with pytest.raises(ConfigError, match=f"dino.{name}: expected at least"):
        KMeansSettings(**{name: 0})
