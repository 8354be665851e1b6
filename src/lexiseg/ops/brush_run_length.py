"""Label Studio's run-length encoding of brush masks: bits of an RGBA picture, row by row (the rle-pack library's format).

32 bits hold the number of values, 5 the bits of a value less one, four times 4 the bits of the four sizes of lengths less one.
Then come runs: a bit 1 for a repeated value, 2 bits for which size, the length less one, the value. Runs of different values
(bit 0) exist as well; a mask has no use for them.
"""

import numpy as np
import numpy.typing as npt

_VALUE_BITS = 8
_LENGTH_BITS = np.array([4, 8, 12, 16])
_LONGEST = 1 << 16
_CHANNELS = 4


def encode_brush(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Bytes of a ``(H, W)`` mask as an RGBA picture, 255 in every channel where it is on and 0 where it is off."""
    flat = mask.ravel()
    borders = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    lengths, values = np.diff(borders) * _CHANNELS, flat[borders[:-1]] * 255 if flat.size else flat * 255
    parts = -(-lengths // _LONGEST)
    values, last = np.repeat(values, parts), np.cumsum(parts) - 1
    pieces = np.full(int(parts.sum()), _LONGEST)
    pieces[last] = lengths - (parts - 1) * _LONGEST
    size = np.searchsorted(_LENGTH_BITS, np.ceil(np.log2(np.maximum(pieces, 2))))
    bits = _LENGTH_BITS[size]
    codes = (((1 << 2 | size) << bits | (pieces - 1)) << _VALUE_BITS) | values
    head = _bits(
        np.array([flat.size * _CHANNELS, _VALUE_BITS - 1, *(_LENGTH_BITS - 1)]), np.array([32, 5, 4, 4, 4, 4])
    )
    body = _bits(codes, 3 + bits + _VALUE_BITS)
    packed: list[int] = np.packbits(np.concatenate([head, body])).tolist()
    return packed


def _bits(numbers: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """The last ``counts`` of 32 bits of each number, one after the other."""
    every = np.unpackbits(numbers.astype(">u4").view(np.uint8)).reshape(-1, 32)
    return every[np.arange(32) >= 32 - counts[:, None]]
