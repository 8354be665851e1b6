"""SAN equals the published implementation on the same random weights.

Runs on every folder under ``two-stage`` that holds ``san_weights.pt``, for every file that lies beside it.
"""

import json
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from fc_clip_cases import batch, folders_with, load, photographs
from published_cases import assert_close, full_size_masks, semantic_map
from san_cases import FOLDERS, WEIGHTS, clip, model, rows, settings, state_keys

from lexiseg.checkpoints.layouts.san import (
    CAUSAL_MASK,
    CLASS_WEIGHTS,
    clip_in_san,
    clip_of_san,
    detect_san,
    optional_shapes,
    san_layout,
)
from lexiseg.clip.formats.openai import config_from_openai
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.constants import IGNORE_INDEX
from lexiseg.losses.segment_criterion import SegmentCriterion, SegmentLossSettings
from lexiseg.losses.segment_targets import segment_targets
from lexiseg.models.san import SAN
from lexiseg.models.san_settings import SAN_L14, SANSettings
from lexiseg.ops.grid import map_to_tokens
from lexiseg.ops.shadow_attention import shadow_mask
from lexiseg.training.optim import OptimSettings
from lexiseg.types import ClassWords
from replayed_draws import replayed
from support import merged_maps

EVALUATED = [(folder, name) for folder in folders_with("san_eval.pt") for name in load(folder, "san_eval.pt")]
TRAINED = folders_with("san_train.pt")
RATES = folders_with("san_optim_groups.json")
KEYS = "attn.qkv.bias"
"""Its middle third: the gradient is zero in theory, rounding noise in numbers."""

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not FOLDERS, reason="LEXISEG_GOLDEN names no two-stage folder"),
]

each = pytest.mark.parametrize("folder", FOLDERS, ids=str)
each_case = pytest.mark.parametrize(("folder", "name"), EVALUATED, ids=str)


def case(folder, name):
    return load(folder, "san_eval.pt")[name]


@each
def test_words(folder):
    text, frozen = load(folder, "san_text.pt"), clip(folder)
    names = tuple((name.strip(),) for name in text["vocabulary"])
    embedded = Vocabulary(names, tuple(text["templates"])).embed(frozen)
    assert_close(embedded.vectors, text["rows"][:-1], "words")
    nothing = F.normalize(model(folder).classifier.nothing, dim=-1)
    assert_close(nothing, text["rows"][-1:], "nothing")
    assert model(folder).settings.scale == pytest.approx(float(text["logit_scale_exp"]))


@each
def test_layout_holds_every_key_and_gives_the_same_bytes(folder):
    published, made = load(folder, WEIGHTS)["state_dict"], model(folder)
    layout = san_layout(made.settings, made.tower)
    found = {name: tuple(tensor.shape) for name, tensor in published.items()}
    assert_shapes(layout.shapes | optional_shapes(found), found)
    contained = clip_in_san(clip_of_san(published), made.settings.early_blocks)
    ours = contained | layout.to_published(made.state_dict())
    assert ours.keys() == published.keys() - {CLASS_WEIGHTS, CAUSAL_MASK}
    for name, tensor in ours.items():
        assert tensor.contiguous().numpy().tobytes() == published[name].contiguous().numpy().tobytes(), name


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
    config, found = load(folder, WEIGHTS)["config"], settings(folder)
    assert (found.queries, found.width, found.depth) == (config["N"], config["d"], config["depth"])
    assert (found.decoder_hidden, found.decoder_width) == (config["mc"], config["ec"])
    assert found.grid * found.patch == config["side_img"]
    assert found.early_blocks == config["first"]
    assert clip(folder).tower.depth == config["clip_layers"]


