"""Flags of ``lexiseg data``."""

from pathlib import Path

from lexiseg.cli.parsers.shared import Commands, add_command
from lexiseg.data.datasets.catalogue import CATALOGUE

_EXAMPLES = """examples:
  lexiseg data prepare voc --root data/VOCdevkit/VOC2012 --source data/VOCdevkit/VOCaug/dataset
  lexiseg data prepare context --root data/VOCdevkit/VOC2010
  lexiseg data check --data camvid --root data/camvid --split camvid --out checked
  lexiseg data check --data toy --split toy
  lexiseg data check --data folder --images photos --masks labels --classes classes.txt
"""

_PREPARE = """Make what mmsegmentation's layout needs and the original downloads lack:
  voc         SBD's .mat masks -> SegmentationClassAug/*.png and aug.txt (the 10,582 training images)
  context     trainval_merged.json or trainval/*.mat -> SegmentationClassContext/*.png and the two lists
  coco_stuff  raw *.png with 182 ids -> *_labelTrainIds.png with 171
  coco_object the same raw *.png -> *_instanceTrainIds.png: background and 80 things
  cityscapes  *_gtFine_labelIds.png with 34 ids -> *_gtFine_labelTrainIds.png with 19
  ade20k, camvid  nothing to convert; reads every label map once to verify it
Finished files are skipped, so an interrupted run goes on where it stopped. Nothing is downloaded."""

_CHECK = """Print the number of images, the id mapping, a histogram of the labels and who is seen or unseen,
and draw a few label maps over their photographs. Reads every label map, so that a damaged one shows up now,
not in the middle of a training run."""


def add_parser(commands: Commands) -> None:
    """Add ``data`` with its commands ``prepare`` and ``check`` to the command line."""
    data = add_command(
        commands, "data", told="prepare a data set, or check one before training", examples=_EXAMPLES
    )
    own = data.add_subparsers(dest="data_command", required=True, metavar="COMMAND")
    _add_prepare(own)
    _add_check(own)


def _add_prepare(commands: Commands) -> None:
    parser = add_command(
        commands,
        "prepare",
        "lexiseg.cli.data:run_prepare",
        told="convert what the expected layout needs",
        description=_PREPARE,
    )
    parser.add_argument("name", choices=sorted(CATALOGUE), help="the data set")
    parser.add_argument("--root", type=Path, help="its folder (default: data/ and its usual place there)")
    parser.add_argument(
        "--source", type=Path, help="where the raw annotations are, if not in their usual place"
    )


def _add_check(commands: Commands) -> None:
    parser = add_command(
        commands,
        "check",
        "lexiseg.cli.data:run_check",
        told="counts, histogram, mapping, split and overlays",
        description=_CHECK,
        examples=_EXAMPLES,
    )
    parser.add_argument(
        "--data",
        dest="name",
        required=True,
        metavar="NAME_OR_FOLDER",
        help=f"{', '.join(CATALOGUE)}, toy, folder, or a folder",
    )
    parser.add_argument(
        "--root", type=Path, help="the data set's folder (default: data/ and its usual place)"
    )
    parser.add_argument("--partition", help="train, val ... (default: what training uses)")
    parser.add_argument(
        "--split", metavar="NAME", help="a split of conf/split, or a YAML file, to mark unseen classes"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("checked"), metavar="DIR", help="where overlays go (checked)"
    )
    parser.add_argument("--overlays", type=int, default=4, metavar="N", help="how many overlays to draw (4)")
    parser.add_argument("--images", type=Path, help="folder: the images")
    parser.add_argument("--masks", type=Path, help="folder: the label maps, same stems as the images")
    parser.add_argument("--classes", type=Path, help="folder: class file, one class a line, 'name; synonym'")
    parser.add_argument("--mask-suffix", default=".png", help="folder: label map of a.jpg is a + this (.png)")
