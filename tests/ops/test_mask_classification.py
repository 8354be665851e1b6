"""Maps, segments and instances against second implementations written out pixel by pixel."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexiseg.ops.mask_classification import full_size_masks, instances, panoptic_map, semantic_map

THINGS = torch.tensor([True, False, True, False, True])
SIZES = {"padded": (64, 96), "content": (53, 71), "size": (37, 83)}


def regions(count: int = 7, size: tuple[int, int] = (23, 29), *, seed: int = 1):
    """Smooth masks of several scales, and scores with "no object" as last column."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, count, 4, 5, generator=generator) * 6 + 1
    masks = F.interpolate(coarse, size=size, mode="bicubic")[0]
    scores = (3 * torch.randn(count, 6, generator=generator)).softmax(-1)
    return masks, scores[:, :-1], scores[:, -1]


def bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Half-pixel centres, edges repeated."""
    out = np.zeros(size)
    height, width = image.shape
    for row in range(size[0]):
        for column in range(size[1]):
            y = min(max((row + 0.5) * height / size[0] - 0.5, 0), height - 1)
            x = min(max((column + 0.5) * width / size[1] - 0.5, 0), width - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            dy, dx = y - top, x - left
            out[row, column] = (1 - dy) * ((1 - dx) * image[top, left] + dx * image[top, right]) + dy * (
                (1 - dx) * image[bottom, left] + dx * image[bottom, right]
            )
    return out


@pytest.mark.parametrize("order", ["masks first", "scores last"])
def test_semantic_map(order) -> None:
    masks, scores, _ = regions(3, (16, 24))
    found = semantic_map(masks, scores, order=order, **SIZES)
    (height, width), p = SIZES["content"], scores.double().numpy()
    padded = np.stack([bilinear(mask.double().numpy(), SIZES["padded"]) for mask in masks])

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    if order == "masks first":
        full = np.stack([bilinear(each[:height, :width], SIZES["size"]) for each in padded])
        expected = np.einsum("nk,nhw->khw", p, sigmoid(full))
    else:
        maps = np.einsum("nk,nhw->khw", p, sigmoid(padded))
        expected = np.stack([bilinear(each[:height, :width], SIZES["size"]) for each in maps])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)


def test_the_orders_differ() -> None:
    masks, scores, _ = regions(3, (16, 24))
    one, other = (
        semantic_map(masks, scores, order=order, **SIZES) for order in ("masks first", "scores last")
    )
    assert (one - other).abs().max() > 1e-2
    assert full_size_masks(masks, **SIZES).shape == (3, 37, 83)


def naive_panoptic(masks, scores, nothing, *, least_score, least_visible):
    p = torch.cat([scores, nothing[:, None]], dim=1)
    kept = [n for n in range(len(p)) if p[n].argmax() < p.shape[1] - 1 and p[n].max() > least_score]
    shown = masks.sigmoid()
    height, width = masks.shape[1:]
    owner = np.full((height, width), -1)
    for row in range(height):
        for column in range(width):
            owner[row, column] = max(
                kept, key=lambda n: (p[n].max() * shown[n, row, column]).item(), default=-1
            )
    ids, found, stuff = np.zeros((height, width), dtype=int), [], {}
    for n in kept:
        inside = shown[n].numpy() >= 0.5
        own = owner == n
        if not own.any() or not inside.any() or not (own & inside).any():
            continue
        if own.sum() / inside.sum() < least_visible:
            continue
        label = int(p[n].argmax())
        if not THINGS[label] and label in stuff:
            ids[own & inside] = stuff[label]
            continue
        found.append(label)
        stuff[label] = len(found)
        ids[own & inside] = len(found)
    return ids, found


@pytest.mark.parametrize("least_visible", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("least_score", [0.0, 0.5])
def test_panoptic_map(least_score, least_visible) -> None:
    seen = set()
    for seed in range(12):
        masks, scores, nothing = regions(5, (13, 17), seed=seed)
        limits = {"least_score": least_score, "least_visible": least_visible}
        ids, labels = naive_panoptic(masks, scores, nothing, **limits)
        found = panoptic_map(masks, scores, nothing, THINGS, **limits)
        assert (found.ids.numpy() == ids).all()
        assert [segment.class_id for segment in found.segments] == labels
        assert [segment.id for segment in found.segments] == list(range(1, len(labels) + 1))
        for segment in found.segments:
            assert segment.area == (ids == segment.id).sum() > 0
            assert segment.thing == THINGS[segment.class_id]
            assert least_score < segment.score <= 1
        seen |= set(labels)
    assert len(seen) > 2


def test_stuff_is_one_segment_and_things_are_not() -> None:
    masks = torch.full((4, 5, 7), -9.0)
    for region, column in enumerate((0, 2, 4, 6)):
        masks[region, :, column] = 9.0
    scores = torch.zeros(4, 5)
    scores[:2, 1], scores[2:, 2] = torch.tensor([0.6, 0.9]), 0.7
    found = panoptic_map(masks, scores, None, THINGS)
    assert [(s.class_id, s.area, round(s.score, 2)) for s in found.segments] == [
        (1, 10, 0.9),
        (2, 5, 0.7),
        (2, 5, 0.7),
    ]
    assert found.ids[0].tolist() == [1, 0, 1, 0, 2, 0, 3]


@pytest.mark.parametrize("what", ["all empty", "nothing everywhere", "no region"])
def test_a_picture_without_segments(what) -> None:
    masks, scores, nothing = regions(5)
    if what == "no region":
        masks, scores, nothing = masks[:0], scores[:0], nothing[:0]
    if what == "all empty":
        masks = masks - 100
    if what == "nothing everywhere":
        nothing = torch.ones_like(nothing)
    found = panoptic_map(masks, scores, nothing, THINGS)
    assert found.segments == ()
    assert not found.ids.any()
    assert found.ids.shape == masks.shape[1:]
    assert instances(masks, scores, THINGS).masks.shape[1:] == masks.shape[1:]


def test_one_region_alone() -> None:
    masks, scores, nothing = regions(1, (13, 17), seed=3)
    scores, nothing = F.one_hot(torch.tensor([2]), 5).float() * 0.8, nothing * 0
    (segment,) = panoptic_map(masks, scores, nothing, THINGS).segments
    assert (segment.class_id, segment.area) == (2, int((masks[0] >= 0).sum()))


@pytest.mark.parametrize("most", [7, 100])
def test_instances(most) -> None:
    masks, scores, _ = regions(5, (13, 17))
    masks[2] = -3.0
    pairs = sorted(
        ((scores[n, k].item(), n, k) for n in range(5) for k in range(5)), key=lambda pair: -pair[0]
    )[:most]
    expected = []
    for score, n, k in pairs:
        if THINGS[k]:
            inside = masks[n] > 0
            quality = masks[n].sigmoid()[inside].sum() / (inside.sum() + 1e-6)
            expected.append((score * quality.item(), n, k))
    expected.sort(key=lambda each: -each[0])
    found = instances(masks, scores, THINGS, most=most)
    assert found.scores.tolist() == pytest.approx([score for score, *_ in expected])
    sound = [index for index, (score, *_) in enumerate(expected) if score > 0]
    assert [found.class_ids[i].item() for i in sound] == [expected[i][2] for i in sound]
    assert all(torch.equal(found.masks[i], masks[expected[i][1]] > 0) for i in sound)
    assert len(sound) > 1
