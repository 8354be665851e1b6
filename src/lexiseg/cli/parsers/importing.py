"""Flags of ``lexiseg import``."""

from pathlib import Path

from lexiseg.cli.parsers.shared import Command, Flag
from lexiseg.clip.templates import TEMPLATE_SETS

_TOLD = """Read a checkpoint that ZegCLIP, SPT-SEG or Cascade-CLIP (mmsegmentation's layout), SAN, FC-CLIP, ZegFormer or OVSeg
(detectron2's), or LSeg released, without their code and without running anything in it. Every key is checked. The CLIP inside a
file of the first three is compared with the one given; the others bring theirs along, which is written beside the checkpoint.

  lexiseg import cascade_voc.pth --clip ViT-B-16.pt --tokenizer bpe_simple_vocab_16e6.txt.gz --split voc_15_5 --out voc.ckpt
  lexiseg import san_vit_b_16.pth --tokenizer bpe_simple_vocab_16e6.txt.gz --classes-file coco_stuff.txt --out san.ckpt
  lexiseg eval voc.ckpt data=voc split=voc_15_5 data.root=PATH

What the file holds and lexiseg does not use goes into a side-car beside the checkpoint, for `lexiseg export --to published`.
"""

_TEMPLATES = (
    f"prompt templates it was trained with: {', '.join(TEMPLATE_SETS)} (default: the release's; of the first three "
    "single, as VOC, where the others take multi15)"
)

COMMAND = Command(
    "import",
    "read a checkpoint that a paper's authors released",
    "lexiseg.cli.importing:run",
    _TOLD,
    takes=(
        Flag("file", "FILE.pth", "the released checkpoint", kind=Path),
        Flag("--clip", "NAME|PATH", "the CLIP it was trained on, where the file does not bring it along"),
        Flag("--tokenizer", "PATH", "of that CLIP, where its file brings none"),
        Flag("--vision-heads", "N", "heads of the image tower (default: width / 64)", kind=int),
        Flag("--text-heads", "N", "heads of the text tower (default: width / 64)", kind=int),
        Flag("--decoder-heads", "N", "heads of the decoders", default=8, kind=int),
        Flag("--split", "NAME", "which of its classes are unseen, a file of conf/split such as voc_15_5"),
        Flag("--transductive", None, "it was trained with self-training"),
        Flag(
            "--classes-file",
            "FILE",
            "class names, one a line: 'cat; kitten' (default: the file's)",
            kind=Path,
        ),
        Flag("--templates", "NAME", _TEMPLATES),
        Flag("--protocol", "NAME", "a file of conf/train/protocol (default: the release's)"),
        Flag("--out", "FILE.ckpt", "default: FILE.ckpt beside the file", kind=Path),
    ),
)
