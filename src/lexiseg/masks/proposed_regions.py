"""The regions of a model that finds regions first: a trained one teaches others, or gives OVSeg its pairs."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.provider import Picture
from lexiseg.plain_settings import require_plain_settings, within

FindRegions = Callable[[Picture, float], tuple[npt.NDArray[np.bool_], list[float]]]
"""``(H, W, 3)`` uint8 RGB and the least probability of a pixel to masks ``(N, H, W)`` and the confidence of each in [0, 1]."""


@dataclass(frozen=True)
class ProposedRegionsSettings:
    """Which of a model's regions become masks; the papers do not say, so both bounds are ours.

    Attributes:
        threshold: A pixel belongs to a region where the sigmoid of its mask is above this.
        min_confidence: Least probability that a region is something; of a model that knows no "nothing" each is 1.
    """

    threshold: float = within(0.5, at_least=0, below=1)
    min_confidence: float = within(0.0, at_least=0, at_most=1)

    def __post_init__(self) -> None:
        """Reject bounds that are none; ``ConfigError`` names them."""
        require_plain_settings(self, "regions")


class ProposedRegions:
    """Every region that a model finds, without its name, the most confident first.

    Args:
        find: Runs the model.
        source: What identifies it, for the files.
        settings: See :class:`ProposedRegionsSettings`.
    """

    name = "regions"

    def __init__(
        self, find: FindRegions, *, source: Mapping[str, Any], settings: ProposedRegionsSettings | None = None
    ) -> None:
        self._find, self._source = find, dict(source)
        self._settings = settings or ProposedRegionsSettings()

    @property
    def settings(self) -> Mapping[str, Any]:
        """The model's identity and the bounds."""
        return {**self._source, **asdict(self._settings)}

    def __call__(self, image: Picture) -> MaskSet:
        """The regions of an ``(H, W, 3)`` uint8 RGB photograph that have a pixel; they may overlap."""
        masks, confidence = self._find(image, self._settings.threshold)
        found = MaskSet.from_masks(masks, confidence)
        order = np.argsort(-found.scores, kind="stable")
        return found.chosen(order[found.scores[order] >= self._settings.min_confidence])
