"""ZegFormer equals the published implementation: every map, every branch, losses and gradients, and its files.

Runs on every folder of that layout under those that LEXISEG_GOLDEN names.
"""

from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from published_cases import assert_close, semantic_map
from two_stage_cases import (
    compare_gradients,
    config,
    folders,
    numbers,
    out_size,
    padded_images,
    text_of,
    tower_of,
)

from lexiseg.checkpoints.layouts.zegformer import (
    CLIP,
    clip_of_zegformer,
    detect_zegformer,
    optional_shapes,
    zegformer_layout,
)
from lexiseg.clip.templates import PIXELCLIP_TEST8, PIXELCLIP_TRAIN, ZEGFORMER_CROPS
from lexiseg.losses.segment_criterion import SegmentCriterion, SegmentLossSettings
from lexiseg.losses.segment_targets import segment_targets
from lexiseg.models.region_classifiers.masked_crops import CropEmbeddings, MaskedCrops
from lexiseg.models.zegformer import ZegFormer, ZegFormerState
from lexiseg.ops.class_vectors import mean_vectors
from lexiseg.ops.region_crops import change_colors, crop_boxes
from lexiseg.types import ClassWords, Proposals
from support import golden_folders

FOLDERS = folders("pixel_decoder_groups")

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not FOLDERS, reason="LEXISEG_GOLDEN names no folder of ZegFormer"),
]
needs_words = pytest.mark.skipif(
    not golden_folders("clip"), reason="LEXISEG_GOLDEN names no clip folder with OpenAI's vocabulary"
)
each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)

VARIANTS = {
    "fused": ("fused", "cropmask"),
    "seg": ("segment", "cropmask"),
    "img_cropmask": ("image", "cropmask"),
    "img_mask": ("image", "mask"),
    "img_crop": ("image", "crop"),
    "fused_all_classes": ("fused_all", "cropmask"),
}
CALIBRATED = ("fused", "seg")


def build(folder, **changes):
    published, sizes = numbers(folder, "weights"), config(folder)
    tower = tower_of(clip_of_zegformer(published), sizes["clip"])
    settings = replace(
        detect_zegformer(published),
        query_heads=sizes["nheads"],
        query_dropout=0.0,
        fusion_weight=sizes["lambda_"],
        **changes,
    )
    model = ZegFormer(tower, settings)
    model.load_state_dict(zegformer_layout(settings, tower).from_published(published))
    return model.eval()


@cache
def case(folder, variant):
    branch, crop = VARIANTS[variant]
    model = build(folder, branch=branch, crop=crop, crops_at_a_time=3)
    images, sizes = padded_images(folder, "", model)
    with torch.no_grad():
        states = [model.encode(image[None], size) for image, size in zip(images, sizes, strict=True)]
    return model, images, sizes, states


def words(folder):
    """Its text matrices and which classes are seen."""
    given, sizes = numbers(folder, "eval"), config(folder)
    seen = torch.zeros(len(sizes["classes"]), dtype=torch.bool)
    seen[sizes["seen"]] = True
    return replace(ClassWords.plain(given["text/all_single"]), seen=seen, crop_text=given["text/all_clip32"])


def calibrated(folder, variant, maps):
    sizes = config(folder)
    if variant in CALIBRATED or variant == "handmade":
        maps[sizes["seen"]] -= sizes["gamma"]
    return maps


def final_map(found, images, content, size):
    return semantic_map(
        found.masks[0],
        found.scores[0],
        padded=tuple(images.shape[-2:]),
        content=content,
        size=size,
        sums_travel=True,
    )


@each_folder
def test_the_proposals_are_the_published_ones(folder):
    model, images, _, _ = case(folder, "seg")
    given = {
        name.removeprefix("fused/"): each
        for name, each in numbers(folder, "eval").items()
        if name.startswith("fused/")
    }
    with torch.no_grad():
        maps = model.proposer.backbone(images)
        found = model.proposer(images, every_layer=True)
        layers = (*found.earlier, found)
        for index, each in enumerate(maps):
            assert_close(each, given[f"backbone/res{index + 2}"], f"res{index + 2}")
        assert_close(found.pixels, given["mask_features"], "mask_features")
        assert_close(torch.stack([layer.embeddings for layer in layers]), given["hs"], "hs")
        embedded = torch.stack([model.classifier.projection(layer.embeddings) for layer in layers])
        assert_close(embedded, given["segment_embeddings"], "segment_embeddings")
        assert_close(found.masks, given["pred_masks"], "pred_masks")
        logits = model.classifier(found.embeddings, numbers(folder, "eval")["text/all_single"])
        assert_close(logits, given["pred_logits"], "pred_logits")


