"""How sure a model is: a map for each class, and by how much the best one wins."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lexiseg.errors import DataError
from lexiseg.storage import write_atomically

_MOST_BYTES = 8 * 2**30


@dataclass(frozen=True, eq=False, repr=False)
class Probabilities:
    """Scores of all classes at all pixels; :meth:`lexiseg.Segmenter.probabilities` makes it.

    Attributes:
        maps: ``(K, H, W)`` float16 in [0, 1], before penalty, area rule, threshold and masks' vote: the soft-max probability of
            the class's best word among all words (they add up to 1 where no class has synonyms), or what else the
            model scores by.
        id2label: Class name per id.
    """

    maps: npt.NDArray[np.float16]
    id2label: Mapping[int, str]

    def __repr__(self) -> str:
        return f"Probabilities({len(self.maps)} classes, {self.maps.shape[1]}x{self.maps.shape[2]})"

    @property
    def margin(self) -> npt.NDArray[np.float16]:
        """``(H, W)`` by how much the best class is ahead of the second; of one class alone, its own map."""
        best = self.maps[0].copy()
        second = np.zeros_like(best)
        for one in self.maps[1:]:
            second = np.maximum(second, np.minimum(best, one))
            best = np.maximum(best, one)
        return best - second

    def save(self, path: Path | str) -> Path:
        """Write an ``.npz``, whole or not at all: ``probabilities`` (K, H, W), ``margin`` (H, W), ``names`` (K).

        Raises:
            LexisegError: The folder cannot be written to.
        """
        names = np.array([self.id2label[index] for index in range(len(self.maps))], dtype=np.str_)

        def write(part: Path) -> None:
            with part.open("wb") as file:
                np.savez_compressed(file, probabilities=self.maps, margin=self.margin, names=names)

        write_atomically(Path(path), write)
        return Path(path)


def require_holdable(classes: int, size: tuple[int, int]) -> None:
    """Refuse maps that would not fit.

    Raises:
        DataError: More than 8 GiB.
    """
    needed = 2 * classes * size[0] * size[1]
    if needed > _MOST_BYTES:
        raise DataError(
            f"probabilities of {classes} classes at {size[0]}x{size[1]} pixels take {needed / 2**30:.0f} GiB, more than "
            f"{_MOST_BYTES // 2**30}; give fewer classes or a smaller photograph"
        )
