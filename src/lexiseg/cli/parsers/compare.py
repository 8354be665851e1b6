"""Flags of ``lexiseg compare``."""

from lexiseg.cli.parsers.shared import Commands, add_clip, add_command, add_photos, add_place, add_words
from lexiseg.dense.names import METHODS

_DESCRIPTION = f"""See what each training-free method makes of a photograph, side by side.

Writes one picture per photograph, STEM_compare.png: the photograph, an overlay per method, and one legend of
the classes found; prints a table of seconds and largest classes. The CLIP is loaded once for all methods, and
every method speaks the prompt templates that it was published with, unless --templates says otherwise.

Methods: {", ".join(METHODS)}.

A method that cannot work with this CLIP or photograph is left out with the reason. An unreadable photograph is
reported and skipped; the run goes on and ends with status 1."""

_EXAMPLES = """examples:
  lexiseg compare photo.jpg --classes "dog, grass, sky"
  lexiseg compare photos/ --classes-file classes.txt --methods clip,sclip,sc-clip,tg-clip
  lexiseg compare photo.jpg --classes "dog" --background "grass, sky, wall, floor"
  lexiseg compare photo.jpg --classes "dog, grass" --proxy facebook/dino-vitb8       proxyclip as well
  lexiseg compare photo.jpg --classes "road, car" --checkpoint runs/camvid/best.ckpt a trained model beside them
  lexiseg compare scene.png --classes "red circle, bricks" --clip toy                offline, toy scenes only"""


def add_parser(commands: Commands) -> None:
    """Add ``compare`` to the command line."""
    parser = add_command(
        commands,
        "compare",
        "lexiseg.cli.compare:run",
        told="draw what every training-free method finds, side by side",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_photos(parser)
    add_words(parser)
    parser.add_argument(
        "--methods",
        default="all",
        metavar="NAMES",
        help="all, or names separated by commas, drawn in that order (default: all)",
    )
    parser.add_argument(
        "--proxy",
        metavar="NAME|FOLDER",
        help="second vision model of proxyclip, which with --methods all takes part only if this is given "
        "(named itself, it takes facebook/dino-vitb8)",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="CKPT",
        help="a trained model to stand beside the methods; its CLIP serves them all",
    )
    add_clip(parser)
    add_place(parser, out="comparisons")
