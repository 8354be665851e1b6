"""Captioned photographs with masks: what a sample and a batch of them hold."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from caption_cases import captioned_scenes, shown
from lexiseg.data.captioned_regions import CaptionedRegions, as_segments
from lexiseg.data.datamodule import SegmentationDataModule, TrainingStream
from lexiseg.data.splits import make_split, seen_label_map
from lexiseg.data.toy.world import TOY_CLASSES, TOY_UNSEEN, ToyWorld
from lexiseg.data.transforms import train_recipe
from lexiseg.data.unlabelled import UnlabelledImages
from lexiseg.errors import ConfigError, DataError
from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.store import MaskStore
from lexiseg.segments import NO_SEGMENT


@pytest.fixture
def dataset(tmp_path):
    captioned_scenes(tmp_path)
    return open_scenes(tmp_path)


def open_scenes(folder, words="toy"):
    photographs = UnlabelledImages(images=folder, masks=MaskStore())
    return CaptionedRegions(
        photographs=photographs, captions=folder / "captions.json", words=words, classes="toy"
    )


def test_a_sample_has_masks_and_words_and_no_label(dataset, tmp_path):
    scenes = {sample.name: sample for sample in captioned_scenes(tmp_path)}
    assert dataset.classes == TOY_CLASSES
    for index in range(len(dataset)):
        found = dataset[index]
        scene = scenes[found.name.split("/")[-1].removesuffix(".png")]
        present = shown(scene)
        assert [dataset.words[word] for word in found.captions[0]] == [TOY_CLASSES[i] for i in present[:2]]
        assert (found.label == 255).all()
        regions = {tuple(np.flatnonzero(part.mask).tolist()) for part in found.segments}
        assert regions == {tuple(np.flatnonzero(scene.label == each).tolist()) for each in present}


def test_of_two_masks_the_smaller_one_has_the_pixel():
    masks = np.zeros((3, 5, 7), dtype=bool)
    masks[0, 1, 1:3] = True
    masks[1] = True
    masks[2, :3, :4] = True
    ids = as_segments(MaskSet.from_masks(masks)).ids
    assert ids.tolist() == [
        [1, 1, 1, 1, 0, 0, 0],
        [1, 2, 2, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [0] * 7,
        [0] * 7,
    ]
    assert (as_segments(MaskSet.from_masks(masks[:1])).ids != NO_SEGMENT).sum() == 2


def test_a_batch_carries_words_and_masks_through_the_transforms(dataset):
    split = make_split(TOY_CLASSES, name="toy", unseen=TOY_UNSEEN)
    recipe = train_recipe(
        base=[80, 64], ratio=[1.0, 1.0], crop=[48, 72], flip=1.0, cat_max_ratio=1.0, distort=False
    )
    module = SegmentationDataModule(
        train=dataset,
        val=ToyWorld(partition="val", length=2),
        split=split,
        train_transform=recipe,
        batch_size=3,
        num_workers=0,
    )
    assert module.check_training_labels() is None
    batch = next(iter(module.train_dataloader()))
    assert (batch.labels == 255).all()
    assert batch.images.shape == (3, 3, 48, 72)
    assert [len(words) for words in batch.words] == [2, 2, 2]
    for segments in batch.segments:
        masks = segments.masks()
        assert masks.shape[1:] == (48, 72)
        assert masks.flatten(1).any(1).all(), "a mask that the crop left out is no target"
        assert (masks.sum(0) == 1).all()


def test_one_caption_of_several_is_drawn(tmp_path):
    captioned_scenes(tmp_path, 1)
    path = tmp_path / "captions.json"
    content = json.loads(path.read_text())
    content["annotations"] = [
        {"id": i, "image_id": 0, "caption": text}
        for i, text in enumerate(("a red ring", "nothing", "bricks"))
    ]
    path.write_text(json.dumps(content))
    dataset = open_scenes(tmp_path)
    assert dataset.words == ("bricks", "red ring")
    assert dataset[0].captions == ((1,), (0,))
    split = make_split(TOY_CLASSES, name="toy", unseen=TOY_UNSEEN)
    stream = TrainingStream(dataset=dataset, table=seen_label_map(split), transform=None, seed=0)
    assert {stream[0, position].captions for position in range(12)} == {((0,),), ((1,),)}


def test_a_photograph_without_a_caption_stays(tmp_path):
    captioned_scenes(tmp_path, 2)
    content = json.loads((tmp_path / "captions.json").read_text())
    gone = content["images"].pop(0)["file_name"]
    (tmp_path / "captions.json").write_text(json.dumps(content))
    dataset = open_scenes(tmp_path)
    samples = {sample.name: sample for sample in (dataset[0], dataset[1])}
    assert samples.pop(gone).captions == ()
    assert len(samples.popitem()[1].captions) == 1


@pytest.mark.parametrize("name", ["img.v2", "train/img.v2", "img.v2.png", "img.v2.JPG"])
def test_a_name_may_hold_dots_and_have_lost_its_suffix(tmp_path, name):
    """Samples of labelled data are named without a suffix."""
    (scene,) = captioned_scenes(tmp_path, 1)
    content = {"images": [{"id": 0, "file_name": "img.v2.jpg"}]}
    content["annotations"] = [{"id": 0, "image_id": 0, "caption": "bricks"}]
    (tmp_path / "captions.json").write_text(json.dumps(content))
    photographs = [
        SimpleNamespace(image=scene.image, masks=MaskSet.from_masks(scene.label[None] > 0), name=name)
    ]
    settings = {"captions": tmp_path / "captions.json", "words": "toy", "classes": "toy"}
    assert CaptionedRegions(photographs=photographs, **settings)[0].captions == ((0,),)


def test_two_photographs_of_one_name(tmp_path):
    captioned_scenes(tmp_path, 1)
    content = json.loads((tmp_path / "captions.json").read_text())
    stem = content["images"][0]["file_name"].removesuffix(".png")
    content["images"].append({"id": 7, "file_name": f"{stem}.jpg"})
    content["annotations"].append({"id": 7, "image_id": 7, "caption": "bricks"})
    (tmp_path / "captions.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"captions of two photographs that are called {stem}"):
        open_scenes(tmp_path)


def test_mistakes(tmp_path, dataset):
    with pytest.raises(DataError, match="no word of .* stands in the captions"):
        open_scenes(tmp_path, words=["zebra"])
    with pytest.raises(ConfigError, match="photographs: expected photographs with masks, got 'x'"):
        CaptionedRegions(photographs="x", captions=tmp_path / "captions.json", words="toy", classes="toy")
    split = make_split(TOY_CLASSES, name="toy", unseen=TOY_UNSEEN, unseen_pixels="excluded")
    module = SegmentationDataModule(train=dataset, val=ToyWorld(partition="val", length=1), split=split)
    with pytest.raises(ConfigError, match="set split.unseen_pixels=shown"):
        module.train_dataloader()
