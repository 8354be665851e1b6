"""The one object that makes segmenters: a model with its CLIP, templates, classes and protocol, from a checkpoint or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from lexiseg.checkpoints.model_facts import ModelFacts
from lexiseg.checkpoints.training_file import CheckpointInfo
from lexiseg.checkpoints.word_adaptation import WordAdaptation
from lexiseg.clip.loading import FrozenCLIP, load_clip
from lexiseg.clip.templates import resolve_templates
from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary, default_cache_dir
from lexiseg.data.io import ImageSource
from lexiseg.dense.method_settings import VIEW_SETTINGS, changed_views, method_arguments, require_mapping
from lexiseg.dense.methods import (
    TrainingFreeMethod,
    build_method,
    default_clip,
    default_method,
    published_templates,
)
from lexiseg.dense.multi_view import Flip
from lexiseg.dense.wants import wants_masks
from lexiseg.errors import ConfigError
from lexiseg.inference.adaptable import made_for, require_adaptable
from lexiseg.inference.adapted_words import adapt_words
from lexiseg.inference.adapting import fit_adaptation
from lexiseg.inference.background import negative_words, with_background
from lexiseg.inference.devices import pick_device
from lexiseg.inference.exported import ExportedModel
from lexiseg.inference.given_masks import GivenMasks, Masks
from lexiseg.inference.loading import load_trained_model
from lexiseg.inference.protocol import InferenceProtocol, reading_protocol
from lexiseg.inference.regions import masks_missing
from lexiseg.inference.result import Segmentation
from lexiseg.inference.segmenter import Segmenter
from lexiseg.inference.shots import Shot
from lexiseg.inference.words import EmbeddedWords, Words, known_class_ids, known_words, seen_class_ids
from lexiseg.ops.view_fusion import Fusion
from lexiseg.types import ClassSplit, RegionSegmentable, Segmentable

REFINE_STEPS = 10
"""Rounds of refinement where it is asked for without a number: NACLIP's."""


