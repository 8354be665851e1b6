"""Everything that decides a number between a photograph and its score, in one frozen value."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from lexiseg.dense.multi_view import SINGLE_VIEW, MultiView
from lexiseg.errors import ConfigError
from lexiseg.ops.class_chunks import Activation
from lexiseg.ops.window_merge import Padding
from lexiseg.types import require_known_keys, require_plain_types

Background = Literal["none", "class"]
"""``class``: class 0 of the vocabulary, a group of negative words, is the background. ``none``: none is."""

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class InferenceProtocol:
    """How a photograph is brought to the model and its logits back to labels. Result files carry all of it.

    The photograph is resized bilinearly without antialiasing, with OpenCV's 8-bit arithmetic, as the
    published training and test pipelines do. Windows are padded with zeros, after normalisation, to the
    patch grid, and the padding is cropped from the logits. The logits reach the source's size bilinearly,
    and the argmax comes last.

    Attributes:
        name: What tables call it.
        short_side: The shorter side becomes this, the ratio stays; None leaves the size.
        long_side: The longer side becomes no longer than this where ``short_side`` sets the size; then the shorter one is
            shorter, and windows that it does not fill are padded. Published code has no such limit; this one is beyond
            every photograph of its benchmarks (at a short side of 512: longer than 16 times its width).
        max_windows: Windows of all views together; a photograph that would need more is refused before any is read.
        window: Side of the square sliding window, clipped to the image; None reads the image whole.
        stride: Step of the window; None puts windows side by side.
        activation: ``sigmoid`` (mask models): windows are averaged after the sigmoid, and scores are its
            values. ``linear`` (training-free): logits are averaged, and scores are soft-max probabilities
            over all words.
        logit_scale: Factor on the logits before either.
        seen_penalty: Subtracted from the sigmoid of seen classes before they compete; 0.1 in published
            inductive models, 0 in transductive ones.
        background: See :data:`Background`.
        probability_threshold: Pixels whose best score is lower belong to the background: class 0 if there is
            a background class, otherwise to an extra id after the last class.
        area_threshold: Classes other than the background that cover at most this share of all pixels given
            to such classes are dropped, and their pixels go to the next best class (SCLIP's rule for VOC21).
        views: Which views of the photograph are read and fused; one is the photograph as it is.
        pamr_steps: Rounds of pixel-adaptive mask refinement at the photograph's size; 0 leaves it out, NACLIP
            takes 10.
        padding: Where the zeros of the padding lie.
        precision: Of the model's own arithmetic; merging is always in float32.
        window_batch: Windows per pass of the tower.

    Raises:
        ConfigError: A setting out of range, or two that contradict each other.
    """

    name: str = "custom"
    short_side: int | None = None
    long_side: int = 8192
    max_windows: int = 16384
    window: int | None = None
    stride: int | None = None
    activation: Activation = "sigmoid"
    logit_scale: float = 1.0
    seen_penalty: float = 0.0
    background: Background = "none"
    probability_threshold: float = 0.0
    area_threshold: float = 0.0
    views: MultiView = SINGLE_VIEW
    pamr_steps: int = 0
    padding: Padding = "bottom_right"
    precision: Precision = "float32"
    window_batch: int = 8

    def __post_init__(self) -> None:
        """Reject what could only fail, or silently mislead, later."""
        require_plain_types(self, "protocol")
        if not isinstance(self.views, MultiView):
            raise ConfigError(
                f"protocol: views is {self.views!r}; expected settings such as {{scales: [0.75, 1.25], "
                "flip: horizontal}}"
            )
        self._check_choices()
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

    def _check_choices(self) -> None:
        choices = {
            "activation": Activation,
            "background": Background,
            "padding": Padding,
            "precision": Precision,
        }
        for key, kind in choices.items():
            value, allowed = getattr(self, key), get_args(kind)
            if value not in allowed:
                raise ConfigError(f"protocol: {key} is {value!r}; expected one of {', '.join(allowed)}")

    def _check_sizes(self) -> None:
        for key in ("short_side", "long_side", "max_windows", "window", "stride", "window_batch"):
            value, optional = getattr(self, key), key in ("short_side", "window", "stride")
            if not (value is None and optional) and (
                not isinstance(value, int) or isinstance(value, bool) or value < 1
            ):
                raise ConfigError(f"protocol: {key} is {value!r}; expected a whole number of at least 1")
        if self.short_side is not None and self.short_side > self.long_side:
            raise ConfigError(
                f"protocol: short_side {self.short_side} is above long_side {self.long_side}; raise long_side as well"
            )
        if self.stride is not None and self.window is None:
            raise ConfigError(f"protocol: stride is {self.stride} but there is no window; set window as well")
        if self.stride is not None and self.window is not None and self.stride > self.window:
            raise ConfigError(
                f"protocol: a stride of {self.stride} leaves gaps between windows of {self.window}; "
                f"use at most {self.window}"
            )

    def _check_numbers(self) -> None:
        if not self.logit_scale > 0:
            raise ConfigError(f"protocol: logit_scale is {self.logit_scale}; expected a number above 0")
        if self.pamr_steps < 0:
            raise ConfigError(f"protocol: pamr_steps is {self.pamr_steps}; expected 0 (off) or more")
        for key in ("seen_penalty", "probability_threshold", "area_threshold"):
            value = getattr(self, key)
            if not 0 <= value < 1:
                raise ConfigError(f"protocol: {key} is {value}; expected a number from 0 to below 1")
        if self.seen_penalty and self.activation == "linear":
            raise ConfigError(
                f"protocol: seen_penalty {self.seen_penalty} is defined on sigmoid scores, but activation is "
                "linear; set one of seen_penalty=0 and activation=sigmoid"
            )


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

PUBLISHED = {protocol.name: protocol for protocol in (CASCADE, CASCADE_TRANSDUCTIVE, TRAINING_FREE)}
"""Published protocols by name."""
