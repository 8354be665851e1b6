"""``lexiseg data``: bring a data set into the expected layout, and look at it before training."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import lexiseg
from lexiseg.data.check import class_rows, findings, write_overlays
from lexiseg.data.datasets.catalogue import CATALOGUE, open_dataset
from lexiseg.data.datasets.files import LabelledFiles
from lexiseg.data.datasets.folder import FolderDataset
from lexiseg.data.prepare.cityscapes import prepare_cityscapes
from lexiseg.data.prepare.coco_object import prepare_coco_object
from lexiseg.data.prepare.coco_stuff import prepare_coco_stuff
from lexiseg.data.prepare.context import prepare_context
from lexiseg.data.prepare.conversion import Report, count_note
from lexiseg.data.prepare.voc import prepare_voc
from lexiseg.data.scan import scan_labels
from lexiseg.data.splits import make_split
from lexiseg.data.toy.world import ToyWorld
from lexiseg.errors import ConfigError, DataError
from lexiseg.types import ClassSplit, SegmentationDataset

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

_CONVERTERS: dict[str, Callable[..., Report]] = {
    "voc": prepare_voc,
    "context": prepare_context,
    "coco_stuff": prepare_coco_stuff,
    "coco_object": prepare_coco_object,
    "cityscapes": prepare_cityscapes,
}
_TOY_SAMPLES = 1000


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``data`` with its commands ``prepare`` and ``check`` to the main parser."""
    data = subparsers.add_parser(
        "data",
        help="prepare a data set, or check one before training",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = data.add_subparsers(dest="data_command", required=True, metavar="COMMAND")
    _add_prepare(commands)
    _add_check(commands)


def _add_prepare(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "prepare",
        help="convert what the expected layout needs",
        description=_PREPARE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=sorted(CATALOGUE), help="the data set")
    parser.add_argument("--root", type=Path, help="its folder (default: data/ and its usual place there)")
    parser.add_argument(
        "--source", type=Path, help="where the raw annotations are, if not in their usual place"
    )
    parser.set_defaults(func=run_prepare)


def _add_check(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "check",
        help="counts, histogram, mapping, split and overlays",
        description=_CHECK,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data",
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
    parser.set_defaults(func=run_check)


def run_prepare(args: argparse.Namespace) -> int:
    """Convert; 0 if every label map is there, 1 if some sources were corrupt."""
    console = Console(soft_wrap=True)
    root = args.root or Path("data") / CATALOGUE[args.name].folder
    converter = _CONVERTERS.get(args.name)
    report = converter(root, args.source) if converter else _verify(args.name, root)
    for target, reason in report.failed:
        console.print(f"[red]skipped[/red] {escape(target.name)}: {escape(reason)}")
    for note in report.notes:
        console.print(escape(note))
    for path in report.lists:
        console.print(f"wrote {escape(str(path))}")
    console.print(f"{report.made} made, {report.skipped} already there, {len(report.failed)} failed")
    return 1 if report.failed else 0


def run_check(args: argparse.Namespace) -> int:
    """Print what the data set contains and draw overlays; 0 unless an error is raised."""
    console = Console(soft_wrap=True)
    dataset = _open(args)
    split = _load_split(args.split, dataset.classes) if args.split else None
    scan = scan_labels(dataset)
    console.print(f"[bold]{escape(args.data)}[/bold]: {len(dataset)} images, {len(dataset.classes)} classes")
    if split is not None:
        console.print(
            f"split {escape(split.name)}: {len(split.seen)} seen, {len(split.unseen)} unseen, "
            f"{split.setting}, unseen_pixels={split.unseen_pixels}"
        )
    console.print(_histogram(dataset, scan, split))
    if isinstance(dataset, LabelledFiles):
        console.print(_mapping(dataset))
    for note in findings(dataset.classes, scan, split):
        console.print(f"[yellow]note[/yellow] {escape(note)}")
    for path in write_overlays(dataset, args.out, args.overlays, split):
        console.print(f"wrote {escape(str(path))}")
    return 0


def _open(args: argparse.Namespace) -> SegmentationDataset:
    if args.data == "toy":
        return ToyWorld(partition=args.partition or "train", length=_TOY_SAMPLES)
    if args.data in CATALOGUE:
        return open_dataset(
            args.data, args.root or Path("data") / CATALOGUE[args.data].folder, args.partition
        )
    base, partition = args.root or Path(args.data), args.partition or "train"
    if args.data != "folder" and not base.is_dir():
        raise DataError(
            f"'{args.data}' is neither a data set ({', '.join(CATALOGUE)}, toy, folder) nor a folder; check "
            "the spelling"
        )
    return FolderDataset(
        images=args.images or base / "images" / partition,
        masks=args.masks or base / "masks" / partition,
        classes=args.classes or base / "classes.txt",
        mask_suffix=args.mask_suffix,
    )


def _load_split(name: str, classes: tuple[str, ...]) -> ClassSplit:
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = _conf_folder() / "split" / f"{name}.yaml"
    if not path.exists():
        known = sorted(item.stem for item in path.parent.glob("*.yaml"))
        raise ConfigError(f"no split '{name}'; there are {', '.join(known)}, or give a YAML file")
    settings: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    allowed = {"name", "unseen", "seen", "setting", "unseen_pixels"}
    if not isinstance(settings, dict) or not {"name", "unseen"} <= set(settings) <= allowed:
        raise ConfigError(f"{path}: expected the keys name, unseen and perhaps seen, setting, unseen_pixels")
    return make_split(classes, **settings)


def _conf_folder() -> Path:
    """The Hydra groups: inside an installed package, or at the top of a checkout."""
    package = Path(lexiseg.__file__).parent
    return package / "conf" if (package / "conf").is_dir() else package.parents[1] / "conf"


def _histogram(dataset: SegmentationDataset, scan: Any, split: ClassSplit | None) -> Table:
    table = Table(title="labels")
    for column in ("id", "class", "", "pixels", "% of labelled", "images"):
        table.add_column(column, justify="left" if column in ("class", "") else "right")
    for row in class_rows(dataset.classes, scan, split):
        style = "magenta" if row.role == "unseen" else ("red" if row.pixels == 0 else "")
        cells = (
            str(row.index),
            escape(row.name),
            row.role,
            f"{row.pixels:,}",
            f"{row.share:.2f}",
            f"{row.images:,}",
        )
        table.add_row(*cells, style=style)
    return table


def _mapping(dataset: LabelledFiles) -> Table:
    table = Table(title="id mapping")
    table.add_column("raw ids in the label maps", justify="right")
    table.add_column("mean")
    for raw, meaning in dataset.schema.describe(dataset.classes):
        table.add_row(raw, escape(meaning))
    return table


def _verify(name: str, root: Path) -> Report:
    """A data set that comes as it is needed; read every sample to know."""
    report = Report()
    for partition, published in CATALOGUE[name].counts.items():
        if name == "camvid" and partition == "test" and not (root / "test").is_dir():
            continue
        dataset = open_dataset(name, root, partition)
        report.skipped += len(dataset)
        report.notes.append(count_note(partition, len(dataset), published))
        for index, pair in enumerate(dataset.pairs):
            try:
                dataset[index]
            except DataError as error:
                report.failed.append((pair.mask, str(error)))
    return report
