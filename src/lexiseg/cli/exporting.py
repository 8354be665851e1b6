"""``lexiseg export``: a trained model in another layout, as a folder that needs nothing else, or for another runtime."""

import argparse
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape

from lexiseg.checkpoints.program_folder import PROGRAM_FILES


def run(args: argparse.Namespace, console: Console | None = None) -> int:
    """The command: flags in, exit status out."""
    console = console or Console(soft_wrap=True, highlight=False)
    return _LAYOUTS[args.to](args, console)


# Each layout imports what it needs itself: a folder needs no exporter of programs.


def _published(args: argparse.Namespace, console: Console) -> int:
    from lexiseg.recipes.export_published import export_published_file

    written = export_published_file(args.checkpoint, args.out, clip=args.clip, sidecar=args.sidecar)
    source = (
        f"with {escape(str(written.sidecar))}"
        if written.sidecar
        else "without side-car: tensors that the release never reads are zero"
    )
    console.print(f"{written.tensors} tensors written to {escape(str(args.out))}, {source}")
    return 0


def _folder(args: argparse.Namespace, console: Console) -> int:
    from lexiseg.recipes.export_folder import FolderExport, export_folder, push

    export = FolderExport(
        args.checkpoint,
        args.out,
        clip=args.clip,
        license=args.license,
        clip_license=args.clip_license,
        bundle_clip=not args.without_clip,
        name=args.push,
        datasets=tuple(args.datasets) if args.datasets else None,
    )
    written = export_folder(export)
    console.print(
        f"written to {escape(str(args.out))}; scores in its card: {written.measured_by or 'none beside the checkpoint'}; "
        f"largest difference of its logits from the live model's: {written.difference:.1e}"
    )
    if args.push:
        console.print(f"pushed: {escape(push(written.model, args.push, args.out))}")
    return 0


def _program(args: argparse.Namespace, console: Console) -> int:
    from lexiseg.recipes.export_program import export_program_folder

    parity = export_program_folder(args.checkpoint, args.out, args.to, clip=args.clip)
    for case in parity.cases:
        console.print(
            f"{case.batch} images of {case.height}×{case.width}, {case.classes} classes: logits up to {case.logit:.3g} "
            f"differ by {case.difference:.1e} at most, labels of {100 * case.labels:.4f} % of pixels"
        )
    console.print(
        f"written to {escape(str(args.out / PROGRAM_FILES[args.to]))}; largest difference from the live model "
        f"{parity.difference:.1e}, labels differ at {100 * parity.labels:.4f} % of pixels"
    )
    return 0


_LAYOUTS: dict[str, Callable[[argparse.Namespace, Console], int]] = {
    "published": _published,
    "folder": _folder,
    "onnx": _program,
    "torch": _program,
}
"""What ``--to`` may name."""
