"""Segments and instances against second implementations written out pixel by pixel."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexiseg.ops import mask_classification
from lexiseg.ops.class_chunks import HeldMaps
from lexiseg.ops.mask_classification import instances, panoptic_map
from lexiseg.ops.run_length import decode_rle

THINGS = torch.tensor([True, False, True, False, True])


def panoptic(masks, scores, nothing, **limits):
    return panoptic_map(HeldMaps(masks), scores, nothing, THINGS, size=tuple(masks.shape[1:]), **limits)


def things(masks, scores, **limits):
    """What was found, and its masks."""
    found = instances(HeldMaps(masks), scores, THINGS, size=tuple(masks.shape[1:]), **limits)
    return found, [torch.from_numpy(decode_rle(runs, found.size)) for runs in found.runs]


def regions(count: int = 7, size: tuple[int, int] = (23, 29), *, seed: int = 1):
    """Smooth masks of several scales, and scores with "no object" as last column."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, count, 4, 5, generator=generator) * 6 + 1
    masks = F.interpolate(coarse, size=size, mode="bicubic")[0]
    scores = (3 * torch.randn(count, 6, generator=generator)).softmax(-1)
    return masks, scores[:, :-1], scores[:, -1]


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
        found = panoptic(masks, scores, nothing, **limits)
        assert (found.ids.numpy() == ids).all()
        assert [segment.class_id for segment in found.segments] == labels
        assert [segment.id for segment in found.segments] == list(range(1, len(labels) + 1))
        for segment in found.segments:
            assert segment.area == (ids == segment.id).sum() > 0
            assert segment.thing == THINGS[segment.class_id]
            assert least_score < segment.score <= 1
        seen |= set(labels)
    assert len(seen) > 2


def test_a_few_rows_at_a_time_are_all_at_once(monkeypatch) -> None:
    masks, scores, nothing = regions(7, (13, 17), seed=4)
    whole = panoptic(masks, scores, nothing, least_visible=0.3)
    assert len(whole.segments) > 1
    monkeypatch.setattr(
        mask_classification, "_TILE_BYTES", 3 * 4 * 7 * 17
    )  # three of thirteen rows, then less
    parts = panoptic(masks, scores, nothing, least_visible=0.3)
    assert torch.equal(parts.ids, whole.ids)
    assert parts.segments == whole.segments


def test_never_all_regions_of_all_pixels_at_once(monkeypatch) -> None:
    masks, scores, nothing = regions(5, (31, 17), seed=4)
    asked = []

    class Told(HeldMaps):
        def tile(self, rows, columns, words):
            found = super().tile(rows, columns, words)
            asked.append(found.numel())
            return found

    monkeypatch.setattr(mask_classification, "_TILE_BYTES", 4 * 600)
    panoptic_map(Told(masks), scores, nothing, THINGS, size=(31, 17))
    assert max(asked) <= 600 < masks.numel()
    asked.clear()
    instances(Told(masks), scores, THINGS, size=(31, 17))
    assert max(asked) == 31 * 17, "one region at a time"


def test_a_share_that_is_just_enough_is_enough() -> None:
    masks = torch.full((2, 2, 5), -9.0)
    masks[0], masks[1, :, 4] = 5.0, 9.0
    scores = torch.zeros(2, 5)
    scores[0, 0], scores[1, 2] = 0.6, 0.9
    assert [s.area for s in panoptic(masks, scores, None, least_visible=0.8).segments] == [8, 2]
    assert [s.area for s in panoptic(masks, scores, None, least_visible=0.81).segments] == [2]


def test_stuff_is_one_segment_and_things_are_not() -> None:
    masks = torch.full((4, 5, 7), -9.0)
    for region, column in enumerate((0, 2, 4, 6)):
        masks[region, :, column] = 9.0
    scores = torch.zeros(4, 5)
    scores[:2, 1], scores[2:, 2] = torch.tensor([0.6, 0.9]), 0.7
    found = panoptic(masks, scores, None)
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
    found = panoptic(masks, scores, nothing)
    assert found.segments == ()
    assert not found.ids.any()
    assert found.ids.shape == masks.shape[1:]
    assert not any(mask.any() for mask in things(masks, scores)[1]) or what == "nothing everywhere"


def test_one_region_alone() -> None:
    masks, scores, nothing = regions(1, (13, 17), seed=3)
    scores, nothing = F.one_hot(torch.tensor([2]), 5).float() * 0.8, nothing * 0
    (segment,) = panoptic(masks, scores, nothing).segments
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
    found, regions_found = things(masks, scores, most=most)
    assert found.scores.tolist() == pytest.approx([score for score, *_ in expected])
    sound = [index for index, (score, *_) in enumerate(expected) if score > 0]
    assert [found.class_ids[i].item() for i in sound] == [expected[i][2] for i in sound]
    assert all(torch.equal(regions_found[i], masks[expected[i][1]] > 0) for i in sound)
    assert len(sound) > 1
