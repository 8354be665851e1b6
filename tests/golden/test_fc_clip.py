"""FC-CLIP equals the published implementation on the same random weights.

Runs on every folder under ``two-stage`` that holds ``fcclip_weights.pt``, for every file that lies beside it.
"""

import copy
import json
import math
import re
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from fc_clip_cases import (
    WEIGHTS,
    batch,
    clip,
    clip_model,
    clip_state,
    evaluated_words,
    folders_with,
    load,
    model,
    photographs,
    state_keys,
    trained_words,
)
from published_cases import TOLERANCE, assert_close, full_size_masks, semantic_map

from lexiseg.checkpoints.layouts.fc_clip import (
    clip_of_fc_clip,
    detect_fc_clip,
    fc_clip_layout,
    optional_shapes,
)
from lexiseg.clip.families import family_of
from lexiseg.clip.formats.open_clip import convnext_to_open_clip
from lexiseg.clip.formats.openai_resnet import resnet_to_openai
from lexiseg.clip.towers.resnet import AttentionPool
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.constants import CLIP_MEAN, CLIP_STD
from lexiseg.losses.segment_criterion import SegmentCriterion, SegmentLossSettings
from lexiseg.models.fc_clip import FCClip, FCClipSettings
from lexiseg.ops.class_chunks import HeldMaps
from lexiseg.ops.class_vectors import best_word, scaled_cosines
from lexiseg.ops.mask_classification import instances, panoptic_map
from lexiseg.ops.mask_pooling import mean_in_regions, regions_on_grid
from lexiseg.ops.run_length import decode_rle
from lexiseg.training.optim import OptimSettings
from lexiseg.types import ClassifiedMasks, SegmentTargets
from replayed_draws import replayed

FOLDERS = folders_with(WEIGHTS)
EVALUATED = [
    (folder, name) for folder in folders_with("fcclip_eval.pt") for name in load(folder, "fcclip_eval.pt")
]
TRAINED, POST = folders_with("fcclip_train.pt"), folders_with("fcclip_post.pt")
NEAR = 1e-5
"""A mask logit this close to 0 may fall to either side of the threshold."""
NOISE = 1e-7
"""Of the global norm: a gradient below this is rounding."""

pytestmark = pytest.mark.golden

each = pytest.mark.parametrize("folder", FOLDERS, ids=str)
each_case = pytest.mark.parametrize(("folder", "name"), EVALUATED, ids=str)


def case(folder: Path, name: str):
    return load(folder, "fcclip_eval.pt")[name]


@each
def test_contained_clip_gives_the_words(folder):
    text, file = load(folder, "fcclip_text.pt"), load(folder, WEIGHTS)
    names = [[word.strip() for word in entry.split(",")] for entry in file["config"]["test_names"]]
    assert [len(words) for words in names] == text["test_synonyms"]
    vocabulary = Vocabulary(tuple(map(tuple, names)), "vild14", shared=True)
    embedded = vocabulary.embed(clip(folder))
    assert_close(embedded.vectors, text["test_rows"], "words")
    assert embedded.class_ids.tolist() == evaluated_words(folder).class_ids.tolist()
    void = F.normalize(model(folder).classifier.nothing.weight, dim=-1)
    assert_close(void, text["void_row"], "void")


@each
def test_layout_holds_every_key_and_gives_the_same_bytes(folder):
    published = load(folder, WEIGHTS)["state_dict"]
    made = model(folder)
    layout = fc_clip_layout(made.settings, made.tower)
    found = {name: tuple(tensor.shape) for name, tensor in published.items()}
    assert_shapes(layout.shapes | optional_shapes(found), found)
    assert layout.live == {name for name in found if name.startswith(("sem_seg_head.", "void_"))}
    ours = layout.to_published(made.state_dict())
    for name in layout.live:
        assert ours[name].contiguous().numpy().tobytes() == published[name].contiguous().numpy().tobytes(), (
            name
        )


@each
def test_contained_clip_is_the_towers_own(folder):
    published = clip_of_fc_clip(load(folder, WEIGHTS)["state_dict"])
    tower = clip(folder).tower
    written = convnext_to_open_clip if tower.kind == "ConvNeXt" else resnet_to_openai
    for name, tensor in written(tower).items():
        assert torch.equal(tensor, published[name]), name
    assert tower.logit_scale == clip_state(folder)["logit_scale"]


