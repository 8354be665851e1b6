"""``lexiseg predict``: photographs and words in, labelled masks out."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from lexiseg.cli.flags import add_clip, add_photos, add_place, add_words, read_vocabulary, warn_unknown
from lexiseg.cli.given_masks import HELP as MASKS_HELP
from lexiseg.cli.given_masks import GivenMasks
from lexiseg.cli.photographs import Photograph, Step, conclude, describe, each_photograph, find_photos
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import ConfigError
from lexiseg.inference.segmenter import Segmenter

if TYPE_CHECKING:
    from lexiseg.inference.pipeline import Pipeline

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
  lexiseg predict photo.jpg --classes "dog, grass" --method tg-clip        all methods: lexiseg compare
  lexiseg predict photo.jpg --classes "dog, grass" --refine                borders along the colours
  lexiseg predict photos/ --classes "dog, grass" --masks sam/              one class per mask of sam/STEM.png
  lexiseg predict photos/ --classes "dog, grass" --masks photos/           ... that `lexiseg masks build` made there
  lexiseg predict photo.jpg --classes "road, car" --checkpoint runs/camvid/best.ckpt
  lexiseg predict scene.png --classes "red circle, bricks" --clip toy      offline, toy scenes only"""

_REFINE_STEPS = 10
"""NACLIP's."""

Builder = Callable[..., "Pipeline"]
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
    add_photos(parser)
    add_words(parser)
    add("--checkpoint", metavar="CKPT", help="a trained model: a run's best.ckpt, or an exported folder")
    add(
        "--method",
        metavar="NAME",
        help="training-free method, such as maskclip or sc-clip; not with --checkpoint",
    )
    add_clip(parser)
    _add_touches(parser)
    add_place(parser, out="predictions")
    add("--no-overlay", action="store_true", help="write no overlay pictures")
    add(
        "--scores", action="store_true", help="write STEM_scores.png as well: score of each pixel, white is 1"
    )
    parser.set_defaults(func=run)


def _add_touches(parser: argparse.ArgumentParser) -> None:
    """What happens to the scores on their way to labels."""
    add = parser.add_argument
    add(
        "--threshold",
        type=float,
        metavar="P",
        help="pixels scored below P (0 to 1) go to the background or no class",
    )
    add(
        "--refine",
        type=int,
        nargs="?",
        const=_REFINE_STEPS,
        metavar="STEPS",
        help=f"spread scores between pixels of like colour (PAMR; {_REFINE_STEPS} steps if no number is given)",
    )
    add(
        "--masks",
        metavar="DIR|superpixels",
        help=MASKS_HELP,
    )


def run(args: argparse.Namespace, build: Builder | None = None, console: Console | None = None) -> int:
    """Segment every photograph.

    Args:
        args: Parsed flags.
        build: Loads the model; :meth:`lexiseg.Pipeline.load` by default.
        console: Where to print.

    Returns:
        Exit status: 0, or 1 if a photograph was skipped.

    Raises:
        LexisegError: Nothing could be done at all: no image, bad words, no model, no place to write.
    """
    console = console or Console()
    photos = find_photos(args.photos)
    vocabulary = read_vocabulary(args)
    masks = None if args.masks is None else GivenMasks(args.masks)
    pipeline = (build or _default_builder())(
        checkpoint=args.checkpoint,
        clip=args.clip,
        tokenizer=args.tokenizer,
        method=args.method,
        templates=args.templates,
        device=args.device,
    )
    segmenter = make_segmenter(pipeline, vocabulary, args)
    warn_unknown(console, pipeline.clip, segmenter.vocabulary)

    def work(photograph: Photograph, step: Step) -> None:
        console.print(
            f"{escape(str(photograph.path))}: {escape(segment_one(photograph, segmenter, args, masks))}"
        )

    failures = each_photograph(photos, console, work, told="segment")
    return conclude(console, photos, failures, done=f"segmented; results in {args.out}")


def _default_builder() -> Builder:
    from lexiseg.inference.pipeline import Pipeline

    return Pipeline.load


def make_segmenter(pipeline: "Pipeline", vocabulary: Vocabulary, args: argparse.Namespace) -> Segmenter:
    """The segmenter that evaluation uses, for these words and with what the flags ask for."""
    if args.threshold is not None and not 0 <= args.threshold < 1:
        raise ConfigError(f"--threshold is {args.threshold}; expected a number from 0 to below 1")
    if args.refine is not None and args.refine < 0:
        raise ConfigError(f"--refine is {args.refine}; expected a number of steps, 0 (off) or more")
    return pipeline.segmenter(
        vocabulary, background=args.background, threshold=args.threshold, refine=args.refine
    )


def segment_one(
    photograph: Photograph, segmenter: Segmenter, args: argparse.Namespace, masks: GivenMasks | None
) -> str:
    """Segment and save one photograph; says what was found.

    Raises:
        DataError: Its masks are missing or do not fit, or it is too large.
    """
    pixels = photograph.pixels
    arrays, source = (None, None) if masks is None else masks.read(photograph)
    result = segmenter.segment(pixels, masks=arrays)
    if source is not None:
        result = replace(result, protocol={**result.protocol, "masks": source})
    result.save(args.out, photograph.stem, image=pixels, overlay=not args.no_overlay, score_png=args.scores)
    return describe(result)
