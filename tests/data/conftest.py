"""Small data sets on disk, written in the layouts that the readers expect."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


class Trees:
    """Writes images, label maps and name lists under one folder; sizes are height, width."""

    def __init__(self, root: Path):
        self.root = root

    def image(self, name, size=(11, 17), value=None):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(len(name)).integers(0, 256, (*size, 3), dtype=np.uint8)
        if value is not None:
            pixels[:] = value
        Image.fromarray(pixels).save(path)
        return path

    def label(self, name, ids, size=(11, 17)):
        """Columns take the ids in turn, so every id occurs."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        row = np.resize(np.array(ids, dtype=np.uint8), size[1])
        Image.fromarray(np.tile(row, (size[0], 1))).save(path)
        return path

    def wide_label(self, name, ids, size=(11, 17)):
        """As `label`, in 16 bits."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        row = np.resize(np.array(ids, dtype=np.uint16), size[1])
        Image.fromarray(np.tile(row, (size[0], 1))).save(path)
        return path

    def text(self, name, *lines):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    def camvid(self, stems=("a", "b", "c"), ids=range(12), partition="train"):
        for stem in stems:
            self.image(f"{partition}/{stem}.jpg")
            self.label(f"{partition}annot/{stem}.png", list(ids))
        return self.root

    def voc(self):
        for name in ("v1", "v2", "s1"):
            self.image(f"JPEGImages/{name}.jpg", (13, 29))
        for name in ("v1", "v2"):
            self.label(f"SegmentationClass/{name}.png", range(21), (13, 29))
        self.label("SegmentationClassAug/s1.png", [0, 1, 20], (13, 29))
        self.label("SegmentationClassAug/v1.png", [0], (13, 29))
        self.text("ImageSets/Segmentation/train.txt", "v1")
        self.text("ImageSets/Segmentation/val.txt", "v2")
        self.text("ImageSets/Segmentation/aug.txt", "s1")
        return self.root

    def context(self):
        self.image("JPEGImages/x.jpg", (13, 61))
        self.label("SegmentationClassContext/x.png", range(60), (13, 61))
        self.text("ImageSets/SegmentationContext/train.txt", "x")
        self.text("ImageSets/SegmentationContext/val.txt", "x")
        return self.root

    def coco_stuff(self):
        for folder in ("train2017", "val2017"):
            self.image(f"images/{folder}/000001.jpg", (13, 173))
            self.label(f"annotations/{folder}/000001_labelTrainIds.png", [*range(171), 255], (13, 173))
            self.label(f"annotations/{folder}/000001.png", [0, 181, 255], (13, 173))
        return self.root

    def coco_object(self):
        for folder in ("train2017", "val2017"):
            self.image(f"images/{folder}/000001.jpg", (13, 89))
            self.label(f"annotations/{folder}/000001_instanceTrainIds.png", [*range(81), 255], (13, 89))
            self.label(f"annotations/{folder}/000001_labelTrainIds.png", [170, 255], (13, 89))
            self.label(f"annotations/{folder}/000001.png", [0, 181, 255], (13, 89))
        return self.root

    def ade20k(self):
        for folder in ("training", "validation"):
            self.image(f"images/{folder}/ADE_{folder}_1.jpg", (13, 157))
            self.label(f"annotations/{folder}/ADE_{folder}_1.png", range(151), (13, 157))
        return self.root

    def ade20k_full(self):
        for folder in ("training", "validation"):
            self.image(f"images_detectron2/{folder}/ADE_{folder}_1.jpg", (7, 853))
            self.wide_label(
                f"annotations_detectron2/{folder}/ADE_{folder}_1.tif", [*range(847), 65535], (7, 853)
            )
        self.text("classes.txt", *(f"thing {i}, item {i}" for i in range(847)))
        return self.root

    def context459(self):
        self.image("JPEGImages/x.jpg", (7, 461))
        for partition in ("train", "val"):
            self.wide_label(f"annotations_detectron2/pc459_{partition}/x.tif", [*range(459), 65535], (7, 461))
        self.text("labels.txt", *(f"{i + 1}: word {i}" for i in range(459)))
        return self.root

    PANOPTIC = (  # id of the segment, its category, whether it is a crowd
        (3, 1, 0),
        (70_000, 200, 0),
        (513, 18, 1),
        (4, 1, 0),
    )

    def coco_panoptic(self):
        """One photograph: columns in turn of no segment, two persons, grass and a crowd of dogs."""
        ids = np.resize([0, *(segment[0] for segment in self.PANOPTIC)], 19)
        ids = np.tile(ids, (13, 1))
        pixels = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
        told = [{"id": i, "category_id": c, "iscrowd": w, "area": 1} for i, c, w in self.PANOPTIC]
        categories = [
            {"id": 200, "name": "grass-merged", "isthing": 0},
            {"id": 1, "name": "person", "isthing": 1},
            {"id": 18, "name": "dog", "isthing": 1},
        ]
        for folder in ("train2017", "val2017"):
            self.image(f"{folder}/000007.jpg", (13, 19))
            path = self.root / f"panoptic_{folder}/000007.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
            self.json(
                f"annotations/panoptic_{folder}.json",
                images=[{"id": 7, "file_name": "000007.jpg"}],
                annotations=[{"image_id": 7, "file_name": "000007.png", "segments_info": told}],
                categories=categories,
            )
        return self.root

    def json(self, name, **content):
        return self.text(name, json.dumps(content))

    def cityscapes(self, ids=(*range(19), 255), kind="labelTrainIds"):
        for partition, city in (("train", "bonn"), ("train", "aachen"), ("val", "ulm")):
            stem = f"{city}_000000_000019"
            self.image(f"leftImg8bit/{partition}/{city}/{stem}_leftImg8bit.png", (13, 41))
            self.label(f"gtFine/{partition}/{city}/{stem}_gtFine_{kind}.png", list(ids), (13, 41))
        return self.root

    def folder(self, classes=("cat; kitten", "dog")):
        for partition in ("train", "val"):
            self.image(f"images/{partition}/a.png")
            self.label(f"masks/{partition}/a.png", [0, 1, 255])
        self.text("classes.txt", *classes)
        return self.root

    def of(self, name):
        """A data set of the catalogue as its reader expects it, its first two partitions at least."""
        if not hasattr(Trees, name):
            pytest.fail(
                f"data set '{name}' has no tree: add a method {name}() to Trees in tests/data/conftest.py"
            )
        if name == "camvid":
            self.camvid(partition="val")
        return getattr(self, name)()


@pytest.fixture
def trees(tmp_path):
    return Trees(tmp_path)
