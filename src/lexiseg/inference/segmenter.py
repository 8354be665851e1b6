"""The one path from a photograph and words to labels, for prediction, evaluation and export alike."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.errors import ConfigError, DataError
from lexiseg.inference.decision import WindowLayout, decide
from lexiseg.inference.pictures import NO_CLASS
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.result import Segmentation
from lexiseg.ops.resize import keep_ratio_size, resize_image
from lexiseg.ops.sliding_window import window_grid
from lexiseg.ops.window_merge import padding_before
from lexiseg.types import Segmentable, chunks

Embedder = Callable[[Vocabulary], TextEmbeddings]
"""Words to text embeddings, for changing the words later; usually ``lambda v: v.embed(clip)``."""

_WORKING_PIXELS = 2**28
"""Largest image that windows are laid on: beyond it only a photograph of an absurd aspect ratio gets."""

_LOGIT_BYTES = 64 * 2**20
_WORDS_PER_PASS = 512
"""Words decoded at once; a mask model's decoder holds several numbers per word and patch."""


@dataclass(frozen=True)
class EncodedImage:
    """A photograph after the tower, ready for any words.

    Attributes:
        layout: Where its windows lie, and its sizes.
        states: What the model's ``encode`` gave, per batch of windows.
    """

    layout: WindowLayout
    states: tuple[Any, ...]


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

    @torch.inference_mode()
    def segment(self, image: npt.NDArray[np.uint8], *, scores: bool = True) -> Segmentation:
        """Label every pixel.

        Args:
            image: ``(H, W, 3)`` uint8 RGB of any size from one pixel up; see
                :func:`lexiseg.data.io.read_image`.
            scores: Whether to compute the score map; labels alone are faster.

        Returns:
            The result at the photograph's own size.

        Raises:
            DataError: Not such an array, or an image too large to work on.
        """
        layout = self._layout(image)
        return self._result(layout, self._encode(image, layout), scores=scores)

    @torch.inference_mode()
    def encode(self, image: npt.NDArray[np.uint8]) -> EncodedImage:
        """Run the tower once, for :meth:`segment_encoded` with any words; raises as :meth:`segment` does."""
        layout = self._layout(image)
        return EncodedImage(layout, tuple(self._encode(image, layout)))

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
            return self._result(encoded.layout, encoded.states, scores=scores)
        vocabulary = self._as_vocabulary(words)
        other = Segmenter(self.model, vocabulary, self._embed(vocabulary, embeddings), self.protocol)
        return other.segment_encoded(encoded, scores=scores)

    @torch.inference_mode()
    def encode_dense(self, image: npt.NDArray[np.uint8]) -> Tensor:
        """Text-aligned features ``(D, h, w)`` on the patch grid of the resized photograph.

        Where windows overlap, a cell is the mean of the patches over it, weighted by their overlap with it.
        Cosines with text embeddings of the same CLIP are the training-free logits.

        Raises:
            ConfigError: The model offers no features.
        """
        reader = getattr(self.model, "features", None)
        if reader is None:
            raise ConfigError(
                f"{type(self.model).__name__} gives masks, not features; use one of the training-free methods"
            )
        layout = self._layout(image)
        text = self._text(self._device())
        maps = torch.cat([reader(state, text).float() for state in self._encode(image, layout)])
        return layout.merge_features(maps)

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

    def _layout(self, image: npt.NDArray[np.uint8]) -> WindowLayout:
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
        protocol = self.protocol
        working = source if protocol.short_side is None else keep_ratio_size(source, protocol.short_side)
        if working[0] * working[1] > _WORKING_PIXELS:
            raise DataError(
                f"an image of {source[0]}x{source[1]} pixels (height x width) would be resized to "
                f"{working[0]}x{working[1]}, which is too large; crop it, or set a smaller short_side"
            )
        windows = window_grid(working, protocol.window, protocol.stride)
        return WindowLayout(source, working, windows, self.model.patch_size, protocol.padding)

    def _encode(self, image: npt.NDArray[np.uint8], layout: WindowLayout) -> Iterator[Any]:
        """State per batch of windows, made when asked for: a segmentation need not hold all of them."""
        device = self._device()
        picture = torch.from_numpy(np.ascontiguousarray(image)).to(device)
        picture = resize_image(picture, layout.working).permute(2, 0, 1)
        boxes = layout.windows.boxes
        for part in chunks(len(boxes), self.protocol.window_batch):
            windows = torch.stack(
                [picture[:, top:bottom, left:right] for top, left, bottom, right in boxes[part]]
            )
            with self._precision(device):
                state = self.model.encode(self._pad(self.model.normalize(windows), layout))
            yield state

    def _pad(self, windows: Tensor, layout: WindowLayout) -> Tensor:
        """Zeros up to the patch grid."""
        (height, width), (full_height, full_width) = windows.shape[-2:], layout.padded
        top = padding_before(height, full_height, layout.padding)
        left = padding_before(width, full_width, layout.padding)
        return F.pad(windows, (left, full_width - width - left, top, full_height - height - top))

    def _result(self, layout: WindowLayout, states: Iterable[Any], *, scores: bool) -> Segmentation:
        device = self._device()
        text = self._text(device)
        step = len(text) if getattr(self.model, "depends_on_text", False) else self._words_per_pass(layout)
        states = states if step >= len(text) else tuple(states)

        def logits_of(words: slice) -> Tensor:
            with self._precision(device):
                return torch.cat([self.model.decode(state, text[words]).logits.float() for state in states])

        passes = ((part, logits_of(part)) for part in chunks(len(text), step))
        labels, values = decide(
            passes,
            layout,
            self.protocol,
            class_ids=self.embeddings.class_ids.to(device),
            seen_ids=self.seen_ids,
            scores=scores,
        )
        id2label = self.vocabulary.id2label
        if self.protocol.rejects:
            id2label[len(id2label)] = NO_CLASS
        seen = {self.vocabulary.names[index] for index in self.seen_ids}
        unseen = tuple(name for name in self.vocabulary.names if name not in seen) if seen else ()
        return Segmentation(labels, values, id2label, unseen, self.protocol.to_dict())

    def _words_per_pass(self, layout: WindowLayout) -> int:
        patches = layout.padded[0] * layout.padded[1] // self.model.patch_size**2
        return max(1, min(_WORDS_PER_PASS, _LOGIT_BYTES // (4 * patches * len(layout.windows))))

    def _text(self, device: torch.device) -> Tensor:
        return self.embeddings.vectors.to(device)

    def _device(self) -> torch.device:
        """Where the model's tensors are."""
        if isinstance(self.model, nn.Module):
            for tensor in (*self.model.parameters(), *self.model.buffers()):
                return tensor.device
        return torch.device("cpu")

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        if self.protocol.precision == "float32":
            return nullcontext()
        return torch.autocast(device.type, dtype=torch.bfloat16)