def assert_shapes(expected, found):
    assert expected.keys() == found.keys()
    wrong = {
        name: (expected[name], shape)
        for name, shape in found.items()
        if len(shape) != len(expected[name])
        or any(ours not in (-1, theirs) for ours, theirs in zip(expected[name], shape, strict=True))
    }
    assert not wrong


@each
def test_sizes_are_read_off_the_file(folder):
    config, found = load(folder, WEIGHTS)["config"], model(folder).settings
    assert found.queries == config["Q"]
    assert (found.width, found.heads) == (config["hid"], config["heads"])
    assert (found.encoder_layers, found.decoder_layers) == (config["enc"], config["dec"] - 1)
    assert found.decoder_feedforward == config["ff"]


@contextmanager
def recorded(modules):
    """Outputs of modules, in the order of their calls."""
    outputs = {name: [] for name in modules}

    def keep(name):
        return lambda _module, _inputs, output: outputs[name].append(output)

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    yield outputs
    for handle in handles:
        handle.remove()


def inner_modules(made: FCClip):
    pixels, decoder = made.proposer.pixel_decoder, made.proposer.transformer.decoder
    modules = {f"pixel/input_proj{i}": module for i, module in enumerate(pixels.input_projections)}
    for i, layer in enumerate(pixels.encoder.layers):
        modules |= {f"pixel/enc{i}_attn": layer.self_attn, f"pixel/enc{i}": layer}
    modules |= {"pixel/adapter_1": pixels.adapter_1, "pixel/layer_1": pixels.layer_1}
    modules["pixel/mask_features"] = pixels.mask_projection
    for i, layer in enumerate(decoder.layers):
        modules |= {
            f"decoder/cross{i}": layer.cross_attn_layer_norm,
            f"decoder/self{i}": layer.self_attn_layer_norm,
        }
        modules[f"decoder/ffn{i}"] = layer.final_layer_norm
    return modules


@each_case
@torch.no_grad()
def test_maps_and_decoders(folder, name):
    made, expected = model(folder), case(folder, name)
    if "backbone/input" not in expected:
        pytest.skip("this case records no inner tensors")
    images = batch(made, photographs(expected))
    assert_close(images, expected["backbone/input"], "input")
    modules = inner_modules(made)
    with recorded(modules) as outputs:
        output = made(images, evaluated_words(folder))
    for number, stage in enumerate(made.tower.stage_maps(images), start=2):
        assert_close(stage, expected[f"backbone/res{number}"], f"res{number}")
    for key, given in outputs.items():
        first = given[0][0] if isinstance(given[0], tuple) else given[0]
        assert_close(first, expected[key], key)
    predictor = made.proposer.transformer.decoder.mask_predictor
    levels = [expected[f"pixel/input_proj{i}"].shape[-2:] for i in range(3)]
    for step, prediction in enumerate(output.predictions):
        assert_close(prediction.masks, expected[f"head{step}/mask_logits"], f"masks {step}")
        assert_close(prediction.class_logits, expected[f"head{step}/class_logits"], f"classes {step}")
        grid = levels[step % len(levels)]
        logits = F.interpolate(expected[f"head{step}/mask_logits"], size=grid, mode="bilinear")
        stands = logits.flatten(2).abs() > NEAR
        blocked = logits.flatten(2).sigmoid() < 0.5
        assert torch.equal(blocked[stands], expected[f"head{step}/blocked"][stands])
    assert predictor.num_heads == made.settings.heads


@each_case
@torch.no_grad()
def test_class_embeddings(folder, name):
    made, expected = model(folder), case(folder, name)
    if "heads/pooled" not in expected:
        pytest.skip("this case records no inner tensors")
    proposals = made.proposer(made.tower.stage_maps(batch(made, photographs(expected))))
    head = made.classifier
    for step, found in enumerate((*proposals.earlier, proposals)):
        suffix = f"#{step}" if step else ""
        regions = regions_on_grid(found.masks, found.pixels.shape[-2:])
        pooled = mean_in_regions(found.pixels, regions)
        assert_close(pooled, expected[f"heads/pooled{suffix}"], "pooled")
        assert_close(head.pooling(pooled), expected[f"heads/pool_proj{suffix}"], "pooling")
        assert_close(head.embed(found), expected[f"heads/class_embed{suffix}"], "embedding")
        mask_embedder = made.proposer.transformer.decoder.mask_predictor.mask_embedder
        assert_close(mask_embedder(found.embeddings), expected[f"heads/mask_embed{suffix}"], "mask embedding")


