"""``lexiseg bank``: a memory of unlabelled photographs for CorrCLIP."""

import argparse

from rich.console import Console
from rich.markup import escape

from lexiseg.clip.model import DEFAULT_CLIP
from lexiseg.errors import DataError
from lexiseg.recipes.bank import BankBuild, build_bank
from lexiseg.recipes.settings import ClipSource

_SAME = ("photos", "masks", "out", "proxy", "device", "overwrite")


def run_build(args: argparse.Namespace) -> int:
    """Build a bank; 1 if a photograph was skipped."""
    console = Console(stderr=True, soft_wrap=True)
    clip = ClipSource(args.clip or DEFAULT_CLIP)
    build = BankBuild(**{name: getattr(args, name) for name in _SAME}, clip=clip)

    def skipped(error: DataError) -> None:
        console.print(f"[red]skipped:[/red] {escape(str(error))}", soft_wrap=True)

    summary = build_bank(build, skipped)
    console.print(escape(summary.tell()))
    return 1 if min(summary.counts) < 0 else 0
