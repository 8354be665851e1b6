"""A model ready to segment, from a checkpoint or straight from a CLIP; plain Python, no configuration framework."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from lexiseg.checkpoints.model_facts import ModelFacts
from lexiseg.checkpoints.model_folder import (
    ModelFolder,
    download_model_folder,
    is_hub_name,
    read_model_folder,
)
from lexiseg.checkpoints.program_folder import find_program
from lexiseg.checkpoints.training_file import (
    CheckpointInfo,
    check_same,
    load_tensors_only,
    load_weights,
    read_info,
)
from lexiseg.clip.loading import DEFAULT_CLIP, FrozenCLIP, load_clip
from lexiseg.clip.templates import resolve_templates
from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary, default_cache_dir
from lexiseg.dense.methods import build_method, default_method, published_templates
from lexiseg.errors import ConfigError
from lexiseg.inference.exported import ClipOnDemand, open_program
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.segmenter import Segmenter
from lexiseg.models.registry import build_model
from lexiseg.types import Segmentable


@dataclass(frozen=True)
class Loaded:
    """A model that can segment, and what it came with.

    Attributes:
        model: Trained mask model or training-free encoder.
        clip: The CLIP it stands on.
        protocol: How it is to be used.
        templates: Prompt templates for its words.
        info: The checkpoint's description; None for a training-free encoder.
        facts: Licences and scores that came with a published model.
        embeddings: ``(K, D)`` of the classes of ``info.split``, where they came with it.
    """

    model: Segmentable
    clip: FrozenCLIP
    protocol: InferenceProtocol
    templates: tuple[str, ...]
    info: CheckpointInfo | None = None
    facts: ModelFacts = field(default_factory=ModelFacts)
    embeddings: Tensor | None = None

    def vocabulary(self, words: Vocabulary | str | Sequence[str] | None = None) -> Vocabulary:
        """Words in the model's own templates; without any, the classes of its split.

        Raises:
            ConfigError: No words, and no split with classes; or words that make no vocabulary.
        """
        if isinstance(words, Vocabulary):
            return words
        if isinstance(words, str):
            return Vocabulary.from_text(words, self.templates)
        if words is None and (self.info is None or not self.info.split.classes):
            raise ConfigError("the model does not say which classes it was trained on; name some words")
        names = self.info.split.classes if words is None and self.info is not None else words
        return Vocabulary.from_names(tuple(names or ()), self.templates)

    def segmenter(self, vocabulary: Vocabulary) -> Segmenter:
        """A segmenter for these words; classes that the checkpoint was trained on bear the protocol's penalty."""
        trained = set(self.info.split.seen) if self.info is not None and self.info.split.unseen else set()
        seen_ids = tuple(i for i, group in enumerate(vocabulary.words) if trained & set(group))
        return Segmenter(
            self.model,
            vocabulary,
            self._embed(vocabulary),
            self.protocol,
            seen_ids=seen_ids,
            embedder=self._embed,
        )

    def _embed(self, vocabulary: Vocabulary) -> TextEmbeddings:
        """By the CLIP; words that came with the model from what came with them."""
        if self.embeddings is None or self.info is None or not self._speaks_as(vocabulary):
            return vocabulary.embed(self.clip, default_cache_dir())
        own = tuple((name,) for name in self.info.split.classes)
        if isinstance(self.clip, FrozenCLIP) and vocabulary.words != own:
            # It is loaded anyway, and words embedded in another company than their own round differently.
            return vocabulary.embed(self.clip, default_cache_dir())
        vectors = dict(zip(self.info.split.classes, self.embeddings, strict=True))
        words = [word for group in vocabulary.words for word in group]
        others = tuple(dict.fromkeys(word for word in words if word not in vectors))
        if others:
            rest = Vocabulary(tuple((word,) for word in others), vocabulary.templates, shared=True)
            vectors |= dict(zip(others, rest.embed(self.clip, default_cache_dir()).vectors, strict=True))
        class_ids = torch.tensor([index for index, group in enumerate(vocabulary.words) for _ in group])
        return TextEmbeddings(torch.stack([vectors[word] for word in words]), class_ids)

    def _speaks_as(self, vocabulary: Vocabulary) -> bool:
        """Whether the vocabulary's templates are those that the model's own words were embedded in."""
        templates = self.info.templates if self.info is not None else self.templates
        return resolve_templates(vocabulary.templates) == resolve_templates(templates)


