"""k-means against plain loops from the same start."""

import torch

from lexiseg.ops.k_means import k_means


def plain_k_means(points, centres, iterations):
    for _ in range(iterations):
        labels = [
            min(range(len(centres)), key=lambda k: float(((p - centres[k]) ** 2).sum())) for p in points
        ]
        moved = []
        for index, centre in enumerate(centres):
            own = [p for p, label in zip(points, labels, strict=True) if label == index]
            moved.append(sum(own) / len(own) if own else centre)
        shift = sum(float(((a - b) ** 2).sum()) for a, b in zip(centres, moved, strict=True))
        centres = moved
        if shift < 1e-4:
            break
    return labels


def test_equals_plain_loops():
    points = torch.randn(53, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for seed in range(4):
        start = torch.randperm(53, generator=torch.Generator().manual_seed(seed))[:5]
        for iterations in (1, 2, 100):
            found = k_means(points, 5, seed=seed, iterations=iterations)
            assert found.tolist() == plain_k_means(points, list(points[start]), iterations)


def test_groups_far_apart_are_found_and_the_seed_decides():
    generator = torch.Generator().manual_seed(1)
    centres = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]]).repeat_interleave(7, 0)
    points = centres + torch.randn(21, 2, generator=generator)
    labels = next(
        found for found in (k_means(points, 3, seed=s) for s in range(20)) if len(found.unique()) == 3
    )
    assert all(len(group.unique()) == 1 for group in labels.view(3, 7))
    assert torch.equal(k_means(points, 3, seed=4), k_means(points, 3, seed=4))


def test_fewer_points_than_clusters_and_equal_points():
    assert sorted(k_means(torch.tensor([[0.0], [9.0]]), 16).tolist()) == [0, 1]
    assert k_means(torch.ones(5, 2), 3).tolist() == [0] * 5
