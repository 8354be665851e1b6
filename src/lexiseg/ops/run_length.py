"""COCO's run-length encoding of masks: lengths of runs, read column by column, that start with an "off" run.

Two forms exist. ``counts`` as a list holds the run lengths themselves. ``counts`` as a string packs them: each run from
the fourth on is stored as its difference to the run two before, in chunks of five bits, lowest first, a sixth bit
saying that another chunk follows, each chunk a character from ``0`` on (COCO API, ``rleToString``).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
"""Run lengths of one mask, off first."""

_CHUNK_BITS = 5
_MORE = 1 << _CHUNK_BITS
_SIGN = 1 << (_CHUNK_BITS - 1)
_FIRST_CHARACTER = ord("0")
_MOST_CHUNKS = 12
"""More chunks would not fit 64 bits."""


def encode_rle(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Run lengths of a ``(H, W)`` mask read column by column, off first: COCO's uncompressed ``counts``."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs: list[int] = np.diff([0, *changes.tolist(), flat.size]).tolist() if flat.size else []
    return [0, *runs] if flat.size and flat[0] else runs


def decode_rle(counts: Sequence[int] | Counts, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Inverse of :func:`encode_rle` for a mask of ``(height, width)``.

    Raises:
        ValueError: The runs do not add up to the size.
    """
    if sum(counts) != size[0] * size[1]:
        raise ValueError(f"runs of {sum(counts)} pixels for a mask of {size[0]}x{size[1]}")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(size, order="F")


def encode_labels(labels: npt.NDArray[np.integer]) -> list[Counts]:
    """Run lengths of the mask of each id of a ``(H, W)`` label map, by ascending id, in one pass over the pixels."""
    flat = labels.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.append(starts[1:], flat.size)
    ids = flat[starts]
    order = np.argsort(ids, kind="stable")
    first_of_id = np.flatnonzero(np.diff(ids[order])) + 1
    return [_from_spans(starts[run], ends[run], flat.size) for run in np.split(order, first_of_id)]


def sample_rle(
    counts: Counts, size: tuple[int, int], rows: npt.NDArray[np.integer], columns: npt.NDArray[np.integer]
) -> npt.NDArray[np.bool_]:
    """The mask at chosen rows and columns only, without decoding the rest.

    Args:
        counts: Run lengths of a mask of ``size``.
        size: Its height and width.
        rows: h row indices, ascending, none twice.
        columns: w column indices, ascending, none twice.

    Returns:
        ``(h, w)``: the value at ``(rows[i], columns[j])``.
    """
    wanted = (columns[:, None].astype(np.int64) * size[0] + rows[None]).ravel()
    # The pixels asked for are in the order of the runs, so each run answers for a stretch of them.
    reached = np.searchsorted(wanted, np.cumsum(counts))
    values = np.repeat(np.arange(len(counts)) % 2 == 1, np.diff(reached, prepend=0))
    return values.reshape(len(columns), len(rows)).T


def box_of_rle(counts: Counts, height: int) -> tuple[int, int, int, int]:
    """COCO box ``(left, top, width, height)`` in pixels around a mask that is not empty."""
    ends = np.cumsum(counts)
    first, last = (ends - counts)[1::2], ends[1::2] - 1
    first, last = first[last >= first], last[last >= first]
    left, right = int(first[0]) // height, int(last[-1]) // height
    if (first // height != last // height).any():  # a run that goes on in the next column touches both edges
        return left, 0, right - left + 1, height
    top, bottom = int((first % height).min()), int((last % height).max())
    return left, top, right - left + 1, bottom - top + 1


def compress_counts(counts: Sequence[int] | Counts) -> str:
    """Run lengths in COCO's string form."""
    rest = np.array(counts, dtype=np.int64)
    rest[3:] -= np.asarray(counts, dtype=np.int64)[1:-2]
    chunks, there = [], []
    going_on = np.ones(len(rest), dtype=np.bool_)
    while going_on.any():
        chunk = rest & (_MORE - 1)
        rest >>= _CHUNK_BITS
        there.append(going_on)
        # Done once nothing but the sign is left, and the sign can be read off this chunk's highest bit.
        going_on = going_on & (rest != np.where(chunk & _SIGN, -1, 0))
        chunks.append(chunk | np.where(going_on, _MORE, 0))
    if not chunks:
        return ""
    codes = np.stack(chunks, axis=1)[np.stack(there, axis=1)]
    return (codes + _FIRST_CHARACTER).astype(np.uint8).tobytes().decode("ascii")


def expand_counts(text: str) -> Counts:
    """Inverse of :func:`compress_counts`.

    Raises:
        ValueError: Characters that the form does not use, a cut end, or negative runs.
    """
    codes = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - _FIRST_CHARACTER
    if not len(codes):
        return np.empty(0, dtype=np.int64)
    if codes.min() < 0 or codes.max() >= 2 * _MORE or codes[-1] & _MORE:
        raise ValueError("a run-length string with foreign characters or a cut end")
    ends = np.flatnonzero(codes & _MORE == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MOST_CHUNKS:
        raise ValueError("a run-length string with a number beyond 64 bits")
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    counts = np.add.reduceat((codes & (_MORE - 1)) << (_CHUNK_BITS * place), starts)
    counts -= np.where(codes[ends] & _SIGN, 1 << (_CHUNK_BITS * lengths), 0)
    for every_other in (counts[1::2], counts[2::2]):
        np.cumsum(every_other, out=every_other)
    if counts.min() < 0:
        raise ValueError("a run-length string with negative runs")
    return counts


def _from_spans(starts: Counts, ends: Counts, total: int) -> Counts:
    """Run lengths of "on" spans that do not touch."""
    borders = np.stack([starts, ends], axis=1).ravel()
    counts = np.diff(borders, prepend=0, append=total)
    return counts if counts[-1] else counts[:-1]
