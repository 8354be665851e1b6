"""Flags of the mask providers, and the settings that they stand for."""

import argparse
from typing import Any

from lexiseg.cli.parsers.shared import Flag, Group
from lexiseg.errors import ConfigError
from lexiseg.recipes.mask_providers import PROVIDERS

_WITH_MODEL = {name: entry.model for name, entry in PROVIDERS.items() if entry.model is not None}


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers separated by commas."""
    return tuple(int(part) for part in text.split(","))


# Their defaults are the settings' own, so the help tells them and the flags have none.
_SETTINGS = {
    "superpixels": {
        "regions": Flag(
            "--regions",
            "N,N,…",
            "regions of each partition, coarse to fine (default: 6,12,24,48)",
            kind=numbers,
        ),
        "side": Flag("--side", "PX", "longer side that photographs are shrunk to (default: 320)", kind=int),
    },
    "dino": {
        "clusters": Flag("--clusters", "K", "clusters per photograph (default: 16)", kind=int),
        "seed": Flag("--seed", "N", "of the clustering's random start (default: 0)", kind=int),
    },
    "sam": {
        "points_per_side": Flag("--points", "N", "points of the grid each way (default: 32)", kind=int),
        "points_per_batch": Flag("--batch", "N", "points decoded at once (default: 64)", kind=int),
        "min_quality": Flag(
            "--min-quality",
            "SHARE",
            "least predicted overlap (default: 0.88; SAM 2's release: 0.8)",
            kind=float,
        ),
        "min_stability": Flag("--min-stability", "SHARE", "least stability (default: 0.95)", kind=float),
        "max_overlap": Flag(
            "--max-overlap", "SHARE", "of two that overlap more, the better stays (default: 0.7)", kind=float
        ),
        "overlap": Flag("--overlap", "box|mask", "overlap of what (default: box)"),
    },
    "regions": {
        "threshold": Flag("--threshold", "SHARE", "least probability of a pixel (default: 0.5)", kind=float),
        "min_confidence": Flag("--min-confidence", "SHARE", "least, of a region (default: 0)", kind=float),
    },
}
"""By provider, of those that have any, and by the setting's own name."""

_MODEL = (
    f"{', '.join(_WITH_MODEL)}: weights by hub name, folder or checkpoint (default: "
    f"{', '.join(filter(None, _WITH_MODEL.values()))}; regions has none); "
    "sam also takes SAM 2, SAM 3 and SAM-HQ"
)

PROVIDER: tuple[Flag | Group, ...] = (
    Flag("--provider", None, "what makes the masks", default="superpixels", choices=tuple(PROVIDERS)),
    Flag("--model", "NAME|FOLDER", _MODEL),
    Flag("--device", "DEVICE", f"{', '.join(_WITH_MODEL)}: auto, cpu, cuda, cuda:1, mps (default: auto)"),
    *(Group(tuple(flags.values()), f"settings of {name}") for name, flags in _SETTINGS.items()),
)
"""Which provider, and the settings of each."""


def provider_settings(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags say of the chosen provider, by its settings' own names.

    Raises:
        ConfigError: A flag of another provider.
    """
    given = {
        provider: {name: getattr(args, flag.destination) for name, flag in flags.items()}
        for provider, flags in _SETTINGS.items()
    }
    foreign = [
        _SETTINGS[provider][name].name
        for provider, values in given.items()
        for name, value in values.items()
        if value is not None and provider != args.provider
    ]
    if args.provider not in _WITH_MODEL:
        foreign += [f"--{name}" for name in ("model", "device") if getattr(args, name) is not None]
    if foreign:
        raise ConfigError(f"{', '.join(foreign)}: not a setting of --provider {args.provider}; leave it out")
    return {name: value for name, value in given.get(args.provider, {}).items() if value is not None}
