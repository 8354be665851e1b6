"""The seam of models that find regions first and name them second: what a proposer and a region classifier are to each other.

Any proposer goes with any region classifier that reads no more than it gives. A new one of either is a file that keeps one
of the contracts here, and its name in :data:`~lexiseg.models.proposers.registry.PROPOSERS` or
:data:`~lexiseg.models.region_classifiers.registry.CLASSIFIERS`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lexiseg.errors import ConfigError
from lexiseg.models.early_blocks import EarlyBlocks, EarlyTokens
from lexiseg.models.patch_stages import is_convolutional
from lexiseg.ops.region_crops import change_colors
from lexiseg.plain_settings import plain_fields, require_known_keys
from lexiseg.types import ClassWords, Color, ImageTower, Proposals


class Scene:
    """Some photographs, and what the frozen CLIP makes of them: each thing once, whoever of the two parts asks first.

    Args:
        tower: The frozen CLIP.
        images: ``(B, 3, H, W)`` normalised; H and W multiples of the model's stride.
        content: Height and width of the picture in them; the rest, at the right and the bottom, is padding of zeros. None
            where there is none.
        colors: Mean and deviation that they are normalised by, each ``(3, 1, 1)``, in 0-255; None for the tower's.
    """

    def __init__(
        self,
        tower: ImageTower,
        images: Tensor,
        content: tuple[int, int] | None = None,
        colors: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.tower, self.images = tower, images
        self.content = content or (images.shape[-2], images.shape[-1])
        self._colors = colors

    @property
    def _clip_colors(self) -> tuple[Tensor, Tensor]:
        mean, std = (
            self.images.new_tensor(values).view(3, 1, 1) * 255 for values in (self.tower.mean, self.tower.std)
        )
        return mean, std

    @cached_property
    def pictures(self) -> Tensor:
        """The images in CLIP's own normalisation."""
        if self._colors is None:
            return self.images
        return change_colors(self.images, self.content, self._colors, self._clip_colors)

    @property
    def photographs(self) -> list[npt.NDArray[np.uint8]]:
        """B photographs ``(H, W, 3)`` RGB in 0-255, without the padding, as a provider of masks takes them."""
        mean, std = self._colors or self._clip_colors
        height, width = self.content
        raw = (self.images[..., :height, :width].float() * std + mean).round().clamp(0, 255)
        return list(raw.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy())

    @cached_property
    @torch.no_grad()
    def stage_maps(self) -> tuple[Tensor, ...]:
        """Maps at strides 4, 8, 16 and 32 of a convolutional CLIP."""
        self.tower.grid(self.pictures)
        maps: tuple[Tensor, ...] = self.tower.stage_maps(self.pictures)  # type: ignore[attr-defined]
        return maps

    @cached_property
    @torch.no_grad()
    def patches(self) -> Tensor:
        """Text-aligned patch features ``(B, E, h, w)`` by the tower's own reading."""
        return self.tower.dense_features(self.pictures)

    @property
    def last_map(self) -> Tensor:
        """The map ``(B, C, h, w)`` that a tower pools regions from: its last stage, or a ViT's patches."""
        return self.stage_maps[-1] if is_convolutional(self.tower) else self.patches


@dataclass(frozen=True)
class Found:
    """What a proposer found in some photographs.

    Attributes:
        proposals: Their regions; ``earlier`` those of the layers before the last, where they were asked for.
        features: ``(B, C, h, w)`` a trained map for whoever names the regions; None where there is none.
        early: The CLIP tokens that it read, where it reads CLIP's first blocks.
    """

    proposals: Proposals
    features: Tensor | None = None
    early: EarlyTokens | None = None