@dataclass(frozen=True, repr=False)
class Pipeline:
    """A model that can segment, and every rule by which words become a segmenter of it.

    Whoever needs a segmenter makes it by :meth:`segmenter`; a change of a rule is :func:`dataclasses.replace`. Nothing of
    a call stays here, so that threads may share one.

    Attributes:
        model: Trained mask model or training-free reading.
        clip: The CLIP it stands on; it embeds the words.
        protocol: How photographs are read.
        templates: Prompt templates of words that bring none of their own; a set's name, or templates.
        info: The checkpoint's description, with the classes of training; None for a training-free reading.
        facts: Licences and scores that came with a published model.
        embeddings: ``(K, D)`` of the classes of ``info.split``, where they came with it.
        method: A training-free reading's name and settings, for result files; None for a trained model.
        adaptation: What a few photographs taught about some words; see :meth:`adapted`.
        keeps_words: Whether the embeddings of words are kept on disk for the next time; a server's strangers would fill it.
    """

    model: Segmentable
    clip: FrozenCLIP
    protocol: InferenceProtocol
    templates: str | tuple[str, ...]
    info: CheckpointInfo | None = None
    facts: ModelFacts = field(default_factory=ModelFacts)
    embeddings: Tensor | None = None
    method: Mapping[str, Any] | None = None
    adaptation: WordAdaptation | None = None
    keeps_words: bool = True

    def __post_init__(self) -> None:
        """Name the templates themselves, so that results can tell them."""
        object.__setattr__(self, "templates", resolve_templates(self.templates))

    def __repr__(self) -> str:
        name = type(self.model).__name__ if self.info is None else self.info.model.get("name", "a model")
        split, words = self.split, ""
        if split is not None:
            words = f", {len(split.seen)} seen and {len(split.unseen)} unseen classes"
        return f"Pipeline({name} on {self.clip.source}{words}, protocol {self.protocol.name})"

    @classmethod
    def load(  # noqa: PLR0913  (what a command line would say, in one call)
        cls,
        checkpoint: Path | str | None = None,
        *,
        clip: str | None = None,
        tokenizer: str | None = None,
        method: str | None = None,
        templates: str | None = None,
        device: str = "auto",
        trusted: bool = False,
        settings: Mapping[str, Any] | None = None,
        adapted: Path | str | None = None,
    ) -> "Pipeline":
        """A trained model, or a training-free reading of a CLIP.

        Args:
            checkpoint: ``last.ckpt`` or ``best.ckpt`` of a training run, or the run's folder, of which the best is taken; a
                folder that ``lexiseg export --to folder`` wrote, or the name ``ORG/NAME`` of such a folder on the Hugging
                Face hub; or a folder that ``lexiseg export --to onnx`` or ``--to torch`` wrote, or the program in it.
                Without it a frozen CLIP is read with no training.
            clip: Hub name, folder or file of CLIP weights, or ``toy``; OpenAI's ViT-B/16 by default. With a checkpoint:
                where its CLIP lies now, by default in the folder or where training found it. The weights must be the
                same.
            tokenizer: Of the CLIP, likewise.
            method: Training-free reading; not together with a checkpoint.
            templates: Instead of those of training, or those that the method was published with.
            device: See :func:`~lexiseg.inference.devices.pick_device`.
            trusted: Whether a program of ``--to torch`` may be opened, which may run code that is in it.
            settings: Of the method, by name: ``strength`` (λ), ``temperature`` (τ), ``unit_features`` and
                ``after_upsampling`` of text-guided recalibration; ``scales``, ``flip``, ``fusion`` and ``uncertain_above`` of
                the views; and the reading's own, such as ``proxy``, ``sam``, ``sam_refine``, ``bank``. A trained model takes
                those of the views.
            adapted: A file that ``lexiseg adapt`` wrote for this very model.

        Raises:
            CheckpointError: Unsafe, damaged, or not made for this CLIP.
            LexisegError: A method together with a checkpoint, a setting that it does not have, or anything else that loading
                found wrong.
        """
        require_mapping(settings or {})
        if templates:
            resolve_templates(templates)  # a mistake shows before any weight is read
        if adapted is not None:
            adaptation = WordAdaptation.read(adapted)
            plain = cls.load(
                checkpoint,
                clip=clip,
                tokenizer=tokenizer,
                method=method,
                templates=templates,
                device=device,
                trusted=trusted,
                settings=settings,
            )
            return plain.adapted(adaptation, adapted)
        if checkpoint is not None:
            if method is not None:
                raise ConfigError("give either a checkpoint or a training-free method, not both")
            others = [key for key in settings or {} if key not in VIEW_SETTINGS]
            if others:
                raise ConfigError(
                    f"{others[0]} is a setting of training-free methods, and a checkpoint is a trained model, which takes only "
                    f"{', '.join(VIEW_SETTINGS)}; leave one of the two out"
                )
            found = load_trained_model(
                checkpoint, clip=clip, tokenizer=tokenizer, device=device, trusted=trusted
            )
            whole = replace(
                cls.trained(found.model, found.clip, found.info),
                facts=found.facts,
                embeddings=found.embeddings,
            )
            if settings:
                views = changed_views(whole.protocol.views, settings, "a trained model")
                whole = replace(whole, protocol=replace(whole.protocol, views=views))
            return replace(whole, templates=templates) if templates else whole
        if method is not None:
            method_arguments(method, settings or {})
        where = pick_device(device)
        frozen = load_clip(clip or default_clip(method), tokenizer=tokenizer).to(where)
        name = method or default_method(frozen.tower)
        built = build_method(name, frozen.tower, **method_arguments(name, settings or {}))
        return cls.training_free(built, frozen, templates=templates)

    @classmethod
    def trained(cls, model: Segmentable, clip: FrozenCLIP, info: CheckpointInfo) -> "Pipeline":
        """Around a trained model in hand, or one in training: everything else is as its description says."""
        return cls(model, clip, InferenceProtocol.from_dict(info.protocol), info.templates, info)

    @classmethod
    def training_free(
        cls, method: TrainingFreeMethod, clip: FrozenCLIP, *, templates: str | None = None
    ) -> "Pipeline":
        """Around a training-free reading of a CLIP, under the protocol that such readings share.

        Args:
            method: The reading; what it adds to the tower follows it to the CLIP's device.
            clip: On its device.
            templates: Instead of those that the method was published with.
        """
        if isinstance(method.model, nn.Module):
            method.model.to(next(clip.parameters()).device)  # a second vision model is not there yet
        protocol = reading_protocol(method.model, clip.tower)
        chosen = templates or published_templates(method.name)
        return cls(method.model, clip, replace(protocol, views=method.views), chosen, method=method.told)

    def adapt(self, shots: Sequence[Shot], words: Words) -> "Pipeline":
        """This pipeline after a few photographs with masks, without a gradient; its ``adaptation`` can be written to a file.

        Args:
            shots: Photographs with masks, of :class:`~lexiseg.inference.shots.Shot`.
            words: What the ids of the masks stand for, in their order.

        Raises:
            ConfigError: A model that cannot be adapted, or no words.
            DataError: Photographs that teach nothing, or masks that do not fit.
        """
        return replace(self, adaptation=fit_adaptation(self, words, shots))

    def adapted(self, adaptation: WordAdaptation, where: object = "the adaptation") -> "Pipeline":
        """This pipeline with what a few photographs taught about some words, for all words that it is asked for.

        Args:
            adaptation: Of :meth:`adapt`, or of a file of ``lexiseg adapt``.
            where: What messages call it.

        Raises:
            CheckpointError: It was made for another model.
            ConfigError: A model that cannot be adapted.
        """
        require_adaptable(self.model, self.protocol)
        adaptation.require_made_for(
            made_for(self.model, self.clip.fingerprint, self.info, self.method), where
        )
        return replace(self, adaptation=adaptation)

    @property
    def split(self) -> ClassSplit | None:
        """The classes of training; None for a training-free reading."""
        return None if self.info is None else self.info.split

    def vocabulary(self, words: Words = None) -> Vocabulary:
        """Words as this pipeline speaks them: in its templates, unless they brought their own.

        Raises:
            ConfigError: No words, and no classes of training; or words that make no vocabulary.
        """
        return self._vocabulary(words).spoken_in(self.templates)

    def segmenter(
        self,
        words: Words = None,
        *,
        background: bool | str | Sequence[str] | None = None,
        threshold: float | None = None,
        refine: bool | int | None = None,
        masks: Masks | None = None,
    ) -> Segmenter:
        """A segmenter for these words; it keeps every rule when it is given others.

        Args:
            words: See :data:`~lexiseg.inference.words.Words`. Which of their classes bear the protocol's seen penalty says
                :func:`~lexiseg.inference.words.seen_class_ids`.
            background: What else may be in a picture: a list, or a text with commas between. These words become class 0,
                the background. True says that class 0 of the words is the background already, False that there is
                none, None leaves it to the protocol.
            threshold: Pixels scored below it, from 0 to below 1, go to the background or to no class; regions that score no
                more are no segments.
            refine: Rounds of PAMR, which spreads scores between pixels of like colour; True for ten.
            masks: Of each photograph that comes without any, each of which takes one class: what makes them or its name, such
                as ``superpixels``, or a folder of mask files.

        Raises:
            ConfigError: Words that make no vocabulary, or a setting out of range.
        """
        negative = None if background is None or isinstance(background, bool) else negative_words(background)
        changes: dict[str, Any] = {}
        if background is not None:
            changes["background"] = "none" if background is False else "class"
        if threshold is not None:
            changes["probability_threshold"] = changes["object_threshold"] = threshold
        if refine is not None:
            changes["pamr_steps"] = (REFINE_STEPS if refine else 0) if isinstance(refine, bool) else refine
        protocol = replace(self.protocol, **changes)
        before, learned = protocol.probability_threshold, self.adaptation
        if learned is not None and learned.threshold > 0 and not before:
            protocol = replace(protocol, probability_threshold=learned.threshold)
        embed = partial(self._embedded, negative=negative, threshold_before=before)
        chosen = embed(words, self.templates)
        return Segmenter(self.model, chosen, protocol, embed=embed, masks=masks, method=self.method)

    def _embedded(
        self,
        words: Words,
        templates: str | tuple[str, ...],
        *,
        negative: tuple[str, ...] | None,
        threshold_before: float,
    ) -> EmbeddedWords:
        """Words with everything that follows from them; ``negative`` ones become the background."""
        vocabulary = self._vocabulary(words).spoken_in(templates)
        if negative is not None:
            vocabulary = with_background(vocabulary, negative)
        if isinstance(self.model, ExportedModel):
            self.model.require_words(vocabulary.words)
        judged = words if isinstance(words, ClassSplit) else None
        split, synonyms = self.split, {} if self.info is None else self.info.synonyms
        adapted = None
        if self.adaptation is not None:
            adapted = adapt_words(self.adaptation, vocabulary, self._embed, threshold_before=threshold_before)
        return EmbeddedWords(
            vocabulary,
            self._embed(vocabulary),
            seen_class_ids(vocabulary, split, judged, synonyms),
            known_class_ids(vocabulary, split, synonyms),
            self._crops(vocabulary),
            None if split is None else known_words(vocabulary, split, synonyms),
            adapted,
        )

    def _crops(self, vocabulary: Vocabulary) -> TextEmbeddings | None:
        """The words once more, for a model that looks at crops in templates of its own."""
        if not self.model.names_regions:
            return None
        templates = cast(RegionSegmentable, self.model).crop_templates
        if templates is None:
            return None
        return replace(vocabulary, templates=templates).embed(self.clip, self._word_folder)

    def _vocabulary(self, words: Words) -> Vocabulary:
        if isinstance(words, Vocabulary):
            return words
        if isinstance(words, str):
            return Vocabulary.from_text(words)
        if words is None and (self.split is None or not self.split.classes):
            raise ConfigError("the model does not say which classes it was trained on; name some words")
        words = self.split if words is None else words
        if isinstance(words, ClassSplit):
            return Vocabulary.from_names(words.classes)
        if not isinstance(words, Sequence) or not all(isinstance(group, str | Sequence) for group in words):
            raise ConfigError(
                f'words: expected text such as "dog; puppy, grass", or a list of names, got {type(words).__name__}'
            )
        groups = (group.split(";") if isinstance(group, str) else group for group in words)
        return Vocabulary(tuple(tuple(str(word).strip() for word in group) for group in groups))

    def _embed(self, vocabulary: Vocabulary) -> TextEmbeddings:
        """By the CLIP; words that came with the model from what came with them."""
        if self.embeddings is None or self.info is None or not self._speaks_as(vocabulary):
            return vocabulary.embed(self.clip, self._word_folder)
        own = tuple((name,) for name in self.info.split.classes)
        if isinstance(self.clip, FrozenCLIP) and vocabulary.words != own:
            # It is loaded anyway, and words embedded in another company than their own round differently.
            return vocabulary.embed(self.clip, self._word_folder)
        vectors = dict(zip(self.info.split.classes, self.embeddings, strict=True))
        words = [word for group in vocabulary.words for word in group]
        others = tuple(dict.fromkeys(word for word in words if word not in vectors))
        if others:
            rest = Vocabulary(tuple((word,) for word in others), vocabulary.templates, shared=True)
            vectors |= dict(zip(others, rest.embed(self.clip, self._word_folder).vectors, strict=True))
        class_ids = torch.tensor([index for index, group in enumerate(vocabulary.words) for _ in group])
        return TextEmbeddings(torch.stack([vectors[word] for word in words]), class_ids)

    @property
    def _word_folder(self) -> Path | None:
        return default_cache_dir() if self.keeps_words else None

    def _speaks_as(self, vocabulary: Vocabulary) -> bool:
        """Whether the vocabulary's templates are those that the model's own words were embedded in."""
        if self.info is None or vocabulary.templates is None:
            return False
        return resolve_templates(vocabulary.templates) == resolve_templates(self.info.templates)


