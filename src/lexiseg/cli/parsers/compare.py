"""Flags of ``lexiseg compare``."""

from pathlib import Path

from lexiseg.cli.parsers.shared import (
    CLIP,
    METHOD,
    PHOTOS,
    SECOND_MODELS,
    SENTENCES,
    WORDS,
    Command,
    Flag,
    place,
)
from lexiseg.dense.names import METHODS

_DESCRIPTION = f"""See what each training-free method makes of a photograph, side by side.

Writes one picture per photograph, STEM_compare.png: the photograph, an overlay per method, and one legend of
the classes found; prints a table of seconds and largest classes. The CLIP is loaded once for all methods, and
every method speaks the prompt templates that it was published with, unless --templates says otherwise. The
settings below go to every method that has use for them. With --methods all, those that want a second model, a SAM
or masks take part only where these are named.

Methods: {", ".join(METHODS)}.

A method that cannot work with this CLIP or photograph is left out with the reason. An unreadable photograph is
reported and skipped; the run goes on and ends with status 1."""

_EXAMPLES = """examples:
  lexiseg compare photo.jpg --classes "dog, grass, sky"
  lexiseg compare photos/ --classes-file classes.txt --methods clip,sclip,sc-clip,tg-clip
  lexiseg compare photo.jpg --classes "dog" --background "grass, sky, wall, floor"
  lexiseg compare photo.jpg --classes "dog, grass" --proxy facebook/dino-vitb8       proxyclip as well
  lexiseg compare photo.jpg --classes "dog" --methods sclip,tg-clip --set tg-clip.strength=0.5
  lexiseg compare photo.jpg --classes "road, car" --checkpoint runs/camvid/best.ckpt a trained model beside them
  lexiseg compare photo.jpg --classes-file words.txt --truth labels/ --methods none --checkpoint runs/coco/best.ckpt --stages
  lexiseg compare scene.png --classes "red circle, bricks" --clip toy                offline, toy scenes only"""

_MASKS = "masks of the methods that read inside masks (as of predict); without it these take no part"
_TRUTH = "label map of the photograph, or a folder of a STEM.png for each, ids in the order of the words: drawn first"

COMMAND = Command(
    "compare",
    "draw what every training-free method finds, side by side",
    "lexiseg.cli.compare:run",
    _DESCRIPTION,
    _EXAMPLES,
    (
        PHOTOS,
        *WORDS,
        Flag(
            "--methods",
            "NAMES",
            "all, none, or names with commas between, drawn in that order",
            default="all",
        ),
        *SECOND_MODELS,
        Flag("--masks", "DIR|PROVIDER", _MASKS),
        Flag("--checkpoint", "CKPT", "a trained model to stand beside the methods; its CLIP serves them all"),
        Flag("--stages", None, "draw each stage of the checkpoint's cascade alone, too"),
        Flag("--truth", "PNG|DIR", _TRUTH, kind=Path),
        CLIP,
        *SENTENCES,
        *place("comparisons"),
        METHOD,
    ),
)