@each_folder
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_branch_answers_as_published(folder, variant):
    model, images, contents, states = case(folder, variant)
    given = numbers(folder, "eval")
    for index, (state, content) in enumerate(zip(states, contents, strict=True)):
        name = f"{variant}/img{index}/"
        with torch.no_grad():
            found = model.classify(state, words(folder))
        if f"{name}clip_features" in given:
            assert state.crops.visible.all()
            assert_close(state.crops.vectors[0], given[f"{name}clip_features"], f"{name}clip_features")
        if f"{name}class_logits_into_softmax" in given:
            expected = given[f"{name}class_logits_into_softmax"].softmax(-1)
            assert_close(found.scores[0], expected[:, :-1], f"{name}scores")
            assert_close(found.nothing[0], expected[:, -1], f"{name}nothing")
        if f"{name}fused_scores" in given:
            assert_close(found.scores[0], given[f"{name}fused_scores"], f"{name}fused_scores")
        maps = calibrated(folder, variant, final_map(found, images, content, out_size(folder, index)))
        if f"{name}sem_seg" in given:
            assert_close(maps, given[f"{name}sem_seg"], f"{name}sem_seg")
        else:
            assert_close(maps[:, ::2, ::2], given[f"{name}sem_seg_stride2"], f"{name}sem_seg")
        assert_same_classes(maps, given[f"{name}argmax"])


def assert_same_classes(maps, expected):
    """Where the two highest are not nearly equal."""
    best = maps.topk(2, dim=0).values
    clear = (best[0] - best[1]) > 1e-4 * maps.abs().max()
    assert clear.float().mean() > 0.1
    assert torch.equal(maps.argmax(0)[clear], expected.long()[clear])


@each_folder
@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "seg"])
def test_clip_sees_the_published_crops(folder, variant):
    model, images, contents, states = case(folder, variant)
    given = numbers(folder, "eval")
    for index, (image, content, state) in enumerate(zip(images, contents, states, strict=True)):
        crops = cut(model, image, content, state.proposals.masks[0])
        name = f"{variant}/img{index}/"
        assert_close(crops[:, :, ::8, ::8], given[f"{name}crops_stride8"], f"{name}crops_stride8")
        assert_close(crops.mean((2, 3)), given[f"{name}crops_mean"], f"{name}crops_mean")
        assert_close(crops.std((2, 3)), given[f"{name}crops_std"], f"{name}crops_std")
        if f"{name}crop_full_q0" in given:
            assert_close(crops[0], given[f"{name}crop_full_q0"], f"{name}crop_full_q0")


def cut(model, image, content, masks):
    tower = model.tower
    colors = tuple(torch.tensor(values).view(3, 1, 1) * 255 for values in (tower.mean, tower.std))
    picture = change_colors(image[None], content, model.normalization, colors)[0]
    return model.crops.cut(picture, masks, tower.image_size, content).pictures


@needs_words
@each_folder
@pytest.mark.parametrize(
    ("key", "templates"),
    [
        ("all_single", PIXELCLIP_TRAIN),
        ("seen_single", PIXELCLIP_TRAIN),
        ("all_select8", PIXELCLIP_TEST8),
        ("all_clip32", ZEGFORMER_CROPS),
    ],
)
def test_text_vectors(folder, key, templates):
    """The mean over templates and synonyms at once. Ours is one unit vector per word and then their mean: the same for a
    class of one word, and for one template."""
    sizes, state = config(folder), clip_of_zegformer(numbers(folder, "weights"))
    chosen = sizes["seen"] if key == "seen_single" else range(len(sizes["classes"]))
    words = [sizes["classes"][index].split(", ") for index in chosen]
    vectors = [text_of(state, sizes["clip"], names, templates) for names in words]
    expected = numbers(folder, "eval")[f"text/{key}"]
    published = [F.normalize(torch.cat(each).mean(0), dim=-1) for each in vectors]
    assert_close(torch.stack(published), expected, key)
    rows = [F.normalize(each.mean(0), dim=-1) for names in vectors for each in names]
    ids = torch.tensor([index for index, names in enumerate(words) for _ in names])
    ours = mean_vectors(torch.stack(rows), ids)
    exact = torch.tensor([len(names) == 1 or len(templates) == 1 for names in words])
    assert_close(ours[exact], expected[exact], f"{key} by words")
    assert_close(ours, expected, f"{key} by words", 1e-2)


