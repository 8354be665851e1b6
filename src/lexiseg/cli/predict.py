"""``lexiseg predict``: photographs and words in, labelled masks out."""

import argparse

from rich.console import Console
from rich.markup import escape

from lexiseg.cli.flags import read_pipeline, read_vocabulary, warn_unknown
from lexiseg.cli.photographs import conclude, each_photograph
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.inference.given_masks import GivenMasks
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.segmenter import Segmenter
from lexiseg.recipes.photographs import Photograph, Step, find_photos
from lexiseg.recipes.predict import check_flags
from lexiseg.recipes.predict_raster import at_scale, by_tiles
from lexiseg.recipes.predict_segments import predictor
from lexiseg.recipes.result_formats import ResultFormats
from lexiseg.storage import require_folder

_CHECKED = ("threshold", "refine", "output", "scores", "method")


def run(args: argparse.Namespace, console: Console | None = None) -> int:
    """Segment every photograph.

    Returns:
        Exit status: 0, or 1 if a photograph was skipped.

    Raises:
        LexisegError: Nothing could be done at all: no image, bad words, no model, no place to write.
    """
    console = console or Console()
    photos = find_photos(args.photos)
    vocabulary = read_vocabulary(args)
    masks = None if args.masks is None else GivenMasks(args.masks, args.device)
    check_flags(**{name: getattr(args, name) for name in _CHECKED}, masks=masks is not None)
    formats = ResultFormats.read(args.format, output=args.output, pieces=args.pieces, stuff=args.stuff)
    require_folder(args.out, "--out")
    pipeline = at_scale(read_pipeline(args), args.scale)
    segmenter = make_segmenter(pipeline, vocabulary, args)
    warn_unknown(console, pipeline.clip, args, vocabulary)
    kept = {name: getattr(args, name) for name in ("out", "output", "stuff", "scores")}
    pictures = predictor(segmenter, masks, overlay=not args.no_overlay, formats=formats, **kept)
    prediction = by_tiles(pictures, photos, args.scale)

    def work(photograph: Photograph, _: Step) -> None:
        console.print(f"{escape(str(photograph.path))}: {escape(prediction.keep(photograph).describe())}")

    with prediction.keeping(len(photos)):
        failures = each_photograph(photos, console, work, told="segment")
    return conclude(console, photos, failures, done=f"segmented; results in {args.out}")


def make_segmenter(pipeline: Pipeline, vocabulary: Vocabulary, args: argparse.Namespace) -> Segmenter:
    """The segmenter that evaluation uses, for these words and with what the flags ask for."""
    return pipeline.segmenter(
        vocabulary, background=args.background, threshold=args.threshold, refine=args.refine
    )
