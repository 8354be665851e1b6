"""What segmentation gives back: labels at the photograph's size, with names, scores and every common form."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from lexiseg.data.io import ImageSource, read_image
from lexiseg.errors import ConfigError, LexisegError
from lexiseg.inference.annotated import Annotated
from lexiseg.inference.instances import InstanceSegmentation
from lexiseg.inference.label_pieces import instances_of, panoptic_of
from lexiseg.inference.panoptic import PanopticSegmentation
from lexiseg.inference.pictures import NO_CLASS, label_image, overlay_image, score_image
from lexiseg.inference.segment_finding import Stuff, names_of_stuff
from lexiseg.lazy import locate
from lexiseg.storage import json_text, png_bytes, remove_file, write_atomically
from lexiseg.types import chunks

if TYPE_CHECKING:
    import fiftyone

_COUNTED_PIXELS = 2**22
_NAMED = 40

Kind = Literal["labels", "overlay", "json", "scores"]
"""The files that a result can be."""

_SUFFIXES: dict[Kind, str] = {
    "labels": "_labels.png",
    "overlay": "_overlay.png",
    "json": ".json",
    "scores": "_scores.png",
}


@dataclass(frozen=True, repr=False)
class Segmentation(Annotated):
    """A labelled photograph.

    Attributes:
        labels: ``(H, W)`` class ids in the smallest of uint8, uint16 and int32 that holds them. No id is
            special: 255 is class 255. With a rejection threshold and no background class, ``len(classes)``
            means no class.
        scores: ``(H, W)`` float32 score of the winning class: its sigmoid without the seen penalty, or its
            soft-max probability over all words; None where they were not asked for.
        id2label: Class name per id.
        unseen: Names of classes without training labels, where the model knows which were seen.
        protocol: The settings that led here, as plain values.
        mask_classes: ``(M,)`` int64 class id of each mask that was given, in their order; None where none were.
        known_words: Which of the words training had labels for, as they were asked for: FC-CLIP and ZegFormer weigh CLIP's
            opinion otherwise for their classes. None where the model was not trained, or does not say on what.
        method: The training-free reading with its settings, as plain values; None of a trained model.
    """

    labels: npt.NDArray[np.integer[Any]]
    scores: npt.NDArray[np.float32] | None
    id2label: Mapping[int, str]
    unseen: tuple[str, ...] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)
    mask_classes: npt.NDArray[np.int64] | None = None
    known_words: tuple[str, ...] | None = None
    method: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        scored = "" if self.scores is None else ", with scores"
        return f"Segmentation({self.size[0]}x{self.size[1]}{scored}: {self.describe(most=4)})"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.labels.shape[0], self.labels.shape[1]

    @cached_property
    def counts(self) -> dict[int, int]:
        """Pixels of each class that occurs, by id, the largest first."""
        counts = self._sum_per_class()
        order = np.argsort(-counts, kind="stable")
        return {int(index): int(counts[index]) for index in order if counts[index]}

    @property
    def areas(self) -> dict[str, float]:
        """Share of the picture of each class that occurs, by name, the largest first."""
        return {self.id2label[index]: count / self.labels.size for index, count in self.counts.items()}

    def describe(self, *, most: int = 8) -> str:
        """Classes found, largest first, with their share of the picture in percent; ``most`` of them are named."""
        return told_areas(self.areas, most=most)

    @cached_property
    def mean_scores(self) -> dict[str, float]:
        """Mean score over the pixels of each class that occurs, by name; empty without scores."""
        if self.scores is None:
            return {}
        sums = self._sum_per_class(self.scores)
        return {self.id2label[index]: float(sums[index] / count) for index, count in self.counts.items()}

    def mask(self, which: int | str) -> npt.NDArray[np.bool_]:
        """``(H, W)`` boolean mask of one class, made when asked for.

        Args:
            which: The class by its id, or by its name in :attr:`id2label`.

        Raises:
            ConfigError: No class of that id or name was looked for.
        """
        if isinstance(which, str):
            found = [index for index, name in self.id2label.items() if name == which]
        else:
            found = [int(which)] if which in self.id2label else []
        if not found:
            told = ", ".join(f"{index} {name}" for index, name in list(self.id2label.items())[:_NAMED])
            more = f" and {len(self.id2label) - _NAMED} more" if len(self.id2label) > _NAMED else ""
            raise ConfigError(f"no class {which!r} was looked for; there are {told}{more}")
        return self.labels == found[0]

    def masks(self) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
        """Id and boolean mask of each class that occurs, one at a time, the largest first."""
        for class_id in self.counts:
            yield class_id, self.mask(class_id)

    def to_hf(self) -> list[dict[str, Any]]:
        """As transformers' image-segmentation pipeline: label, score and mode "L" mask (0 and 255) of each class found."""
        return [
            {
                "label": self.id2label[class_id],
                "score": self.mean_scores.get(self.id2label[class_id]),
                "mask": Image.fromarray(mask.astype(np.uint8) * 255),
            }
            for class_id, mask in self.masks()
            if self.id2label[class_id] != NO_CLASS
        ]

    def to_fiftyone(self) -> "fiftyone.Segmentation":
        """``fiftyone.Segmentation`` of class ids shifted by one, for FiftyOne does not draw 0; see :meth:`mask_targets`.

        Raises:
            ConfigError: FiftyOne is not installed.
        """
        made: fiftyone.Segmentation = locate("lexiseg.inference.formats.fiftyone:segmentation")(self)
        return made

    def to_fiftyone_heatmap(self) -> "fiftyone.Heatmap":
        """``fiftyone.Heatmap`` of the scores; raises as :meth:`to_fiftyone` and :meth:`score_image` do."""
        made: fiftyone.Heatmap = locate("lexiseg.inference.formats.fiftyone:heatmap")(self)
        return made

    def mask_targets(self) -> dict[int, str]:
        """Names of the values of :meth:`to_fiftyone`'s mask, for ``dataset.default_mask_targets``."""
        return {index + 1: name for index, name in self.id2label.items() if name != NO_CLASS}

    def to_instances(self, *, pieces: bool = False, stuff: Stuff = ()) -> InstanceSegmentation:
        """Objects one by one, with the mean score of their pixels; what has no class, and background, is none.

        Args:
            pieces: Each piece of a class that hangs together by shared edges, instead of the class as a whole.
            stuff: Classes that stay whole, ``"sky, road"`` or a list.

        Raises:
            ConfigError: Stuff that is no class.
        """
        return instances_of(self, pieces=pieces, stuff=self._stuff(stuff))

    def to_panoptic(self, *, stuff: Stuff = ()) -> PanopticSegmentation:
        """Segments that do not overlap: of classes in ``stuff`` one each, of others each piece that hangs together.

        Raises:
            ConfigError: Stuff that is no class.
            LexisegError: More pieces than COCO's picture of ids holds.
        """
        return panoptic_of(self, stuff=self._stuff(stuff))

    def to_coco(self, *, pieces: bool = False, polygons: bool = False) -> list[dict[str, Any]]:
        """COCO annotations, one for each class or each of its ``pieces``; see :meth:`InstanceSegmentation.to_coco`."""
        return self.to_instances(pieces=pieces).to_coco(polygons=polygons)

    def to_dict(self) -> dict[str, Any]:
        """Size, classes with areas and scores, the vocabulary, the method and the whole protocol, as plain values."""
        found = [
            {
                "id": class_id,
                "name": self.id2label[class_id],
                "pixels": count,
                "area": count / self.labels.size,
                "mean_score": self.mean_scores.get(self.id2label[class_id]),
                "unseen": self.id2label[class_id] in self.unseen,
            }
            for class_id, count in self.counts.items()
        ]
        return {
            "height": self.size[0],
            "width": self.size[1],
            "found": found,
            "id2label": {str(class_id): name for class_id, name in self.id2label.items()},
            "known_words": None if self.known_words is None else list(self.known_words),
            "method": None if self.method is None else dict(self.method),
            "protocol": dict(self.protocol),
        }

    def label_image(self) -> Image.Image:
        """Pixel values are class ids: a palette image in the class colours up to 255 ids, 16-bit grey above."""
        return label_image(self.labels, self._names)

    def overlay(self, image: ImageSource) -> Image.Image:
        """The photograph coloured by class with a legend, unseen classes hatched.

        Args:
            image: The photograph that was segmented; see :func:`lexiseg.data.io.read_image`.

        Raises:
            LexisegError: It has another size, or cannot be read.
        """
        return overlay_image(read_image(image), self.labels, self._names, unseen=self.unseen)

    def score_image(self) -> Image.Image:
        """Scores as 8-bit grey, 255 for 1.

        Raises:
            LexisegError: There are none.
        """
        return score_image(self.require_scores())

    def require_scores(self) -> npt.NDArray[np.float32]:
        """The scores.

        Raises:
            LexisegError: There are none.
        """
        if self.scores is None:
            raise LexisegError("this segmentation holds no scores; segment with scores=True")
        return self.scores

    def to_bytes(self, kind: Kind, *, image: ImageSource | None = None) -> bytes:
        """One file of :meth:`save` without a disk: PNG, or JSON in UTF-8.

        Args:
            kind: ``labels``, ``overlay``, ``scores`` or ``json``.
            image: The photograph, for an overlay.

        Raises:
            LexisegError: No such kind, an overlay without its photograph, or what the picture's own method refuses.
        """
        if kind == "json":
            return json_text(self.to_dict()).encode()
        if kind == "labels":
            return png_bytes(self.label_image())
        if kind == "scores":
            return png_bytes(self.score_image())
        if kind == "overlay" and image is not None:
            return png_bytes(self.overlay(image))
        wanted = "the photograph as image" if kind == "overlay" else f"one of {', '.join(_SUFFIXES)}"
        raise LexisegError(f"a result as '{kind}': expected {wanted}")

    def save(
        self,
        folder: Path | str,
        stem: str,
        *,
        image: ImageSource | None = None,
        label_png: bool = True,
        overlay: bool = True,
        json: bool = True,
        score_png: bool = False,
    ) -> dict[str, Path]:
        """Write the chosen files; each appears whole or not at all, and the JSON last: where it stands, so do the others.

        Args:
            folder: Is made if need be.
            stem: ``STEM_labels.png``, ``STEM_overlay.png``, ``STEM.json``, ``STEM_scores.png`` are written.
            image: The photograph, as in :meth:`overlay`; no overlay without it.
            label_png: :meth:`label_image`.
            overlay: :meth:`overlay`.
            json: :meth:`to_dict`.
            score_png: :meth:`score_image`.

        Returns:
            Path per kind: ``labels``, ``overlay``, ``json``, ``scores``.

        Raises:
            LexisegError: The folder cannot be written to, the photograph has another size, or a score map is
                wanted of a segmentation without scores.
        """
        wanted: dict[Kind, bool] = {
            "labels": label_png,
            "overlay": overlay and image is not None,
            "scores": score_png,
            "json": json,
        }
        chosen = [kind for kind, asked in wanted.items() if asked]
        paths: dict[str, Path] = {kind: Path(folder) / f"{stem}{_SUFFIXES[kind]}" for kind in chosen}
        contents = {kind: self.to_bytes(kind, image=image) for kind in chosen}
        if json:
            remove_file(paths["json"])
        for kind, content in contents.items():
            write_atomically(paths[kind], partial(_write, content=content))
        return paths

    def _stuff(self, stuff: Stuff) -> frozenset[str]:
        return names_of_stuff(stuff, {name: (name,) for name in self.id2label.values()})

    @property
    def _names(self) -> list[str]:
        return [self.id2label[index] for index in range(len(self.id2label))]

    def _sum_per_class(self, weights: npt.NDArray[np.float32] | None = None) -> npt.NDArray[Any]:
        """Pixels of each id, or the sum of their weights; a few rows at a time, since numpy widens both."""
        total: npt.NDArray[Any] = np.zeros(
            len(self.id2label), dtype=np.int64 if weights is None else np.float64
        )
        for rows in chunks(self.labels.shape[0], max(1, _COUNTED_PIXELS // max(self.labels.shape[1], 1))):
            part = None if weights is None else weights[rows].ravel()
            total += np.bincount(self.labels[rows].ravel(), weights=part, minlength=len(total))
        return total


def told_areas(areas: Mapping[str, float], *, most: int = 8) -> str:
    """Names with their share of a picture in percent; ``most`` of them are named."""
    told = [f"{name} {100 * area:.1f} %" for name, area in areas.items()]
    more = [f"and {len(told) - most} more"] if len(told) > most else []
    return ", ".join(told[:most] + more)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