@each_folder
def test_masks_made_by_hand(folder):
    """Empty, one row, one column, one pixel, full, at the border, two blobs: boxes, crops, scores and map."""
    model, given = case(folder, "fused")[0], numbers(folder, "eval")
    image, masks = given["handmade/image"].float(), given["handmade/pred_masks_in"]
    content = tuple(image.shape[1:])
    padded = tuple(4 * side for side in masks.shape[-2:])
    images = F.pad(model.normalize(image), (0, padded[1] - content[1], 0, padded[0] - content[0]))[None]
    inside = F.interpolate(masks, size=padded, mode="bilinear", align_corners=False) > 0
    assert torch.equal(crop_boxes(inside[0]).float(), given["handmade/boxes_xyxy"])
    crops = cut(model, images[0], content, masks[0])
    name = "handmade/img0/"
    assert_close(crops[:, :, ::8, ::8], given[f"{name}crops_stride8"], "crops")
    assert_close(crops.mean((2, 3)), given[f"{name}crops_mean"], "crops_mean")
    assert_close(crops.std((2, 3)), given[f"{name}crops_std"], "crops_std")
    proposals = Proposals(masks, torch.zeros(*masks.shape[:2], model.proposer.embed_dim))
    model = build(folder, crops_at_a_time=5)
    with torch.no_grad():
        looks = model._look(images, proposals, content)
        assert_close(looks.vectors[0], given[f"{name}clip_features"], "clip_features")
        found = given_logits(model, given["handmade/pred_logits_in"], proposals, looks, words(folder))
        assert_close(found.scores[0], given[f"{name}fused_scores"], "fused_scores")
        size = tuple(given[f"{name}argmax"].shape)
        maps = calibrated(folder, "handmade", final_map(found, images, content, size))
        assert_close(maps[:, ::2, ::2], given[f"{name}sem_seg_stride2"], "sem_seg")
        assert_same_classes(maps, given[f"{name}argmax"])
        model.crops = MaskedCrops("crop")
        crops = cut(model, images[0], content, masks[0])
        assert_close(crops[:, :, ::8, ::8], given["handmade/crop_style/crops_stride8"], "crop style")
        assert_close(model.tower(crops), given["handmade/crop_style/clip_features"], "crop style's features")


def given_logits(model, logits, proposals, looks, spoken):
    """The answer for a segment branch whose logits are given."""

    class Told(torch.nn.Module):
        def forward(self, embeddings, text):
            return logits

    model.classifier = Told()
    state = ZegFormerState(proposals, CropEmbeddings(looks.vectors, looks.visible))
    return model.classify(state, spoken)


@each_folder
def test_losses_matching_and_gradients(folder):
    model, given = build(folder).train(), numbers(folder, "train")
    images, _ = padded_images(folder, "train/", model)
    inputs, classes = numbers(folder, "inputs"), len(config(folder)["seen"])
    labels = torch.stack([inputs[f"train/label{index}"] for index in range(len(images))]).long()
    targets = segment_targets(labels, classes)
    output = model(images, numbers(folder, "eval")["text/seen_single"])
    last = output.predictions[-1]
    assert_close(last.class_logits, given["pred_logits"], "pred_logits")
    assert_close(last.masks, given["pred_masks"], "pred_masks")
    weights = config(folder)["loss_weights"]
    assert {
        key: weights[name] for key, name in (("cls", "ce"), ("mask", "mask"), ("dice", "dice"))
    } == config(folder)["matcher"]
    settings = SegmentLossSettings(
        classes=weights["ce"],
        mask=weights["mask"],
        dice=weights["dice"],
        nothing=weights["no_object"],
        compared="pixels",
    )
    criterion = SegmentCriterion(settings)
    floats = [replace(one, masks=one.masks.float()) for one in targets]
    layers = len(output.predictions)
    for index, prediction in enumerate(output.predictions):
        name = "last" if index == layers - 1 else f"aux{index}"
        for image, (queries, chosen) in enumerate(criterion.masks.match(prediction, floats)):
            assert torch.equal(queries, given[f"match/{name}/img{image}/query"])
            assert torch.equal(chosen, given[f"match/{name}/img{image}/target"])
    losses = criterion(output.predictions, targets)
    for name in losses.keys() - {"loss"}:
        assert_close(losses[name], given[f"loss_weighted/{name}"], name)
    assert len(losses) - 1 == sum(name.startswith("loss_weighted/") for name in given)
    assert_close(losses["loss"].detach(), given["total"], "total")
    losses["loss"].backward()
    compared = compare_gradients(model, zegformer_layout(model.settings, model.tower), given)
    assert compared == set(zegformer_layout(model.settings, model.tower).to_published(trained(model)))


def trained(model):
    return {name: each for name, each in model.named_parameters() if each.requires_grad}


@each_folder
def test_a_file_is_taken_whole_and_written_to_the_same_bytes(folder):
    published = numbers(folder, "weights")
    model = build(folder)
    layout = zegformer_layout(model.settings, model.tower)
    found = {name: tuple(each.shape) for name, each in published.items()}
    expected = layout.shapes | optional_shapes(found)
    assert found.keys() == expected.keys()
    for name, shape in expected.items():
        assert all(here in (-1, there) for here, there in zip(shape, found[name], strict=True)), name
    again = layout.to_published(model.state_dict())
    assert again.keys() == layout.live
    for name, each in again.items():
        assert torch.equal(each, published[name]), name


@each_folder
def test_a_file_saved_in_training_has_the_keys_that_the_layout_says(folder):
    model = build(folder)
    keys = {name: tuple(shape) for name, shape in config(folder)["state_dict_train_keys"].items()}
    layout = zegformer_layout(model.settings, model.tower)
    expected = layout.live | optional_shapes(keys).keys()
    assert not any(name.startswith(CLIP) for name in keys)
    assert keys.keys() == expected
