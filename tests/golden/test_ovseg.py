"""OVSeg equals the published implementation: every map, every branch, mask prompts and their tuning, and its files.

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

from lexiseg.checkpoints.layouts.ovseg import (
    clip_of_ovseg,
    detect_ovseg,
    optional_shapes,
    ovseg_layout,
)
from lexiseg.losses.image_text_contrast import contrastive_loss
from lexiseg.losses.segment_criterion import MASKFORMER, SegmentCriterion
from lexiseg.losses.segment_targets import segment_targets
from lexiseg.models.ovseg import OVSeg
from lexiseg.ops.region_crops import change_colors, covered_patches
from lexiseg.types import ClassWords, Proposals
from support import golden_folders

FOLDERS = folders("ensemble_weight")

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not FOLDERS, reason="LEXISEG_GOLDEN names no folder of OVSeg"),
]
each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)

VARIANTS = ("main", "no_mask_prompt", "clip_only_w0", "seg_only", "demo_w0")


def build(folder, variant="main"):
    published, sizes = numbers(folder, "weights"), config(folder)
    changes = {
        "main": {},
        "no_mask_prompt": {"prompt_depth": 0},
        "clip_only_w0": {"branch": "clip"},
        "seg_only": {"branch": "segment"},
        "demo_w0": {"branch": "clip", "drawn": "best", "mask_threshold": sizes["demo_mask_thr"]},
    }[variant]
    tower = tower_of(clip_of_ovseg(published), sizes["clip"])
    found = detect_ovseg(published)
    chosen = {"mask_threshold": sizes["mask_thr"], "clip_weight": sizes["ensemble_weight"]} | changes
    settings = replace(
        found, query_heads=sizes["nheads"], query_dropout=0.0, swin_drop_path=0.0, crops_at_a_time=3, **chosen
    )
    model = OVSeg(tower, settings)
    model.load_state_dict(ovseg_layout(settings, tower).from_published(published))
    return model.eval()


@cache
def case(folder, variant):
    model = build(folder, variant)
    images, sizes = padded_images(folder, "", model)
    with torch.no_grad():
        found = model.proposer(images, every_layer=True)
    masks = found.masks.clone()
    pushed = config(folder)["queries_pushed_below_threshold"]
    masks[:, pushed] = -masks[:, pushed].abs() - 2
    proposals = replace(found, masks=masks)
    states = [
        model.look(image[None], Proposals(masks[i : i + 1], found.embeddings[i : i + 1]), content)
        for i, (image, content) in enumerate(zip(images, sizes, strict=True))
    ]
    return model, images, sizes, proposals, states


def words(folder):
    return ClassWords.plain(numbers(folder, "eval")["text_features"][:-1])


@each_folder
def test_the_proposals_are_the_published_ones(folder):
    model, images, _, found, _ = case(folder, "main")
    given = {
        name.removeprefix("main/"): each
        for name, each in numbers(folder, "eval").items()
        if name.startswith("main/")
    }
    with torch.no_grad():
        layers = (*found.earlier, found)
        for index, each in enumerate(model.proposer.backbone(images)):
            assert_close(each, given[f"backbone/res{index + 2}"], f"res{index + 2}")
        assert_close(found.pixels, given["mask_features"], "mask_features")
        assert_close(torch.stack([layer.embeddings for layer in layers]), given["hs"], "hs")
        embedded = torch.stack([model.classifier.projection(layer.embeddings) for layer in layers])
        assert_close(embedded, given["segment_embeddings"], "segment_embeddings")
        assert_close(embedded[-1], given["pred_embeddings"], "pred_embeddings")
        assert_close(found.masks, given["pred_masks"], "pred_masks")
        nothing = F.normalize(model.classifier.background, dim=-1)
        assert_close(nothing[0], numbers(folder, "eval")["text_features"][-1], "no-object vector")


@pytest.mark.one_in(3)
@each_folder
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_branch_answers_as_published(folder, variant):
    model, images, contents, _, states = case(folder, variant)
    given, spoken = numbers(folder, "eval"), words(folder)
    for index, (image, content, state) in enumerate(zip(images, contents, states, strict=True)):
        name = f"{variant}/img{index}/"
        with torch.no_grad():
            found = model.classify(state, spoken)
            if f"{name}seg_logits" in given:
                logits = model.classifier(state.proposals.embeddings, spoken.text)[0]
                assert_close(logits, given[f"{name}seg_logits"], f"{name}seg_logits")
            if variant != "seg_only":
                compare_clip(model, image, content, state, given, name, spoken)
        size = out_size(folder, index)
        maps = final_map(found, images, content, size)
        if f"{name}sem_seg" in given:
            assert_close(maps, given[f"{name}sem_seg"], f"{name}sem_seg")
        else:
            assert_close(maps[:, ::2, ::2], given[f"{name}sem_seg_stride2"], f"{name}sem_seg")
        best = maps.topk(2, dim=0).values
        clear = (best[0] - best[1]) > 1e-4 * maps.abs().max()
        assert torch.equal(maps.argmax(0)[clear], given[f"{name}argmax"].long()[clear])


def compare_clip(model, image, content, state, given, name, spoken):
    """What CLIP was shown of one picture, and what it answered."""
    assert torch.equal(state.crops.visible[0], given[f"{name}valid"])
    picture = clip_picture(model, image, content)
    crops = model.crops.cut(picture, state.proposals.masks[0], model.tower.image_size, content)
    assert_close(crops.pictures[:, :, ::8, ::8], given[f"{name}regions_stride8"], f"{name}regions")
    assert_close(crops.pictures.mean((2, 3)), given[f"{name}regions_mean"], f"{name}regions_mean")
    assert_close(crops.pictures.std((2, 3)), given[f"{name}regions_std"], f"{name}regions_std")
    if f"{name}patch_keep" in given:
        keep = covered_patches(crops.inside, model.tower.patch_size)
        assert torch.equal(keep, given[f"{name}patch_keep"].bool())
    vectors = state.crops.vectors[0][state.crops.visible[0]]
    assert_close(vectors, given[f"{name}clip_features"], f"{name}clip_features")
    logits = model.classifier.compare(vectors, spoken.text)
    assert_close(logits, given[f"{name}clip_logits"], f"{name}clip_logits")


def clip_picture(model, image, content):
    tower = model.tower
    colors = tuple(torch.tensor(values).view(3, 1, 1) * 255 for values in (tower.mean, tower.std))
    return change_colors(image[None], content, model.normalization, colors)[0]


def final_map(found, images, content, size):
    return semantic_map(
        found.masks[0],
        found.scores[0],
        padded=tuple(images.shape[-2:]),
        content=content,
        size=size,
        sums_travel=True,
    )


@pytest.mark.skipif(
    not golden_folders("clip"), reason="LEXISEG_GOLDEN names no clip folder with OpenAI's vocabulary"
)
@each_folder
def test_text_vectors(folder):
    sizes, state = config(folder), clip_of_ovseg(numbers(folder, "weights"))
    vectors = text_of(state, sizes["clip"], sizes["classes"], tuple(sizes["templates"]))
    ours = torch.stack([F.normalize(each.mean(0), dim=-1) for each in vectors])
    assert_close(ours, words(folder).text, "text_features")


@each_folder
def test_masks_made_by_hand_and_the_tokens_that_enter_each_block(folder):
    model, given = case(folder, "main")[0], numbers(folder, "eval")
    image = model.normalize(given["hand/image"].float())
    picture = clip_picture(model, image, tuple(image.shape[1:]))
    masks = given["hand/mask"] > model.settings.mask_threshold
    crops = model.crops.cut_regions(picture, masks, model.tower.image_size)
    assert torch.equal(crops.visible, given["hand/valid"])
    assert_close(crops.pictures[:, :, ::8, ::8], given["hand/regions_stride8"], "regions")
    inside = given["hand/region_masks_stride8"][:, 0]
    assert torch.equal(crops.inside[:, ::8, ::8], inside > 0)
    keep = covered_patches(crops.inside, model.tower.patch_size)
    assert torch.equal(keep, given["hand/patch_keep"].bool())
    prompts = model.crops.prompts
    with torch.no_grad():
        vectors = model.crops.read(model.tower, crops)
        assert_close(F.normalize(vectors, dim=-1), given["hand/clip_features_unit"], "features")
        logits = model.classifier.compare(vectors, words(folder).text)
        assert_close(logits, given["hand/clip_logits"], "clip_logits")
        steps = list(prompts.block_inputs(model.tower, crops.pictures, crops.inside))
        for index, tokens in enumerate(steps[:-1]):
            expected = given[f"hand/tokens_into_block{index}"]
            assert_close(tokens[[0, -1]], expected, f"tokens into block {index}")


@each_folder
def test_losses_matching_and_gradients(folder):
    model, given = build(folder).train(), numbers(folder, "train")
    images, _ = padded_images(folder, "train/", model)
    inputs = numbers(folder, "inputs")
    labels = torch.stack([inputs[f"train/label{index}"] for index in range(len(images))]).long()
    targets = segment_targets(labels, len(config(folder)["classes"]))
    output = model(images, words(folder).text)
    assert_close(output.predictions[-1].masks, given["pred_masks"], "pred_masks")
    criterion = SegmentCriterion(MASKFORMER)
    floats = [replace(one, masks=one.masks.float()) for one in targets]
    layers = len(output.predictions)
    for index, prediction in enumerate(output.predictions):
        name = "last" if index == layers - 1 else f"aux{index}"
        assert_close(prediction.class_logits, given[f"logits/{name}"], f"logits/{name}")
        for image, (queries, chosen) in enumerate(criterion.masks.match(prediction, floats)):
            assert torch.equal(queries, given[f"match/{name}/img{image}/query"])
            assert torch.equal(chosen, given[f"match/{name}/img{image}/target"])
    losses = criterion(output.predictions, targets)
    for name in losses.keys() - {"loss"}:
        assert_close(losses[name], given[f"loss_weighted/{name}"], name)
    assert len(losses) - 1 == sum(name.startswith("loss_weighted/") for name in given)
    assert_close(losses["loss"].detach(), given["total"], "total")
    losses["loss"].backward()
    layout = ovseg_layout(model.settings, model.tower)
    compare_gradients(model, layout, given)
    gradients = {name: each.grad for name, each in model.named_parameters() if each.requires_grad}
    norms = {name: each.norm() for name, each in layout.to_published(gradients).items()}
    expected = {name.removeprefix("gradnorm/"): each for name, each in given.items() if "gradnorm/" in name}
    assert norms.keys() == expected.keys()
    largest = max(expected.values())
    for name, norm in norms.items():
        assert (norm - expected[name]).abs() <= 1e-4 * expected[name] + 1e-7 * largest, name


@each_folder
def test_a_step_of_mask_prompt_tuning(folder):
    model, given = build(folder), numbers(folder, "train")
    mask = given["mpt/mask"].bool()
    size = tuple(mask.shape[-2:])
    images = F.interpolate(given["mpt/image_7x7"], size=size, mode="bicubic", align_corners=False)
    images = images * mask[:, None]
    assert_close(images[:, :, ::8, ::8], given["mpt/images_stride8"], "images")
    prompts = model.crops.prompts.requires_grad_()
    found = prompts(model.tower, images, mask)
    # The file holds unit vectors.
    assert_close(F.normalize(found, dim=-1), given["mpt/image_features"], "image_features")
    loss = contrastive_loss(found, given["mpt/text_features"], given["mpt/logit_scale"].log())
    assert_close(loss.detach(), given["mpt/loss"], "loss")
    loss.backward()
    assert_close(prompts.tokens.grad, given["mpt/grad_mask_embedding"], "gradient")


@each_folder
def test_a_file_is_taken_whole_and_written_to_the_same_bytes(folder):
    published, model = numbers(folder, "weights"), build(folder)
    layout = ovseg_layout(model.settings, model.tower)
    found = {name: tuple(each.shape) for name, each in published.items()}
    expected = layout.shapes | optional_shapes(found)
    assert found.keys() == expected.keys()
    for name, shape in expected.items():
        assert all(here in (-1, there) for here, there in zip(shape, found[name], strict=True)), name
    again = layout.to_published(model.state_dict())
    assert again.keys() == layout.live
    for name, each in again.items():
        assert torch.equal(each, published[name]), name
