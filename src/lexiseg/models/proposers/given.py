"""Regions from outside: a provider of class-agnostic masks in the place of a trained proposer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.errors import ConfigError
from lexiseg.models.mask_providers import build_provider, find_provider
from lexiseg.models.region_parts import Found, Scene
from lexiseg.ops.given_regions import CERTAIN, certain_logits
from lexiseg.ops.tracing import is_exporting
from lexiseg.plain_settings import require_plain_settings, within
from lexiseg.types import ImageTower, Proposals

if TYPE_CHECKING:
    from lexiseg.masks.provider import MaskProvider, Picture


@dataclass(frozen=True)
class GivenMasksSettings:
    """Where the masks come from.

    Attributes:
        provider: A key of :data:`~lexiseg.models.mask_providers.MODEL_PROVIDERS`; None where masks are handed in with every
            photograph (``encode_masks``, ``name_masks``).
        weights: Of a provider that needs a model, by hub name or folder; None for its own choice.
        most: Regions of a photograph at most, the largest first.
        options: Settings of the provider, those that differ from its defaults.
    """

    provider: str | None = "superpixels"
    weights: str | None = None
    most: int = within(128, at_least=1)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a provider that does not exist."""
        require_plain_settings(self, "model")
        if not isinstance(self.options, Mapping):
            raise ConfigError(f"model.options: expected settings by name, got {self.options!r}")
        if self.provider is not None:
            find_provider(self.provider)


class GivenMasks(nn.Module):
    """Masks of a :class:`~lexiseg.masks.provider.MaskProvider`, without embeddings; there is nothing to train.

    A provider with a model is loaded when the first photograph comes, onto the device of its image, and is part of no
    checkpoint.

    Args:
        tower: Not asked.
        settings: Which provider.

    Attributes:
        untraceable: Why no program can hold it.
        provider: What makes the masks; may be set to any other provider. None until it is needed.
        others: See :class:`~lexiseg.models.region_parts.Proposer`.
    """

    untraceable = "no exported program holds a provider of masks; take a proposer that trains"
    colors = None
    stride = 1
    embed_dim = pixel_dim = None
    early = None
    slow = None
    slow_scale = 1.0

    def __init__(self, tower: ImageTower, settings: GivenMasksSettings) -> None:
        del tower
        super().__init__()
        self.settings = settings
        self.regions = settings.most
        self.provider: MaskProvider | None = None
        if settings.provider is not None and find_provider(settings.provider).model is None:
            self.provider = self._build(torch.device("cpu"), "model")

    def encode_bytes(self, height: int, width: int) -> int:
        """About what its largest tensors take for an image: the logits of all masks, before and after they are stacked."""
        return 2 * 4 * self.regions * height * width

    def forward(self, scene: Scene, *, every_layer: bool = False) -> Found:
        """Masks ``(B, N, H, W)`` at the image's size, certain of every pixel; padding belongs to none.

        N is the largest number of any photograph in the batch, at least 1; what others lack is filled with empty masks.

        Raises:
            ConfigError: There is no provider, or a program is being traced.
        """
        del every_layer
        if is_exporting():
            raise ConfigError(self.untraceable)
        each = [self._masks(photograph, scene.images.device) for photograph in scene.photographs]
        most = max(1, *map(len, each))
        return Found(Proposals(torch.stack([_filled(one, most, scene.images) for one in each])))

    def _masks(self, photograph: "Picture", device: torch.device) -> Tensor:
        """``(N, H, W)`` bool of one photograph."""
        if self.provider is None:
            self.provider = self._build(device, "model.proposer")
        return torch.from_numpy(self.provider(photograph).largest(self.settings.most).arrays())

    def _build(self, device: torch.device, group: str) -> "MaskProvider":
        """The provider; messages name keys of a group, which whoever builds the model names more fully by itself."""
        if self.settings.provider is None:
            raise ConfigError(
                f"proposer 'given' has no provider; hand masks in with each photograph, or set {group}.provider"
            )
        try:
            return build_provider(
                self.settings.provider, self.settings.options, model=self.settings.weights, device=device
            )
        except TypeError as error:
            raise ConfigError(
                f"{group}.options: {self.settings.provider} does not take {dict(self.settings.options)} ({error}); take "
                f"settings that `lexiseg masks build --provider {self.settings.provider} --help` lists, or none"
            ) from error


def _filled(masks: Tensor, count: int, images: Tensor) -> Tensor:
    """Logits ``(count, H, W)`` over the padded image of bool masks over the picture in it."""
    logits = certain_logits(masks).to(images)
    height, width = images.shape[-2:]
    padding = (0, width - masks.shape[2], 0, height - masks.shape[1], 0, count - len(masks))
    return F.pad(logits, padding, value=-CERTAIN)
