"""LaVG's masks: a photograph cut into objects by the keys of a self-supervised vision transformer."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from lexiseg.errors import ConfigError
from lexiseg.masks.dino_kmeans import PatchEncoder
from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.provider import Picture
from lexiseg.ops.nearest import nearest_indices
from lexiseg.ops.normalized_cut import Bools, cut_objects, settled
from lexiseg.ops.pamr import color_affinity, pamr


@dataclass(frozen=True)
class NormalizedCutSettings:
    """How a photograph is cut; defaults are the release's.

    Attributes:
        objects: Masks per photograph at most (N).
        min_cosine: Keys of two patches that are more alike join them (τ).
        side: Pixels of the square that the photograph is resized to, whatever its ratio.
        refine_steps: Rounds of PAMR, which draw each mask to the colours' borders; 0 for none. The release refines by a dense
            CRF instead, which needs a library that is not ours; nothing takes its place unless it is asked for.
        min_overlap: A mask that shares less with itself before refinement is left out, its patches staying taken.
    """

    objects: int = 8
    min_cosine: float = 0.3
    side: int = 640
    refine_steps: int = 0
    min_overlap: float = 0.5

    def __post_init__(self) -> None:
        """Reject settings that give no mask.

        Raises:
            ConfigError: Names the setting.
        """
        for name, least in (("objects", 1), ("side", 1), ("refine_steps", 0)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"normalized_cut.{name}: expected at least {least}, got {getattr(self, name)}"
                )
        for name, low in (("min_cosine", -1), ("min_overlap", 0)):
            if not low <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"normalized_cut.{name}: expected a number from {low} to 1, got {getattr(self, name)}"
                )


class NormalizedCut:
    """Repeated normalised cuts of a photograph's patches (LaVG's panoptic cut, Kang and Cho, ECCV 2024).

    The masks do not overlap but for rounding at their borders, and need not cover the photograph; the object found first
    comes first.

    Args:
        encoder: Keys of the last block of a DINO, with its own normalisation.
        source: What identifies the tower, for the cache.
        settings: See :class:`NormalizedCutSettings`.
    """

    def __init__(
        self,
        encoder: PatchEncoder,
        *,
        source: Mapping[str, Any],
        settings: NormalizedCutSettings | None = None,
    ) -> None:
        self._encoder, self._source = encoder, dict(source)
        self._settings = settings or NormalizedCutSettings()

    @property
    def name(self) -> str:
        """What the cache calls it."""
        return "normalized_cut"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The tower's identity and how the photograph is cut."""
        return {**self._source, **asdict(self._settings)}

    def __call__(self, image: Picture) -> MaskSet:
        """One mask per object of an ``(H, W, 3)`` uint8 RGB photograph, in the order in which they are found."""
        chosen = self._settings
        square = squared(image, chosen.side)
        with torch.inference_mode():
            keys = self._encoder(square).float().cpu().numpy()
        coarse = cut_objects(keys, threshold=chosen.min_cosine, most=chosen.objects)
        rows, columns = (nearest_indices(cells, chosen.side) for cells in coarse.shape[1:])
        masks = coarse[:, rows[:, None], columns]
        refined = _refined(masks, square, chosen.refine_steps)
        settled_masks = [
            settled(mask, after, least_overlap=chosen.min_overlap)
            for mask, after in zip(masks, refined, strict=True)
        ]
        size = (image.shape[0], image.shape[1])
        found = [resize_mask(mask, size) for mask in settled_masks]
        return MaskSet.from_masks(np.stack(found) if found else np.zeros((0, *size), dtype=np.bool_))


def squared(image: Picture, side: int) -> Picture:
    """``(H, W, 3)`` to ``(side, side, 3)`` uint8, as Pillow's Lanczos filter does it; the ratio is not kept."""
    return np.array(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS))


def resize_mask(mask: Bools, size: tuple[int, int]) -> Bools:
    """``(h, w)`` at another height and width: what Pillow's bicubic filter leaves of it above one half of white."""
    white = Image.fromarray(mask.astype(np.uint8) * 255)
    small: Bools = np.asarray(white.resize((size[1], size[0]), Image.Resampling.BICUBIC)) > 127.5
    return small


def _refined(masks: Bools, image: Picture, steps: int) -> Bools:
    """``(M, h, w)`` masks drawn to the borders of the colours of ``(h, w, 3)``."""
    if not steps or not len(masks):
        return masks
    colors = color_affinity(torch.tensor(image).permute(2, 0, 1)[None].float())
    shares = pamr(torch.from_numpy(masks)[None].float(), colors, steps=steps)
    refined: Bools = (shares[0] > 0.5).numpy()
    return refined