@each_case
@torch.no_grad()
def test_side_adapter(folder, name):
    made, expected = model(folder), case(folder, name)
    images = batch(made, photographs(expected))
    early = made.early(made.tower, images)
    for number, tokens in early.blocks.items():
        assert_close(
            tokens[:, :1].transpose(0, 1), expected[f"clip/{number}_cls_token"], f"class token {number}"
        )
        maps = map_to_tokens(expected[f"clip/{number}"])
        assert_close(tokens[:, 1:], maps, f"CLIP after block {number}")
        assert expected[f"clip/{number}"].shape[-2:] == early.grid
    proposer, seen = made.proposer, {}
    fuse, hooks = proposer._fuse, []

    def recording_fuse(number, tokens, *rest):
        seen[f"side/block{number}"] = tokens
        seen[f"side/after_fuse{number}"] = fuse(number, tokens, *rest)
        return seen[f"side/after_fuse{number}"]

    named = {"side/patch_embed": proposer.patches, "decoder/query_mlp": proposer.query_decoder}
    for key, module in (named | {"decoder/pix_mlp": proposer.pixel_decoder}).items():
        hooks.append(module.register_forward_hook(lambda _m, _i, out, key=key: seen.update({key: out})))
    with patch.object(proposer, "_fuse", recording_fuse):
        found = proposer(images, early, last_only=True)
    for hook in hooks:
        hook.remove()
    seen["side/patch_embed"] = map_to_tokens(seen["side/patch_embed"])
    seen["decoder/mask_preds"] = found.masks
    compared = [key for key in expected if key in seen]
    assert {"side/block1", "side/after_fuse0", "decoder/pix_mlp", "decoder/mask_preds"} <= set(compared)
    for key in compared:
        assert_close(seen[key], expected[key], key)


@each_case
@torch.no_grad()
def test_shadow_tokens(folder, name):
    made, expected = model(folder), case(folder, name)
    images = batch(made, photographs(expected))
    early = made.early(made.tower, images)
    found = made.proposer(images, early)
    assert_close(made.classifier.pixels(found.pixels), expected["decoder/attn_mlp"], "decoded pixels")
    bias = made.classifier.bias(found)
    assert_close(bias, expected["decoder/attn_bias"], "bias")
    blocks, masks, mlp = [], [], made.tower.mlp

    def recording_mlp(index, tokens):
        added = mlp(index, tokens)
        blocks.append((tokens + added).transpose(0, 1))
        return added

    def recording_mask(given):
        masks.append(shadow_mask(given))
        return masks[-1]

    with (
        patch.object(made.tower, "mlp", recording_mlp),
        patch("lexiseg.models.region_classifiers.shadow_tokens.shadow_mask", recording_mask),
    ):
        embeddings = made.classifier.embed(found, early, made.tower)
    assert_close(masks[0].flatten(0, 1), expected["rec/attn_mask"], "mask")
    for number, tokens in enumerate(blocks):
        assert_close(tokens, expected[f"rec/block{number}"], f"block {number}")
    assert f"rec/block{len(blocks)}" not in expected
    assert_close(embeddings, expected["rec/mask_emb"], "embeddings")
    logits = made.classifier.logits(embeddings, ClassWords.plain(rows(folder)))
    for image, ours in enumerate(logits):
        assert_close(ours, expected[f"logits/{image}"], "logits")


@each_case
@torch.no_grad()
def test_maps(folder, name):
    made, expected = model(folder), case(folder, name)
    images = photographs(expected)
    padded = batch(made, images)
    named = made.classify(made.encode(padded), ClassWords.plain(rows(folder)))
    assert_close(named.scores.sum(-1) + named.nothing, torch.ones(named.nothing.shape), "scores")
    for index, image in enumerate(images):
        sizes = {
            "padded": tuple(padded.shape[-2:]),
            "content": tuple(image.shape[1:]),
            "size": tuple(expected[f"input/{index}/out_size"].tolist()),
        }
        count = len(named.masks[index])
        masks = merged_maps(full_size_masks(named.masks[index], **sizes), sizes["size"], count)
        assert_close(masks, expected[f"mask_full/{index}"], f"masks {index}")
        ours = semantic_map(named.masks[index], named.scores[index], **sizes)
        assert_close(ours, expected[f"sem_seg/{index}"], f"map {index}")
        first, second = expected[f"sem_seg/{index}"].topk(2, dim=0).values
        clear = first - second > 1e-5
        assert torch.equal(ours.argmax(0)[clear], expected[f"argmax/{index}"].long()[clear])


def criterion(folder):
    return SegmentCriterion(SegmentLossSettings(points=load(folder, WEIGHTS)["config"]["P"]))


def targets(folder, file, images):
    """Labels as segments; the padding belongs to none."""
    labels = torch.full((len(images), *images.shape[-2:]), IGNORE_INDEX)
    for index, label in enumerate(labels):
        given = file[f"input/{index}/label"].long()
        label[: given.shape[0], : given.shape[1]] = given
    found = segment_targets(labels, load(folder, WEIGHTS)["config"]["K"])
    for index, one in enumerate(found):
        assert one.classes.tolist() == file[f"input/{index}/classes"].tolist()
    return found


