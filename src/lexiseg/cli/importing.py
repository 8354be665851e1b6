"""``lexiseg import``: a released checkpoint as one of ours."""

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
    given = {"protocol": args.protocol, "split": args.split}
    config = compose_config("train", [f"{key}={value}" for key, value in given.items() if value])
    release = PublishedImport(
        file=args.file,
        clip={
            "source": args.clip,
            "tokenizer": args.tokenizer,
            "activation": "auto",
            "vision_heads": args.vision_heads,
            "text_heads": args.text_heads,
        },
        templates=resolve_templates(args.templates) if args.templates else None,
        protocol=InferenceProtocol.from_dict(plain(config.protocol)) if args.protocol else None,
        split=plain(config.split) if args.split else None,
        classes_file=args.classes_file,
        transductive=args.transductive,
        decoder_heads=args.decoder_heads,
        out=args.out,
    )
    written = import_published_file(release)
    content = written.content
    console.print(
        f"{content.told}; {len(content.order)} tensors checked, {len(content.rest)} of "
        "them unused and kept aside",
        highlight=False,
    )
    files = [str(path) for path in (written.checkpoint, written.sidecar, written.clip) if path]
    console.print(f"written to {escape(', '.join(files))}", highlight=False)
    return 0