@each_case
@torch.no_grad()
def test_regions_and_scores(folder, name):
    made, expected, words = model(folder), case(folder, name), evaluated_words(folder)
    state = made.encode(batch(made, photographs(expected)))
    assert_close(state.masks, expected["mask_logits"], "masks")
    inside = made.classifier.logits(state.trained, words)
    assert_close(inside, expected["in_vocab_logits"], "trained classifier")
    seen = state.visible
    assert_close(state.frozen[seen], expected["oov/embedding"][seen], "frozen embedding")
    outside = best_word(scaled_cosines(state.frozen, words.text, made.tower.logit_scale), words.class_ids)
    assert_close(outside[seen], expected["oov/logits"][seen][:, :-1], "frozen classifier")
    named = made.classify(state, words)
    for image in range(len(state.masks)):
        theirs = expected[f"final_log_probs/{image}"].softmax(-1)
        assert_close(named.scores[image], theirs[:, :-1], "scores")
        assert_close(named.nothing[image], theirs[:, -1], "nothing")


def answer(folder: Path, name: str):
    """Regions of each image with their scores, and the sizes that bring them to the photograph."""
    made, expected = model(folder), case(folder, name)
    images = photographs(expected)
    padded = batch(made, images)
    with torch.no_grad():
        named = made.classify(made.encode(padded), evaluated_words(folder))
    for index, image in enumerate(images):
        sizes = SimpleNamespace(
            padded=tuple(padded.shape[-2:]),
            content=tuple(image.shape[1:]),
            size=tuple(expected[f"input/{index}/out_size"].tolist()),
        )
        yield (
            index,
            ClassifiedMasks(named.masks[index], named.scores[index], named.nothing[index]),
            vars(sizes),
        )


@each_case
def test_semantic_map(folder, name):
    expected = case(folder, name)
    for index, named, sizes in answer(folder, name):
        ours = semantic_map(named.masks, named.scores, sums_travel=not expected["flags"]["pre"], **sizes)
        theirs = expected[f"sem_seg/{index}"]
        assert_close(ours, theirs, f"map {index}")
        first, second = theirs.topk(2, dim=0).values
        clear = first - second > 1e-5
        assert torch.equal(ours.argmax(0)[clear], expected[f"argmax/{index}"].long()[clear])


@each_case
def test_panoptic_and_instances(folder, name):
    expected = case(folder, name)
    config = load(folder, WEIGHTS)["config"]
    things = torch.zeros(len(config["test_names"]), dtype=torch.bool)
    things[config["things"]["golden_test"]] = True
    for index, named, sizes in answer(folder, name):
        masks = full_size_masks(named.masks, **sizes)
        if expected["flags"].get("pan"):
            panoptic = panoptic_map(masks, named.scores, named.nothing, things, size=sizes["size"])
            assert_same_segments(
                panoptic, expected[f"panoptic/{index}/map"], expected[f"panoptic/{index}/segments"]
            )
        if expected["flags"].get("ins"):
            found = instances(masks, named.scores, things, size=sizes["size"], most=config["topk"])
            assert_same_instances(found, expected, f"instances/{index}/")


def assert_same_segments(panoptic, ids, segments):
    """A few pixels of a border may go to either side."""
    assert [(s.id, s.class_id, s.thing) for s in panoptic.segments] == [
        (s["id"], s["category_id"], s["isthing"]) for s in segments
    ]
    assert (panoptic.ids != ids.long()).float().mean() <= 1e-3
    assert [s.area for s in panoptic.segments] == [
        int((panoptic.ids == s.id).sum()) for s in panoptic.segments
    ]


def assert_same_instances(found, expected, prefix):
    scores, classes = expected[f"{prefix}scores"], expected[f"{prefix}classes"]
    assert_close(found.scores, scores, "instance scores")
    apart = (scores[:, None] - scores).abs() < 1e-6
    alone = apart.sum(dim=1) == 1  # the order of equal scores is nobody's
    assert torch.equal(found.class_ids[alone], classes[alone])
    masks = torch.stack([torch.from_numpy(decode_rle(runs, found.size)) for runs in found.runs])
    differing = (masks != expected[f"{prefix}masks"].bool()).flatten(1).float().mean(dim=1)
    assert (differing[alone] <= 1e-3).all()
    assert sorted(found.class_ids.tolist()) == sorted(classes.tolist())


