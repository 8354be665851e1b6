"""From a composed configuration or a checkpoint to the objects of a run. The only place where all layers meet."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lexiseg.clip.loading import DEFAULT_CLIP, FrozenCLIP, load_clip
from lexiseg.clip.templates import resolve_templates
from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary, default_cache_dir
from lexiseg.data.datamodule import SegmentationDataModule
from lexiseg.data.splits import make_split
from lexiseg.dense.registry import build_dense
from lexiseg.errors import ConfigError, LexisegError
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.segmenter import Segmenter
from lexiseg.models.checkpoint import CheckpointInfo, check_same, load_tensors_only, load_weights, read_info
from lexiseg.models.registry import build_model
from lexiseg.types import ClassSplit, Segmentable

DEFAULT_METHOD = "sclip"
"""The training-free reading that ``predict`` takes without a checkpoint."""


@dataclass(frozen=True)
class Loaded:
    """A model that can segment, and what it came with.

    Attributes:
        model: Trained mask model or training-free encoder.
        clip: The CLIP it stands on.
        protocol: How it is to be used.
        templates: Prompt templates for its words.
        info: The checkpoint's description; None for a training-free encoder.
    """

    model: Segmentable
    clip: FrozenCLIP
    protocol: InferenceProtocol
    templates: tuple[str, ...]
    info: CheckpointInfo | None = None

    def segmenter(self, vocabulary: Vocabulary, split: ClassSplit | None = None) -> Segmenter:
        """A segmenter for these words; with a split, its seen classes take the protocol's penalty."""
        embeddings = vocabulary.embed(self.clip, default_cache_dir())
        seen_ids = split.seen_ids if split is not None and split.unseen else ()
        return Segmenter(self.model, vocabulary, embeddings, self.protocol, seen_ids=seen_ids)


def build_clip(settings: Mapping[str, Any]) -> FrozenCLIP:
    """Load the CLIP that ``conf/clip`` describes."""
    return load_clip(**dict(settings))


def build_split_and_data(config: DictConfig) -> tuple[ClassSplit, SegmentationDataModule]:
    """Both data sets, the split over their classes, and the data module.

    Raises:
        LexisegError: What the data layer found wrong, without Hydra's wrapping.
    """
    data = config.data
    train, val = (_instantiate(data[part]) for part in ("train", "val"))
    split = make_split(train.classes, **_plain(config.split))
    rest = OmegaConf.masked_copy(data, [key for key in data if key not in ("train", "val")])
    builder = _instantiate(rest, _partial_=True)
    return split, builder(train=train, val=val, split=split)


def build_protocol(settings: Mapping[str, Any]) -> InferenceProtocol:
    """The inference protocol that ``conf/protocol`` or a checkpoint describes."""
    return InferenceProtocol.from_dict(dict(settings))


def embed_split(clip: FrozenCLIP, split: ClassSplit, templates: Any) -> tuple[Vocabulary, TextEmbeddings]:
    """Vocabulary and text embeddings of a split's classes."""
    resolved = resolve_templates(templates if isinstance(templates, str) else list(templates))
    vocabulary = Vocabulary.from_names(split.classes, resolved)
    return vocabulary, vocabulary.embed(clip, default_cache_dir())


def load_trained(
    path: Path | str, *, clip: str | None = None, tokenizer: str | None = None, device: str = "auto"
) -> Loaded:
    """A trained model from its checkpoint.

    Args:
        path: ``last.ckpt`` or ``best.ckpt`` of a training run.
        clip: Where its CLIP lies now; by default where training found it. The weights must be the same.
        tokenizer: Of the CLIP, likewise.
        device: See :func:`pick_device`.

    Raises:
        CheckpointError: Unsafe, damaged, or not made for this CLIP.
    """
    checkpoint = load_tensors_only(path)
    info = read_info(checkpoint, path)
    how = {key: value for key, value in info.clip.items() if key != "fingerprint"}
    if clip is not None:
        how["source"] = clip
    if tokenizer is not None:
        how["tokenizer"] = tokenizer
    frozen = load_clip(**how)
    check_same(info, model=info.model, fingerprint=frozen.fingerprint, path=path)
    model = build_model(info.model, frozen.vision)
    load_weights(model, checkpoint["state_dict"], path)
    where = pick_device(device)
    model.eval().to(where)
    frozen.to(where)
    return Loaded(model, frozen, build_protocol(info.protocol), info.templates, info)


def load_segmentable(
    *,
    checkpoint: Path | str | None = None,
    clip: str | None = None,
    tokenizer: str | None = None,
    method: str | None = None,
    templates: str | None = None,
    device: str = "auto",
) -> Loaded:
    """What ``predict`` segments with: a checkpoint's model, or a training-free reading of a CLIP.

    Raises:
        LexisegError: A method together with a checkpoint, or anything that loading found wrong.
    """
    if checkpoint is not None:
        if method is not None:
            raise ConfigError("give either a checkpoint or a training-free method, not both")
        loaded = load_trained(checkpoint, clip=clip, tokenizer=tokenizer, device=device)
        chosen = resolve_templates(templates) if templates else loaded.templates
        return Loaded(loaded.model, loaded.clip, loaded.protocol, chosen, loaded.info)
    frozen = load_clip(clip or DEFAULT_CLIP, tokenizer=tokenizer).to(pick_device(device))
    encoder = build_dense(method or DEFAULT_METHOD, frozen.vision)
    protocol = InferenceProtocol.training_free(native_side=frozen.vision.image_size)
    return Loaded(encoder, frozen, protocol, resolve_templates(templates or "imagenet80"))


def pick_device(device: str) -> torch.device:
    """``auto`` takes a CUDA device if there is one, else the processor; MPS only on request.

    Raises:
        ConfigError: The device does not exist here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device '{device}' cannot be used here ({str(error).splitlines()[0]}); try device=cpu or device=auto"
        ) from error
    return chosen


def _instantiate(config: Any, **kwargs: Any) -> Any:
    """Hydra's instantiate, with the user's mistake as the error instead of Hydra's account of the call."""
    try:
        return instantiate(config, **kwargs)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, LexisegError):
            raise cause from None
        raise ConfigError(f"{str(error).splitlines()[0]}") from error


def _plain(config: Any) -> Any:
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
