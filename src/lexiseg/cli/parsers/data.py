"""Flags of ``lexiseg data``."""

from pathlib import Path

from lexiseg.cli.parsers.shared import Command, Flag
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
  context, context459  trainval_merged.json or trainval/*.mat -> *.png of 59 classes and two lists, *.tif of 459
  coco_stuff, coco_object  raw *.png with 182 ids -> *_labelTrainIds.png with 171, *_instanceTrainIds.png with 81
  cityscapes  *_gtFine_labelIds.png with 34 ids -> *_gtFine_labelTrainIds.png with 19
  ade20k_full images/ADE and classes.txt with the objects' numbers -> images_ and annotations_detectron2
  ade20k, camvid, coco_panoptic  nothing to convert; reads every label map once to verify it
Finished files are skipped, so an interrupted run goes on where it stopped. Nothing is downloaded."""

_CHECK = """Print the number of images, the id mapping, a histogram of the labels and who is seen or unseen,
and draw a few label maps over their photographs. Reads every label map, so that a damaged one shows up now,
not in the middle of a training run."""

_PREPARED = (
    Flag("name", None, "the data set", choices=sorted(CATALOGUE)),
    Flag("--root", "DIR", "its folder (default: data/ and its usual place there)", kind=Path),
    Flag("--source", "DIR", "where the raw annotations are, if not in their usual place", kind=Path),
)

_CHECKED = (
    Flag(
        "--data",
        "NAME_OR_FOLDER",
        f"{', '.join(CATALOGUE)}, toy, folder, or a folder",
        required=True,
        more={"dest": "name"},
    ),
    Flag("--root", "DIR", "the data set's folder (default: data/ and its usual place)", kind=Path),
    Flag("--partition", "NAME", "train, val ... (default: what training uses)"),
    Flag("--split", "NAME", "a split of conf/split, or a YAML file, to mark unseen classes"),
    Flag("--out", "DIR", "where overlays go", default=Path("checked"), kind=Path),
    Flag("--overlays", "N", "how many overlays to draw", default=4, kind=int),
    Flag("--images", "DIR", "folder: the images", kind=Path),
    Flag("--masks", "DIR", "folder: the label maps, same stems as the images", kind=Path),
    Flag("--classes", "FILE", "folder: class file, one class a line, 'name; synonym'", kind=Path),
    Flag("--mask-suffix", "TEXT", "folder: label map of a.jpg is a + this", default=".png"),
)

COMMAND = Command(
    "data",
    "prepare a data set, or check one before training",
    examples=_EXAMPLES,
    commands=(
        Command(
            "prepare",
            "convert what the expected layout needs",
            "lexiseg.cli.data:run_prepare",
            _PREPARE,
            takes=_PREPARED,
        ),
        Command(
            "check",
            "counts, histogram, mapping, split and overlays",
            "lexiseg.cli.data:run_check",
            _CHECK,
            _EXAMPLES,
            _CHECKED,
        ),
    ),
)
