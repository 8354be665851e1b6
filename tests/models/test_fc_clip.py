"""FC-CLIP as a whole, on tiny towers of both kinds; its published numbers are in ``tests/golden``."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.errors import ConfigError
from lexiseg.losses.segment_criterion import SegmentCriterion, SegmentLossSettings
from lexiseg.losses.segment_targets import segment_targets
from lexiseg.models.fc_clip import FCClip, FCClipSettings
from lexiseg.training.optim import OptimSettings
from lexiseg.types import ClassWords, Proposals
from stage_towers import KINDS, SMALL, fc_clip

each_kind = pytest.mark.parametrize("kind", KINDS)


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 64, 96, generator=torch.Generator().manual_seed(5))


def words() -> ClassWords:
    text = F.normalize(torch.randn(8, 16, generator=torch.Generator().manual_seed(6)), dim=-1)
    return ClassWords(
        text, torch.tensor([0, 0, 1, 2, 2, 2, 3, 4]), torch.tensor([True, False, False, True, False])
    )


@each_kind
@torch.no_grad()
def test_scores_are_the_released_formula_region_by_region(kind, tiny_clip) -> None:
    model, given = fc_clip(kind, tiny_clip), words()
    state = model.encode(images())
    found = model.classify(state, given)
    assert found.scores.shape == (2, 7, 5)
    assert state.masks.shape == (2, 7, 16, 24)
    void = F.normalize(model.classifier.nothing.weight[0], dim=0)
    for image in range(2):
        for region in range(7):
            trained, frozen = (F.normalize(v[image, region], dim=0) for v in (state.trained, state.frozen))
            groups = [(given.class_ids == k).nonzero().flatten() for k in range(5)]
            scale = min(model.classifier.logit_scale.exp().item(), 100)
            inside = [max(scale * given.text[row] @ trained for row in rows) for rows in groups]
            p_void = torch.stack([*inside, scale * void @ trained]).softmax(0)[-1]
            p_in = torch.stack(inside).softmax(0)
            scale = min(model.tower.logit_scale.exp().item(), 100)
            p_out = torch.stack(
                [max(scale * given.text[row] @ frozen for row in rows) for rows in groups]
            ).softmax(0)
            share = torch.where(given.seen, 0.4, 0.8) * state.visible[image, region]
            mixed = p_in ** (1 - share) * p_out**share
            p = torch.cat([mixed / mixed.sum() * (1 - p_void), p_void[None]]) + 1e-8
            p = p / p.sum()
            torch.testing.assert_close(found.scores[image, region], p[:-1], rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(found.nothing[image, region], p[-1], rtol=1e-4, atol=1e-6)


@each_kind
@torch.no_grad()
def test_images_do_not_see_each_other(kind, tiny_clip) -> None:
    model, batch = fc_clip(kind, tiny_clip), images(3)
    whole = model.classify(model.encode(batch), words())
    for index in range(3):
        alone = model.classify(model.encode(batch[index : index + 1]), words())
        torch.testing.assert_close(alone.masks[0], whole.masks[index], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(alone.scores[0], whole.scores[index], rtol=1e-4, atol=1e-5)


@each_kind
@torch.no_grad()
def test_training_and_evaluation_see_the_same(kind, tiny_clip) -> None:
    model = fc_clip(kind, tiny_clip)
    given, state = words(), model.encode(images())
    output = model.train()(images(), given)
    assert len(output.predictions) == SMALL["decoder_layers"] + 1
    last = output.predictions[-1]
    torch.testing.assert_close(last.masks, state.masks)
    inside = model.classifier.logits(state.trained, given)
    torch.testing.assert_close(last.class_logits, inside)
    assert not torch.allclose(output.predictions[0].masks, last.masks, atol=1e-3)
    rows = model(images(), given.text).predictions[-1].class_logits
    assert rows.shape[-1] == len(given.text) + 1, "plain text: each row is a class"
    torch.testing.assert_close(rows[..., :2].amax(-1), inside[..., 0])


@each_kind
@torch.no_grad()
def test_an_image_without_a_single_region(kind, tiny_clip) -> None:
    """Masks of 0 are nowhere above 0. A ResNet then has no say; a ConvNeXt gives every region the same embedding."""
    model = fc_clip(kind, tiny_clip)
    model.proposer.pixel_decoder.mask_projection.weight.zero_()
    model.proposer.pixel_decoder.mask_projection.bias.zero_()
    state = model.encode(images(1))
    assert not (state.masks > 0).any()
    found = model.classify(state, words())
    assert found.scores.isfinite().all()
    inside = model.classifier.logits(state.trained, words()).softmax(-1)
    alone = torch.allclose(found.scores, inside[..., :-1], atol=1e-6)
    assert alone == (kind == "ResNet")
    assert bool(state.visible.any()) == (kind == "ConvNeXt")
    if kind == "ConvNeXt":
        torch.testing.assert_close(state.frozen[0, 0], state.frozen[0, 1])


@each_kind
@torch.no_grad()
def test_one_region_alone(kind, tiny_clip) -> None:
    model = fc_clip(kind, tiny_clip, queries=1)
    found = model.classify(model.encode(images()), words())
    assert found.scores.shape == (2, 1, 5)
    torch.testing.assert_close(found.scores.sum(-1) + found.nothing, torch.ones(2, 1))
    assert found.maps.shape == (2, 5, 16, 24)


@torch.no_grad()
def test_shares_belong_to_seen_and_unseen_classes(tiny_clip) -> None:
    model = fc_clip("ConvNeXt", tiny_clip)
    state, given = model.encode(images()), words()
    usual = model.classify(state, given).scores
    model.settings = replace(model.settings, seen_share=0.0, unseen_share=0.0)
    trained = model.classify(state, given).scores
    inside = model.classifier.logits(state.trained, given).softmax(-1)[..., :-1]
    torch.testing.assert_close(trained, inside, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(usual, trained, atol=1e-3)
    model.settings = replace(model.settings, seen_share=0.4, unseen_share=0.4)
    same = model.classify(state, given).scores
    unseen = model.classify(state, replace(given, seen=torch.zeros(5, dtype=torch.bool))).scores
    torch.testing.assert_close(same, unseen)


@each_kind
def test_one_step_reaches_every_weight(kind, tiny_clip) -> None:
    model = fc_clip(kind, tiny_clip).train()
    labels = torch.randint(0, 5, (2, 4, 6), generator=torch.Generator().manual_seed(8))
    labels = labels.repeat_interleave(16, 1).repeat_interleave(16, 2)
    criterion = SegmentCriterion(SegmentLossSettings(points=101))
    loss = criterion(model(images(), words()).predictions, segment_targets(labels, 5))["loss"]
    loss.backward()
    quiet = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert not quiet
    assert not any(p.requires_grad or p.grad is not None for p in model.tower.parameters())


def test_class_scores_teach_the_pixels_and_never_the_masks(tiny_clip) -> None:
    model = fc_clip("ConvNeXt", tiny_clip).train()
    proposals = model.proposer(model.tower.stage_maps(images()))
    masks = proposals.masks.detach().clone().requires_grad_()
    pixels = proposals.pixels.detach().clone().requires_grad_()
    model.classifier.embed(Proposals(masks, proposals.embeddings, pixels)).sum().backward()
    assert masks.grad is None
    assert pixels.grad.any()


def test_norms_and_embeddings_are_spared_from_decay(tiny_clip) -> None:
    model = fc_clip("ConvNeXt", tiny_clip)
    decayed, spared = model.parameter_groups(OptimSettings(lr=3e-4, weight_decay=0.05, decay_norms=False))
    assert (decayed["lr"], decayed["weight_decay"]) == (3e-4, 0.05)
    assert (spared["lr"], spared["weight_decay"]) == (3e-4, 0.0)
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    names = {named[id(parameter)] for parameter in spared["params"]}
    assert "proposer.transformer.queries_embedder.weight" in names
    assert "classifier.nothing.weight" in names
    assert "proposer.pixel_decoder.adapter_1.1.bias" in names
    assert not names & {
        "proposer.pixel_decoder.level_embed",
        "classifier.logit_scale",
        "classifier.embedding.0.bias",
    }
    (all_of_them,) = model.parameter_groups(OptimSettings(decay_norms=True))
    assert len(all_of_them["params"]) == len(named) == len(decayed["params"]) + len(names)


def test_another_tower_is_refused() -> None:
    other = SimpleNamespace(kind="vision model")
    with pytest.raises(
        ConfigError, match="needs a CLIP with a ConvNeXt or ResNet or ViT; got a vision model"
    ):
        FCClip(other)


@torch.no_grad()
def test_a_vit_is_read_at_four_scales_and_pooled_patch_by_patch(tiny_clip) -> None:
    torch.manual_seed(5)
    tower = VisionTower(tiny_clip)
    model = FCClip(tower, FCClipSettings(**SMALL)).eval()
    side = tower.patch_size
    pictures = torch.randn(2, 3, 6 * side, 4 * side)
    maps, patches = model._maps(pictures)
    assert [each.shape[-2:] for each in maps] == [(24, 16), (12, 8), (6, 4), (3, 2)]
    torch.testing.assert_close(patches, tower.dense_features(pictures))
    state = model.encode(pictures)
    assert state.masks.shape == (2, SMALL["queries"], 24, 16)
    coarse = torch.nn.functional.interpolate(state.masks, size=(6, 4), mode="bilinear") > 0
    for image in range(2):
        for region in range(SMALL["queries"]):
            inside = coarse[image, region]
            assert bool(state.visible[image, region]) == bool(inside.any())
            if inside.any():
                expected = patches[image][:, inside].mean(1)
                torch.testing.assert_close(state.frozen[image, region], expected, rtol=1e-4, atol=1e-6)
    alone = model.encode(pictures[1:])
    torch.testing.assert_close(alone.masks, state.masks[1:], rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="no multiple"):
        model.encode(torch.zeros(1, 3, side + 1, side))


@each_kind
def test_an_image_that_32_does_not_divide_is_refused(kind, tiny_clip) -> None:
    with pytest.raises(ConfigError, match="image of 64×97 pixels is no multiple"):
        fc_clip(kind, tiny_clip).encode(torch.zeros(1, 3, 64, 97))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.seen_share: expected from 0 to 1"):
        FCClipSettings(seen_share=1.2)
    with pytest.raises(
        ConfigError, match=r"model.width: expected a multiple of 32 and of model.heads \(7\), got 64"
    ):
        FCClipSettings(width=64, heads=7)