class Proposer(Protocol):
    """An image to N masks, before any word is known; an ``nn.Module``.

    Attributes:
        colors: RGB mean and deviation in [0, 1] of its images; None for CLIP's.
        stride: Height and width of its images must be multiples of it.
        embed_dim: Channels of a region's embedding; None where it gives none.
        pixel_dim: Channels of the proposals' pixel map and of ``features``; None where it gives none.
        regions: How many it finds in a photograph at most.
        slow_scale: See :attr:`slow`.
    """

    colors: tuple[Color, Color] | None
    stride: int
    embed_dim: int | None
    pixel_dim: int | None
    regions: int
    slow_scale: float

    @property
    def early(self) -> EarlyBlocks | None:
        """CLIP's first blocks where it runs them, and hands on their tokens; None where it does not."""

    @property
    def slow(self) -> nn.Module | None:
        """A pre-trained part that learns at ``slow_scale`` times the rate; None for none."""

    def __call__(self, scene: Scene, *, every_layer: bool = False) -> Found:
        """Find regions; with ``every_layer`` those of earlier layers too, for a loss on each."""


@dataclass(frozen=True)
class Embedded:
    """Regions as a classifier compares them with words.

    Attributes:
        vectors: ``(B, N, E)``.
        visible: ``(B, N)`` bool, whether there was anything of the region to look at; None: always.
    """

    vectors: Tensor
    visible: Tensor | None = None


class RegionClassifier(Protocol):
    """Masks, image and words to scores of each mask and class; an ``nn.Module``.

    Attributes:
        stride: Height and width of images must be multiples of it.
        names_nothing: Whether its logits have a last column for "no object".
        matches: Whether it reads the proposer's embedding of a region, so that a region given from outside takes that of the
            proposal that it overlaps most; otherwise the given mask itself is read.
        asks_proposer: Whether it reads anything of the proposer but masks, so that it must run for given regions too.
        every_layer: Whether the regions of every layer are named in training; False where CLIP would look at each anew.
    """

    stride: int
    names_nothing: bool
    matches: bool
    asks_proposer: bool
    every_layer: bool

    def embed(self, scene: Scene, found: Found, proposals: Proposals) -> Embedded:
        """Embed regions, before any word is known.

        Args:
            scene: The photographs.
            found: What the proposer found in them.
            proposals: The regions to embed: those found, of any layer, or given ones.
        """

    def logits(self, vectors: Tensor, words: ClassWords) -> Tensor:
        """Class logits ``(B, N, K)`` of embedded regions, or ``(B, N, K + 1)`` with "nothing" last."""


@dataclass(frozen=True)
class Part:
    """How a proposer or a region classifier is built.

    Attributes:
        network: Of a proposer: frozen tower and settings to the module. Of a classifier: tower, settings and the proposer.
            It refuses what it cannot stand on with a ``ConfigError`` that says what would fit.
        settings: Its settings, a dataclass of plain values with a default for each.
    """

    network: Callable[..., Any]
    settings: Callable[..., Any]


def part_settings(parts: Mapping[str, Part], given: object, group: str) -> Any:
    """The settings of one part from its name and plain values.

    Args:
        parts: Those that there are.
        given: ``name`` and settings, as a configuration holds them.
        group: What the user calls it, for the message.

    Raises:
        ConfigError: No such part, a setting that it does not have, or a bad value.
    """
    name = given.get("name") if isinstance(given, Mapping) else None
    if not isinstance(given, Mapping) or not isinstance(name, str) or name not in parts:
        came = f"'{name}'" if isinstance(given, Mapping) else repr(given)
        raise ConfigError(f"{group}.name: expected one of {', '.join(parts)}, got {came}")
    kind: Any = parts[name].settings
    own = {key: value for key, value in given.items() if key != "name"}
    require_known_keys(own, kind, f"{group} '{name}'")
    with told_of(group):
        return kind(**own)


def complete_part(parts: Mapping[str, Part], given: object, group: str) -> dict[str, Any]:
    """``name`` and every setting of a part as plain values; arguments and errors as of :func:`part_settings`."""
    settings = part_settings(parts, given, group)
    return {"name": given["name"], **plain_fields(settings)}  # type: ignore[index]


@contextmanager
def told_of(group: str) -> Iterator[None]:
    """Messages of what published models are built of speak of ``model.KEY``; here the key is one level further down."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(str(error).replace("model.", f"{group}.")) from error
