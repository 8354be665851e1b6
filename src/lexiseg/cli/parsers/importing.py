"""Flags of ``lexiseg import``."""

from pathlib import Path

from lexiseg.cli.parsers.shared import Commands, add_command
from lexiseg.clip.templates import TEMPLATE_SETS

_TOLD = """Read a checkpoint that ZegCLIP, SPT-SEG or Cascade-CLIP released (mmsegmentation's layout) without mmsegmentation
and without running anything in it. Every key is checked, and the CLIP inside is compared with the one given.

  lexiseg import cascade_voc.pth --clip ViT-B-16.pt --tokenizer bpe_simple_vocab_16e6.txt.gz --split voc_15_5 --out voc.ckpt
  lexiseg eval checkpoint=voc.ckpt data=voc split=voc_15_5 data.root=PATH

What the file holds and lexiseg does not use goes into a side-car beside the checkpoint, for `lexiseg export --to published`.
"""


def add_parser(commands: Commands) -> None:
    """Add ``import`` to the command line."""
    parser = add_command(
        commands,
        "import",
        "lexiseg.cli.importing:run",
        told="read a released ZegCLIP, SPT-SEG or Cascade-CLIP checkpoint",
        description=_TOLD,
    )
    parser.add_argument("file", metavar="FILE.pth", type=Path, help="the released checkpoint")
    parser.add_argument("--clip", required=True, metavar="NAME|PATH", help="the CLIP it was trained on")
    parser.add_argument("--tokenizer", metavar="PATH", help="of that CLIP, where its file brings none")
    parser.add_argument(
        "--vision-heads", type=int, metavar="N", help="heads of the image tower (default: width / 64)"
    )
    parser.add_argument(
        "--text-heads", type=int, metavar="N", help="heads of the text tower (default: width / 64)"
    )
    parser.add_argument(
        "--decoder-heads", type=int, default=8, metavar="N", help="heads of the decoders (default: 8)"
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="which of its classes are unseen, a file of conf/split such as voc_15_5",
    )
    parser.add_argument("--transductive", action="store_true", help="it was trained with self-training")
    parser.add_argument(
        "--classes-file", metavar="FILE", type=Path, help="class names, one a line (default: the file's)"
    )
    parser.add_argument(
        "--templates",
        default="single",
        metavar="NAME",
        help=f"prompt templates it was trained with: {', '.join(TEMPLATE_SETS)} (default: single, as VOC; the others multi15)",
    )
    parser.add_argument(
        "--protocol", default="cascade", metavar="NAME", help="a file of conf/protocol (default: cascade)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.ckpt", help="default: FILE.ckpt beside the file")
