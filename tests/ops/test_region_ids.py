"""Masks as ids, ids on other grids, and one label per region: by hand and against plain loops."""

import torch

from lexiseg.ops.region_ids import OUTSIDE, UNSEGMENTED, ids_at, one_label_per_region, region_ids


def test_larger_masks_lie_over_smaller_ones():
    masks = torch.zeros(4, 3, 5, dtype=torch.bool)
    masks[0, :, :3] = True  # 9 pixels
    masks[1, 0] = True  # 5
    masks[2, 2, 3:] = True  # 2
    masks[3, 1, 1:3] = True  # 2, and wholly under the first
    assert region_ids(masks).tolist() == [[4, 4, 4, 3, 3], [4, 4, 4, 0, 0], [4, 4, 4, 1, 1]]


def test_no_masks_leave_everything_unsegmented():
    assert (region_ids(torch.zeros(0, 3, 5, dtype=torch.bool)) == UNSEGMENTED).all()


def test_nearest_pixels_in_both_directions():
    ids = torch.arange(7 * 11).view(7, 11) + 2**30 + OUTSIDE
    down = ids_at(ids, (3, 5))
    expected = [[int(ids[row * 7 // 3, column * 11 // 5]) for column in range(5)] for row in range(3)]
    assert down.tolist() == expected
    assert torch.equal(ids_at(torch.stack([ids, ids + 1]), (3, 5)), torch.stack([down, down + 1]))
    assert torch.equal(ids_at(ids, (14, 22)), ids.repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert ids_at(ids, (7, 11)) is ids


def test_every_region_has_its_most_frequent_label():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (11, 13), generator=generator, dtype=torch.int32)
    ids = torch.randint(23, (11, 13), generator=generator)
    found = one_label_per_region(labels, ids)
    assert found.dtype == labels.dtype
    for number in range(23):
        inside = ids == number
        if number == UNSEGMENTED:
            assert torch.equal(found[inside], labels[inside])
            continue
        own = labels[inside].tolist()
        expected = min(set(own), key=lambda label: (-own.count(label), label))
        assert (found[inside] == expected).all()


def test_of_equals_the_smallest():
    labels, ids = torch.tensor([[3, 1, 1, 3, 2]]), torch.ones(1, 5, dtype=torch.int64)
    assert (one_label_per_region(labels, ids) == 1).all()
