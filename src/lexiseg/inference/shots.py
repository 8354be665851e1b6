"""Photographs with masks, from which a model learns its words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lexiseg.data.io import ImageSource, read_image, read_label
from lexiseg.errors import DataError
from lexiseg.inference.encoding import Picture
from lexiseg.label_codes import LabelMap, label_codes


@dataclass(frozen=True)
class Shot:
    """A photograph with its masks.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        label: ``(H, W)`` class ids in the order of the words; ``label_codes(K).ignore`` where nothing is said,
            ``label_codes(K).unlabelled`` for "none of these".
        name: What messages call it.

    Raises:
        DataError: Something else than such arrays; :meth:`read` takes the rest.
    """

    image: Picture
    label: LabelMap
    name: str

    def __post_init__(self) -> None:
        """Reject what is no array before anything is looked at."""
        for what, array, axes in (("image", self.image, 3), ("label", self.label, 2)):
            if not isinstance(array, np.ndarray) or array.ndim != axes:
                raise DataError(
                    f"{what} of {self.name}: expected an array of {axes} axes, got {type(array).__name__}; "
                    "Shot.read opens files and pictures of other kinds"
                )

    @classmethod
    def read(
        cls, image: ImageSource, label: str | Path | Image.Image | LabelMap, name: str | None = None
    ) -> "Shot":
        """From files, or pictures of any kind that :func:`~lexiseg.data.io.read_image` reads.

        Args:
            image: The photograph.
            label: A file of class ids, a grey or palette picture, or an array.
            name: What messages call it; None: the photograph's path.

        Raises:
            DataError: One of them cannot be read.
        """
        called = name or (str(image) if isinstance(image, str | Path) else "the photograph given")
        ids = read_label(label) if isinstance(label, str | Path) else np.asarray(label)
        return cls(read_image(image), ids, called)


def require_shots(shots: Sequence[Shot], count: int) -> None:
    """Refuse what teaches nothing.

    Raises:
        DataError: None, masks of another size or with ids beyond the words, or not one pixel of any word.
    """
    if not shots:
        raise DataError("no photograph with masks to adapt to; give at least one, better five")
    codes = label_codes(count)
    for shot in shots:
        size = shot.image.shape[:2]
        if size != shot.label.shape:
            raise DataError(
                f"{shot.name} is {size[0]}x{size[1]} (height x width), its mask {shot.label.shape[0]}x{shot.label.shape[1]}; "
                "both must have the same size"
            )
        known = (shot.label < count) | (shot.label == codes.ignore) | (shot.label == codes.unlabelled)
        if not known.all():
            raise DataError(
                f"the mask of {shot.name} holds id {int(shot.label[~known].min())}, but there are {count} words, ids 0 to "
                f"{count - 1}; {codes.unlabelled} is none of these, {codes.ignore} says nothing. Name its class, or ignore it"
            )
    if not any((shot.label < count).any() for shot in shots):
        raise DataError(
            "no mask has a pixel of any of the words; check the ids, which count from 0 in the order of the words"
        )
