"""SA-1B's JSON layout: the size and name of an image and its masks as run lengths, read and written.

    {"image": {"file_name", "width", "height", …},
     "annotations": [{"segmentation": {"size": [height, width], "counts": "…"}, "area", "bbox",
                      "predicted_iou", "stability_score", …}, …]}

Our own files are of this layout too, with one more key that says how the masks were made, and a ``word`` in the
annotations of masks that bear words; so one reader serves both, and whatever reads SA-1B reads our files.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lexiseg.errors import DataError
from lexiseg.masks.mask_set import MaskSet
from lexiseg.ops.run_length import Counts, box_of_rle, compress_counts, expand_counts

ORIGIN_KEY = "lexiseg"
_WORD_KEY = "word"
_DECIMALS = 6


@dataclass(frozen=True)
class MaskFile:
    """What one JSON file says.

    Attributes:
        file_name: Name of the image that the masks belong to; None where the file does not say.
        masks: The masks, with the image's size.
        origin: How they were made, if by lexiseg.
    """

    file_name: str | None
    masks: MaskSet
    origin: Mapping[str, Any] | None = None


def read_mask_file(path: Path) -> MaskFile:
    """Read a file of SA-1B's layout. Masks may overlap; empty ones are dropped and counted.

    Raises:
        DataError: The file is missing, no JSON, of another layout, or its run lengths do not fit the image.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"cannot read the mask file {path} ({error.strerror or error}); check the path"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"mask file {path} is damaged or no JSON ({error}); make it again or remove it"
        ) from error
    try:
        about, annotations = content["image"], content["annotations"]
        size = (int(about["height"]), int(about["width"]))
        name, origin = about.get("file_name"), content.get(ORIGIN_KEY)
        parts = [_Annotation.parse(annotation, size) for annotation in annotations]
    except _WrongRunsError as error:
        raise DataError(f"mask file {path}: {error}; make it again or remove it") from error
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(
            f"mask file {path}: expected SA-1B's layout, an object with 'image' (width, height, file_name) and "
            f"'annotations' (each with 'segmentation'); came something else ({type(error).__name__}: {error})"
        ) from error
    words = [p.word for p in parts if p.word is not None]
    masks = MaskSet.from_runs(
        size,
        [p.counts for p in parts],
        [p.quality for p in parts],
        [p.stability for p in parts],
        words if len(words) == len(parts) else (),
    )
    return MaskFile(name, masks, origin)


def to_json(file: MaskFile) -> str:
    """The text of a file that :func:`read_mask_file` reads, and that readers of SA-1B read."""
    height, width = file.masks.size
    content: dict[str, Any] = {"image": {"file_name": file.file_name, "width": width, "height": height}}
    if file.origin is not None:
        content[ORIGIN_KEY] = dict(file.origin)
    content["annotations"] = [
        {
            "id": number,
            "segmentation": {"size": [height, width], "counts": compress_counts(counts)},
            "area": int(area),
            "bbox": list(box_of_rle(counts, height)),
            "predicted_iou": round(float(quality), _DECIMALS),
            "stability_score": round(float(stability), _DECIMALS),
            **({_WORD_KEY: file.masks.words[number - 1]} if file.masks.words else {}),
        }
        for number, (counts, area, quality, stability) in enumerate(
            zip(file.masks.runs, file.masks.areas, file.masks.scores, file.masks.stability, strict=True),
            start=1,
        )
    ]
    return json.dumps(content, ensure_ascii=False) + "\n"


class _WrongRunsError(Exception):
    """The layout is right, but a mask in it is not."""


@dataclass(frozen=True)
class _Annotation:
    counts: Counts
    quality: float
    stability: float
    word: str | None = None

    @staticmethod
    def parse(annotation: Mapping[str, Any], size: tuple[int, int]) -> "_Annotation":
        segmentation, told = annotation["segmentation"], f"mask {annotation.get('id', 'without id')}"
        if not isinstance(segmentation, dict):
            raise _WrongRunsError(
                f"{told}: expected run lengths ('size' and 'counts'), came {_spoken(segmentation)}"
            )
        if tuple(segmentation["size"]) != size:
            raise _WrongRunsError(
                f"{told} is {'x'.join(map(str, segmentation['size']))} (height x width), its image {size[0]}x{size[1]}"
            )
        try:
            raw = segmentation["counts"]
            counts = expand_counts(raw) if isinstance(raw, str) else np.array(raw, dtype=np.int64)
        except (ValueError, OverflowError) as error:
            raise _WrongRunsError(f"{told}: {error}") from error
        total = (
            sum(counts.tolist()) if counts.ndim == 1 else None
        )  # Python's own sum has no 64 bits to overflow
        if total != size[0] * size[1] or (counts < 0).any():
            raise _WrongRunsError(
                f"{told}: run lengths add up to {total} pixels, the image has {size[0] * size[1]}"
            )
        quality, stability = annotation.get("predicted_iou"), annotation.get("stability_score")
        word = annotation.get(_WORD_KEY)
        return _Annotation(
            counts, _share(quality), _share(stability), word if isinstance(word, str) else None
        )


def _share(value: float | None) -> float:
    return 1.0 if value is None else float(value)


def _spoken(segmentation: object) -> str:
    return "polygons" if isinstance(segmentation, list) else repr(segmentation)[:60]
