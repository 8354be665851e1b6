"""Mask providers as commands and Python users ask for them, with the device as a user says it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lexiseg.models.mask_providers import MODEL_PROVIDERS, Entry, build_provider

if TYPE_CHECKING:
    import torch

    from lexiseg.masks.provider import MaskProvider

PROVIDERS = {
    **MODEL_PROVIDERS,
    "regions": Entry(
        "the regions of a trained model that finds regions first: --model CHECKPOINT",
        "lexiseg.recipes.proposed_regions:regions",
        model="",
    ),
}
"""Every mask provider; a key is its ``name``."""


def make_provider(
    name: str, settings: Mapping[str, Any], *, model: str | None = None, device: str = "auto"
) -> "MaskProvider":
    """A provider, with its model loaded if it has one.

    Args:
        name: A key of :data:`PROVIDERS`.
        settings: Those that differ from its defaults.
        model: Hub name or folder of weights; None for its own choice.
        device: See :func:`~lexiseg.inference.devices.pick_device`.

    Raises:
        ConfigError: No such provider, a setting that cannot be, a model of another kind, or no such device.
        LexisegError: The model cannot be loaded.
    """

    def place() -> "torch.device":
        # Imported for a model only: what needs none should start at once, and so should its worker processes.
        from lexiseg.inference.devices import pick_device

        return pick_device(device)

    return build_provider(name, settings, model=model, device=place, providers=PROVIDERS)
