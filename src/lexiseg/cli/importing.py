"""``lexiseg import``: a released checkpoint of ZegCLIP, SPT-SEG or Cascade-CLIP as one of ours."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape

from lexiseg.checkpoints.published_checkpoint import SIDECAR_SUFFIX, Imported, import_published
from lexiseg.checkpoints.training_file import CHECKPOINT_KEY, CheckpointInfo
from lexiseg.cli.building import build_protocol
from lexiseg.cli.composing import compose_config, plain
from lexiseg.clip.loading import TOY_CLIP, FrozenCLIP, load_clip
from lexiseg.clip.templates import TEMPLATE_SETS, resolve_templates
from lexiseg.data.class_files import read_class_file
from lexiseg.data.splits import make_split
from lexiseg.errors import ConfigError
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.storage import write_atomically
from lexiseg.types import ClassSplit, Setting

_TOLD = """Read a checkpoint that ZegCLIP, SPT-SEG or Cascade-CLIP released (mmsegmentation's layout) without mmsegmentation
and without running anything in it. Every key is checked, and the CLIP inside is compared with the one given.

  lexiseg import cascade_voc.pth --clip ViT-B-16.pt --tokenizer bpe_simple_vocab_16e6.txt.gz --split voc_15_5 --out voc.ckpt
  lexiseg eval checkpoint=voc.ckpt data=voc split=voc_15_5 data.root=PATH

What the file holds and lexiseg does not use goes into a side-car beside the checkpoint, for `lexiseg export --to published`.
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "import",
        help="read a released ZegCLIP, SPT-SEG or Cascade-CLIP checkpoint",
        description=_TOLD,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
    parser.set_defaults(func=run)


def run(args: argparse.Namespace, console: Console | None = None) -> int:
    """The command: flags in, exit status out."""
    console = console or Console()
    how = {
        "source": _place(args.clip),
        "tokenizer": args.tokenizer and _place(args.tokenizer),
        "activation": "auto",
        "vision_heads": args.vision_heads,
        "text_heads": args.text_heads,
    }
    clip = load_clip(**how)
    imported = import_published(args.file, clip.vision, decoder_heads=args.decoder_heads)
    info = _describe(args, imported, clip, how)
    out: Path = args.out or args.file.with_suffix(".ckpt")
    if out.resolve() == args.file.resolve():
        raise ConfigError(
            f"--out {out} is the file to be read; choose another name, for example {out.stem}.ckpt"
        )
    checkpoint = {CHECKPOINT_KEY: info.to_dict(), "state_dict": imported.state_dict}
    write_atomically(out, lambda part: torch.save(checkpoint, part))
    sidecar = out.with_name(out.name + SIDECAR_SUFFIX)
    write_atomically(sidecar, lambda part: part.write_bytes(imported.sidecar()))
    stages = " · ".join(",".join(map(str, stage)) for stage in imported.settings["stages"])
    console.print(
        f"{imported.settings['name']}: blocks {stages}, {imported.settings['prompts']} prompts; "
        f"{len(imported.order)} tensors checked, {len(imported.rest)} of them unused and kept aside",
        highlight=False,
    )
    console.print(f"written to {escape(str(out))} and {escape(str(sidecar))}", highlight=False)
    return 0


def _describe(
    args: argparse.Namespace, imported: Imported, clip: FrozenCLIP, how: dict[str, Any]
) -> CheckpointInfo:
    setting: Setting = "transductive" if args.transductive else "inductive"
    config = compose_config(
        "train", [f"protocol={args.protocol}", *([f"split={args.split}"] if args.split else [])]
    )
    protocol: InferenceProtocol = build_protocol(plain(config.protocol))
    if args.transductive:
        protocol = replace(protocol, seen_penalty=0.0)
    classes = imported.classes
    if args.classes_file:
        classes = tuple(words[0] for words in read_class_file(args.classes_file))
    if args.split:
        if not classes:
            raise ConfigError(
                f"{args.file} does not name its classes, so --split {args.split} cannot be applied; give --classes-file"
            )
        split = make_split(classes, **(plain(config.split) | {"setting": setting}))
    else:
        split = ClassSplit("imported", classes, setting=setting)
    return CheckpointInfo(
        model=imported.settings,
        clip=how | {"fingerprint": clip.fingerprint},
        templates=resolve_templates(args.templates),
        split=split,
        protocol=protocol.to_dict(),
    )


def _place(source: str) -> str:
    """A path that still holds from another folder; names stay names."""
    return str(Path(source).resolve()) if source != TOY_CLIP and Path(source).exists() else source
