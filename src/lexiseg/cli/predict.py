"""``lexiseg predict``: photographs and words in, labelled masks out."""

import argparse
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lexiseg.clip.loading import FrozenCLIP
from lexiseg.clip.templates import TEMPLATE_SETS
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.data.io import IMAGE_SUFFIXES, read_image
from lexiseg.errors import ConfigError, DataError
from lexiseg.inference.background import with_background
from lexiseg.inference.result import Segmentation
from lexiseg.inference.segmenter import Segmenter

if TYPE_CHECKING:
    from lexiseg.inference.loading import Loaded

_DESCRIPTION = """Find things named in words. Every pixel of every photograph goes to the best matching class.

Results lie at the photograph's own size:
  STEM_labels.png    class ids as pixel values: palette PNG, or 16-bit grey beyond 255 classes
  STEM_overlay.png   the photograph coloured by class, with a legend; unseen classes hatched
  STEM.json          areas, scores, and every setting

Without --checkpoint a training-free reading of CLIP answers. An unreadable photograph is reported and
skipped; the run goes on and ends with status 1."""

_EXAMPLES = """examples:
  lexiseg predict photo.jpg --classes "dog, grass, sky"
  lexiseg predict photos/ "more/*.png" --classes-file classes.txt --out results
  lexiseg predict photo.jpg --classes "cat; kitten, sofa, wall"            synonyms behind a semicolon
  lexiseg predict photo.jpg --classes "dog" --background "grass, sky, wall, floor"
  lexiseg predict photo.jpg --classes "dog, grass" --threshold 0.6         unsure pixels get no class
  lexiseg predict photo.jpg --classes "road, car" --checkpoint runs/camvid/best.ckpt
  lexiseg predict scene.png --classes "red circle, bricks" --clip toy      offline, toy scenes only"""

_SHOWN = 8


