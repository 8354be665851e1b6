"""The one path from a photograph and words to labels, for prediction, evaluation and export alike."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.dense.multi_view import SINGLE_VIEW
from lexiseg.errors import ConfigError, DataError
from lexiseg.inference.decision import LastTouches, WordPass, decide
from lexiseg.inference.encoding import EncodedImage, Picture, Place, WindowEncoder, collect
from lexiseg.inference.layout import ImageLayout, lay_out
from lexiseg.inference.pictures import NO_CLASS
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.refine import PAMR, MaskVote, PreparedPAMR
from lexiseg.inference.result import Segmentation
from lexiseg.types import Segmentable, chunks

Embedder = Callable[[Vocabulary], TextEmbeddings]
"""Words to text embeddings, for changing the words later; usually ``lambda v: v.embed(clip)``."""

_LOGIT_BYTES = 64 * 2**20
_WORDS_PER_PASS = 512
"""Words decoded at once; a mask model's decoder holds several numbers per word and patch."""


class Segmenter:
    """Names every pixel of a photograph with a word of the vocabulary.

    Args:
        model: A dense encoder or a trained mask model.
        vocabulary: Class names with synonyms; a class scores the maximum over its words.
        embeddings: Text embeddings of exactly that vocabulary.
        protocol: Every setting between photograph and labels.
        seen_ids: Classes that carried labels in training: they bear the seen penalty. Unseen ones are
            hatched in overlays if any are given.
        embedder: Embeds other words for :meth:`set_classes`.

    Raises:
        ConfigError: Embeddings of another vocabulary, or a seen id that is no class.
    """

    def __init__(
        self,
        model: Segmentable,
        vocabulary: Vocabulary,
        embeddings: TextEmbeddings,
        protocol: InferenceProtocol,
        seen_ids: Sequence[int] = (),
        embedder: Embedder | None = None,
    ) -> None:
        self.model = model
        self.protocol = protocol
        self._embedder = embedder
        self._assign(vocabulary, embeddings, seen_ids)

    def set_classes(
        self,
        words: Vocabulary | str | Sequence[str],
        embeddings: TextEmbeddings | None = None,
        seen_ids: Sequence[int] = (),
    ) -> None:
        """Look for other words from now on.

        Args:
            words: A vocabulary, names separated by commas, or a list of names; the latter two take over the
                present templates.
            embeddings: Of these words; without them the segmenter needs its embedder.
            seen_ids: As in the constructor, for these words.

        Raises:
            ConfigError: Neither embeddings nor an embedder, or what the constructor refuses.
        """
        vocabulary = self._as_vocabulary(words)
        self._assign(vocabulary, self._embed(vocabulary, embeddings), seen_ids)

    def segment(
        self, image: Picture, *, scores: bool = True, masks: npt.NDArray[np.bool_] | None = None
    ) -> Segmentation:
        """Label every pixel.

        Args:
            image: ``(H, W, 3)`` uint8 RGB of any size from one pixel up; see
                :func:`lexiseg.data.io.read_image`.
            scores: Whether to compute the score map; labels alone are faster.
            masks: ``(M, H, W)`` bool, class-agnostic: each takes the class of its highest mean logit, the
                smaller mask deciding where two overlap. Scores stay those of the pixels.

        Returns:
            The result at the photograph's own size.

        Raises:
            DataError: Not such arrays, or an image too large to work on.
        """
        return self.segment_batch([image], scores=scores, masks=None if masks is None else [masks])[0]

    @torch.inference_mode()
    def segment_batch(
        self,
        images: Sequence[Picture],
        *,
        scores: bool = True,
        masks: Sequence[npt.NDArray[np.bool_]] | None = None,
    ) -> list[Segmentation]:
        """Label several photographs, of any sizes; their windows share the tower's batches.

        Args:
            images: As in :meth:`segment`.
            scores: As in :meth:`segment`.
            masks: Per photograph, as in :meth:`segment`.

        Returns:
            One result per photograph, the same as :meth:`segment` gives for each alone.
        """
        layouts = [self._layout(image) for image in images]
        votes: list[MaskVote | None] = (
            [None] * len(images)
            if masks is None
            else [MaskVote.of(m, i.shape[:2]) for m, i in zip(masks, images, strict=True)]
        )
        text = self._text(self._encoder.device)
        if any(self._words_per_pass(layout) < len(text) for layout in layouts):
            return [
                self._result(self._encoded(image), scores=scores, vote=vote)
                for image, vote in zip(images, votes, strict=True)
            ]
        maps: dict[Place, list[Tensor]] = {}
        for batch in self._encoder.encode(images, layouts):
            collect(maps, batch.places, self._encoder.decode(batch.state, text))
        results = []
        for index, (image, layout, vote) in enumerate(zip(images, layouts, votes, strict=True)):
            logits = tuple(torch.cat(maps.pop((index, view))) for view in range(len(layout.views)))
            passes = iter([(slice(0, len(text)), logits)])
            results.append(self._decide(image, layout, passes, scores=scores, vote=vote))
        return results

    @torch.inference_mode()
    def encode(self, image: Picture) -> EncodedImage:
        """Run the tower once, for :meth:`segment_encoded` with any words; raises as :meth:`segment` does."""
        return self._encoded(image)

    @torch.inference_mode()
    def segment_encoded(
        self,
        encoded: EncodedImage,
        words: Vocabulary | str | Sequence[str] | None = None,
        embeddings: TextEmbeddings | None = None,
        *,
        scores: bool = True,
    ) -> Segmentation:
        """Label an encoded photograph; the tower does not run again.

        Args:
            encoded: From :meth:`encode` of this segmenter.
            words: Other words for this call only (no class of them counts as seen); None for the present
                ones.
            embeddings: As in :meth:`set_classes`.
            scores: As in :meth:`segment`.
        """
        if words is None:
            return self._result(encoded, scores=scores)
        vocabulary = self._as_vocabulary(words)
        other = Segmenter(self.model, vocabulary, self._embed(vocabulary, embeddings), self.protocol)
        return other.segment_encoded(encoded, scores=scores)

    @torch.inference_mode()
    def encode_dense(self, image: Picture) -> Tensor:
        """Text-aligned features ``(D, h, w)`` on the patch grid of the resized photograph.

        The photograph is read as it is, whatever views the protocol fuses. Where windows overlap, a cell is
        the mean of the patches over it, weighted by their overlap with it. Cosines with text embeddings of
        the same CLIP are the training-free logits.

        Raises:
            ConfigError: The model offers no features.
        """
        if not self.model.offers_features:
            raise ConfigError(
                f"{type(self.model).__name__} gives masks, not features; use one of the training-free methods"
            )
        layout = self._layout(image, replace(self.protocol, views=SINGLE_VIEW))
        text = self._text(self._encoder.device)
        batches = self._encoder.encode([image], [layout])
        maps = torch.cat([self.model.features(batch.state, text).float() for batch in batches])
        return layout.windows[0].merge_features(maps)

    @property
    def _encoder(self) -> WindowEncoder:
        protocol = self.protocol
        return WindowEncoder(self.model, window_batch=protocol.window_batch, precision=protocol.precision)

    def _assign(self, vocabulary: Vocabulary, embeddings: TextEmbeddings, seen_ids: Sequence[int]) -> None:
        expected = [index for index, group in enumerate(vocabulary.words) for _ in group]
        if embeddings.class_ids.tolist() != expected or len(embeddings.vectors) != len(expected):
            raise ConfigError(
                f"the vocabulary has {len(vocabulary)} classes with {len(expected)} words, the embeddings "
                f"{embeddings.num_classes} with {len(embeddings.vectors)}; embed this very vocabulary"
            )
        wrong = [index for index in seen_ids if not 0 <= index < len(vocabulary)]
        if wrong:
            raise ConfigError(f"seen_ids names {wrong[0]}, but there are classes 0 to {len(vocabulary) - 1}")
        self.vocabulary, self.embeddings = vocabulary, embeddings
        self.seen_ids = tuple(sorted(set(seen_ids)))

    def _as_vocabulary(self, words: Vocabulary | str | Sequence[str]) -> Vocabulary:
        if isinstance(words, Vocabulary):
            return words
        templates = self.vocabulary.templates
        if isinstance(words, str):
            return Vocabulary.from_text(words, templates)
        return Vocabulary.from_names(tuple(words), templates)

    def _embed(self, vocabulary: Vocabulary, embeddings: TextEmbeddings | None) -> TextEmbeddings:
        if embeddings is not None:
            return embeddings
        if self._embedder is None:
            raise ConfigError(
                "other words need their embeddings: give embeddings=, or an embedder to Segmenter"
            )
        return self._embedder(vocabulary)

    def _layout(self, image: Picture, protocol: InferenceProtocol | None = None) -> ImageLayout:
        if (
            not isinstance(image, np.ndarray)
            or image.ndim != 3
            or image.shape[2] != 3
            or image.dtype != np.uint8
        ):
            found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise DataError(
                f"expected an image as a (height, width, 3) uint8 RGB array, got {found}; "
                "lexiseg.data.io.read_image makes one of any file"
            )
        source = (image.shape[0], image.shape[1])
        if min(source) < 1:
            raise DataError(f"the image has no pixels ({source[0]}x{source[1]})")
        return lay_out(source, protocol or self.protocol, self.model.patch_size)

    def _encoded(self, image: Picture) -> EncodedImage:
        layout = self._layout(image)
        return EncodedImage(image, layout, tuple(self._encoder.encode([image], [layout])))

    def _result(self, encoded: EncodedImage, *, scores: bool, vote: MaskVote | None = None) -> Segmentation:
        passes = self._passes(encoded)
        return self._decide(encoded.image, encoded.layout, passes, scores=scores, vote=vote)

    def _passes(self, encoded: EncodedImage) -> Iterator[WordPass]:
        """Logits of all windows, a few words at a time."""
        text = self._text(self._encoder.device)
        step, views = self._words_per_pass(encoded.layout), range(len(encoded.layout.views))
        states = [batch.state for batch in encoded.batches]
        if step < len(text) and self.model.depends_on_text:
            states = [self.model.bind(state, text) for state in states]
        for words in chunks(len(text), step):
            maps: dict[Place, list[Tensor]] = {}
            for batch, state in zip(encoded.batches, states, strict=True):
                collect(maps, batch.places, self._encoder.decode(state, text[words]))
            yield words, tuple(torch.cat(maps[(0, view)]) for view in views)

    def _decide(
        self,
        image: Picture,
        layout: ImageLayout,
        passes: Iterator[WordPass],
        *,
        scores: bool,
        vote: MaskVote | None,
    ) -> Segmentation:
        device = self._encoder.device
        labels, values = decide(
            passes,
            layout,
            self.protocol,
            class_ids=self.embeddings.class_ids.to(device),
            seen_ids=self.seen_ids,
            scores=scores,
            touches=LastTouches(self._refinement(image, layout), vote),
        )
        id2label = self.vocabulary.id2label
        if self.protocol.rejects:
            id2label[len(id2label)] = NO_CLASS
        seen = {self.vocabulary.names[index] for index in self.seen_ids}
        unseen = tuple(name for name in self.vocabulary.names if name not in seen) if seen else ()
        return Segmentation(labels, values, id2label, unseen, self.protocol.to_dict())

    def _refinement(self, image: Picture, layout: ImageLayout) -> PreparedPAMR | None:
        """Colours of the resized photograph, brought back to its own size as NACLIP does."""
        if not self.protocol.pamr_steps:
            return None
        working = self._encoder.working(image, layout)[None].float()
        colors = F.interpolate(working, size=layout.source, mode="bilinear", align_corners=False)
        return PAMR(steps=self.protocol.pamr_steps).prepare(colors)

    def _words_per_pass(self, layout: ImageLayout) -> int:
        """All words where they must be seen together, else as many as keep the logits small."""
        words = len(self.embeddings.vectors)
        if self.protocol.views.compares_words or self.model.words_together:
            return words
        return max(1, min(_WORDS_PER_PASS, _LOGIT_BYTES // (4 * layout.patches)))

    def _text(self, device: torch.device) -> Tensor:
        return self.embeddings.vectors.to(device)
