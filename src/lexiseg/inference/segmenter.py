"""The one path from a photograph and words to labels, for prediction, evaluation and export alike."""

import copy
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.data.io import ImageSource, read_image
from lexiseg.dense.multi_view import SINGLE_VIEW
from lexiseg.errors import ConfigError, DataError
from lexiseg.inference.adapted_words import AdaptedWords
from lexiseg.inference.decision import (
    Decided,
    LastTouches,
    Redraw,
    WordPass,
    class_scores,
    decide,
    only_where,
)
from lexiseg.inference.encoding import (
    EncodedImage,
    EncodedWindows,
    Picture,
    Place,
    WindowEncoder,
    can_name_masks,
    collect,
    reads_picture,
    reads_pixels,
)
from lexiseg.inference.given_masks import MaskDoor, Masks
from lexiseg.inference.instances import InstanceSegmentation
from lexiseg.inference.layout import ImageLayout, lay_out, require_room
from lexiseg.inference.memory import memory_of_a_photograph
from lexiseg.inference.panoptic import PanopticSegmentation
from lexiseg.inference.pictures import NO_CLASS
from lexiseg.inference.pieces import require_pieces
from lexiseg.inference.probabilities import Probabilities, require_holdable
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.refine import PAMR, MaskVote, PreparedPAMR
from lexiseg.inference.regions import PictureRegions, require_regions
from lexiseg.inference.result import Segmentation
from lexiseg.inference.segment_finding import (
    Stuff,
    find_instances,
    find_panoptic,
    require_segments,
    segment_protocol,
    stuff_names,
)
from lexiseg.inference.words import EmbeddedWords, Words
from lexiseg.progress import doing
from lexiseg.types import (
    ClassifiedMasks,
    MaskedSegmentable,
    PixelFeatures,
    PixelReader,
    Redrawing,
    Segmentable,
    chunks,
)

P = ParamSpec("P")
T = TypeVar("T")

Embed = Callable[[Words, str | tuple[str, ...]], EmbeddedWords]
"""Other words, and the templates of those that bring none, to what a segmenter needs of them: the rules of a pipeline."""

_LOGIT_BYTES = 64 * 2**20
_SCORE_BYTES = 64 * 2**20
_WORDS_PER_PASS = 512
"""Words decoded at once; a mask model's decoder holds several numbers per word and patch."""


def _apart(method: Callable[Concatenate["Segmenter", P], T]) -> Callable[Concatenate["Segmenter", P], T]:
    """Run a method apart from what surrounds it: without gradients, and in no autocast but the protocol's own.

    Training in mixed precision validates inside its autocast, which must not reach the merging of windows.
    """

    @functools.wraps(method)
    def run(self: "Segmenter", *args: P.args, **kwargs: P.kwargs) -> T:
        surrounding = torch.autocast(self._encoder.device.type, enabled=False)
        with memory_of_a_photograph(), torch.inference_mode(), surrounding:
            return method(self, *args, **kwargs)

    return run


