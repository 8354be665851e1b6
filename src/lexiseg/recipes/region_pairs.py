"""Pairs of a region and a word, by which OVSeg adapts CLIP: made of captions, masks without names, and CLIP's own judgement."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.clip.model import FrozenCLIP
from lexiseg.clip.templates import resolve_templates
from lexiseg.clip.vocabulary import embed_words
from lexiseg.data.caption_words import CaptionWords
from lexiseg.data.captioned_regions import NOUNS, caption_finder
from lexiseg.data.datasets.coco_captions import read_captions
from lexiseg.data.io import read_image
from lexiseg.data.word_lists import word_groups
from lexiseg.errors import ConfigError, DataError
from lexiseg.inference.devices import pick_device
from lexiseg.masks.build import Outcome, build_masks
from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.provider import Picture
from lexiseg.masks.sa1b import read_mask_file
from lexiseg.masks.store import MaskStore
from lexiseg.models.region_classifiers.masked_crops import MaskedCrops
from lexiseg.recipes.masks import mask_tasks
from lexiseg.recipes.settings import ClipSource
from lexiseg.storage import require_folder

_DIGITS = 16


@dataclass(frozen=True)
class PairBuild:
    """Which pairs to make, and of what.

    Attributes:
        images: Photographs, or folders with all their subfolders.
        captions: JSON of COCO's layout; photographs are found in it by their files' names.
        output: Where pairs go; mirrors the folder.
        masks: What `lexiseg masks build` wrote with this for its output; None for beside each photograph.
        words: A class list's name, ``toy``, a class file, or ``nouns`` for whatever NLTK takes for one.
        clip: Judges which region shows a word.
        templates: Sentences that it reads a word in.
        captions_each: How many captions of a photograph count, the first ones; the published pairs are of one.
        least: Least cosine of a region and its word; the published pairs have no such bound.
        device: Where CLIP runs.
        overwrite: Replace pairs made otherwise, or of another version of the photograph.
    """

    images: Sequence[Path]
    captions: Path
    output: Path
    masks: Path | None = None
    words: str = NOUNS
    clip: ClipSource = field(default_factory=ClipSource)
    templates: str = "single"
    captions_each: int = 1
    least: float = -1.0
    device: str = "auto"
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse what makes no pair before anything is read.

        Raises:
            ConfigError: Less than one caption, or a cosine that is none.
        """
        resolve_templates(self.templates)
        if self.captions_each < 1:
            raise ConfigError(f"captions-each: expected at least 1, got {self.captions_each}")
        if not -1 <= self.least < 1:
            raise ConfigError(f"min-similarity: expected a cosine from -1 to below 1, got {self.least}")


@dataclass(frozen=True, eq=False)
class CaptionedPhotograph:
    """What a pair is made of.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        masks: Its masks, without names.
        words: Of its captions, each once.
    """

    image: Picture
    masks: MaskSet
    words: tuple[str, ...]


def start_pairs(build: PairBuild) -> tuple[int, Iterator[Outcome]]:
    """Check everything, load CLIP, read the words; then pairs are made while the outcomes are taken.

    A photograph without a caption or without masks fails by itself; one without a word in its captions has no pair. What was
    made with the same captions, words, CLIP and kind of masks is kept, as `lexiseg masks build` keeps masks.

    Returns:
        How many photographs there are, and what becomes of each.

    Raises:
        LexisegError: A place that does not exist, an output that cannot be one or holds the masks, a file that holds no
            captions, no such words, or a CLIP without words.
    """
    tasks = mask_tasks(build.images, build.output)
    require_folder(build.output, "--output")
    stores = {task.image: MaskStore(build.masks, task.store.root) for task in tasks}
    for task in tasks:
        if stores[task.image].path(task.image).resolve() == task.store.path(task.image).resolve():
            raise ConfigError(f"output: {build.output} holds the masks; give pairs a folder of their own")
    captions = read_captions(build.captions)
    find = caption_finder(build.words)
    said = {task.image.name: _said(captions, task.image.name, build, find) for task in tasks}
    words = tuple(sorted({word for found in said.values() for word in found}))
    if not words:
        raise DataError(
            f"no word of {build.words} stands in the captions of these photographs; check --captions, or give other --words"
        )
    frozen = build.clip.load().to(pick_device(build.device))
    texts = embed_words(frozen, words, resolve_templates(build.templates))
    files = (stores[task.image].find(task.image) for task in tasks)
    settings = _settings(build, frozen, next((file for file in files if file is not None), None))
    matcher = WordMatcher(frozen, dict(zip(words, texts, strict=True)), least=build.least, settings=settings)

    def read(image: Path) -> Any:
        if image.name not in captions:
            raise DataError(f"{image}: no caption of a photograph of this name in {build.captions}")
        picture = read_image(image)
        masks = stores[image].read(image, (picture.shape[0], picture.shape[1]))
        return CaptionedPhotograph(picture, masks, said[image.name])

    return len(tasks), build_masks(tasks, matcher, read, overwrite=build.overwrite)