@pytest.mark.parametrize("folder", POST, ids=str)
def test_post_processing(folder):
    file = load(folder, "fcclip_post.pt")
    scores, masks = file["mask_cls"].softmax(-1), file["mask_pred"]
    classes, nothing = scores[:, :-1], scores[:, -1]
    things = torch.zeros(classes.shape[1], dtype=torch.bool)
    things[file["things"]] = True
    size = tuple(masks.shape[-2:])
    ours = semantic_map(masks, classes, padded=size, content=size, size=size)
    assert_close(ours, file["semantic"], "semantic")
    for key in (key for key in file if key.startswith("panoptic/") and key.endswith("/map")):
        score, visible = map(float, re.findall(r"\d\.\d", key))
        limits = {"least_score": score, "least_visible": visible}
        found = panoptic_map(HeldMaps(masks), classes, nothing, things, size=size, **limits)
        assert torch.equal(found.ids.long(), file[key].long()), key
        assert_same_segments(found, file[key], file[key.replace("/map", "/segments")])
    # The file does not say how many pairs were taken; some number leaves as many things as it holds.
    counts = range(1, classes.numel() + 1)
    wanted = len(file["instances/scores"])

    def found_among(most):
        return instances(HeldMaps(masks), classes, things, size=size, most=most)

    most = next(n for n in counts if len(found_among(n).scores) == wanted)
    assert_same_instances(found_among(most), file, "instances/")


@pytest.mark.parametrize("folder", POST, ids=str)
def test_pooling_and_synonyms(folder):
    file = load(folder, "fcclip_post.pt")
    features = file["pool/features"]
    for suffix in ("", "_other_size"):
        regions = regions_on_grid(file[f"pool/masks{suffix}"], features.shape[-2:])
        assert_close(mean_in_regions(features, regions), file[f"pool/pooled{suffix}"], f"pooled{suffix}")
    counts = file["logits/synonyms"]
    for key in (key for key in file if key.startswith("logits/scale")):
        scale = torch.tensor(float(key.removeprefix("logits/scale")))
        cosines = scaled_cosines(file["logits/x"], file["logits/rows"], scale)
        ids = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        ids = torch.cat(
            [ids, torch.full((len(cosines[0, 0]) - len(ids),), len(counts))]
        )  # the last row is void's
        assert_close(best_word(cosines, ids), file[key], key)


@pytest.mark.parametrize("folder", folders_with("fcclip_attnpool.pt"), ids=str)
@torch.no_grad()
def test_attention_pool_of_a_resnet(folder):
    file = load(folder, "fcclip_attnpool.pt")
    width, embed = file["attnpool"]["c_proj.weight"].shape[::-1]
    side = math.isqrt(len(file["attnpool"]["positional_embedding"]) - 1)
    pool = AttentionPool(side, width, file["heads"], embed)
    pool.load_state_dict(file["attnpool"])
    regions = file["masks"] > 0
    seen = regions.flatten(2).any(-1)
    ours = pool.regions(file["features"], regions)
    assert ours.isfinite().all()
    assert_close(ours[seen], file["out"][seen], "regions")


@pytest.mark.parametrize("folder", TRAINED, ids=str)
def test_predictions_in_training(folder):
    file, made = load(folder, "fcclip_train.pt"), model(folder)
    with torch.no_grad():
        output = made(batch(made, photographs(file)), trained_words(folder))
    for step, prediction in enumerate(output.predictions):
        assert_close(prediction.class_logits, file["steps"][f"head{step}/class_logits"], f"classes {step}")
        assert_close(prediction.masks, file["steps"][f"head{step}/mask_logits"], f"masks {step}")
    assert f"head{len(output.predictions)}/mask_logits" not in file["steps"]


