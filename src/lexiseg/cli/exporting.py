"""``lexiseg export``: a trained model in another layout, as a folder that needs nothing else, or for another runtime."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape

from lexiseg.checkpoints.published_checkpoint import SIDECAR_SUFFIX, export_published
from lexiseg.checkpoints.training_file import check_same, load_tensors_only, read_info
from lexiseg.cli.exporting_folder import add_flags, run_folder
from lexiseg.cli.exporting_program import run_program
from lexiseg.clip.loading import load_clip
from lexiseg.errors import ConfigError
from lexiseg.storage import write_atomically

_TOLD = """Write a checkpoint in the layout that ZegCLIP, SPT-SEG and Cascade-CLIP released (mmsegmentation's keys):

  lexiseg export voc.ckpt --to published --out voc.pth

Tensors that lexiseg does not use come from the side-car that `lexiseg import` left beside the checkpoint. Without one, the
CLIP is written from its own weights, and what the release allocates and never reads is zero.

  lexiseg export runs/mine/best.ckpt --to folder --out my_model --license apache-2.0 [--push ORG/NAME]

One folder that needs nothing else: weights (safetensors), settings, the CLIP with its tokenizer, a model card with the split,
the protocol and the scores that lie beside the checkpoint. `lexiseg predict --checkpoint my_model` takes it, and so do eval,
compare and lexiseg.PretrainedSegmenter.from_pretrained, by its path or, once pushed, as ORG/NAME.

  lexiseg export runs/mine/best.ckpt --to onnx --out my_program     (or --to torch, for torch.export.load)

A folder with one program, images and text embeddings in, mask logits out, for any batch, image size and number of classes;
beside it what a graph cannot say. It is compared with the live model at three sizes, and nothing is written where they
differ. `lexiseg predict --checkpoint my_program` runs the ONNX form, without the CLIP for words of the model's own split.
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
    parser.add_argument("--to", required=True, choices=tuple(_KINDS), help="the layout")
    parser.add_argument("--out", required=True, type=Path, metavar="PATH", help="the file or folder to write")
    parser.add_argument("--clip", metavar="NAME|PATH", help="its CLIP, if the weights have moved")
    parser.add_argument("--sidecar", type=Path, metavar="FILE", help="default: the one beside the checkpoint")
    add_flags(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace, console: Console | None = None) -> int:
    """The command: flags in, exit status out."""
    console = console or Console()
    return _KINDS[args.to](args, console)


def run_published(args: argparse.Namespace, console: Console) -> int:
    """Write mmsegmentation's layout.

    Raises:
        ConfigError: ``--out`` is the checkpoint itself.
        CheckpointError: The layout cannot hold this model, or the side-car is of another one.
    """
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


_KINDS: dict[str, Callable[[argparse.Namespace, Console], int]] = {
    "published": run_published,
    "folder": run_folder,
    "onnx": run_program,
    "torch": run_program,
}
"""What ``--to`` may name."""