class WordMatcher:
    """Each word of a photograph takes the region that CLIP finds nearest to it, cut out as OVSeg cuts it (sec. 3.3).

    Two words may take one region, and most regions go without. A pair's score is the cosine, at least 0.

    Args:
        clip: Not adapted yet.
        texts: ``(E,)`` unit embedding of every word there is.
        least: Pairs below this cosine are left out.
        settings: What pairs depend on, for the files.
    """

    name = "pairs"

    def __init__(
        self, clip: FrozenCLIP, texts: Mapping[str, Tensor], *, least: float, settings: Mapping[str, Any]
    ) -> None:
        self._clip, self._texts, self._least = clip, texts, least
        self.settings = settings
        self._crops = MaskedCrops("region")

    @torch.no_grad()
    def __call__(self, image: Any) -> MaskSet:
        """The pairs of a :class:`CaptionedPhotograph`: some of its masks, with a word each."""
        own: CaptionedPhotograph = image
        if not own.words or not len(own.masks):
            return own.masks.chosen(np.zeros(0, dtype=np.int64))
        vectors = self._crops.embed_regions(self._clip.tower, own.image, own.masks.arrays())
        texts = torch.stack([self._texts[word] for word in own.words])
        cosines, best = best_regions(vectors, texts.to(vectors))
        kept = [index for index, cosine in enumerate(cosines) if cosine >= self._least]
        chosen = own.masks.chosen(np.array([best[index] for index in kept], dtype=np.int64))
        scores = [max(cosines[index], 0.0) for index in kept]
        return MaskSet.from_runs(
            chosen.size, chosen.runs, scores, chosen.stability, [own.words[index] for index in kept]
        )


def best_regions(regions: Tensor, words: Tensor) -> tuple[list[float], list[int]]:
    """For each of W words the region of the highest cosine.

    Args:
        regions: ``(N, E)``, not normalised; at least one.
        words: ``(W, E)``, not normalised.

    Returns:
        W cosines, and W indices of regions.
    """
    cosines = F.normalize(words, dim=-1) @ F.normalize(regions, dim=-1).T
    best = cosines.max(1)
    return best.values.tolist(), best.indices.tolist()


def _said(
    captions: Mapping[str, Sequence[str]], name: str, build: PairBuild, find: CaptionWords
) -> tuple[str, ...]:
    told = captions.get(name, ())[: build.captions_each]
    return tuple(dict.fromkeys(word for caption in told for word in find(caption)))


def _settings(build: PairBuild, clip: FrozenCLIP, masks: Path | None) -> dict[str, Any]:
    """What the pairs depend on besides the photograph. How the masks were made, the first file says for all."""
    groups = [] if build.words == NOUNS else word_groups(build.words)
    return {
        "clip": clip.fingerprint,
        "templates": list(resolve_templates(build.templates)),
        "captions": _hash(build.captions.read_bytes()),
        "captions_each": build.captions_each,
        "words": NOUNS if build.words == NOUNS else _hash(json.dumps(groups).encode()),
        "least": build.least,
        "masks": None if masks is None else _hash(json.dumps(read_mask_file(masks).origin).encode()),
    }


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]
