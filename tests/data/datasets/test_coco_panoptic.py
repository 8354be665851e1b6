import json

import numpy as np
import pytest
import torch
from PIL import Image

from lexiseg.data.datamodule import SegmentationDataModule, TrainingStream
from lexiseg.data.datasets.coco_panoptic import CocoPanoptic
from lexiseg.data.splits import make_split, seen_label_map
from lexiseg.data.transforms import train_recipe
from lexiseg.errors import DataError


def test_classes_by_ascending_category_and_labels_of_every_segment(trees):
    dataset = CocoPanoptic(root=trees.coco_panoptic(), partition="val")
    assert dataset.classes == ("person", "dog", "grass-merged")
    sample = dataset[0]
    assert sample.label[0, :6].tolist() == [255, 0, 2, 1, 0, 255]
    assert sample.label.dtype == np.uint8
    assert (dataset.read_label(0) == sample.label).all()


def test_segments_one_by_one(trees):
    segments = CocoPanoptic(root=trees.coco_panoptic())[0].segments
    assert [(s.class_id, s.is_thing, s.is_crowd) for s in segments] == [
        (0, True, False),
        (2, False, False),
        (1, True, True),
        (0, True, False),
    ]
    masks = [segment.mask for segment in segments]
    assert [int(mask[0].argmax()) for mask in masks] == [1, 2, 3, 4]
    assert sum(masks).max() == 1
    assert len(segments) == 4


def test_segments_may_be_left_out(trees):
    assert CocoPanoptic(root=trees.coco_panoptic(), segments=False)[0].segments is None


def batch_of(trees, *, crop, batch_size=1, cat_max_ratio=1.0, unseen=(), flip=0.0):
    dataset = CocoPanoptic(root=trees.coco_panoptic())
    setting = "inductive" if unseen else "supervised"
    data = SegmentationDataModule(
        train=dataset,
        val=dataset,
        split=make_split(dataset.classes, name="s", unseen=list(unseen), setting=setting),
        train_transform=train_recipe(
            base=(19, 13), ratio=(1, 1), crop=crop, cat_max_ratio=cat_max_ratio, flip=flip, distort=False
        ),
        batch_size=batch_size,
        num_workers=0,
    )
    return next(iter(data.train_dataloader())), dataset[0]


def test_a_batch_has_targets_without_crowds(trees):
    batch, sample = batch_of(trees, crop=(17, 23))
    (targets,) = batch.segments
    assert targets.classes.tolist() == [0, 2, 0]
    assert targets.things.tolist() == [True, False, True]
    masks = targets.masks()
    assert masks.shape == (3, 17, 23)
    expected = [segment.mask for segment in sample.segments if not segment.is_crowd]
    assert np.array_equal(masks[:, :13, :19].numpy(), expected)
    assert not masks[:, 13:].any()
    assert batch.labels[0, 0, :6].tolist() == [255, 0, 2, 1, 0, 255], "the crowd's pixels keep their class"
    assert (batch.labels[0, 13:] == 255).all()


def test_segments_follow_scale_crop_and_mirror_with_their_labels(trees):
    batch, _ = batch_of(trees, crop=(5, 3), batch_size=7, flip=0.5)
    assert len(batch.segments) == 7
    for targets, labels in zip(batch.segments, batch.labels, strict=True):
        masks = targets.masks()
        assert masks.flatten(1).any(1).all(), "none without a pixel"
        for mask, index in zip(masks, targets.classes, strict=True):
            assert (labels[mask] == index).all()
        assert (masks.sum(0) == ((labels == 0) | (labels == 2)).long()).all()
    assert len({len(targets.classes) for targets in batch.segments}) > 1


def test_unseen_segments_are_hidden(trees):
    batch, _ = batch_of(trees, crop=(13, 19), unseen=["person"])
    assert batch.segments[0].classes.tolist() == [2]
    assert set(batch.labels.unique().tolist()) == {1, 2, 255}


def test_unseen_segments_do_not_steer_a_crop(trees):
    dataset = CocoPanoptic(root=trees.coco_panoptic())
    seen = []

    def transform(image, ids, rng):
        seen.append((ids.dtype, np.unique(ids).tolist()))
        return image, ids

    table = seen_label_map(make_split(dataset.classes, name="s", unseen=["person"]))
    stream = TrainingStream(dataset=dataset, table=table, transform=transform, seed=0)
    stream.draw(0, np.random.default_rng(0))
    assert seen == [(np.uint16, [1, 2, 65535])]


def test_a_batch_moves_with_its_segments(trees):
    batch, _ = batch_of(trees, crop=(13, 19))
    moved = batch.to("meta")
    assert moved.segments[0].ids.device == moved.segments[0].classes.device == torch.device("meta")


def test_other_data_sets_have_no_segments(trees):
    from lexiseg.data.datasets.camvid import CamVid

    assert CamVid(root=trees.camvid())[0].segments is None


def test_what_is_wrong_with_files_is_told(trees):
    root = trees.coco_panoptic()
    Image.fromarray(np.full((13, 19, 3), (5, 0, 0), np.uint8)).save(root / "panoptic_val2017/000007.png")
    with pytest.raises(
        DataError, match=r"000007\.png shows the segments \[5\], which its JSON does not list"
    ):
        CocoPanoptic(root=root, partition="val")[0]
    Image.fromarray(np.zeros((13, 17, 3), np.uint8)).save(root / "panoptic_val2017/000007.png")
    with pytest.raises(DataError, match="both must have the same size"):
        CocoPanoptic(root=root, partition="val")[0]
    (root / "val2017/000007.jpg").unlink()
    with pytest.raises(DataError, match=r"1 files missing: val2017/000007\.jpg"):
        CocoPanoptic(root=root, partition="val")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("categories"), "KeyError: 'categories'"),
        (lambda content: content.update(images={}), "images is no list"),
        (lambda content: content["categories"][0].pop("isthing"), "KeyError: 'isthing'"),
        (lambda content: content["annotations"][0]["segments_info"][0].update(category_id=9), "KeyError: 9"),
        (lambda content: content.update(annotations=[]), "no image in panoptic_val2017"),
    ],
)
def test_another_json_is_refused(trees, change, message):
    path = trees.coco_panoptic() / "annotations/panoptic_val2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        CocoPanoptic(root=trees.root, partition="val")
