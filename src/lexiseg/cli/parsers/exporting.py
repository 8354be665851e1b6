"""Flags of ``lexiseg export``."""

import argparse
from pathlib import Path

from lexiseg.cli.parsers.shared import Commands, add_command

_LAYOUTS = ("published", "folder", "onnx", "torch")

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


def add_parser(commands: Commands) -> None:
    """Add ``export`` to the command line."""
    parser = add_command(
        commands,
        "export",
        "lexiseg.cli.exporting:run",
        told="write a trained model in another layout",
        description=_TOLD,
    )
    parser.add_argument(
        "checkpoint", metavar="CKPT", type=Path, help="last.ckpt, best.ckpt or an imported checkpoint"
    )
    parser.add_argument("--to", required=True, choices=_LAYOUTS, help="the layout")
    parser.add_argument("--out", required=True, type=Path, metavar="PATH", help="the file or folder to write")
    parser.add_argument("--clip", metavar="NAME|PATH", help="its CLIP, if the weights have moved")
    parser.add_argument("--sidecar", type=Path, metavar="FILE", help="default: the one beside the checkpoint")
    _add_folder_flags(parser)


def _add_folder_flags(parser: argparse.ArgumentParser) -> None:
    """What only a folder needs."""
    folder = parser.add_argument_group("--to folder")
    folder.add_argument(
        "--license",
        metavar="NAME",
        help="of the trained weights, for the model card (default: unknown)",
    )
    folder.add_argument("--clip-license", metavar="NAME", help="of the CLIP's weights, likewise")
    folder.add_argument(
        "--dataset",
        metavar="ORG/NAME",
        action="append",
        dest="datasets",
        help="a data set of the hub that it was trained on, for the model card; may be repeated",
    )
    folder.add_argument(
        "--without-clip",
        action="store_true",
        help="only name the CLIP, which must be one of the hub's, instead of copying it",
    )
    folder.add_argument(
        "--push", metavar="ORG/NAME", help="upload the folder to the Hugging Face hub as well"
    )
