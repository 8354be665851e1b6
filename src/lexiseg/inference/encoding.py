"""From photographs to the tower's states: windows of all views, and of several photographs, in full batches."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.dense.base import cosines
from lexiseg.dense.multi_view import render_view
from lexiseg.inference.layout import ImageLayout, WindowLayout
from lexiseg.inference.protocol import Precision, Resize
from lexiseg.inference.regions import PictureRegions
from lexiseg.ops.mask_pooling import masks_on_grid
from lexiseg.ops.region_ids import OUTSIDE
from lexiseg.ops.resize import resize_image, resize_image_pillow
from lexiseg.ops.window_merge import padding_before
from lexiseg.progress import Doing, doing
from lexiseg.types import (
    ClassifiedMasks,
    ClassWords,
    MaskedSegmentable,
    PictureReader,
    PixelReader,
    RegionSegmentable,
    Segmentable,
)

Picture = npt.NDArray[np.uint8]
"""``(H, W, 3)`` uint8 RGB."""

Place = tuple[int, int]
"""Which photograph of several, and which of its views."""

_Kind = tuple[tuple[int, int], tuple[int, int]]
"""Height and width of a window, with its padding and without."""


@dataclass(frozen=True)
class _Waiting:
    """A window before the tower.

    Attributes:
        place: Whose window it is.
        pixels: ``(3, h, w)`` normalised, padded.
        content: Height and width before the padding.
        ids: ``(…, h, w)`` regions, padded; None where the model needs none.
    """

    place: Place
    pixels: Tensor
    content: tuple[int, int]
    ids: Tensor | None


@dataclass(frozen=True)
class EncodedWindows:
    """Some windows after the tower.

    Attributes:
        state: What the model's ``encode`` gave.
        places: Of each window; windows of one place stand in their layout's order.
    """

    state: Any
    places: tuple[Place, ...]


@dataclass(frozen=True, repr=False)
class EncodedImage:
    """A photograph after the tower, ready for any words.

    Attributes:
        image: The photograph; refinement looks at its colours.
        layout: Its views, where their windows lie, and its sizes; one window over it where a model joined them.
        batches: All windows of all views.
        regions: That the windows were read inside; None: of a model that needs none.
    """

    image: Picture
    layout: ImageLayout
    batches: tuple[EncodedWindows, ...]
    regions: PictureRegions | None = None

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        return f"EncodedImage({height}x{width}, {sum(len(batch.places) for batch in self.batches)} windows)"


class WindowEncoder:
    """Runs a model's tower over the windows of photographs.

    Args:
        model: A dense encoder or a trained mask model.
        window_batch: Windows per pass of the tower.
        precision: Of the model's own arithmetic.
        resize: Whose arithmetic brings a photograph to its working size.
    """

    def __init__(
        self, model: Segmentable, *, window_batch: int, precision: Precision, resize: Resize = "opencv"
    ) -> None:
        self.model = model
        self.window_batch = window_batch
        self.precision = precision
        self.resize = resize

    @property
    def device(self) -> torch.device:
        """Where the model's tensors are."""
        return device_of(self.model)

    def encode(
        self,
        images: Sequence[Picture],
        layouts: Sequence[ImageLayout],
        regions: Sequence[PictureRegions | None] | None = None,
    ) -> Iterator[EncodedWindows]:
        """Full batches of windows of one size, across views and photographs, made when asked for.

        Args:
            images: The photographs.
            layouts: Of each.
            regions: Of each, for a model that needs them.
        """
        regions = regions or [None] * len(images)
        waiting: dict[_Kind, list[_Waiting]] = {}
        total = sum(len(view.windows.boxes) for layout in layouts for view in layout.windows)
        with doing("reading windows", total) as work:
            for window in self._windows(images, layouts, regions):
                content = window.content
                kind = ((window.pixels.shape[-2], window.pixels.shape[-1]), content)
                group = waiting.setdefault(kind, [])
                group.append(window)
                if len(group) == self.window_batch:
                    yield self._run_tower(group, content, work)
                    group.clear()
            for (_, content), group in waiting.items():
                if group:
                    yield self._run_tower(group, content, work)

    def gather(self, encoded: EncodedImage) -> EncodedImage:
        """All windows of a photograph as one state over it, by a model that reads the whole picture."""
        picture = torch.from_numpy(np.ascontiguousarray(encoded.image)).to(self.device)
        states = [batch.state for batch in encoded.batches]
        with self._autocast(picture.device), doing("joining windows"):
            regions = None if encoded.regions is None else encoded.regions.ids
            state = cast(PictureReader, self.model).gather(
                states, encoded.layout.windows[0].merge_features, picture, regions
            )
        layout = ImageLayout.of_picture(encoded.layout.source)
        return EncodedImage(encoded.image, layout, (EncodedWindows(state, ((0, 0),)),), encoded.regions)

    def decode(self, state: Any, text: Tensor) -> Tensor:
        """Logits ``(W, M, h, w)`` of some words ``(M, D)`` in a batch of windows, float32."""
        with self._autocast(text.device):
            return self.model.decode(state, text).logits.float()

    def bind(self, state: Any, text: Tensor) -> Any:
        """What the model makes of a batch's state and all words, so that some of them may be decoded at a time."""
        with self._autocast(text.device):
            return self.model.bind(state, text)

    def features(self, state: Any, text: Tensor) -> Tensor:
        """Text-aligned features ``(W, D, h, w)`` of a batch of windows, float32."""
        with self._autocast(text.device):
            return self.model.features(state, text).float()

    def cosines(self, state: Any, text: Tensor, vectors: Tensor) -> Tensor:
        """Products ``(W, N, h, w)`` of unit features with ``(N, D)`` vectors of any length, float32.

        Raises:
            ConfigError: The model offers no features.
        """
        return cosines(self.features(state, text), vectors.to(text.device))

    def pixel_features(self, state: Any, text: Tensor) -> Tensor:
        """Features ``(W, D, h, w)`` of a batch of windows, float32, by a model that :func:`reads_pixels`."""
        with self._autocast(text.device):
            return cast(PixelReader, self.model).pixel_features(state, text).float()

    def classify(self, state: Any, words: ClassWords) -> ClassifiedMasks:
        """Regions of a batch of windows with a score for every class."""
        with self._autocast(words.text.device):
            return cast(RegionSegmentable, self.model).classify(state, words)

    def name_masks(self, image: Picture, layout: ImageLayout, masks: Tensor, words: ClassWords) -> Tensor:
        """Scores ``(N, K)`` of masks of a photograph, by a model that :func:`can_name_masks`.

        Args:
            image: The photograph.
            layout: Of one window of one view.
            masks: ``(N, H, W)`` bool at the photograph's size; they are read where the window has the photograph.
            words: All classes.
        """
        (whole,) = self._windows([image], [layout], [None])
        window, content = whole.pixels, whole.content
        height, width = window.shape[-2:]
        on_window = F.pad(masks_on_grid(masks, content), (0, width - content[1], 0, height - content[0]))
        with self._autocast(window.device):
            named: Tensor = cast(Any, self.model).name_masks(window[None], on_window, words, content)
        return named.float()

    def working(self, image: Picture, layout: ImageLayout) -> Tensor:
        """The photograph ``(3, H, W)`` uint8 at the protocol's size, before any view."""
        first = layout.windows[0]
        picture = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
        resized = resize_image if self.resize == "opencv" else resize_image_pillow
        return resized(picture, first.unscaled).permute(2, 0, 1)

    def _windows(
        self,
        images: Sequence[Picture],
        layouts: Sequence[ImageLayout],
        regions: Sequence[PictureRegions | None],
    ) -> Iterator["_Waiting"]:
        """Windows of all views, normalised and padded to the patch grid."""
        for index, (image, layout, of_image) in enumerate(zip(images, layouts, regions, strict=True)):
            picture = self.working(image, layout)
            for number, (view, of_view) in enumerate(zip(layout.views, layout.windows, strict=True)):
                rendered = render_view(picture[None], view)[0]
                ids = None if of_image is None else of_image.in_view(of_view.unscaled, view)
                for top, left, bottom, right in of_view.windows.boxes:
                    pixels = rendered[None, :, top:bottom, left:right]
                    cut = None if ids is None else _pad(ids[..., top:bottom, left:right], of_view, OUTSIDE)
                    size = (bottom - top, right - left)
                    window = _pad(self.model.normalize(pixels), of_view)[0]
                    yield _Waiting((index, number), window, size, cut)

    def _run_tower(
        self, group: Sequence["_Waiting"], content: tuple[int, int], work: Doing
    ) -> EncodedWindows:
        windows = torch.stack([window.pixels for window in group])
        ids = [window.ids for window in group if window.ids is not None]
        with self._autocast(windows.device):
            if self.model.names_regions:
                state = cast(RegionSegmentable, self.model).encode(windows, content)
            elif ids:
                regions = _stack(ids).to(windows.device)
                state = cast(MaskedSegmentable, self.model).encode(windows, regions=regions)
            else:
                state = self.model.encode(windows)
        work.advance(len(group))  # read, whatever its reader does with it before the next is asked for
        return EncodedWindows(state, tuple(window.place for window in group))

    def _autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(device.type, dtype=torch.bfloat16)


