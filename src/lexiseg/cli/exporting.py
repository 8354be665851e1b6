"""``lexiseg export``: a trained model in another program's layout."""

import argparse
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape

from lexiseg.clip.loading import load_clip
from lexiseg.errors import ConfigError
from lexiseg.export.published_checkpoint import SIDECAR_SUFFIX, export_published
from lexiseg.models.checkpoint import check_same, load_tensors_only, read_info
from lexiseg.storage import write_atomically

_TOLD = """Write a checkpoint in the layout that ZegCLIP, SPT-SEG and Cascade-CLIP released (mmsegmentation's keys):

  lexiseg export voc.ckpt --to published --out voc.pth

Tensors that lexiseg does not use come from the side-car that `lexiseg import` left beside the checkpoint. Without one, the
CLIP is written from its own weights, and what the release allocates and never reads is zero.
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "export",
        help="write a trained model in another layout",
        description=_TOLD,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoint", metavar="CKPT", type=Path, help="last.ckpt, best.ckpt or an imported checkpoint"
    )
    parser.add_argument("--to", required=True, choices=("published",), help="the layout")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the file to write")
    parser.add_argument("--clip", metavar="NAME|PATH", help="its CLIP, if the weights have moved")
    parser.add_argument("--sidecar", type=Path, metavar="FILE", help="default: the one beside the checkpoint")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace, console: Console | None = None) -> int:
    """The command: flags in, exit status out."""
    console = console or Console()
    checkpoint = load_tensors_only(args.checkpoint)
    info = read_info(checkpoint, args.checkpoint)
    if args.out.resolve() == args.checkpoint.resolve():
        raise ConfigError(f"--out {args.out} is the checkpoint itself; choose another name")
    how = {key: value for key, value in info.clip.items() if key != "fingerprint"}
    clip = load_clip(**(how | ({"source": args.clip} if args.clip else {})))
    check_same(info, model=info.model, fingerprint=clip.fingerprint, path=args.checkpoint)
    beside = args.checkpoint.with_name(args.checkpoint.name + SIDECAR_SUFFIX)
    sidecar = args.sidecar or (beside if beside.is_file() else None)
    published = export_published(checkpoint, info, clip.vision, sidecar)
    write_atomically(args.out, lambda part: torch.save(published, part))
    source = (
        f"with {escape(str(sidecar))}"
        if sidecar
        else "without side-car: tensors that the release never reads are zero"
    )
    console.print(
        f"{len(published['state_dict'])} tensors written to {escape(str(args.out))}, {source}",
        highlight=False,
    )
    return 0
