"""``lexiseg predict``: photographs and words in, labelled masks out."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from lexiseg.cli.flags import read_vocabulary, warn_unknown
from lexiseg.cli.given_masks import GivenMasks
from lexiseg.cli.photographs import Photograph, Step, conclude, describe, each_photograph, find_photos
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import ConfigError
from lexiseg.inference.segmenter import Segmenter

if TYPE_CHECKING:
    from lexiseg.inference.pipeline import Pipeline

Builder = Callable[..., "Pipeline"]
"""Takes ``checkpoint``, ``clip``, ``tokenizer``, ``method``, ``templates`` and ``device`` by name."""


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
