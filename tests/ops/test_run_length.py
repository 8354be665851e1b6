"""Run lengths: by hand, against plain loops, and there and back."""

import numpy as np
import pytest

from lexiseg.ops.run_length import (
    box_of_rle,
    compress_counts,
    decode_rle,
    encode_labels,
    encode_rle,
    expand_counts,
    sample_rle,
)

HEIGHT, WIDTH = 7, 11


def random_masks(count=20):
    rng = np.random.default_rng(3)
    return rng.random((count, HEIGHT, WIDTH)) < rng.random((count, 1, 1))


def plain_string(counts):
    """COCO's packing, number by number."""
    text = ""
    for index, count in enumerate(counts):
        rest = count - (counts[index - 2] if index > 2 else 0)
        while True:
            chunk, rest = rest & 31, rest >> 5
            done = rest == (-1 if chunk & 16 else 0)
            text += chr(48 + chunk + (0 if done else 32))
            if done:
                break
    return text


def test_columns_come_first_and_off_comes_first():
    mask = np.array([[0, 1, 1], [1, 1, 0]], dtype=bool)
    assert encode_rle(mask) == [1, 4, 1]
    assert encode_rle(~mask) == [0, 1, 4, 1]
    assert encode_rle(np.zeros((2, 3), dtype=bool)) == [6]


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ([1, 3], "13"),
        ([16], "`0"),  # 16 would read as a sign, so a second chunk follows
        ([1000], "Xo0"),  # 8 + 32·31, and the sign again
        ([2, 5, 3, 1], "253L"),  # the fourth is 1 - 5 = -4
        ([], ""),
    ],
)
def test_strings_by_hand(counts, text):
    assert compress_counts(counts) == text
    assert expand_counts(text).tolist() == counts


def test_strings_equal_plain_loops():
    rng = np.random.default_rng(0)
    for scale in (3, 40, 5000, 10**7, 2**40):
        counts = rng.integers(0, scale, size=29).tolist()
        assert compress_counts(counts) == plain_string(counts)
        assert expand_counts(plain_string(counts)).tolist() == counts


@pytest.mark.parametrize("text", ["1 3", "1~", "Xo", "253" + "o" * 14 + "0", "12M"])
def test_broken_strings(text):
    with pytest.raises(ValueError, match="run-length string"):
        expand_counts(text)


def test_masks_there_and_back():
    for mask in random_masks():
        counts = expand_counts(compress_counts(encode_rle(mask)))
        assert (decode_rle(counts, (HEIGHT, WIDTH)) == mask).all()


def test_labels_equal_mask_by_mask():
    labels = np.random.default_rng(1).choice([0, 2, 9], size=(HEIGHT, WIDTH))
    labels[2:5, 3:7] = 5
    expected = [encode_rle(labels == index) for index in (0, 2, 5, 9)]
    assert [counts.tolist() for counts in encode_labels(labels)] == expected
    assert [counts.tolist() for counts in encode_labels(np.full((2, 3), 4))] == [[0, 6]]


@pytest.mark.parametrize(
    ("rows", "columns"),
    [([0, 2, 6], [1, 4, 5, 10]), (range(HEIGHT), range(WIDTH)), ([3], [5]), ([0, 6], [10])],
)
def test_samples_equal_indexing(rows, columns):
    rows, columns = np.array(rows), np.array(columns)
    for mask in random_masks():
        counts = np.array(encode_rle(mask))
        found = sample_rle(counts, (HEIGHT, WIDTH), rows, columns)
        assert (found == mask[np.ix_(rows, columns)]).all()


def test_boxes_equal_a_search():
    for mask in random_masks():
        if not mask.any():
            continue
        rows, columns = np.nonzero(mask)
        left, top = columns.min(), rows.min()
        expected = (left, top, columns.max() - left + 1, rows.max() - top + 1)
        assert box_of_rle(np.array(encode_rle(mask)), HEIGHT) == expected


def test_box_ignores_runs_of_no_pixels():
    mask = np.zeros((3, 4), dtype=bool)
    mask[1, 2] = True
    assert box_of_rle(np.array([1, 0, 6, 1, 2, 0, 2]), 3) == (2, 1, 1, 1)
    assert box_of_rle(np.array(encode_rle(mask)), 3) == (2, 1, 1, 1)