Builder = Callable[..., "Loaded"]
"""Takes ``checkpoint``, ``clip``, ``tokenizer``, ``method``, ``templates`` and ``device`` by name."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``predict`` to the command line."""
    parser = subparsers.add_parser(
        "predict",
        help="find things named in words in photographs",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help='files, folders (their images), or globs such as "photos/**/*.jpg"',
    )
    words = parser.add_mutually_exclusive_group(required=True)
    words.add_argument("--classes", metavar="WORDS", help='class names separated by commas, synonyms by ";"')
    words.add_argument("--classes-file", metavar="FILE", help='one class a line, synonyms separated by ";"')
    add("--background", metavar="WORDS", help="what else may be there: a background class takes such pixels")
    add(
        "--threshold",
        type=float,
        metavar="P",
        help="pixels scored below P (0 to 1) go to the background or no class",
    )
    add("--checkpoint", metavar="CKPT", help="a trained model, best.ckpt or last.ckpt of a run")
    add(
        "--clip",
        metavar="NAME|PATH",
        help="hub name, folder or file of CLIP weights, or toy (default: hub ViT-B/16)",
    )
    add(
        "--tokenizer",
        metavar="PATH",
        help="for CLIP files that bring none: bpe_simple_vocab_16e6.txt.gz or a folder",
    )
    add(
        "--method",
        metavar="NAME",
        help="training-free method, such as maskclip or sc-clip; not with --checkpoint",
    )
    add("--templates", metavar="NAME", help=f"prompt templates: {', '.join(TEMPLATE_SETS)}")
    add(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("predictions"),
        help="result folder (default: predictions)",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    add("--no-overlay", action="store_true", help="write no overlay pictures")
    add(
        "--scores", action="store_true", help="write STEM_scores.png as well: score of each pixel, white is 1"
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace, build: Builder | None = None, console: Console | None = None) -> int:
    """Segment every photograph.

    Args:
        args: Parsed flags.
        build: Loads the model; :func:`lexiseg.inference.loading.load_segmentable` by default.
        console: Where to print.

    Returns:
        Exit status: 0, or 1 if a photograph was skipped.

    Raises:
        LexisegError: Nothing could be done at all: no image, bad words, no model, no place to write.
    """
    console = console or Console()
    photos = find_photos(args.photos)
    vocabulary = read_vocabulary(args)
    loaded = (build or _default_builder())(
        checkpoint=args.checkpoint,
        clip=args.clip,
        tokenizer=args.tokenizer,
        method=args.method,
        templates=args.templates,
        device=args.device,
    )
    warn_unknown(console, loaded.clip, vocabulary)
    segmenter = make_segmenter(loaded, replace(vocabulary, templates=loaded.templates), args)
    failures = segment_all(photos, segmenter, args, console)
    done = len(photos) - len(failures)
    console.print(f"{done} of {len(photos)} photographs segmented; results in {escape(str(args.out))}")
    if failures:
        names = ", ".join(escape(str(path)) for path in failures)
        console.print(f"[red]skipped {len(failures)}:[/red] {names}")
    return 1 if failures else 0


def _default_builder() -> Builder:
    from lexiseg.inference.loading import load_segmentable

    return load_segmentable


def find_photos(patterns: Sequence[str]) -> list[Path]:
    """Files as given, images of folders, matches of globs; each once, in the order given.

    A file that does not exist stays in the list, to be reported beside the others.

    Raises:
        DataError: No image at all.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        for path in _expand(pattern):
            found.setdefault(path)
    if not found:
        raise DataError(
            f"no image found in {', '.join(patterns)}; expected files ending in {', '.join(IMAGE_SUFFIXES)}"
        )
    return list(found)


def _expand(pattern: str) -> Iterator[Path]:
    path = Path(pattern).expanduser()
    if path.is_dir():
        yield from sorted(p for p in path.iterdir() if _is_image(p))
    elif path.exists() or not any(sign in pattern for sign in "*?["):
        yield path
    else:
        root = Path(path.anchor)
        yield from sorted(p for p in root.glob(str(path.relative_to(root))) if _is_image(p))


def _is_image(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def read_vocabulary(args: argparse.Namespace) -> Vocabulary:
    """The words of the flags, with the background's if there are any.

    Raises:
        ConfigError: No, empty or repeated names, or an unreadable file.
    """
    if args.classes_file is not None:
        vocabulary = Vocabulary.from_file(args.classes_file)
    else:
        vocabulary = Vocabulary.from_text(args.classes)
    if args.background is None:
        return vocabulary
    return with_background(vocabulary, args.background.split(","))


def warn_unknown(console: Console, clip: FrozenCLIP, vocabulary: Vocabulary) -> None:
    """Say which words a small CLIP has never read: for them its answer means nothing."""
    unknown = clip.unknown_words(tuple(word for group in vocabulary.words for word in group))
    if unknown:
        known = ", ".join(sorted(clip.known_words or ())[:40])
        console.print(
            f"[yellow]warning:[/yellow] the CLIP '{escape(clip.source)}' has never read "
            f"{escape(', '.join(unknown))}; its answer for that means nothing. It knows: {escape(known)}"
        )


def make_segmenter(loaded: "Loaded", vocabulary: Vocabulary, args: argparse.Namespace) -> Segmenter:
    """The segmenter that evaluation uses, for these words and with the background that the flags ask for."""
    protocol = loaded.protocol
    if args.background is not None:
        protocol = replace(protocol, background="class")
    if args.threshold is not None:
        if not 0 <= args.threshold < 1:
            raise ConfigError(f"--threshold is {args.threshold}; expected a number from 0 to below 1")
        protocol = replace(protocol, probability_threshold=args.threshold)
    return replace(loaded, protocol=protocol).segmenter(vocabulary)


def segment_all(
    photos: Sequence[Path], segmenter: Segmenter, args: argparse.Namespace, console: Console
) -> list[Path]:
    """Segment and save each photograph; returns those that could not be read."""
    failures: list[Path] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar, warnings.catch_warnings():
        # Large photographs are welcome here; Pillow warns of them as a possible attack.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        task = bar.add_task("segment", total=len(photos))
        for path, stem in zip(photos, result_stems(photos), strict=True):
            try:
                image = read_image(path)
                result = segmenter.segment(image)
            except DataError as error:
                bar.console.print(f"[red]skipped:[/red] {escape(str(error))}")
                failures.append(path)
            else:
                result.save(args.out, stem, image=image, overlay=not args.no_overlay, score_png=args.scores)
                bar.console.print(f"{escape(str(path))}: {escape(describe(result))}")
            bar.advance(task)
    return failures


def result_stems(photos: Sequence[Path]) -> list[str]:
    """A file stem per photograph: its own; where two are the same, folder and ending join, then a number."""
    own = [path.stem for path in photos]
    stems = [
        stem if own.count(stem) == 1 else f"{path.absolute().parent.name}_{path.name.replace('.', '_')}"
        for path, stem in zip(photos, own, strict=True)
    ]
    taken: set[str] = set()
    for index, stem in enumerate(stems):
        number, name = 1, stem
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name)
        stems[index] = name
    return stems


def describe(result: Segmentation) -> str:
    """Classes found, largest first, with their share of the picture."""
    areas = [f"{name} {100 * area:.1f} %" for name, area in result.areas.items()]
    more = [f"and {len(areas) - _SHOWN} more"] if len(areas) > _SHOWN else []
    return ", ".join(areas[:_SHOWN] + more)
