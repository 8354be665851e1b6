"""Mask providers by name. Listing them imports nothing; a new one is its file in ``masks`` and an entry here.

One that reads a checkpoint of ours needs more than models do: :mod:`~lexiseg.recipes.mask_providers` adds it to these.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lexiseg.errors import ConfigError
from lexiseg.lazy import locate

if TYPE_CHECKING:
    import torch

    from lexiseg.masks.provider import MaskProvider


@dataclass(frozen=True)
class Entry:
    """One provider.

    Attributes:
        told: What it makes, for the help.
        place: ``package.module:name`` of what builds it: called with its settings by keyword; or, where it needs a model,
            with weights, device and the mapping of settings.
        model: Its weights unless others are named, by hub name, empty where they have to be named; None where it needs none,
            and then photographs are shared among processes.
    """

    told: str
    place: str
    model: str | None = None


MODEL_PROVIDERS = {
    "superpixels": Entry(
        "regions of like colour and texture at several granularities; needs no weights; the default",
        "lexiseg.masks.superpixels:Superpixels",
    ),
    "dino": Entry(
        "patch tokens of a DINO vision transformer, clustered photograph by photograph",
        "lexiseg.models.mask_models:dino",
        model="facebook/dino-vits16",
    ),
    "normalized_cut": Entry(
        "objects, cut out one after the other by a DINO's keys (LaVG)",
        "lexiseg.models.mask_models:normalized_cut",
        model="facebook/dino-vitb8",
    ),
    "sam": Entry(
        "everything that a SAM, SAM 2, SAM 3 or SAM-HQ finds from a grid of points",
        "lexiseg.models.mask_models:sam",
        model="facebook/sam-vit-base",
    ),
    "panoptic": Entry(
        "the segments of a panoptic model of transformers (EoMT, Mask2Former), which has learned from labels",
        "lexiseg.models.mask_models:panoptic",
        model="tue-mps/coco_panoptic_eomt_large_640",
    ),
}
"""Those that a model may hold; a key is its ``name``."""


def find_provider(name: str, providers: Mapping[str, Entry] = MODEL_PROVIDERS) -> Entry:
    """The entry of a provider among those that there are.

    Raises:
        ConfigError: No such provider.
    """
    if name not in providers:
        raise ConfigError(f"no mask provider '{name}'; choose one of {', '.join(providers)}")
    return providers[name]


def build_provider(
    name: str,
    settings: Mapping[str, Any],
    *,
    model: str | None = None,
    device: "torch.device | Callable[[], torch.device]",
    providers: Mapping[str, Entry] = MODEL_PROVIDERS,
) -> "MaskProvider":
    """A provider, with its model loaded if it has one.

    Args:
        name: A key of ``providers``.
        settings: Those that differ from its defaults.
        model: Hub name or folder of weights; None for its own choice.
        device: Where the model runs, or what finds it, which is asked for a model only.
        providers: Those that there are.

    Raises:
        ConfigError: No such provider, a setting that cannot be, or a model of another kind.
        LexisegError: The model cannot be loaded.
    """
    entry = find_provider(name, providers)
    build = locate(entry.place)
    if entry.model is None:
        made: MaskProvider = build(**settings)
        return made
    place = device() if callable(device) else device
    loaded: MaskProvider = build(model or entry.model, place, settings)
    return loaded