def can_name_masks(model: Segmentable) -> bool:
    """Whether a model looks under masks that it is given, by ``name_masks(images, masks, words, content)``."""
    return model.names_regions and callable(getattr(model, "name_masks", None))


def reads_picture(model: Segmentable) -> bool:
    """Whether a model is a :class:`~lexiseg.types.PictureReader`, which joins the windows of a photograph."""
    return bool(getattr(model, "whole_picture", False))


def reads_pixels(model: Segmentable) -> bool:
    """Whether a model is a :class:`~lexiseg.types.PixelReader`, compared with words after all upsampling."""
    return bool(getattr(model, "reads_pixels", False))


def collect(maps: dict[Place, list[Tensor]], places: Sequence[Place], logits: Tensor) -> None:
    """Sort the logits ``(W, M, h, w)`` of a batch of windows into ``maps`` by place."""
    start = 0
    for place, run in groupby(places):
        count = len(list(run))
        maps.setdefault(place, []).append(logits[start : start + count])
        start += count


def _stack(maps: Sequence[Tensor]) -> Tensor:
    """Maps ``(h, w)``, or ``(M, h, w)`` with M of each its own, as one tensor; layers that are not there are `OUTSIDE`."""
    most = max(len(each) for each in maps)
    return torch.stack(
        [
            each if each.ndim == 2 else F.pad(each, (0, 0, 0, 0, 0, most - len(each)), value=OUTSIDE)
            for each in maps
        ]
    )


def _pad(windows: Tensor, layout: WindowLayout, value: int = 0) -> Tensor:
    """Zeros, or another value, up to the patch grid."""
    (height, width), (full_height, full_width) = windows.shape[-2:], layout.padded
    top = padding_before(height, full_height, layout.padding)
    left = padding_before(width, full_width, layout.padding)
    return F.pad(windows, (left, full_width - width - left, top, full_height - height - top), value=value)


def device_of(model: Segmentable) -> torch.device:
    """Where a model's tensors are."""
    if isinstance(model, nn.Module):
        for tensor in (*model.parameters(), *model.buffers()):
            return tensor.device
    return torch.device("cpu")
