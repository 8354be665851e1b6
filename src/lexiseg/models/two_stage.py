"""Any proposer with any region classifier: masks first, names second, one seam between them."""

import math
from typing import Any, NamedTuple

from torch import Tensor, nn

from lexiseg.errors import ConfigError
from lexiseg.models.parameter_groups import group_by_module
from lexiseg.models.proposers.registry import PROPOSERS
from lexiseg.models.region_classifiers.registry import CLASSIFIERS
from lexiseg.models.region_model import RegionModel, with_given_masks
from lexiseg.models.region_parts import (
    Embedded,
    Found,
    Proposer,
    RegionClassifier,
    Scene,
    part_settings,
    told_of,
)
from lexiseg.models.two_stage_settings import TwoStageSettings
from lexiseg.ops.region_scores import append_thing_logit
from lexiseg.types import (
    ClassifiedMasks,
    ClassWords,
    GroupSettings,
    ImageTower,
    Proposals,
    SegmentOutput,
    SegmentPrediction,
)


class TwoStageState(NamedTuple):
    """Photographs before any word is known.

    Attributes:
        masks: ``(B, N, h, w)`` mask logits.
        embedded: The regions as the classifier compares them with words.
        things: ``(B, N)`` logit that the proposer found something, where the classifier has no "nothing"; None where it has,
            and for masks that were given.
    """

    masks: Tensor
    embedded: Embedded
    things: Tensor | None = None


class TwoStage(RegionModel):
    """A proposer and a region classifier joined: ``p(class | region)`` for every region, summed over regions by their masks.

    Where the classifier is a frozen CLIP that knows no "nothing", the model learns one linear map of the region's embedding,
    ``p(thing)``; ``p(class | region)`` is then ``p(thing)`` times the classifier's soft-max. So the proposer learns its
    masks, by the classifier's logits as class scores, whatever names them.

    The published pairs are models of their own, with what they were published with beyond the pair: SAN, FC-CLIP, ZegFormer,
    OVSeg, OpenSeg.

    Args:
        tower: The frozen CLIP; not part of the state dict.
        settings: Which two.

    Raises:
        ConfigError: A part that cannot stand on this CLIP, or a pair that does not fit; says what would.
    """

    def __init__(self, tower: ImageTower, settings: TwoStageSettings | None = None) -> None:
        settings = settings or TwoStageSettings()
        # Built before the base is, which wants to know their colours and strides.
        found, named = settings.proposer["name"], settings.classifier["name"]
        chosen = part_settings(PROPOSERS, settings.proposer, "model.proposer")
        with told_of("model.proposer"):
            proposer: Any = PROPOSERS[found].network(tower, chosen)
        chosen = part_settings(CLASSIFIERS, settings.classifier, "model.classifier")
        with told_of("model.classifier"):
            classifier: Any = CLASSIFIERS[named].network(tower, chosen, proposer)
        stride = math.lcm(proposer.stride, classifier.stride)
        super().__init__(tower, settings, colors=proposer.colors, stride=stride)
        self.proposer: Proposer = proposer
        self.classifier: RegionClassifier = classifier
        judges = not classifier.names_nothing and proposer.embed_dim is not None
        self.thing = nn.Linear(proposer.embed_dim, 1) if judges else None

    @property
    def untraceable(self) -> str | None:
        """As of every model of regions, but keys in it are those of the part that says it."""
        for group in ("proposer", "classifier"):
            reasons = (getattr(part, "untraceable", None) for part in getattr(self, group).modules())
            if reason := next(filter(None, reasons), None):
                return reason.replace("model.", f"model.{group}.")
        return None

    def parameter_groups(self, optim: GroupSettings) -> list[dict[str, Any]]:
        """What trains, in groups for AdamW; norms and embeddings are exempt from decay, a backbone has a rate of its own."""
        return group_by_module(self, optim, slow=self.proposer.slow, slow_scale=self.proposer.slow_scale)

    def encode(self, images: Tensor, content: tuple[int, int] | None = None) -> TwoStageState:
        """Find regions and embed them; arguments as of every model of regions."""
        scene = self._scene(images, content)
        found = self.proposer(scene)
        embedded = self.classifier.embed(scene, found, found.proposals)
        return TwoStageState(found.proposals.masks, embedded, self._things(found.proposals))

    def encode_masks(
        self, images: Tensor, masks: Tensor, content: tuple[int, int] | None = None
    ) -> TwoStageState:
        """Given regions, embedded by the classifier alone; the proposer runs where that reads more of it than masks."""
        scene = self._scene(images, content)
        found = self.proposer(scene) if self.classifier.asks_proposer else Found(Proposals(masks))
        given = with_given_masks(found.proposals, masks) if self.classifier.matches else Proposals(masks)
        return TwoStageState(masks, self.classifier.embed(scene, found, given))

    def classify(self, state: TwoStageState, words: ClassWords) -> ClassifiedMasks:
        """Scores of every region for all classes; with those of "nothing", where there is one, they sum to 1.

        A region that the classifier cannot see scores 0 everywhere.
        """
        probabilities = self._logits(state.embedded, state.things, words).softmax(-1)
        if not self.classifier.names_nothing and state.things is None:
            return ClassifiedMasks(state.masks, self._where_visible(probabilities, state.embedded))
        scores = self._where_visible(probabilities[..., :-1], state.embedded)
        return ClassifiedMasks(state.masks, scores, probabilities[..., -1])

    def forward(self, images: Tensor, text: Tensor | ClassWords) -> SegmentOutput:
        """What the loss reads, of every layer whose regions the classifier names in training.

        Args:
            images: ``(B, 3, H, W)`` normalised; H and W multiples of the stride.
            text: ``(K, E)`` unit text, one row per class; or classes with several words each.

        Raises:
            ConfigError: Neither part can say "nothing", which the loss teaches.
        """
        if not self.classifier.names_nothing and self.thing is None:
            raise ConfigError(
                f"proposer '{self.settings.proposer['name']}' with classifier '{self.settings.classifier['name']}' has nothing "
                "that learns which regions are none: use it as it is, or take another classifier or a proposer with embeddings"
            )
        words = text if isinstance(text, ClassWords) else ClassWords.plain(text)
        scene, every = self._scene(images), self.classifier.every_layer
        found = self.proposer(scene, every_layer=every)
        layers = (*found.proposals.earlier, found.proposals) if every else (found.proposals,)
        predictions = []
        for layer in layers:
            embedded = self.classifier.embed(scene, found, layer)
            logits = self._logits(embedded, self._things(layer), words)
            predictions.append(SegmentPrediction(logits, layer.masks))
        return SegmentOutput(tuple(predictions))

    def _scene(self, images: Tensor, content: tuple[int, int] | None = None) -> Scene:
        colors = self.normalization if self.proposer.colors is not None else None
        return Scene(self.tower, images, content, colors)

    def _things(self, proposals: Proposals) -> Tensor | None:
        if self.thing is None or proposals.embeddings is None:
            return None
        logits: Tensor = self.thing(proposals.embeddings)[..., 0]
        return logits

    def _logits(self, embedded: Embedded, things: Tensor | None, words: ClassWords) -> Tensor:
        """Class logits, with "nothing" last where one of the parts knows it; of what cannot be seen all classes are alike."""
        logits = self.classifier.logits(embedded.vectors, words)
        if embedded.visible is not None:
            logits = logits.where(embedded.visible[..., None], 0.0)
        return logits if things is None else append_thing_logit(logits, things)

    @staticmethod
    def _where_visible(scores: Tensor, embedded: Embedded) -> Tensor:
        return scores if embedded.visible is None else scores * embedded.visible[..., None]
