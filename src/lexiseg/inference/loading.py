"""A model ready to segment, from a checkpoint or straight from a CLIP; plain Python, no configuration framework."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from lexiseg.clip.loading import DEFAULT_CLIP, FrozenCLIP, load_clip
from lexiseg.clip.templates import resolve_templates
from lexiseg.clip.vocabulary import Vocabulary, default_cache_dir
from lexiseg.errors import ConfigError
from lexiseg.inference.methods import build_method, published_templates
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.segmenter import Segmenter
from lexiseg.models.checkpoint import CheckpointInfo, check_same, load_tensors_only, load_weights, read_info
from lexiseg.models.registry import build_model
from lexiseg.types import Segmentable

DEFAULT_METHOD = "sc-clip"
"""The training-free reading taken where neither checkpoint nor method is named."""


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

    def segmenter(self, vocabulary: Vocabulary) -> Segmenter:
        """A segmenter for these words; classes that the checkpoint was trained on bear the protocol's penalty."""
        trained = set(self.info.split.seen) if self.info is not None and self.info.split.unseen else set()
        seen_ids = tuple(i for i, group in enumerate(vocabulary.words) if trained & set(group))
        embed = lambda words: words.embed(self.clip, default_cache_dir())  # noqa: E731
        return Segmenter(
            self.model, vocabulary, embed(vocabulary), self.protocol, seen_ids=seen_ids, embedder=embed
        )


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
    return Loaded(model, frozen, InferenceProtocol.from_dict(info.protocol), info.templates, info)


def load_segmentable(
    *,
    checkpoint: Path | str | None = None,
    clip: str | None = None,
    tokenizer: str | None = None,
    method: str | None = None,
    templates: str | None = None,
    device: str = "auto",
) -> Loaded:
    """What a photograph is segmented with: a checkpoint's model, or a training-free reading of a CLIP.

    Raises:
        LexisegError: A method together with a checkpoint, or anything that loading found wrong.
    """
    if checkpoint is not None:
        if method is not None:
            raise ConfigError("give either a checkpoint or a training-free method, not both")
        loaded = load_trained(checkpoint, clip=clip, tokenizer=tokenizer, device=device)
        return replace(loaded, templates=resolve_templates(templates)) if templates else loaded
    frozen = load_clip(clip or DEFAULT_CLIP, tokenizer=tokenizer).to(pick_device(device))
    built = build_method(method or DEFAULT_METHOD, frozen.vision)
    if isinstance(built.model, nn.Module):
        built.model.to(pick_device(device))  # a second vision model is not there yet
    protocol = InferenceProtocol.training_free(native_side=frozen.vision.image_size)
    chosen = resolve_templates(templates or published_templates(built.name))
    return Loaded(built.model, frozen, replace(protocol, views=built.views), chosen)


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
            f"device '{device}' cannot be used here ({str(error).splitlines()[0]}); try cpu or auto"
        ) from error
    return chosen
