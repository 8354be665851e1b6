"""COCO's run-length encoding of a mask."""

import numpy as np
import numpy.typing as npt


def encode_rle(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Run lengths of a ``(H, W)`` mask read column by column, off first: COCO's uncompressed ``counts``."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs: list[int] = np.diff([0, *changes.tolist(), flat.size]).tolist() if flat.size else []
    return [0, *runs] if flat.size and flat[0] else runs


def decode_rle(counts: list[int], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Inverse of :func:`encode_rle` for a mask of ``(height, width)``.

    Raises:
        ValueError: The runs do not add up to the size.
    """
    if sum(counts) != size[0] * size[1]:
        raise ValueError(f"runs of {sum(counts)} pixels for a mask of {size[0]}x{size[1]}")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(size, order="F")
