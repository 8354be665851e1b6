"""Data sets, class splits, label schemas, transforms and the data module."""

from lexiseg.data.ade20k import ADE20K
from lexiseg.data.camvid import CamVid
from lexiseg.data.cityscapes import Cityscapes
from lexiseg.data.coco_object import CocoObject
from lexiseg.data.coco_stuff import CocoStuff
from lexiseg.data.context import PascalContext
from lexiseg.data.datamodule import SegmentationDataModule
from lexiseg.data.folder import FolderDataset
from lexiseg.data.splits import make_split, seen_label_map
from lexiseg.data.voc import PascalVoc

__all__ = [
    "ADE20K",
    "CamVid",
    "Cityscapes",
    "CocoObject",
    "CocoStuff",
    "FolderDataset",
    "PascalContext",
    "PascalVoc",
    "SegmentationDataModule",
    "make_split",
    "seen_label_map",
]
