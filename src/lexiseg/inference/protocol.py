"""Everything that decides a number between a photograph and its score, in one frozen value."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from lexiseg.dense.multi_view import SINGLE_VIEW, MultiView
from lexiseg.errors import ConfigError
from lexiseg.ops.pamr import DEFAULT_DILATIONS
from lexiseg.ops.window_merge import Padding
from lexiseg.plain_settings import require_known_keys, require_plain_settings, within
from lexiseg.types import Activation, ImageTower

Background = Literal["none", "class"]
"""``class``: class 0 of the vocabulary, a group of negative words, is the background. ``none``: none is."""

Precision = Literal["float32", "bfloat16"]

Resize = Literal["opencv", "pillow"]
"""``opencv``: bilinear without antialiasing, as mmsegmentation's pipelines. ``pillow``: with, as detectron2's."""

Combine = Literal["masks", "scores"]
"""What of a model of regions goes on from the working image to the photograph's size: the ``masks``, which are then weighted by
their classes' scores and summed; or the sums, the class ``scores`` of its pixels."""


@dataclass(frozen=True, kw_only=True)
class InferenceProtocol:
    """How a photograph is brought to the model and its logits back to labels. Result files carry all of it.

    The photograph is resized bilinearly without antialiasing, with OpenCV's 8-bit arithmetic, as mmsegmentation's
    pipelines do, or as detectron2's. Windows are padded with zeros, after normalisation, to the
    patch grid, and the padding is cropped from the logits. The logits reach the source's size bilinearly,
    and the argmax comes last.

    Attributes:
        name: What tables call it.
        short_side: The shorter side becomes this, the ratio stays; None leaves the size.
        long_side: The longer side becomes no longer than this where ``short_side`` sets the size; then the shorter one is
            shorter, and windows that it does not fill are padded. Published code has no such limit; this one is beyond
            every photograph of its benchmarks (at a short side of 512: longer than 16 times its width).
        stretch: The resized photograph is stretched to a square of this side, rounded to whole patches, bilinearly without
            antialiasing, and read whole; its logits go from their own grid to the photograph in one step (PixelCLIP).
            None keeps the ratio.
        max_windows: Windows of all views together; a photograph that would need more is refused before any is read.
        window: Side of the square sliding window, clipped to the image; None reads the image whole.
        stride: Step of the window; None puts windows side by side.
        activation: ``sigmoid`` (mask models): windows are averaged after the sigmoid, and scores are its
            values. ``linear`` (training-free): logits are averaged, and scores are soft-max probabilities
            over all words. ``scores`` (models of regions): scores are averaged, and stay what they are.
        logit_scale: Factor on the logits before either.
        seen_penalty: Subtracted from the sigmoid (or score) of seen classes before they compete; 0.1 in published
            inductive models, 0 in transductive ones.
        background: See :data:`Background`.
        probability_threshold: Pixels whose best score is lower belong to the background: class 0 if there is
            a background class, otherwise to an extra id after the last class.
        area_threshold: Classes other than the background that cover at most this share of all pixels given
            to such classes are dropped, and their pixels go to the next best class (SCLIP's rule for VOC21).
        views: Which views of the photograph are read and fused; one is the photograph as it is.
        pamr_steps: Rounds of pixel-adaptive mask refinement at the photograph's size; 0 leaves it out, NACLIP
            takes 10.
        pamr_dilations: Distances in pixels at which it looks for like colours.
        padding: Where the zeros of the padding lie.
        resize: Whose arithmetic resizes the photograph.
        combine: See :data:`Combine`; with several windows or views the sums are made on the masks' own grid.
        object_threshold: Regions whose class scores no more are no segments (panoptic and instance output); 0 in FC-CLIP, 0.8
            in Mask2Former.
        overlap_threshold: A segment of a panoptic map of which better ones leave less than this share is dropped.
        most_instances: Pairs of a region and a class among which instances are looked for; stuff is left out afterwards, as
            released.
        precision: Of the model's own arithmetic; merging is always in float32.
        window_batch: Windows per pass of the tower.

    Raises:
        ConfigError: A setting out of range, or two that contradict each other.
    """

    name: str = "custom"
    short_side: int | None = None
    long_side: int = within(8192, at_least=1)
    stretch: int | None = None
    max_windows: int = within(16384, at_least=1)
    window: int | None = None
    stride: int | None = None
    activation: Activation = "sigmoid"
    logit_scale: float = within(1.0, above=0)
    seen_penalty: float = within(0.0, at_least=0, below=1)
    background: Background = "none"
    probability_threshold: float = within(0.0, at_least=0, below=1)
    area_threshold: float = within(0.0, at_least=0, below=1)
    views: MultiView = SINGLE_VIEW
    pamr_steps: int = within(0, at_least=0)
    pamr_dilations: tuple[int, ...] = within(DEFAULT_DILATIONS, at_least=1)
    padding: Padding = "bottom_right"
    resize: Resize = "opencv"
    combine: Combine = "masks"
    object_threshold: float = within(0.0, at_least=0, below=1)
    overlap_threshold: float = within(0.8, at_least=0, at_most=1)
    most_instances: int = within(100, at_least=1)
    precision: Precision = "float32"
    window_batch: int = within(8, at_least=1)

    def __post_init__(self) -> None:
        """Reject what could only fail, or silently mislead, later."""
        require_plain_settings(self, "protocol")
        if not isinstance(self.views, MultiView):
            raise ConfigError(
                f"protocol: views is {self.views!r}; expected settings such as {{scales: [0.75, 1.25], "
                "flip: horizontal}}"
            )
        self._check_sizes()
        self._check_numbers()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for result files and checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "InferenceProtocol":
        """Inverse of :meth:`to_dict`.

        Raises:
            ConfigError: A key that is no setting, or a bad value.
        """
        require_known_keys(settings, cls, "protocol")
        given = dict(settings)
        if isinstance(given.get("views"), Mapping):
            given["views"] = MultiView.from_dict(given["views"])
        return cls(**given)

    @classmethod
    def training_free(cls, *, native_side: int = 224) -> "InferenceProtocol":
        """What SCLIP and its followers share, in units of the CLIP's native side.

        Short side 336 with windows of 224 every 112 pixels for a CLIP of 224; soft-max over words at scale
        40. Each method names its own scale and thresholds per data set on top.
        """
        return cls(
            name="training-free",
            short_side=3 * native_side // 2,
            window=native_side,
            stride=max(native_side // 2, 1),
            activation="linear",
            logit_scale=40.0,
        )

    @property
    def rejects(self) -> bool:
        """Whether pixels may belong to no class, so that results hold one more id than there are classes."""
        return self.background == "none" and self.probability_threshold > 0

    def _check_sizes(self) -> None:
        for key in ("short_side", "stretch", "window", "stride"):
            value = getattr(self, key)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ConfigError(f"protocol: {key} is {value!r}; expected a whole number of at least 1")
        if self.short_side is not None and self.short_side > self.long_side:
            raise ConfigError(
                f"protocol: short_side {self.short_side} is above long_side {self.long_side}; raise long_side as well"
            )
        if self.stretch is not None and (self.window is not None or self.views != SINGLE_VIEW):
            raise ConfigError(
                f"protocol: stretch is {self.stretch}, and a stretched photograph is read whole and as it is; set window and "
                "stride to null and leave views out"
            )
        if self.stride is not None and self.window is None:
            raise ConfigError(f"protocol: stride is {self.stride} but there is no window; set window as well")
        if self.stride is not None and self.window is not None and self.stride > self.window:
            raise ConfigError(
                f"protocol: a stride of {self.stride} leaves gaps between windows of {self.window}; "
                f"use at most {self.window}"
            )

    def _check_numbers(self) -> None:
        if self.seen_penalty and self.activation == "linear":
            raise ConfigError(
                f"protocol: seen_penalty {self.seen_penalty} is defined on sigmoid scores, but activation is "
                "linear; set one of seen_penalty=0 and activation=sigmoid"
            )


def reading_protocol(model: object, tower: ImageTower) -> InferenceProtocol:
    """What a training-free reading of a tower is read under, where no benchmark says otherwise."""
    protocol = InferenceProtocol.training_free(native_side=tower.image_size)
    return squared(protocol, tower.image_size) if getattr(model, "reads_square", False) else protocol


def squared(protocol: InferenceProtocol, side: int) -> InferenceProtocol:
    """A protocol for a model that sees photographs stretched to a square of this side, and whose answers are scores."""
    return replace(protocol, **square_changes(side))


def square_changes(side: int) -> dict[str, Any]:
    """What :func:`squared` changes."""
    sizes = {"short_side": None, "window": None, "stride": None, "stretch": side}
    return {**sizes, "activation": "scores", "logit_scale": 1.0}


def suited(protocol: InferenceProtocol, activation: Activation) -> InferenceProtocol:
    """A protocol for a model in training: its activation is the one that the model's answer asks for.

    A seen penalty on sigmoids says nothing of scores of regions or of soft-max probabilities, so it goes with the sigmoid; a
    protocol that was written for scores keeps its own (ZegFormer's calibration). Pixel models may be read at the sizes of such
    a protocol.

    Args:
        protocol: As it was chosen.
        activation: Of the model.
    """
    if protocol.activation == activation:
        return protocol
    if activation == "sigmoid":
        return replace(protocol, activation=activation)
    return replace(protocol, activation=activation, seen_penalty=0.0)


CASCADE = InferenceProtocol(
    name="cascade", short_side=512, window=512, stride=426, activation="sigmoid", seen_penalty=0.1
)
"""Cascade-CLIP and ZegCLIP, inductive: their test scale (2048, 512) makes the short side exactly 512."""

CASCADE_TRANSDUCTIVE = InferenceProtocol(
    name="cascade-transductive", short_side=512, window=512, stride=426, activation="sigmoid"
)
"""The same after self-training: no penalty."""

TRAINING_FREE = InferenceProtocol.training_free()
"""Training-free methods with a CLIP of 224 pixels."""

REGIONS = InferenceProtocol(
    name="regions", short_side=640, long_side=2560, resize="pillow", activation="scores"
)
"""SAN: detectron2's resizing, the whole image."""

FC_CLIP = replace(REGIONS, name="fc_clip", short_side=800, long_side=1333)
"""FC-CLIP, but for Cityscapes and Mapillary (1024 / 2560); ``combine="scores"`` for ADE20K-847, PASCAL Context and VOC."""

REGION_SCORES = replace(REGIONS, name="region_scores", combine="scores")
"""ZegFormer on COCO-Stuff, OVSeg with Swin-B."""

LSEG = InferenceProtocol(name="lseg", window=480, stride=320, activation="linear")
"""LSeg at one scale; the released test sums six scales and their mirror images."""

PUBLISHED = {
    protocol.name: protocol
    for protocol in (REGIONS, FC_CLIP, REGION_SCORES, LSEG, CASCADE, CASCADE_TRANSDUCTIVE, TRAINING_FREE)
}
"""Published protocols by name."""
