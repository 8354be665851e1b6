"""What happens behind the page: one visitor's photograph, encoded once for each method, and answers to words."""

import secrets
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.data.io import ImageSource, read_content, read_image
from lexiseg.drawing.grid import fit_labels
from lexiseg.drawing.heatmap import heat_over
from lexiseg.drawing.overlay import blend
from lexiseg.errors import ConfigError, DataError
from lexiseg.inference.background import negative_words
from lexiseg.inference.encoding import EncodedImage, Picture
from lexiseg.inference.given_masks import ON_THE_SPOT, GivenMasks
from lexiseg.inference.pictures import drawable
from lexiseg.inference.refine import require_affordable
from lexiseg.inference.result import Segmentation
from lexiseg.inference.segmenter import Segmenter
from lexiseg.inference.words import tell_unknown
from lexiseg.recipes.photographs import Photograph
from lexiseg.webpage.readers import Readers

NO_MASKS = "none"

MASKS = (NO_MASKS, *ON_THE_SPOT)
"""What a visitor may choose of masks."""

MOST_ENCODED = 4
"""Encodings kept for one visitor: two methods side by side, and the two before."""

MOST_WORDS = 250
"""Classes of one question: as many as have a colour of their own."""

SHOWN_SIDE = 1280
"""Longer side, in pixels, of what the page draws; the files to take along have the photograph's own size."""

ENLARGED_SIDE = 768
"""Smaller photographs are enlarged whole times up to this, so that borders can be seen and hit."""

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """What a visitor asks of the photograph.

    Attributes:
        words: Classes with commas or new lines between, synonyms behind semicolons.
        method: One of the titles of :class:`~lexiseg.webpage.readers.Readers`.
        background: What else may be there; blank for none.
        threshold: Scored below it, from 0 to below 1: background, or no class; 0 is off.
        refine: Rounds of PAMR; 0 is off.
        masks: One of :data:`MASKS`.
    """

    words: str
    method: str
    background: str = ""
    threshold: float = 0.0
    refine: int = 0
    masks: str = NO_MASKS


@dataclass(frozen=True, repr=False)
class Answer:
    """Which pixel is what, by one method.

    Attributes:
        title: Of the method.
        result: Labels and scores.
        encoded: The photograph after the tower.
        segmenter: That answered.
        encode_ms: Milliseconds that the tower took; None where the photograph was encoded already.
        words_ms: Milliseconds from words to labels.
        warning: What has to be said of the words; empty for nothing.
    """

    title: str
    result: Segmentation
    encoded: EncodedImage
    segmenter: Segmenter
    encode_ms: float | None
    words_ms: float
    warning: str = ""

    @property
    def names(self) -> list[str]:
        """Of the classes by id, "no class" among them where there may be one."""
        return [self.result.id2label[index] for index in range(len(self.result.id2label))]

    def overlay(self, opacity: float) -> npt.NDArray[np.uint8]:
        """``(h, w, 3)``: the photograph coloured by class, at the page's size.

        Args:
            opacity: Of the colours, 0 to 1.
        """
        size = shown_size(*self.result.size)
        labels, names = drawable(fit_labels(self.result.labels, size), self.names)
        return blend(
            _fitted(self.encoded.image, size), labels, names, hatched=self.result.unseen, alpha=opacity
        )

    def word_map(self, name: str) -> tuple[Image.Image, float]:
        """Scores of one class as colours over the photograph, at the page's size: dark is 0, light the highest of all pixels.

        Returns:
            The picture, and that highest score.

        Raises:
            ConfigError: No such class.
        """
        names = self.segmenter.vocabulary.names
        if name not in names:
            raise ConfigError(f"no class {name!r} was looked for; choose one of {', '.join(names)}")
        scores = self.segmenter.class_scores(self.encoded, [names.index(name)])[0]
        highest = float(scores.max())
        size = shown_size(*self.result.size)
        return heat_over(self.encoded.image, scores, low=0, high=max(highest, 1e-9), size=size), highest

    def at(self, row: int, column: int) -> "Point":
        """What stands at a pixel of the photograph.

        Raises:
            ConfigError: There is no such pixel.
        """
        height, width = self.result.size
        if not (0 <= row < height and 0 <= column < width):
            raise ConfigError(
                f"no pixel at {column}, {row}; the photograph has {width}x{height} (width x height)"
            )
        window = (slice(row, row + 1), slice(column, column + 1))
        values = self.segmenter.class_scores(self.encoded, window=window)[:, 0, 0]
        order = np.argsort(-values, kind="stable").tolist()
        names = self.segmenter.vocabulary.names
        scores = tuple((names[index], float(values[index])) for index in order)
        return Point(row, column, self.result.id2label[int(self.result.labels[row, column])], scores)


