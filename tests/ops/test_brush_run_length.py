"""Label Studio's brush masks, read bit by bit."""

import numpy as np
import pytest

from lexiseg.ops.brush_run_length import encode_brush


def decode(packed):
    """A naive reader of the format."""
    bits = "".join(f"{byte:08b}" for byte in packed)
    place = 0

    def read(count):
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    total, width = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values = []
    while len(values) < total:
        same = read(1)
        count = read(sizes[read(2)]) + 1
        values += [read(width)] * count if same else [read(width) for _ in range(count)]
    assert len(values) == total
    assert len(bits) - place < 8
    return np.array(values)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.97, 1])
def test_what_is_read_is_what_was_written(share):
    mask = np.random.default_rng(1).random((13, 17)) < share
    picture = decode(encode_brush(mask)).reshape(13, 17, 4)
    assert (picture == mask[..., None] * 255).all()


@pytest.mark.parametrize("length", [1, 4, 5, 64, 65, 1024, 1025, 16384, 16385, 40000])
def test_runs_of_every_length(length):
    mask = np.zeros((1, 40003), dtype=bool)
    mask[0, 2 : 2 + length] = True
    assert (decode(encode_brush(mask))[3::4] == mask[0] * 255).all()


def test_the_library_reads_it():
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    mask = np.kron(np.random.default_rng(2).random((7, 5)) < 0.4, np.ones((31, 29))).astype(bool)
    assert (brush.decode_rle(encode_brush(mask)).reshape(*mask.shape, 4)[..., 3] == mask * 255).all()
