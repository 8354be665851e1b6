from dataclasses import dataclass

import numpy as np
import torch

from lexiseg.inference.encoding import EncodedImage, EncodedWindows
from lexiseg.inference.layout import ImageLayout
from lexiseg.serving.encodings import Encodings, encoded_bytes


@dataclass
class State:
    whole: torch.Tensor
    parts: tuple[torch.Tensor, ...]
    named: dict[str, torch.Tensor]


def encoded(numbers=7):
    values = torch.zeros(numbers, dtype=torch.float32)
    state = State(values, (values[2:], torch.zeros(3, dtype=torch.float64)), {"more": torch.zeros(5)})
    picture = np.zeros((11, 13, 3), dtype=np.uint8)
    return EncodedImage(picture[::1], ImageLayout.of_picture((11, 13)), (EncodedWindows(state, ((0, 0),)),))


def test_what_shares_memory_counts_once():
    assert encoded_bytes(encoded()) == 7 * 4 + 3 * 8 + 5 * 4 + 11 * 13 * 3


def test_those_unused_for_longest_make_room():
    size = encoded_bytes(encoded())
    kept = Encodings(2 * size)
    first, second = kept.put(encoded()), kept.put(encoded())
    assert kept.get(first) is not None
    third = kept.put(encoded())
    assert kept.get(second) is None
    assert kept.get(first) is not None
    assert kept.get(third) is not None
    assert (len(kept), kept.bytes) == (2, 2 * size)


def test_one_that_is_larger_than_all_room_throws_nobody_out():
    size = encoded_bytes(encoded())
    kept = Encodings(size)
    name = kept.put(encoded())
    assert kept.put(encoded(numbers=8)) is None
    assert kept.get(name) is not None


def test_names_are_long_and_never_the_same():
    kept = Encodings(2**20)
    names = {kept.put(encoded()) for _ in range(20)}
    assert len(names) == 20
    assert min(map(len, names)) >= 32
