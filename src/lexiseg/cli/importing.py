"""``lexiseg import``: a released checkpoint of ZegCLIP, SPT-SEG or Cascade-CLIP as one of ours."""

import argparse

from rich.console import Console
from rich.markup import escape

from lexiseg.cli.composing import compose_config, plain
from lexiseg.clip.templates import resolve_templates
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.recipes.import_published import PublishedImport, import_published_file


def run(args: argparse.Namespace, console: Console | None = None) -> int:
    """The command: flags in, exit status out."""
    console = console or Console()
    chosen = [f"protocol={args.protocol}", *([f"split={args.split}"] if args.split else [])]
    config = compose_config("train", chosen)
    release = PublishedImport(
        file=args.file,
        clip={
            "source": args.clip,
            "tokenizer": args.tokenizer,
            "activation": "auto",
            "vision_heads": args.vision_heads,
            "text_heads": args.text_heads,
        },
        templates=resolve_templates(args.templates),
        protocol=InferenceProtocol.from_dict(plain(config.protocol)),
        split=plain(config.split) if args.split else None,
        classes_file=args.classes_file,
        transductive=args.transductive,
        decoder_heads=args.decoder_heads,
        out=args.out,
    )
    written = import_published_file(release)
    content = written.content
    stages = " · ".join(",".join(map(str, stage)) for stage in content.settings["stages"])
    console.print(
        f"{content.settings['name']}: blocks {stages}, {content.settings['prompts']} prompts; "
        f"{len(content.order)} tensors checked, {len(content.rest)} of them unused and kept aside",
        highlight=False,
    )
    console.print(
        f"written to {escape(str(written.checkpoint))} and {escape(str(written.sidecar))}", highlight=False
    )
    return 0