@dataclass(frozen=True)
class Point:
    """A pixel of the photograph.

    Attributes:
        row: From the top.
        column: From the left.
        name: Of the class that it was given, after masks and threshold.
        scores: Every class with its score, the highest first.
    """

    row: int
    column: int
    name: str
    scores: tuple[tuple[str, float], ...]


class Sitting:
    """One visitor: the photograph, and what was made of it; :class:`Desk` works on it.

    Attributes:
        pixels: ``(H, W, 3)`` RGB; None before there is a photograph.
        stem: How its files are called.
        name: That nobody else guesses, for a folder of its files; empty before there is a photograph.
        encoded: By method and masks, the one that was used last at the end.
        masks: By provider, of this photograph.
        answers: The last ones, one or two.
    """

    def __init__(self) -> None:
        self.pixels: Picture | None = None
        self.stem, self.name = "photograph", ""
        self.encoded: OrderedDict[tuple[str, str], EncodedImage] = OrderedDict()
        self.masks: dict[str, npt.NDArray[np.bool_]] = {}
        self.answers: tuple[Answer, ...] = ()

    def forget(self) -> None:
        """Let go of the photograph and all that was made of it."""
        self.pixels, self.answers = None, ()
        self.encoded.clear()
        self.masks.clear()

    def bare(self) -> Picture:
        """The photograph at the page's size.

        Raises:
            DataError: There is none.
        """
        pixels = self.require_pixels()
        return _fitted(pixels, shown_size(pixels.shape[0], pixels.shape[1]))

    def require_pixels(self) -> Picture:
        """The photograph.

        Raises:
            DataError: There is none.
        """
        if self.pixels is None:
            raise DataError("there is no photograph yet; upload or paste one, or take an example")
        return self.pixels

    def show(self, source: ImageSource, stem: str = "photograph") -> None:
        """Take another photograph; what was made of the last one goes.

        Raises:
            DataError: No image; then there is none.
        """
        self.forget()
        self.stem, self.name = stem, self.name or secrets.token_hex(8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # as of `lexiseg predict`
            content = Path(source).read_bytes() if isinstance(source, str | Path) else source
            self.pixels = read_content(content) if isinstance(content, bytes) else read_image(content)


class Desk:
    """Answers visitors, one at a time.

    Args:
        readers: The methods.
        device: Where models of masks run.
    """

    def __init__(self, readers: Readers, *, device: str = "auto") -> None:
        self.readers = readers
        self._device, self._lock = device, threading.Lock()
        self._providers: dict[str, GivenMasks] = {}

    def ask(self, sitting: Sitting, questions: Sequence[Question]) -> tuple[Answer, ...]:
        """Answer one or two questions of a photograph, and keep the answers.

        Raises:
            LexisegError: No photograph, words that make no vocabulary, a setting out of range, a method that needs masks where
                there are none, or a photograph that is too large.
        """
        sitting.answers = ()
        with self._lock:
            sitting.answers = tuple(self._answer(sitting, question) for question in questions)
        return sitting.answers

    def look(self, work: Callable[[], T]) -> T:
        """Let an answer compute something more, when it is its turn."""
        with self._lock:
            return work()

    def _answer(self, sitting: Sitting, question: Question) -> Answer:
        pixels = sitting.require_pixels()
        vocabulary = _vocabulary(question.words)
        background = question.background.strip() or None
        pipeline = self.readers[question.method]
        words = sum(map(len, vocabulary.words)) + (
            0 if background is None else len(negative_words(background))
        )
        require_affordable(pixels.shape[0] * pixels.shape[1], words, int(question.refine))
        started = time.perf_counter()
        segmenter = pipeline.segmenter(
            vocabulary,
            background=background,
            threshold=question.threshold or None,
            refine=int(question.refine),
        )
        embedding = time.perf_counter() - started
        masks = self._masks(sitting, pixels, question.masks)
        inside = segmenter.model.needs.masks
        if inside and masks is None:
            raise ConfigError(
                f"{question.method} reads a photograph inside masks; choose some, such as superpixels"
            )
        encoded, encode_ms = self._encoded(sitting, question, segmenter, masks if inside else None)
        started = time.perf_counter()
        result = segmenter.segment_encoded(encoded, masks=None if inside else masks)
        words_ms = 1000 * (time.perf_counter() - started + embedding)
        told = tell_unknown(
            pipeline.clip, vocabulary, () if background is None else negative_words(background)
        )
        return Answer(question.method, result, encoded, segmenter, encode_ms, words_ms, told)

    def _encoded(
        self,
        sitting: Sitting,
        question: Question,
        segmenter: Segmenter,
        masks: npt.NDArray[np.bool_] | None,
    ) -> tuple[EncodedImage, float | None]:
        key = (question.method, NO_MASKS if masks is None else question.masks)
        if key in sitting.encoded:
            sitting.encoded.move_to_end(key)
            return sitting.encoded[key], None
        started = time.perf_counter()
        sitting.encoded[key] = segmenter.encode(sitting.require_pixels(), masks=masks)
        taken = 1000 * (time.perf_counter() - started)
        while len(sitting.encoded) > MOST_ENCODED:
            sitting.encoded.popitem(last=False)
        return sitting.encoded[key], taken

    def _masks(self, sitting: Sitting, pixels: Picture, name: str) -> npt.NDArray[np.bool_] | None:
        if name == NO_MASKS:
            return None
        if name not in MASKS:
            raise ConfigError(f"no masks '{name}'; choose one of {', '.join(MASKS)}")
        if name not in sitting.masks:
            provider = self._providers.setdefault(name, GivenMasks(name, self._device))
            photograph = Photograph(Path(sitting.stem), sitting.stem, pixels)
            sitting.masks = {name: provider.read(photograph)[0]}
        return sitting.masks[name]


def shown_size(height: int, width: int) -> tuple[int, int]:
    """Height and width that the page draws a photograph of this size at."""
    longer = max(height, width)
    factor = max(1, ENLARGED_SIDE // longer) if longer < SHOWN_SIDE else SHOWN_SIDE / longer
    return max(1, round(height * factor)), max(1, round(width * factor))


def place_shown(row: int, column: int, size: tuple[int, int]) -> tuple[int, int]:
    """Row and column of the photograph under a pixel of what the page draws of it; ``size`` is the photograph's."""
    shown = shown_size(*size)
    place = [
        min(int((at + 0.5) * own / drawn), own - 1)
        for at, own, drawn in zip((row, column), size, shown, strict=True)
    ]
    return place[0], place[1]


def _fitted(image: Picture, size: tuple[int, int]) -> Picture:
    drawn = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(drawn)


def _vocabulary(text: str) -> Vocabulary:
    vocabulary = Vocabulary.from_text(text)
    if len(vocabulary) > MOST_WORDS:
        raise ConfigError(
            f"the page takes up to {MOST_WORDS} classes, and there are {len(vocabulary)}; name fewer"
        )
    return vocabulary