@pytest.mark.parametrize("folder", TRAINED, ids=str)
def test_losses_and_gradients(folder):
    file, made = load(folder, "san_train.pt"), model(folder)
    images = batch(made, photographs(file))
    goals, judged, matched = targets(folder, file, images), criterion(folder), []
    match = judged.masks.match

    def recording_match(*given):
        matched.append(match(*given))
        return matched[-1]

    output = made(images, rows(folder))
    *earlier, last = output.predictions
    for number, prediction in enumerate((last, *earlier)):  # the recorded order is that of the matching
        assert_close(prediction.class_logits, file["steps"][f"pred_logits#{number}"], f"logits {number}")
        assert_close(prediction.masks, file["steps"][f"pred_masks#{number}"], f"masks {number}")
    with replayed(file["random_draws"]), patch.object(judged.masks, "match", recording_match):
        losses = judged(output.predictions, goals)
    for ours, theirs in zip(matched, file["matching"], strict=True):
        for mine, published in zip(ours, theirs, strict=True):
            assert [part.tolist() for part in mine] == [part.tolist() for part in published]
    for name, value in file["losses_weighted"].items():
        assert_close(losses[name], value, name)
    assert losses.keys() - {"loss"} == file["losses_weighted"].keys()
    assert_close(losses["loss"].detach(), file["total"], "total")
    made.zero_grad()
    losses["loss"].backward()
    parameters = dict(made.named_parameters())
    names = renamed(made)
    assert names.keys() == set(file["trainable"])
    for name, ours in names.items():
        gradient, theirs = parameters[ours].grad, file["grad"][name]
        if name.endswith(KEYS):  # without the middle third
            gradient, theirs = (torch.cat(each.chunk(3)[::2]) for each in (gradient, theirs))
        assert_close(gradient, theirs, name)
    norm = torch.stack([parameter.grad.norm() for parameter in made.parameters()]).norm()
    assert_close(norm, file["grad_norm"], "norm")
    made.zero_grad()
    assert not any(parameter.requires_grad for parameter in made.tower.parameters())


def renamed(made):
    """Published name to ours."""
    layout = san_layout(made.settings, made.tower)
    return {row.name: row.ours[0] for row in layout.rows if row.ours}


@pytest.mark.parametrize("folder", RATES, ids=str)
def test_rates_and_decay(folder):
    published = json.loads((folder / "san_optim_groups.json").read_text())["lr_and_weight_decay"]
    made = model(folder)
    lr = max(rate for rate, _ in published.values())
    decay = max(each for _, each in published.values())
    groups = made.parameter_groups(OptimSettings(lr=lr, weight_decay=decay, decay_norms=False))
    found = {
        id(parameter): [group["lr"], group["weight_decay"]]
        for group in groups
        for parameter in group["params"]
    }
    parameters = dict(made.named_parameters())
    assert published == {name: found[id(parameters[ours])] for name, ours in renamed(made).items()}
    assert len(found) == len(parameters)


@pytest.mark.parametrize("name", state_keys())
def test_full_size_model_on_the_meta_device(name):
    """Every key of the released files, and the parameters that the released logs count."""
    shapes = {key: tuple(shape) for key, shape in state_keys()[name].items()}
    meta = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    meta["ov_classifier.logit_scale"] = torch.tensor(100.0).log()
    with torch.device("meta"):
        from transformers import CLIPModel

        state = clip_of_san(meta)
        tower = VisionTower(CLIPModel(config_from_openai(state, activation="quick_gelu")))
        made = SAN(tower, detect_san(meta, scale=100.0))
    layout = san_layout(made.settings, tower)
    assert_shapes(layout.shapes | optional_shapes(shapes), shapes)
    ours = {key: tuple(tensor.shape) for key, tensor in layout.from_published(meta).items()}
    assert ours == {key: tuple(tensor.shape) for key, tensor in made.state_dict().items()}
    released = {"san_vit_b_16": (SANSettings(), 8.37, 157.8), "san_vit_large_14": (SAN_L14, 9.32, 436.7)}
    known, trained, everything = released[name]
    assert made.settings == known
    count = sum(parameter.numel() for parameter in made.parameters())
    assert round(count / 1e6, 2) == trained
    frozen = sum(
        tensor.numel() for key, tensor in clip_of_san(meta).items() if key != "visual.positional_embedding"
    )
    assert round((count + frozen) / 1e6, 1) == everything
