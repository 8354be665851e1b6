"""Everything in a photograph, by asking a SAM at a grid of points and keeping its sure and stable answers."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lexiseg.errors import ConfigError
from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.provider import Picture
from lexiseg.masks.segment_anything_model import EncodedImage, PromptableModel
from lexiseg.ops.mask_suppression import box_overlaps, mask_overlaps, stability_score, suppress_overlaps
from lexiseg.ops.point_grid import point_grid
from lexiseg.ops.run_length import Counts, box_of_rle, encode_rle
from lexiseg.types import chunks

Overlap = Literal["box", "mask"]

_ENLARGED_MASKS = 16
"""Masks held at the photograph's size at once."""

_COMPARED_SIDE = 128
"""Side of the grid on which masks are compared."""


@dataclass(frozen=True)
class SegmentAnythingSettings:
    """How answers are asked for and chosen; defaults are those of SAM's automatic mask generator.

    Attributes:
        points_per_side: The grid has so many points each way.
        points_per_batch: Points decoded together; changes speed and memory only.
        min_quality: Answers need a predicted intersection over union above this. SAM 2's release takes 0.8.
        min_stability: And a stability of at least this; see :func:`~lexiseg.ops.mask_suppression.stability_score`.
        stability_offset: How far the threshold moves for it, in logits.
        max_overlap: Of two that overlap more, the one of better predicted quality stays.
        overlap: Overlap of what: of the ``box`` around each, as released, or of the ``mask`` itself, which lets a
            thing and the frame around it both stay.
    """

    points_per_side: int = 32
    points_per_batch: int = 64
    min_quality: float = 0.88
    min_stability: float = 0.95
    stability_offset: float = 1.0
    max_overlap: float = 0.7
    overlap: Overlap = "box"

    def __post_init__(self) -> None:
        """Reject settings that cannot be.

        Raises:
            ConfigError: Names the setting.
        """
        for name in ("points_per_side", "points_per_batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"sam.{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("min_quality", "min_stability", "max_overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"sam.{name}: expected a share between 0 and 1, got {getattr(self, name)}")
        if self.overlap not in get_args(Overlap):
            raise ConfigError(
                f"sam.overlap: expected one of {', '.join(get_args(Overlap))}, got '{self.overlap}'"
            )


class SegmentAnything:
    """Masks of everything, without crops and hole filling, which the release leaves off too (Kirillov et al., 2023).

    The image tower runs once; then every point of the grid is answered by three masks. Those of too low predicted
    quality go before they are brought to the photograph's size, which changes nothing but the time.

    Args:
        model: See :class:`~lexiseg.masks.segment_anything_model.PromptableModel`.
        source: What identifies the model, for the cache.
        settings: See :class:`SegmentAnythingSettings`.
    """

    def __init__(
        self,
        model: PromptableModel,
        *,
        source: Mapping[str, Any],
        settings: SegmentAnythingSettings | None = None,
    ) -> None:
        self._model, self._source = model, dict(source)
        self._settings = settings or SegmentAnythingSettings()

    @property
    def name(self) -> str:
        """What the cache calls it."""
        return "sam"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The model's identity and how answers are chosen; the batch size, which changes nothing, apart."""
        chosen = asdict(self._settings)
        del chosen["points_per_batch"]
        return {**self._source, **chosen}

    def __call__(self, image: Picture) -> MaskSet:
        """Masks of an ``(H, W, 3)`` uint8 RGB photograph, the best predicted quality first."""
        runs: list[Counts | list[int]] = []
        qualities, stabilities = [], []
        with torch.inference_mode():
            for counts, quality, stability in self._candidates(self._model.encode(image)):
                runs.append(counts)
                qualities.append(quality)
                stabilities.append(stability)
        found = MaskSet.from_runs((image.shape[0], image.shape[1]), runs, qualities, stabilities)
        return self._suppressed(found)

    def _candidates(self, encoded: EncodedImage) -> Iterator[tuple[list[int], float, float]]:
        """Run lengths, predicted quality and stability of each sure and stable answer."""
        chosen = self._settings
        grid = point_grid(chosen.points_per_side)
        for batch in chunks(len(grid), chosen.points_per_batch):
            logits, qualities = self._model.answer(encoded, grid[batch])
            sure = qualities > chosen.min_quality
            logits, qualities = logits[sure], qualities[sure]
            for part in chunks(len(logits), _ENLARGED_MASKS):
                full = self._model.enlarge(logits[part], encoded)
                stabilities = stability_score(full, offset=chosen.stability_offset)
                for mask, quality, stability in zip(full > 0, qualities[part], stabilities, strict=True):
                    if stability >= chosen.min_stability:
                        yield encode_rle(mask.cpu().numpy()), float(quality), float(stability)

    def _suppressed(self, found: MaskSet) -> MaskSet:
        if not len(found):
            return found
        kept = suppress_overlaps(
            self._overlaps(found), torch.from_numpy(found.scores), limit=self._settings.max_overlap
        )
        return found.chosen(kept.numpy())

    def _overlaps(self, found: MaskSet) -> Tensor:
        height, width = found.size
        if self._settings.overlap == "box":
            return box_overlaps(torch.tensor([box_of_rle(counts, height) for counts in found.runs]))
        at = (min(height, _COMPARED_SIDE), min(width, _COMPARED_SIDE))
        return mask_overlaps(torch.from_numpy(found.arrays(at)))
