"""Photographs with masks without names and with sentences: what OpenSeg learns from in the place of label maps."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lexiseg.data.caption_words import ListedWords, TaggedNouns
from lexiseg.data.datasets.coco_captions import read_captions
from lexiseg.data.io import IMAGE_SUFFIXES
from lexiseg.data.mask_views import Masks
from lexiseg.data.schema import LabelSchema
from lexiseg.data.unlabelled import MaskedDataset
from lexiseg.data.word_lists import word_groups
from lexiseg.errors import ConfigError, DataError
from lexiseg.label_codes import SIXTEEN_BIT, LabelMap, codes_of, label_codes
from lexiseg.segments import NO_SEGMENT, Segments
from lexiseg.types import Sample, SegmentationDataset

NOUNS = "nouns"
"""``words``: whatever NLTK takes for a noun, instead of a list."""


def caption_finder(words: str | Path | Sequence[str]) -> "ListedWords | TaggedNouns":
    """What finds the words of a caption: of a list as :func:`~lexiseg.data.word_lists.word_groups` knows them, or nouns.

    Raises:
        LexisegError: No such list, or nouns without NLTK.
    """
    return TaggedNouns() if words == NOUNS else ListedWords(word_groups(words))


class CaptionedRegions:
    """Photographs that bear masks and captions and, beside them, some that bear labels instead.

    Nothing of the former is labelled. Of the latter, each class is a mask, and its name is a word that was said.

    A photograph without a caption, or without a known word in any, stays: its masks are learnt from, its words are none.

    Args:
        photographs: With masks without names, from files or of a labelled data set whose names are forgotten.
        captions: JSON of COCO's layout; photographs are found in it by their names without folder and image suffix.
        words: Which words of a caption count: a class list, ``toy``, a class file, names, or ``nouns``.
        classes: Those of the validation data, which the model is judged on; likewise, but for ``nouns``.
        labelled: Photographs with labels of these classes, drawn as often as the others; those labels count alone that
            training may see. None for none.

    Attributes:
        classes: Their names; of captions alone, training knows none of them.
        words: All words that stand in captions, and the names of the classes where some are labelled, sorted: what the model is
            taught.
        schema: Of the labels, where there are any.

    Raises:
        LexisegError: No such file or list, two photographs of one name in it, no word of the list in any caption, or labels of
            other classes.
    """

    def __init__(
        self,
        *,
        photographs: MaskedDataset,
        captions: str | Path,
        words: str | Sequence[str],
        classes: str | Sequence[str],
        labelled: SegmentationDataset | None = None,
    ) -> None:
        if isinstance(photographs, str | Mapping) or not hasattr(photographs, "__getitem__"):
            raise ConfigError(f"photographs: expected photographs with masks, got {photographs!r}")
        self.classes = tuple(group[0] for group in word_groups(classes, "classes"))
        find = caption_finder(words)
        told: dict[str, Sequence[str]] = {}
        for name, each in read_captions(Path(captions)).items():
            if told.setdefault(_stem(name), each) is not each:
                raise DataError(
                    f"{captions} has captions of two photographs that are called {_stem(name)}; expected one of each name"
                )
        found = {stem: [names for text in each if (names := find(text))] for stem, each in told.items()}
        said = {word for each in found.values() for names in each for word in names}
        if not said:
            raise DataError(f"no word of {words} stands in the captions of {captions}; give other words")
        self._require_same_classes(labelled)
        self.words = tuple(sorted(said if labelled is None else said.union(self.classes)))
        ids = {word: index for index, word in enumerate(self.words)}
        self._captions = {
            stem: tuple(tuple(ids[name] for name in names) for names in each) for stem, each in found.items()
        }
        self._names = [ids.get(name, -1) for name in self.classes]
        self._photographs, self.labelled = photographs, labelled
        self.schema: LabelSchema | None = getattr(labelled, "schema", None)

    def __len__(self) -> int:
        return len(self._photographs) + (0 if self.labelled is None else len(self.labelled))

    def __getitem__(self, index: int) -> Sample:
        """A photograph whose segments are its masks, all of one class, where two overlap the smaller one; nothing is labelled.

        Behind all of these come the labelled ones, as they are; :meth:`told` brings them to this form.

        Raises:
            DataError: It is damaged, or its masks are another's.
        """
        if self.labelled is not None and index >= len(self._photographs):
            return self.labelled[index - len(self._photographs)]
        item = self._photographs[index]
        segments = as_segments(item.masks)
        codes = label_codes(len(self.classes))
        label = np.full(segments.ids.shape, codes.ignore, dtype=codes.dtype)
        captions = self._captions.get(_stem(item.name), ())
        return Sample(item.image, label, item.name, segments, captions)

    def told(self, sample: Sample) -> Sample:
        """A sample with words: one that bears labels is told by the names of the classes that it still shows.

        Args:
            sample: After labels were hidden and a crop was taken.
        """
        if sample.captions is not None:
            return sample
        codes = codes_of(sample.label)
        present = [each for each in np.unique(sample.label) if each not in (codes.ignore, codes.unlabelled)]
        segments = sample.segments or _segments_of_classes(sample.label, present)
        nothing = np.full_like(sample.label, codes.ignore)
        return Sample(
            sample.image, nothing, sample.name, segments, (tuple(self._names[each] for each in present),)
        )

    def _require_same_classes(self, labelled: SegmentationDataset | None) -> None:
        if labelled is not None and tuple(getattr(labelled, "classes", ())) != self.classes:
            raise ConfigError(
                f"labelled: expected labelled photographs of the {len(self.classes)} classes {', '.join(self.classes[:6])}, …, "
                f"in this order, got {labelled!r}"
            )


def _segments_of_classes(label: LabelMap, present: Sequence[int]) -> Segments:
    """A mask for each class that is there; which one it is, is forgotten."""
    ids = np.full(label.shape, NO_SEGMENT, dtype=np.uint16)
    for index, each in enumerate(present):
        ids[label == each] = index
    none = np.zeros(len(present), dtype=np.bool_)
    return Segments(ids, np.zeros(len(present), dtype=np.int64), none, none)


def _stem(name: str) -> str:
    """Without folder and image suffix; samples of labelled data have lost theirs, and what is left may hold dots."""
    path = Path(name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def as_segments(masks: Masks) -> Segments:
    """Masks as segments that do not overlap: the smaller one has the pixel. One that loses all its pixels stays, empty.

    Args:
        masks: N of them, at most 65,534; further ones, the smallest, are left out.
    """
    height, width = masks.size
    arrays: npt.NDArray[np.bool_] = masks.sample(np.arange(height), np.arange(width))
    order = np.argsort(-arrays.sum((1, 2), dtype=np.int64), kind="stable")[: SIXTEEN_BIT.ignore - 1]
    ids = np.full((height, width), NO_SEGMENT, dtype=np.uint16)
    for index, mask in enumerate(arrays[order]):
        ids[mask] = index
    count = len(order)
    none = np.zeros(count, dtype=np.bool_)
    return Segments(ids, np.zeros(count, dtype=np.int64), none, none)
