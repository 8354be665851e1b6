"""SCLIP's learned projection, fitted for a benchmark on its own training images and kept beside the table."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from lexiseg.clip.loading import FrozenCLIP
from lexiseg.dense.learned_projection import fit_projection, kept_key, write_projection
from lexiseg.errors import ConfigError, LexisegError
from lexiseg.evaluation.benchmark import Benchmark, MethodChoice, data_name, prepare
from lexiseg.evaluation.evaluate import place_among_processes
from lexiseg.inference.segmenter import Segmenter
from lexiseg.label_codes import label_codes
from lexiseg.ops.resize import keep_ratio_size, resize_image, resize_label
from lexiseg.progress import doing
from lexiseg.types import BlockTower, SegmentationDataset

FOLDER = "projections"
"""Of a benchmark's output."""

IMAGES = 64
"""Training images that the paper learns a projection on."""

_SCLIP, _LEARNED = "sclip", "learned"


def wants_projection(choice: MethodChoice) -> bool:
    """Whether a row asks for a learned projection and names none."""
    asked = choice.name == _SCLIP and _LEARNED in (choice.settings.get("projections") or ())
    return asked and choice.settings.get(_LEARNED) is None


def with_projection(
    choice: MethodChoice, benchmark: Benchmark, clip: FrozenCLIP, changes: Mapping[str, Any], output: Path
) -> MethodChoice:
    """The row with a projection of this benchmark: that of an earlier run of the same settings, or one that is fitted now.

    The images are brought to the row's short side, and the middle window of each is learned from, under the row's words and
    logit scale. Of several processes the first one fits, and all read what it wrote.

    Args:
        choice: A row that :func:`wants_projection`.
        benchmark: Its training images are read.
        clip: The frozen CLIP.
        changes: Protocol settings for every row.
        output: Of the benchmark; ``projections/NAME.safetensors`` in it receives the matrix.

    Raises:
        ConfigError: A benchmark without training images.
        DataError: None of them has a label.
    """
    if benchmark.training is None:
        raise ConfigError(
            f"{choice.label}: {benchmark.name} has no training images to learn a projection on; name a file of one, as "
            "settings: {projections: [learned], learned: FILE}"
        )
    plain = replace(choice, settings={**choice.settings, "projections": ["query"]})
    segmenter = prepare(plain, benchmark, clip, changes)
    training = benchmark.training()
    path, key = output / FOLDER / f"{benchmark.name}.safetensors", _key(segmenter, training, clip)
    rank, world = place_among_processes()
    failed: list[LexisegError | None] = [None]
    if rank == 0 and kept_key(path) != key:
        try:
            write_projection(_fit(segmenter, training, clip), path, key)
        except LexisegError as error:
            failed = [error]
    if (
        world > 1
    ):  # the others wait here, and fail as the first one does: no process measures without the rest
        torch.distributed.broadcast_object_list(failed)
    if failed[0] is not None:
        raise failed[0]
    return replace(choice, settings={**choice.settings, _LEARNED: str(path)})


def _fit(segmenter: Segmenter, training: SegmentationDataset, clip: FrozenCLIP) -> Tensor:
    device = next(clip.tower.parameters()).device
    words = segmenter.embeddings
    with doing(f"learning a projection on {min(IMAGES, len(training))} images"):
        return fit_projection(
            cast(BlockTower, clip.tower),
            _windows(segmenter, training, device),
            words.vectors.to(device),
            class_ids=words.class_ids,
            logit_scale=segmenter.protocol.logit_scale,
            position_mode=clip.tower.position_mode or "bicubic_offset",
        )


def _windows(
    segmenter: Segmenter, training: SegmentationDataset, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """The middle window of each image, ``(1, 3, h, w)`` normalised, and its labels ``(1, h, w)``; whole patches."""
    protocol, patch = segmenter.protocol, segmenter.model.patch_size
    classes = len(segmenter.vocabulary)
    for index in range(min(IMAGES, len(training))):
        sample = training[index]
        size = (sample.image.shape[0], sample.image.shape[1])
        size = size if protocol.short_side is None else keep_ratio_size(size, protocol.short_side)
        image = resize_image(torch.from_numpy(np.ascontiguousarray(sample.image)), size)
        label = resize_label(torch.from_numpy(sample.label.astype(np.int64)), size)
        rows, columns = (_middle(side, protocol.window, patch) for side in size)
        pixels = image[rows, columns].permute(2, 0, 1)[None].to(device)
        label = label[rows, columns][None].to(device)
        yield segmenter.model.normalize(pixels), label.where(label < classes, label_codes(classes).ignore)


def _middle(side: int, window: int | None, patch: int) -> slice:
    """The middle of a side, of whole patches and no longer than a window."""
    length = max(min(side, window or side) // patch, 1) * patch
    start = max((side - length) // 2, 0)
    return slice(start, start + length)


def _key(segmenter: Segmenter, training: SegmentationDataset, clip: FrozenCLIP) -> str:
    """Of everything that decides the matrix."""
    settings = {
        "clip": clip.fingerprint,
        "data": data_name(training),
        "images": [IMAGES, len(training)],
        "words": segmenter.vocabulary.words,
        "templates": segmenter.vocabulary.templates,
        "sizes": [segmenter.protocol.short_side, segmenter.protocol.window, segmenter.protocol.logit_scale],
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]