@cache
def trained(folder: Path, dtype: torch.dtype):
    """Losses with the recorded draws, and every gradient under its published name."""
    file, made = load(folder, "fcclip_train.pt"), copy.deepcopy(model(folder)).to(dtype)
    images = photographs(file)
    padded = batch(made, images).to(dtype)
    targets = []
    for index in range(len(images)):
        masks = file[f"input/{index}/masks"].bool()
        height, width = (have - need for have, need in zip(padded.shape[-2:], masks.shape[-2:], strict=True))
        targets.append(SegmentTargets(file[f"input/{index}/classes"], F.pad(masks, (0, width, 0, height))))
    criterion = SegmentCriterion(SegmentLossSettings(points=load(folder, WEIGHTS)["config"]["P"]))
    words = trained_words(folder)
    output = made(padded, replace(words, text=words.text.to(dtype)))
    with replayed(file["random_draws"]):
        losses = criterion(output.predictions, targets)
    parameters = dict(made.named_parameters())
    gradients = torch.autograd.grad(losses["loss"], list(parameters.values()))
    layout = fc_clip_layout(made.settings, made.tower)
    return losses, layout.to_published(dict(zip(parameters, gradients, strict=True)))


@pytest.mark.parametrize("folder", TRAINED, ids=str)
def test_losses(folder):
    file, (losses, _) = load(folder, "fcclip_train.pt"), trained(folder, torch.float32)
    assert losses.keys() - {"loss"} == file["losses_weighted"].keys()
    for name, theirs in file["losses_weighted"].items():
        assert_close(losses[name], theirs, name)
    assert_close(losses["loss"].detach(), file["total"], "total")


@pytest.mark.parametrize("folder", TRAINED, ids=str)
def test_gradients(folder):
    """Ours in float64, so that only the published run's roundings are left: in float32 the pixel decoder's ReLUs and
    sampling places may fall to either side, which moves single gradients by 1e-3."""
    file, (_, ours) = load(folder, "fcclip_train.pt"), trained(folder, torch.float64)
    assert ours.keys() == set(file["trainable"]) == file["grad_norms"].keys()
    total = torch.stack([gradient.norm() for gradient in ours.values()]).norm()
    assert_close(total, file["grad_norm"], "global norm")
    floor = NOISE * file["grad_norm"]  # what is zero in theory is only asked to be small
    for name, norm in file["grad_norms"].items():
        if not name.endswith("in_proj_bias"):
            assert abs(ours[name].norm() - norm) <= max(TOLERANCE * norm, floor), name
    for name, theirs in file["grad"].items():
        if name.endswith("in_proj_bias"):  # keys' part: zero in theory
            keep = [part for part in range(3) if part != 1]
            mine, theirs = (each.unflatten(0, (3, -1))[keep] for each in (ours[name], theirs))
        else:
            mine = ours[name]
        worst = (mine - theirs).abs().max()
        assert worst <= max(TOLERANCE * theirs.abs().max(), floor), f"{name}: {worst:.2e}"


@pytest.mark.parametrize("folder", folders_with("fcclip_optim_groups.json"), ids=str)
def test_learning_rates_and_decay(folder):
    published = json.loads((folder / "fcclip_optim_groups.json").read_text())["lr_and_weight_decay"]
    made = model(folder)
    groups = made.parameter_groups(OptimSettings(lr=1e-4, weight_decay=0.05, decay_norms=False))
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    parameters = dict(made.named_parameters())
    for row in fc_clip_layout(made.settings, made.tower).rows:
        for name in row.ours:
            assert found.pop(id(parameters[name])) == pytest.approx(published[row.name]), row.name
    assert not found


@pytest.mark.parametrize("name", state_keys())
def test_full_size_model_on_the_meta_device(name):
    shapes = {key: tuple(shape) for key, shape in state_keys()[name].items()}
    meta = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    with torch.device("meta"):
        model = clip_model(clip_of_fc_clip(meta))
        tower = family_of(model).image_tower(model, colors=(CLIP_MEAN, CLIP_STD))
        made = FCClip(tower, detect_fc_clip(meta))
    layout = fc_clip_layout(made.settings, tower)
    assert_shapes(layout.shapes | optional_shapes(shapes), shapes)
    ours = {key: tuple(tensor.shape) for key, tensor in layout.from_published(meta).items()}
    assert ours == {key: tuple(tensor.shape) for key, tensor in made.state_dict().items()}
    if name == "fcclip_convnext_large":
        assert made.settings == FCClipSettings()
        assert round(sum(p.numel() for p in made.parameters() if p.requires_grad) / 1e6, 2) == 20.72