@dataclass(frozen=True)
class _Stored:
    """A trained model as a file or folder holds it, before anything is built."""

    info: CheckpointInfo
    state_dict: Mapping[str, Tensor]
    clip: dict[str, Any]
    facts: ModelFacts = field(default_factory=ModelFacts)
    embeddings: Tensor | None = None


def load_trained(
    path: Path | str, *, clip: str | None = None, tokenizer: str | None = None, device: str = "auto"
) -> Loaded:
    """A trained model from its checkpoint.

    Args:
        path: ``last.ckpt`` or ``best.ckpt`` of a training run, a folder that ``lexiseg export --to folder`` wrote,
            or the name ``ORG/NAME`` of such a folder on the Hugging Face hub; or a folder that ``lexiseg export --to onnx``
            wrote, or the program in it.
        clip: Where its CLIP lies now; by default in the folder, or where training found it. The weights must be the
            same.
        tokenizer: Of the CLIP, likewise.
        device: See :func:`pick_device`.

    Raises:
        CheckpointError: Unsafe, damaged, or not made for this CLIP.
    """
    program = find_program(path)
    if program is not None:
        return _load_program(program, clip=clip, tokenizer=tokenizer, device=device)
    stored = _read_stored(path)
    info = stored.info
    frozen = _load_same_clip(info, stored.clip, path, clip=clip, tokenizer=tokenizer)
    model = build_model(info.model, frozen.vision)
    load_weights(model, stored.state_dict, path)
    where = pick_device(device)
    model.eval().to(where)
    frozen.to(where)
    protocol = InferenceProtocol.from_dict(info.protocol)
    return Loaded(model, frozen, protocol, info.templates, info, stored.facts, stored.embeddings)


def _load_program(folder: Path, *, clip: str | None, tokenizer: str | None, device: str) -> Loaded:
    """An exported program; its CLIP is loaded when a word needs it that did not come along."""
    model, card, embeddings = open_program(folder, device)
    info = card.info
    on_demand = ClipOnDemand(
        lambda: _load_same_clip(info, _clip_settings(info), folder, clip=clip, tokenizer=tokenizer),
        source=clip or info.clip["source"],
        fingerprint=info.clip["fingerprint"],
        known=info.split.classes,
    )
    protocol = InferenceProtocol.from_dict(info.protocol)
    return Loaded(model, cast(FrozenCLIP, on_demand), protocol, info.templates, info, embeddings=embeddings)


def _load_same_clip(
    info: CheckpointInfo,
    settings: Mapping[str, Any],
    path: Path | str,
    *,
    clip: str | None,
    tokenizer: str | None,
) -> FrozenCLIP:
    """The CLIP of a trained model, from another place where one is given."""
    given = {"source": clip, "tokenizer": tokenizer}
    frozen = load_clip(**{**settings, **{key: value for key, value in given.items() if value is not None}})
    check_same(info, model=info.model, fingerprint=frozen.fingerprint, path=path)
    return frozen


def _read_stored(path: Path | str) -> _Stored:
    if is_hub_name(path):
        return _of_folder(read_model_folder(download_model_folder(str(path))))
    if Path(path).is_dir():
        return _of_folder(read_model_folder(path))
    checkpoint = load_tensors_only(path)
    info = read_info(checkpoint, path)
    return _Stored(info, checkpoint["state_dict"], _clip_settings(info))


def _of_folder(folder: ModelFolder) -> _Stored:
    clip = _clip_settings(folder.info) if folder.clip is None else {"source": str(folder.clip)}
    return _Stored(folder.info, folder.state_dict, clip, folder.facts, folder.embeddings)


def _clip_settings(info: CheckpointInfo) -> dict[str, Any]:
    """What :func:`load_clip` takes."""
    return {key: value for key, value in info.clip.items() if key != "fingerprint"}


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
    built = build_method(method or default_method(frozen.tower), frozen.tower)
    if isinstance(built.model, nn.Module):
        built.model.to(pick_device(device))  # a second vision model is not there yet
    protocol = InferenceProtocol.training_free(native_side=frozen.tower.image_size)
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