def segment(  # noqa: PLR0913  (what a command line would say, in one call)
    image: ImageSource,
    words: Words,
    *,
    checkpoint: Path | str | None = None,
    clip: str | None = None,
    method: str | None = None,
    device: str = "auto",
    background: bool | str | Sequence[str] | None = None,
    threshold: float | None = None,
    strength: float | None = None,
    temperature: float | None = None,
    scales: Sequence[float] | None = None,
    flip: Flip | None = None,
    fusion: Fusion | None = None,
    settings: Mapping[str, Any] | None = None,
    masks: Masks | None = None,
) -> Segmentation:
    """Name every pixel of one photograph; for many, build ``Pipeline.load(...).segmenter(...)`` once.

    Args:
        image: A path, a file's bytes, an open file, a Pillow image, or ``(H, W, 3)`` uint8 RGB.
        words: As in :meth:`Pipeline.segmenter`.
        checkpoint: As in :meth:`Pipeline.load`.
        clip: As there.
        method: As there.
        device: As there.
        background: As in :meth:`Pipeline.segmenter`.
        threshold: As there.
        strength: λ of text-guided recalibration, at least 0; None: the method's own.
        temperature: τ of it, above 0, on cosines; None: 2.
        scales: Factors on the sides of the photograph, one view each; None: the method's own.
        flip: Which mirror image joins each scale; None: the method's own.
        fusion: How the two become one; None: by their mean.
        settings: What else the method is to be told, as in :meth:`Pipeline.load`: ``proxy``, ``sam``, ...
        masks: As in :meth:`Segmenter.segment`.

    Raises:
        LexisegError: What was expected, what came, what to do.
    """
    require_mapping(settings or {})
    if masks is None and method is not None and wants_masks(method):
        raise masks_missing(method)  # before a second model is looked for
    if isinstance(masks, str | Path):
        GivenMasks(masks)
    named = {
        "strength": strength,
        "temperature": temperature,
        "scales": scales,
        "flip": flip,
        "fusion": fusion,
    }
    given = {**(settings or {}), **{key: value for key, value in named.items() if value is not None}}
    pipeline = Pipeline.load(checkpoint, clip=clip, method=method, device=device, settings=given)
    return pipeline.segmenter(words, background=background, threshold=threshold).segment(image, masks=masks)
