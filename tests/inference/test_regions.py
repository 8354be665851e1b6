"""A model that reads inside masks: what each window is told, one label per region, and who is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.dense.multi_view import MultiView
from lexiseg.errors import ConfigError, DataError
from lexiseg.inference import regions
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.masks.mask_set import MaskSet
from lexiseg.ops.region_ids import OUTSIDE, ids_at, one_label_per_region, region_ids
from lexiseg.recipes.predict import check_flags
from lexiseg.types import Needs
from segmenter_fakes import ColourModel, colour_embeddings, make_segmenter

PROTOCOL = InferenceProtocol(
    short_side=22, window=18, stride=11, activation="linear", padding="centre", window_batch=3
)
WORDS = Vocabulary.from_text("red, green, blue, white, black")


class InsideMasks(ColourModel):
    """Remembers what it was told of each window."""

    needs = Needs(masks=True)
    one_label_per_region = True

    def __init__(self):
        super().__init__()
        self.told = []

    def region_map(self, masks):
        return region_ids(masks)

    def encode(self, images, regions=None):
        self.told.append(regions)
        return super().encode(images)


class Layers(InsideMasks):
    """Wants every mask by itself, and leaves the labels alone."""

    one_label_per_region = False

    def region_map(self, masks):
        return masks.to(torch.int64)


def photograph(height, width, seed):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def masks_of(height, width, seed):
    labels = np.random.default_rng(seed).integers(0, 5, (4, 3))
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 3 // width
    return np.stack([labels[rows][:, columns] == number for number in range(1, 5)])


def make(model, protocol=PROTOCOL, **more):
    return make_segmenter(model, WORDS, colour_embeddings(WORDS), protocol, **more)


def test_every_window_is_told_its_part_and_padding_is_outside():
    model, image, masks = InsideMasks(), photograph(31, 47, 0), masks_of(31, 47, 0)
    make(model).segment(image, masks=masks)
    told = torch.cat(model.told)
    working = ids_at(region_ids(torch.from_numpy(masks)), (22, 33))
    windows = [working[top : top + 18, left : left + 18] for top in (0, 4) for left in (0, 11, 15)]
    assert told.shape == (6, 20, 20)
    assert torch.equal(told[:, 1:19, 1:19], torch.stack(windows))
    border = torch.ones(20, 20, dtype=torch.bool)
    border[1:19, 1:19] = False
    assert (told[:, border] == OUTSIDE).all()


def test_every_region_has_one_label_and_every_mask_its_commonest():
    image, masks = photograph(31, 47, 0), masks_of(31, 47, 0)
    plain = make(ColourModel()).segment(image)
    found = make(InsideMasks()).segment(image, masks=masks)
    ids = region_ids(torch.from_numpy(masks))
    expected = one_label_per_region(torch.from_numpy(plain.labels.astype(np.int64)), ids)
    assert (found.labels == expected.numpy()).all()
    assert (found.labels != plain.labels).any()
    np.testing.assert_array_equal(found.scores, plain.scores)
    for mask, own in zip(masks, found.mask_classes, strict=True):
        assert own == np.bincount(found.labels[mask]).argmax()


def test_several_photographs_are_read_as_each_alone():
    sizes = [(31, 47), (29, 23), (31, 47)]
    images = [photograph(*size, seed) for seed, size in enumerate(sizes)]
    masks = [masks_of(*size, seed)[: seed + 1] for seed, size in enumerate(sizes)]
    for model in (InsideMasks, Layers):
        together = make(model()).segment_batch(images, masks=masks)
        for image, own, result in zip(images, masks, together, strict=True):
            assert (make(model()).segment(image, masks=own).labels == result.labels).all()


def test_layers_that_are_not_there_are_outside():
    model = Layers()
    images, masks = (
        [photograph(31, 47, seed) for seed in (0, 1)],
        [masks_of(31, 47, 0)[:1], masks_of(31, 47, 1)[:3]],
    )
    make(model, replace(PROTOCOL, window_batch=12)).segment_batch(images, masks=masks)
    (told,) = model.told
    assert told.shape == (12, 3, 20, 20)
    assert (told[:6, 1:] == OUTSIDE).all()
    assert (told[6:, :, 1:19, 1:19] >= 0).all()


def test_a_mirrored_view_is_told_mirrored_regions():
    model, image, masks = InsideMasks(), photograph(31, 47, 0), masks_of(31, 47, 0)
    views = MultiView(scales=(0.75,), flip="horizontal")
    make(model, replace(PROTOCOL, window=None, stride=None, views=views)).segment(image, masks=masks)
    straight, mirrored = torch.cat(model.told)
    assert straight.shape == (20, 28)
    assert torch.equal(mirrored, straight.flip(-1))
    assert not torch.equal(mirrored, straight)


def test_a_provider_makes_what_is_not_given():
    image, masks = photograph(31, 47, 0), masks_of(31, 47, 0)
    made = make(InsideMasks(), masks=lambda picture: MaskSet.from_masks(masks)).segment(image)
    assert (made.labels == make(InsideMasks()).segment(image, masks=masks).labels).all()


def test_an_encoded_photograph_keeps_its_regions():
    image, masks = photograph(31, 47, 0), masks_of(31, 47, 0)
    segmenter = make(InsideMasks())
    encoded = segmenter.encode(image, masks=masks)
    expected = segmenter.segment(image, masks=masks)
    found = segmenter.segment_encoded(encoded)
    assert (found.labels == expected.labels).all()
    assert (found.mask_classes == expected.mask_classes).all()
    with pytest.raises(
        ConfigError, match="has read the photograph inside its masks; give others to Segmenter.encode"
    ):
        segmenter.segment_encoded(encoded, masks=masks)
    with pytest.raises(
        ConfigError, match="does not read inside masks; give them to Segmenter.segment_encoded"
    ):
        make(ColourModel()).encode(image, masks=masks)


def test_without_masks_nothing_is_read():
    image, model = photograph(31, 47, 0), InsideMasks()
    segmenter = make(model)
    for read in (segmenter.segment, segmenter.encode, segmenter.encode_dense):
        with pytest.raises(
            ConfigError,
            match="^InsideMasks reads a photograph inside masks, and got none; name some by --masks",
        ):
            read(image)
    assert model.encoded == 0


def test_masks_of_another_size():
    with pytest.raises(DataError, match="expected masks as a "):
        make(InsideMasks()).segment(photograph(31, 47, 0), masks=masks_of(31, 46, 0))


def test_predict_refuses_before_a_model_is_loaded():
    flags = {"threshold": None, "refine": None, "output": "semantic", "scores": False}
    with pytest.raises(
        ConfigError, match="corrclip reads a photograph inside masks, and got none; name some by --masks"
    ):
        check_flags(**flags, masks=False, method="corrclip")
    check_flags(**flags, masks=True, method="corrclip")
    check_flags(**flags, masks=False, method="sclip")


def test_masks_that_lie_under_larger_ones_are_told_once(caplog, monkeypatch):
    """Partitions of one picture in 2, 4, 8 and 12 parts: the coarsest lies over all others."""
    monkeypatch.setattr(regions, "_told", set())
    columns = np.arange(24)[None].repeat(17, axis=0)
    partitions = [columns * parts // 24 for parts in (2, 4, 8, 12)]
    masks = np.stack([labels == index for labels in partitions for index in range(labels.max() + 1)])
    finest = masks[-12:]
    with caplog.at_level("WARNING"):
        regions.PictureRegions(InsideMasks(), finest, (17, 24))
        assert caplog.text == ""
        for _ in range(2):
            regions.PictureRegions(InsideMasks(), masks, (17, 24))
    assert caplog.text.count("2 of 26 masks have a pixel of their own") == 1
