"""lexiseg as CVAT's auto-annotation function: the task's labels are the words.

    pip install 'lexiseg[cvat]'
    cvat-cli --server-host https://app.cvat.ai task auto-annotate 137 --function-file integrations/cvat_function.py \
        -p 'classes=str:dog, grass, sky' -p stuff=str:sky --allow-unmatched-labels

Masks are exact; with ``--conv-mask-to-poly`` polygons along the edges of pixels. ``--conf-threshold`` leaves out what scores
less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cvat_sdk.auto_annotation as cvataa
from cvat_sdk.masks import encode_mask

import lexiseg

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cvat_sdk.models import LabeledShapeRequest
    from PIL.Image import Image


class Lexiseg:
    """What CVAT calls.

    Args:
        segmenter: Made for the words.
        pieces: Each piece of a class that hangs together is an object of its own, instead of the class as a whole.
        stuff: Classes that stay whole all the same.
    """

    def __init__(self, segmenter: lexiseg.Segmenter, *, pieces: bool, stuff: str) -> None:
        self._segmenter, self._pieces, self._stuff = segmenter, pieces, stuff
        names = segmenter.vocabulary.names
        self._spec = cvataa.DetectionFunctionSpec(
            labels=[cvataa.label_spec(name, index, type="mask") for index, name in enumerate(names)]
        )

    @property
    def spec(self) -> cvataa.DetectionFunctionSpec:
        """The words as labels; ids are those of the vocabulary."""
        return self._spec

    def detect(self, context: cvataa.DetectionFunctionContext, image: Image) -> list[LabeledShapeRequest]:
        """Everything found in a frame."""
        result = self._segmenter.segment(image)
        found = result.to_instances(pieces=self._pieces, stuff=self._stuff or ())
        return [
            shape
            for index, thing in enumerate(found.things)
            if thing.score >= (context.conf_threshold or 0)
            for shape in _shapes(found, index, polygons=context.conv_mask_to_poly)
        ]


def _shapes(
    found: lexiseg.inference.instances.InstanceSegmentation, index: int, *, polygons: bool
) -> Iterator[LabeledShapeRequest]:
    class_id = found.things[index].class_id
    if polygons:
        for piece in found.outlines(index):
            yield cvataa.polygon(class_id, piece.one_ring().ravel().tolist())
    else:
        yield cvataa.mask(class_id, encode_mask(found.mask(index)))


def create(  # noqa: PLR0913  (what `cvat-cli -p` may say)
    classes: str,
    checkpoint: str = "",
    clip: str = "",
    method: str = "",
    device: str = "auto",
    background: str = "",
    threshold: float = 0.0,
    *,
    pieces: bool = True,
    stuff: str = "",
) -> Lexiseg:
    """What ``cvat-cli`` calls with its ``-p`` parameters: those of `lexiseg.Pipeline.load` and `lexiseg.Pipeline.segmenter`."""
    pipeline = lexiseg.Pipeline.load(
        checkpoint or None, clip=clip or None, method=method or None, device=device
    )
    segmenter = pipeline.segmenter(classes, background=background or None, threshold=threshold or None)
    return Lexiseg(segmenter, pieces=pieces, stuff=stuff)
