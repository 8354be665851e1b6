"""Flags of the mask providers, and the settings that they stand for."""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

from lexiseg.errors import ConfigError

_PROVIDERS = ("superpixels", "dino", "sam")
DEFAULT_MODELS = {"dino": "facebook/dino-vits16", "sam": "facebook/sam-vit-base"}


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers separated by commas."""
    return tuple(int(part) for part in text.split(","))


class _Flag(NamedTuple):
    provider: str
    setting: str
    kind: Callable[[str], Any]
    metavar: str
    told: str


_FLAGS = {
    "--regions": _Flag(
        "superpixels",
        "regions",
        numbers,
        "N,N,…",
        "regions of each partition, coarse to fine (default: 6,12,24,48)",
    ),
    "--side": _Flag(
        "superpixels", "side", int, "PX", "longer side that photographs are shrunk to (default: 320)"
    ),
    "--clusters": _Flag("dino", "clusters", int, "K", "clusters per photograph (default: 16)"),
    "--seed": _Flag("dino", "seed", int, "N", "of the clustering's random start (default: 0)"),
    "--points": _Flag("sam", "points_per_side", int, "N", "points of the grid each way (default: 32)"),
    "--batch": _Flag("sam", "points_per_batch", int, "N", "points decoded at once (default: 64)"),
    "--min-quality": _Flag(
        "sam", "min_quality", float, "SHARE", "least predicted overlap (default: 0.88; SAM 2's release: 0.8)"
    ),
    "--min-stability": _Flag("sam", "min_stability", float, "SHARE", "least stability (default: 0.95)"),
    "--max-overlap": _Flag(
        "sam", "max_overlap", float, "SHARE", "of two that overlap more, the better stays (default: 0.7)"
    ),
    "--overlap": _Flag("sam", "overlap", str, "box|mask", "overlap of what (default: box)"),
}


def add_provider_flags(parser: argparse.ArgumentParser) -> None:
    """Which provider, and the settings of each."""
    parser.add_argument(
        "--provider",
        choices=_PROVIDERS,
        default=_PROVIDERS[0],
        help="what makes the masks (default: superpixels)",
    )
    parser.add_argument(
        "--model",
        metavar="NAME|FOLDER",
        help="dino, sam: weights by hub name or folder (default: "
        + ", ".join(DEFAULT_MODELS.values())
        + "); sam also takes SAM 2 and SAM-HQ",
    )
    parser.add_argument("--device", help="dino, sam: auto, cpu, cuda, cuda:1, mps (default: auto)")
    groups = {provider: parser.add_argument_group(f"settings of {provider}") for provider in _PROVIDERS}
    for flag, about in _FLAGS.items():
        groups[about.provider].add_argument(
            flag, dest=_destination(flag), type=about.kind, metavar=about.metavar, help=about.told
        )


def provider_settings(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags say of the chosen provider, by its settings' own names.

    Raises:
        ConfigError: A flag of another provider.
    """
    given = {flag: getattr(args, _destination(flag)) for flag in _FLAGS}
    foreign = [
        flag for flag, value in given.items() if value is not None and _FLAGS[flag].provider != args.provider
    ]
    if args.provider == "superpixels":
        foreign += [f"--{name}" for name in ("model", "device") if getattr(args, name) is not None]
    if foreign:
        raise ConfigError(f"{', '.join(foreign)}: not a setting of --provider {args.provider}; leave it out")
    return {_FLAGS[flag].setting: value for flag, value in given.items() if value is not None}


def _destination(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")