class Segmenter:
    """Names every pixel of a photograph with a word of the vocabulary; made by :meth:`lexiseg.Pipeline.segmenter`.

    Threads may share one: a call answers with the words that it began with.

    Args:
        model: A dense encoder or a trained mask model.
        words: Class names with synonyms, and their embeddings; a class scores the maximum over its words, unless the model
            names regions and has a rule of its own. Classes that bear the seen penalty are among them; the others are
            hatched in overlays if any do.
        protocol: Every setting between photograph and labels.
        embed: Makes other words usable, by the rules of these.
        masks: Of each photograph that comes without any: what makes them, a folder, or a provider's name.
        method: What results say of a training-free reading.

    Raises:
        ConfigError: Embeddings of another vocabulary, a seen id that is no class, or a protocol that cannot read the model.
    """

    def __init__(
        self,
        model: Segmentable,
        words: EmbeddedWords,
        protocol: InferenceProtocol,
        *,
        embed: Embed | None = None,
        masks: Masks | None = None,
        method: Mapping[str, Any] | None = None,
    ) -> None:
        require_reading(model, protocol)
        self.model = model
        self.method = method
        self.protocol = protocol
        self._words = words
        self._embed, self._masks = embed, masks
        self._door = MaskDoor(str(self._encoder.device))

    @property
    def vocabulary(self) -> Vocabulary:
        """The words looked for."""
        return self._words.vocabulary

    @property
    def embeddings(self) -> TextEmbeddings:
        """Their text embeddings."""
        return self._words.embeddings

    @property
    def seen_ids(self) -> tuple[int, ...]:
        """Classes that bear the seen penalty, ascending."""
        return self._words.seen_ids

    def with_words(self, words: Words) -> "Segmenter":
        """A segmenter for other words under the same rules: penalty, background, protocol, masks.

        Words that bring no templates are spoken in the present ones. This segmenter stays as it is.

        Raises:
            ConfigError: Words that make no vocabulary, or a segmenter that no pipeline made.
        """
        other = copy.copy(self)
        other._words = self._embedded(words)  # a copy of one's own
        return other

    def set_classes(self, words: Words) -> None:
        """Look for other words from now on, as :meth:`with_words`; where segmenters are shared, use that instead."""
        self._words = self._embedded(words)

    def segment(self, image: ImageSource, *, scores: bool = True, masks: Masks | None = None) -> Segmentation:
        """Label every pixel.

        Args:
            image: A path, a file's bytes, an open file, a Pillow image, or ``(H, W, 3)`` uint8 RGB; of any size
                from one pixel up. See :func:`lexiseg.data.io.read_image`.
            scores: Whether to compute the score map; labels alone are faster.
            masks: ``(M, H, W)`` bool, class-agnostic; or what makes them or its name, or a folder of mask files, where the
                photograph's path finds them. Each takes the class of its highest mean logit, the smaller mask deciding where
                two overlap. Scores stay those of the pixels. A model that reads inside masks
                (``needs.masks``) does so, and each takes its most frequent label.

        Returns:
            The result at the photograph's own size.

        Raises:
            DataError: No such image, masks that do not fit it, or an image too large to work on.
            ConfigError: A model that reads inside masks, and there are none.
        """
        return self.segment_batch([image], scores=scores, masks=None if masks is None else [masks])[0]

    @_apart
    def segment_batch(
        self,
        images: Sequence[ImageSource],
        *,
        scores: bool = True,
        masks: Sequence[Masks] | None = None,
    ) -> list[Segmentation]:
        """Label several photographs, of any sizes; their windows share batches where the model reads window by window.

        Args:
            images: As in :meth:`segment`.
            scores: As in :meth:`segment`.
            masks: Per photograph, as in :meth:`segment`.

        Returns:
            One result per photograph, the same as :meth:`segment` gives for each alone.
        """
        words, pictures = self._words, [read_image(image) for image in images]
        layouts = [self._layout(picture) for picture in pictures]
        given = [None] * len(pictures) if masks is None else masks
        if any(each is None for each in given) and self._masks is None:
            require_regions(self.model)
        masked = [
            self._masked(picture, each, image)
            for picture, each, image in zip(pictures, given, images, strict=True)
        ]
        text = self._text(words)
        apart = self.model.names_regions or reads_picture(self.model) or reads_pixels(self.model)
        if (
            apart
            or words.adapted is not None
            or any(self._words_per_pass(layout, words) < len(text) for layout in layouts)
        ):
            return [
                self._result(self._encoded(picture, regions), words, scores=scores, vote=vote)
                for picture, (vote, regions) in zip(pictures, masked, strict=True)
            ]
        maps: dict[Place, list[Tensor]] = {}
        for batch in self._encoder.encode(pictures, layouts, [regions for _, regions in masked]):
            collect(maps, batch.places, self._encoder.decode(batch.state, text))
        results = []
        for index, (picture, layout, (vote, regions)) in enumerate(
            zip(pictures, layouts, masked, strict=True)
        ):
            logits = tuple(torch.cat(maps.pop((index, view))) for view in range(len(layout.views)))
            encoded = EncodedImage(picture, layout, (), regions)
            passes = iter([(slice(0, len(text)), logits)])
            decided = self._decide(encoded, words, passes, self.protocol, scores=scores, vote=vote)
            results.append(self._told(decided, words))
        return results

    @_apart
    def segment_piece(self, pixels: Picture, after: tuple[int, int]) -> Segmentation:
        """Labels of a piece of a larger picture, to the bit those of the whole where all windows over a pixel are in the piece.

        Args:
            pixels: ``(H, W, 3)`` uint8, from the first row of windows of the picture's grid to the last one's end; see
                :func:`lexiseg.ops.window_tiles.window_tiles`. Its words are those of this segmenter.
            after: Windows of the grid above and to the left of the piece.

        Raises:
            ConfigError: See :meth:`require_pieces`.
            DataError: As in :meth:`segment`.
        """
        self.require_pieces()
        whole = self._layout(pixels)
        layout = replace(whole, windows=(replace(whole.windows[0], after=after),))
        encoded = EncodedImage(pixels, layout, tuple(self._encoder.encode([pixels], [layout])))
        return self._result(encoded, self._words, scores=False, vote=None)

    def require_pieces(self) -> None:
        """Refuse what :meth:`segment_piece` cannot do for want of the whole picture.

        Raises:
            ConfigError: The model, the protocol or the masks need all of it.
        """
        require_pieces(self.model, self.protocol, masks=self._masks is not None)

    @_apart
    def encode(self, image: ImageSource, *, masks: Masks | None = None) -> EncodedImage:
        """Run the tower once, for :meth:`segment_encoded` with any words; raises as :meth:`segment` does.

        Args:
            image: As in :meth:`segment`.
            masks: As there, for a model that reads inside masks; others take them afterwards.
        """
        return self._read(read_image(image), masks, image)

    @_apart
    def segment_encoded(
        self,
        encoded: EncodedImage,
        words: Words = None,
        *,
        scores: bool = True,
        masks: Masks | None = None,
    ) -> Segmentation:
        """Label an encoded photograph; the tower does not run again.

        Args:
            encoded: From :meth:`encode` of this segmenter, or of one that differs in its words only.
            words: Other words for this call only, as in :meth:`with_words`; None for the present ones.
            scores: As in :meth:`segment`.
            masks: As in :meth:`segment`; a model that reads inside masks took them when it encoded.
        """
        if not isinstance(encoded, EncodedImage):
            raise ConfigError(
                f"expected what Segmenter.encode gave, got {type(encoded).__name__}; encode the photograph first"
            )
        chosen = self._words if words is None else self._embedded(words)
        if encoded.regions is not None:
            if masks is not None:
                raise ConfigError(
                    f"{type(self.model).__name__} has read the photograph inside its masks; give others to Segmenter.encode"
                )
            return self._result(encoded, chosen, scores=scores, vote=None)
        return self._result(encoded, chosen, scores=scores, vote=self._masked(encoded.image, masks)[0])

    @_apart
    def probabilities(self, encoded: EncodedImage) -> Probabilities:
        """How sure every class is of every pixel of an encoded photograph; the tower does not run again.

        Args:
            encoded: From :meth:`encode` of this segmenter.

        Raises:
            DataError: More numbers than a machine holds: too many classes for so large a photograph.
            ConfigError: An adaptation, and a class that was not shown.
        """
        words, size = self._words, encoded.layout.source
        self._require_one_contest()
        require_holdable(len(words.vocabulary), size)
        with doing("weighing classes"):
            passes = list(self._all_passes(encoded, words))
            maps = np.empty((len(words.vocabulary), *size), dtype=np.float16)
            refine = self._refinement(encoded.image, encoded.layout)
            rows = size[0] if refine else max(1, _SCORE_BYTES // (4 * len(maps) * size[1]))
            for band in chunks(size[0], rows):
                window = band, slice(0, size[1])
                maps[:, band] = self._class_scores(encoded, passes, range(len(maps)), window, refine)
        return Probabilities(maps, words.vocabulary.id2label)

    @_apart
    def class_scores(
        self,
        encoded: EncodedImage,
        classes: Sequence[int] | None = None,
        *,
        window: tuple[slice, slice] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Scores of the classes, not only of the winner: what :attr:`Segmentation.scores` holds where each wins.

        Args:
            encoded: As in :meth:`segment_encoded`.
            classes: Ids of those that are wanted; None for all, a map each.
            window: Rows and columns of the photograph, with a beginning and an end; None for all of it.

        Returns:
            ``(len(classes), rows, columns)``, before masks vote or a model draws labels anew.

        Raises:
            ConfigError: An adaptation, and a class that was not shown.
        """
        self._require_one_contest()
        height, width = encoded.layout.source
        return self._class_scores(
            encoded,
            self._all_passes(encoded, self._words),
            range(len(self.vocabulary)) if classes is None else classes,
            window or (slice(0, height), slice(0, width)),
            self._refinement(encoded.image, encoded.layout),
        )

    def _require_one_contest(self) -> None:
        adapted = self._words.adapted
        if adapted is not None and not bool(adapted.shown.all()):
            raise ConfigError(
                "an adaptation leaves pixels of classes that were not shown as they were, so that no one contest has the "
                "probabilities of all; ask for classes that were shown, or leave the adaptation out"
            )

    def _class_scores(
        self,
        encoded: EncodedImage,
        passes: Iterable[WordPass],
        classes: Sequence[int],
        window: tuple[slice, slice],
        refine: PreparedPAMR | None,
    ) -> npt.NDArray[np.float32]:
        class_ids = self._class_ids(self._words)
        found = class_scores(
            passes,
            encoded.layout,
            self.protocol,
            class_ids=class_ids,
            classes=classes,
            window=window,
            refine=refine,
        )
        return found.cpu().numpy()

    @_apart
    def panoptic(self, image: ImageSource, *, stuff: Stuff = ()) -> PanopticSegmentation:
        """Segments that do not overlap: each thing by itself, each kind of stuff as one (MaskFormer, sec. 3.4).

        Args:
            image: As in :meth:`segment`.
            stuff: Classes that are not counted, ``"sky, road"`` or a list; all others are things.

        Raises:
            ConfigError: A model or a protocol without segments, or stuff that is no class.
            DataError: As in :meth:`segment`.
        """
        named, encoded, words = self._regions(image)
        with doing("looking for segments"):
            return find_panoptic(named, encoded.layout, self.protocol, words, stuff)

    @_apart
    def instances(self, image: ImageSource, *, stuff: Stuff = ()) -> InstanceSegmentation:
        """Things one by one, by descending score, whatever they overlap (Mask2Former); arguments as in :meth:`panoptic`."""
        named, encoded, words = self._regions(image)
        with doing("looking for things"):
            return find_instances(named, encoded.layout, self.protocol, words, stuff)

    @_apart
    def encode_dense(self, image: ImageSource) -> Tensor:
        """Text-aligned features ``(D, h, w)`` on the patch grid of the resized photograph.

        The photograph is read as it is, whatever views the protocol fuses. Where windows overlap, a cell is
        the mean of the patches over it, weighted by their overlap with it; a model that joins windows itself answers on a
        grid of its own. Cosines with text embeddings of
        the same CLIP are the training-free logits.

        Raises:
            ConfigError: The model offers no features.
        """
        if not self.model.offers_features:
            raise ConfigError(
                f"{type(self.model).__name__} gives masks, not features; use one of the training-free methods"
            )
        picture = read_image(image)
        text = self._text(self._words)
        if reads_picture(self.model):
            return self._encoder.features(self._encoded(picture).batches[0].state, text)[0]
        layout = self._layout(picture, replace(self.protocol, views=SINGLE_VIEW))
        batches = self._encoder.encode([picture], [layout], [self._inside(picture)])
        maps = torch.cat([self._encoder.features(batch.state, text) for batch in batches])
        return layout.windows[0].merge_features(maps)

    @_apart
    def logits(self, encoded: EncodedImage, *, every: int = 1) -> Tensor:
        """Logits ``(M, h, w)`` of the words at every so many-th row and column of the photograph, before any factor.

        Args:
            encoded: From :meth:`encode`.
            every: Step between pixels.
        """
        maps = [views for _, views in self._passes(encoded, self._words, self._words.adapted)]
        joined = tuple(
            torch.cat([cast(Tensor, part[view]) for part in maps], 1) for view in range(len(maps[0]))
        )
        return _at_every(encoded, joined, every)

    @_apart
    def looks(self, encoded: EncodedImage, vectors: Tensor, *, every: int = 1) -> Tensor:
        """Products ``(N, h, w)`` of unit features with ``(N, D)`` vectors, as :meth:`logits` gives those of words.

        Raises:
            ConfigError: The model offers no features.
        """
        maps: dict[Place, list[Tensor]] = {}
        for batch in encoded.batches:
            collect(maps, batch.places, self._encoder.cosines(batch.state, self._text(self._words), vectors))
        views = range(len(encoded.layout.views))
        return _at_every(encoded, tuple(torch.cat(maps[(0, view)]) for view in views), every)

    @property
    def _encoder(self) -> WindowEncoder:
        protocol = self.protocol
        return WindowEncoder(
            self.model,
            window_batch=protocol.window_batch,
            precision=protocol.precision,
            resize=protocol.resize,
        )

    def _embedded(self, words: Words) -> EmbeddedWords:
        if self._embed is None:
            raise ConfigError(
                "this segmenter knows no rule for other words; make it by Pipeline.segmenter, which gives it the model's"
            )
        templates = self.vocabulary.templates
        if templates is None:
            raise ConfigError(
                "the present words say no templates for others; make them by Pipeline.segmenter"
            )
        return self._embed(words, templates)

    def _masked(
        self, picture: Picture, masks: Masks | None, image: ImageSource | None = None
    ) -> tuple[MaskVote | None, PictureRegions | None]:
        """What the masks given, else those of all photographs, are for: a vote at the end, or a reading inside them."""
        given = self._masks if masks is None else masks
        if given is None:
            return None, None
        with doing("making masks"):
            masks = self._door.arrays(given, picture, image)
        size = (picture.shape[0], picture.shape[1])
        if self.model.needs.masks:
            return None, PictureRegions(cast(MaskedSegmentable, self.model), masks, size)
        return MaskVote.of(masks, size), None

    def _inside(
        self, picture: Picture, masks: Masks | None = None, image: ImageSource | None = None
    ) -> PictureRegions | None:
        """For a model that reads inside masks; None for others."""
        if not self.model.needs.masks:
            return None
        if masks is None and self._masks is None:
            require_regions(self.model)
        return self._masked(picture, masks, image)[1]

    def _layout(self, image: Picture, protocol: InferenceProtocol | None = None) -> ImageLayout:
        source = (image.shape[0], image.shape[1])
        if min(source) < 1:
            raise DataError(f"the image has no pixels ({source[0]}x{source[1]})")
        protocol = protocol or self.protocol
        layout = lay_out(source, protocol, self.model.patch_size, whole_picture=reads_picture(self.model))
        estimate = getattr(
            self.model, "encode_bytes", None
        )  # what works by patches is judged by their number
        if estimate is not None:
            require_room(layout, protocol.window_batch, estimate)
        return layout

    def _read(self, image: Picture, masks: Masks | None, source: ImageSource | None = None) -> EncodedImage:
        if masks is not None and not self.model.needs.masks:
            raise ConfigError(
                f"{type(self.model).__name__} does not read inside masks; give them to Segmenter.segment_encoded"
            )
        return self._encoded(image, self._inside(image, masks, source))

    def _encoded(self, image: Picture, regions: PictureRegions | None = None) -> EncodedImage:
        layout = self._layout(image)
        batches = tuple(self._encoder.encode([image], [layout], [regions]))
        encoded = EncodedImage(image, layout, batches, regions)
        return self._encoder.gather(encoded) if reads_picture(self.model) else encoded

    def _result(
        self, encoded: EncodedImage, words: EmbeddedWords, *, scores: bool, vote: MaskVote | None
    ) -> Segmentation:
        if words.adapted is not None:
            decided = self._adapted(encoded, words, words.adapted, scores=scores, vote=vote)
        else:
            passes = self._all_passes(encoded, words)
            decided = self._decide(encoded, words, passes, self.protocol, scores=scores, vote=vote)
        return self._told(decided, words)

    def _adapted(
        self,
        encoded: EncodedImage,
        words: EmbeddedWords,
        adapted: AdaptedWords,
        *,
        scores: bool,
        vote: MaskVote | None,
    ) -> Decided:
        """As adapted where a class that was shown wins without adaptation, and as without it everywhere else."""
        passes = self._passes(encoded, words, adapted)
        after = self._decide(encoded, words, passes, self.protocol, scores=scores, vote=vote)
        plain = replace(self.protocol, probability_threshold=adapted.threshold_before)
        if bool(adapted.shown.all()) and not plain.rejects:
            return after
        before = self._decide(encoded, words, self._passes(encoded, words), plain, scores=scores, vote=vote)
        return only_where(adapted.shown.numpy(), after, before)

    def _all_passes(self, encoded: EncodedImage, words: EmbeddedWords) -> Iterator[WordPass]:
        """All words, in the way of the model."""
        if self.model.names_regions:
            return self._class_passes(encoded, words)
        if reads_pixels(self.model):
            return self._pixel_passes(encoded, words)
        return self._passes(encoded, words, words.adapted)

    def for_segments(self) -> tuple["Segmenter", tuple[str, ...]]:
        """This segmenter under a protocol that :meth:`panoptic` and :meth:`instances` can follow, and the keys that changed."""
        other = copy.copy(self)
        other.protocol, changed = segment_protocol(self.protocol)
        return other, changed

    def require_segments(self, stuff: Stuff = ()) -> None:
        """Refuse what :meth:`panoptic` and :meth:`instances` would refuse of every photograph.

        Raises:
            ConfigError: As there.
        """
        require_segments(self.model, self.protocol)
        stuff_names(stuff, self.vocabulary)
        if self._masks is not None:
            raise ConfigError(
                "masks of a provider cannot be named one by one; make the segmenter without masks for segments"
            )

    def _regions(self, image: ImageSource) -> tuple[ClassifiedMasks, EncodedImage, EmbeddedWords]:
        """Regions of a whole photograph with the scores of the present classes."""
        self.require_segments()
        words, encoded = self._words, self._encoded(read_image(image))
        named = self._encoder.classify(encoded.batches[0].state, words.class_words(self._encoder.device))
        return named, encoded, words

    def _class_passes(self, encoded: EncodedImage, words: EmbeddedWords) -> Iterator[WordPass]:
        """Regions with their classes' scores, named once; or their sums, a few classes at a time."""
        classes = words.class_words(self._encoder.device)
        named: list[tuple[EncodedWindows, ClassifiedMasks]] = [
            (batch, self._encoder.classify(batch.state, classes)) for batch in encoded.batches
        ]
        if encoded.layout.is_whole:
            yield slice(0, len(classes)), (named[0][1],)
            return
        grid = named[0][1].masks.shape[-2:]
        windows = sum(len(batch.places) for batch, _ in named)
        step = max(1, _LOGIT_BYTES // (4 * windows * grid[0] * grid[1]))
        for part in chunks(len(classes), step):
            maps: dict[Place, list[Tensor]] = {}
            for batch, masks in named:
                collect(maps, batch.places, masks.part(part).maps.float())
            views = range(len(encoded.layout.views))
            yield part, tuple(torch.cat(maps[(0, view)]) for view in views)

    def _pixel_passes(self, encoded: EncodedImage, words: EmbeddedWords) -> Iterator[WordPass]:
        """Features of all windows for all words at once: what is kept of them does not grow with the words."""
        text = self._text(words)
        maps: dict[Place, list[Tensor]] = {}
        for batch in encoded.batches:
            collect(maps, batch.places, self._encoder.pixel_features(batch.state, text))
        pull = functools.partial(cast(PixelReader, self.model).pull, text=text)
        views = (torch.cat(maps[(0, view)]) for view in range(len(encoded.layout.views)))
        yield slice(0, len(text)), tuple(PixelFeatures(features, text, pull) for features in views)

    def _passes(
        self, encoded: EncodedImage, words: EmbeddedWords, adapted: AdaptedWords | None = None
    ) -> Iterator[WordPass]:
        """Logits of all windows, a few words at a time; with an adaptation, as it makes them."""
        text = self._text(words) if adapted is None else adapted.vectors.to(self._encoder.device)
        step, views = self._words_per_pass(encoded.layout, words), range(len(encoded.layout.views))
        states = [batch.state for batch in encoded.batches]
        if step < len(text) and self.model.depends_on_text:
            states = [self._encoder.bind(state, text) for state in states]
        for part in chunks(len(text), step):
            maps: dict[Place, list[Tensor]] = {}
            for batch, state in zip(encoded.batches, states, strict=True):
                logits = self._encoder.decode(state, text[part])
                if adapted is not None:
                    rows = adapted.prototypes
                    looks = None if rows is None else self._encoder.cosines(batch.state, text, rows[part])
                    logits = adapted.logits(logits, looks, part)
                collect(maps, batch.places, logits)
            yield part, tuple(torch.cat(maps[(0, view)]) for view in views)

    def _decide(
        self,
        encoded: EncodedImage,
        words: EmbeddedWords,
        passes: Iterator[WordPass],
        protocol: InferenceProtocol,
        *,
        scores: bool,
        vote: MaskVote | None,
    ) -> Decided:
        seen_ids = words.seen_ids
        with doing("labelling pixels"):
            return decide(
                passes,
                encoded.layout,
                protocol,
                class_ids=self._class_ids(words),
                seen_ids=seen_ids,
                scores=scores,
                touches=LastTouches(
                    self._refinement(encoded.image, encoded.layout),
                    vote,
                    None if vote is None else self._named(encoded, words, vote),
                    encoded.regions,
                    self._redraw(encoded),
                ),
            )

    def _told(self, decided: Decided, words: EmbeddedWords) -> Segmentation:
        id2label = words.vocabulary.id2label
        if self.protocol.rejects:
            id2label[len(id2label)] = NO_CLASS
        told = self.protocol.to_dict()
        if words.adapted is not None:
            told["adapted"] = list(words.adapted.names(words.vocabulary))
        return Segmentation(
            decided.labels,
            decided.scores,
            id2label,
            words.unseen,
            told,
            decided.mask_classes,
            words.known_words,
            self.method,
        )

    def _class_ids(self, words: EmbeddedWords) -> Tensor:
        """``(M,)`` class of each row of scores; a model that names regions has taken the words of a class together."""
        ids = torch.arange(len(words.vocabulary)) if self.model.names_regions else words.embeddings.class_ids
        return ids.to(self._encoder.device)

    def _named(self, encoded: EncodedImage, words: EmbeddedWords, vote: MaskVote) -> Tensor | None:
        """``(K, M)`` scores of the vote's masks by a model that looks under them; None: its maps are all that is there.

        A photograph that is read in several windows or views has no picture that holds a whole mask.
        """
        if not can_name_masks(self.model) or not encoded.layout.is_whole or not len(vote.masks):
            return None
        encoder = self._encoder
        masks = vote.masks.to(encoder.device)
        return encoder.name_masks(encoded.image, encoded.layout, masks, words.class_words(encoder.device)).T

    def _redraw(self, encoded: EncodedImage) -> Redraw | None:
        """By a model that draws labels anew."""
        if not getattr(self.model, "redraws", False):
            return None
        return functools.partial(cast(Redrawing, self.model).redraw_labels, encoded.batches[0].state)

    def _refinement(self, image: Picture, layout: ImageLayout) -> PreparedPAMR | None:
        """Colours of the resized photograph, brought back to its own size as NACLIP does."""
        if not self.protocol.pamr_steps:
            return None
        working = self._encoder.working(image, layout)[None].float()
        colors = F.interpolate(working, size=layout.source, mode="bilinear", align_corners=False)
        return PAMR(steps=self.protocol.pamr_steps, dilations=self.protocol.pamr_dilations).prepare(colors)

    def _words_per_pass(self, layout: ImageLayout, words: EmbeddedWords) -> int:
        """All words where they must be seen together, else as many as keep the logits small."""
        count = len(words.embeddings.vectors)
        if self.protocol.views.compares_words or self.model.words_together:
            return count
        cells = layout.patches * getattr(self.model, "cells_per_patch", 1)
        return max(1, min(_WORDS_PER_PASS, _LOGIT_BYTES // (4 * cells)))

    def _text(self, words: EmbeddedWords) -> Tensor:
        return words.embeddings.vectors.to(self._encoder.device)


def _at_every(encoded: EncodedImage, maps: tuple[Tensor, ...], every: int) -> Tensor:
    """``(M, h, w)`` of the maps of all windows of each view at every so many-th row and column, from the first."""
    height, width = encoded.layout.source
    source, words = encoded.layout.merge(maps, "linear", 1.0), slice(0, maps[0].shape[1])
    rows = [
        source.tile(slice(row, row + 1), slice(0, width), words)[..., ::every].clone()
        for row in range(0, height, every)
    ]
    return torch.cat(rows).transpose(0, 1)


def require_reading(model: Segmentable, protocol: InferenceProtocol) -> None:
    """Scores are read as scores, and nothing else is.

    Raises:
        ConfigError: The protocol would put a sigmoid or a soft-max on scores, or none on logits.
    """
    if reads_picture(model) and protocol.views != SINGLE_VIEW:
        raise ConfigError(
            f"{type(model).__name__} joins the windows of a photograph into one map and reads it in one view, but "
            "protocol.views names several; leave views out"
        )
    if getattr(model, "redraws", False) and protocol.activation != "linear":
        raise ConfigError(
            f"{type(model).__name__} draws labels anew by their probabilities, but protocol.activation is "
            f"{protocol.activation}; set protocol.activation=linear"
        )
    if reads_pixels(model) and protocol.activation != "linear":
        raise ConfigError(
            f"{type(model).__name__} is compared with words at the photograph's pixels, but protocol.activation is "
            f"{protocol.activation}; set protocol.activation=linear, or after_upsampling=false"
        )
    if model.names_regions and protocol.padding != "bottom_right":
        raise ConfigError(
            f"{type(model).__name__} looks for its regions at the top left of a padded picture, but protocol.padding is "
            f"{protocol.padding}; set protocol.padding=bottom_right"
        )
    if model.activation == "scores" and protocol.activation != "scores":
        raise ConfigError(
            f"{type(model).__name__} gives scores, but protocol.activation is {protocol.activation}; set "
            "protocol.activation=scores"
        )
    if protocol.activation == "scores" and model.activation != "scores":
        raise ConfigError(
            f"protocol.activation is scores, but {type(model).__name__} gives logits; set sigmoid (trained mask models) or "
            "linear (training-free methods)"
        )
