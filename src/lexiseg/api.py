"""The three-line form: a photograph and words in, labels out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.data.io import read_image
from lexiseg.inference.pipeline import load_segmentable
from lexiseg.inference.result import Segmentation


def segment(
    image: npt.NDArray[np.uint8] | Path | str,
    classes: Sequence[str] | str | Vocabulary,
    *,
    checkpoint: Path | str | None = None,
    clip: str | None = None,
    method: str | None = None,
    device: str = "auto",
) -> Segmentation:
    """Name every pixel of one photograph; the path that ``lexiseg predict`` takes.

    For many photographs, build a :class:`lexiseg.Segmenter` once (``load_segmentable(...).segmenter(...)``).

    Args:
        image: A path, or ``(H, W, 3)`` uint8 RGB.
        classes: Names; in a text separated by commas, synonyms by semicolons.
        checkpoint: A trained model: a file, an exported folder, or its name on the hub; without it a frozen CLIP is
            read with no training.
        clip: CLIP weights: hub name, folder, file, or ``toy``; OpenAI's ViT-B/16 by default.
        method: Training-free reading; not together with a checkpoint.
        device: ``auto``, ``cpu``, ``cuda``, ….

    Raises:
        LexisegError: What was expected, what came, what to do.
    """
    loaded = load_segmentable(checkpoint=checkpoint, clip=clip, method=method, device=device)
    pixels = image if isinstance(image, np.ndarray) else read_image(image)
    return loaded.segmenter(loaded.vocabulary(classes)).segment(pixels)
