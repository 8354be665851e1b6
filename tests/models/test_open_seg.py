"""OpenSeg as a network: shapes, batches, words, and what trains."""

import pytest
import torch
import torch.nn.functional as F

import program_cases
from lexiseg.errors import ConfigError
from lexiseg.losses.open_seg_criterion import OpenSegCriterion, OpenSegLossSettings
from lexiseg.losses.segment_targets import segment_targets
from lexiseg.models.open_seg import OpenSeg, OpenSegSettings
from lexiseg.ops.soft_regions import soft_region_means
from lexiseg.types import ClassWords

EMBED = 13
SMALL = program_cases.SMALL_OPEN_SEG


class Tower(torch.nn.Module):
    embed_dim = EMBED


def build(**settings):
    torch.manual_seed(3)
    return OpenSeg(Tower(), OpenSegSettings(**{**SMALL, **settings})).eval()


def words(count):
    return F.normalize(torch.randn(count, EMBED, generator=torch.Generator().manual_seed(1)), dim=1)


def images(count, height=64, width=96):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_regions_their_vectors_and_their_classes():
    model, text = build(), words(7)
    state = model.encode(images(2))
    assert state.proposals.masks.shape == (2, 5, 16, 24)
    assert state.features.shape == (2, EMBED, 16, 24)
    read = torch.einsum("bnd,bdhw->bnhw", state.proposals.embeddings, state.proposals.pixels)
    torch.testing.assert_close(state.proposals.masks, read)
    means = soft_region_means(state.proposals.masks.sigmoid(), state.features)
    torch.testing.assert_close(state.embeddings, means)
    found = model.classify(state, ClassWords.plain(text))
    expected = (F.normalize(means, dim=-1) @ text.T / 0.5).softmax(-1)
    torch.testing.assert_close(found.scores, expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(model.decode(state, text).logits, found.maps)
    torch.testing.assert_close(model(images(2), text).logits, found.maps)


@torch.no_grad()
def test_one_photograph_as_two():
    model, text = build(), words(3)
    whole = model.decode(model.encode(images(2)), text).logits
    alone = model.decode(model.encode(images(2)[1:]), text).logits
    torch.testing.assert_close(alone, whole[1:], rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_synonyms_are_averaged():
    model, text = build(), words(3)
    state = model.encode(images(1))
    classes = ClassWords(text, torch.tensor([0, 0, 1]), torch.zeros(2, dtype=torch.bool))
    mean = F.normalize(text[0] + text[1], dim=0)
    plain = model.classify(state, ClassWords.plain(torch.stack([mean, text[2]])))
    torch.testing.assert_close(model.classify(state, classes).scores, plain.scores)


@torch.no_grad()
def test_pixels_instead_of_regions():
    model, regions, text = build(reading="pixels"), build(), words(7)
    for flag in ("names_regions", "depends_on_text", "words_together"):
        assert getattr(regions, flag)
        assert not getattr(model, flag)
    assert (regions.activation, model.activation) == ("scores", "linear")
    state = model.encode(images(2))
    expected = torch.einsum("bdhw,kd->bkhw", F.normalize(state.features, dim=1), text) / 0.5
    torch.testing.assert_close(model.decode(state, text).logits, expected)
    torch.testing.assert_close(model.decode(state, text[2:4]).logits, expected[:, 2:4])
    torch.testing.assert_close(model(images(2), text).logits, regions(images(2), text).logits)


@torch.no_grad()
def test_regions_without_pixels_and_one_that_has_some():
    model, text = build(), words(3)
    state = model.encode(images(1))
    state.proposals.masks.fill_(-1e4)
    nothing = state._replace(embeddings=model.classifier.embed(state.proposals, state.features))
    scores = model.classify(nothing, ClassWords.plain(text)).scores
    torch.testing.assert_close(scores, torch.full_like(scores, 1 / 3))
    assert not model.decode(nothing, text).logits.any()
    state.proposals.masks[0, 2, 0, 0] = 1e4
    one = model.classifier.embed(state.proposals, state.features)
    torch.testing.assert_close(one[0, 2], state.features[0, :, 0, 0])


def test_all_of_it_trains():
    model = build().train()
    labels = torch.arange(3).repeat_interleave(2 * 64 * 32).view(2, 64, 96)
    labels[1, :, :50] = 255
    output = model(images(2), words(3))
    criterion = OpenSegCriterion(OpenSegLossSettings(keep_words=1.0), temperature=model.settings.temperature)
    criterion(output.predictions, segment_targets(labels, 3))["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_grey_is_zero():
    grey = build().normalize(torch.full((1, 3, 2, 2), 128.0))
    assert grey.abs().max() < 1e-6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": 14}, "model.features: expected a multiple of 4, got 14"),
        ({"query_heads": 5}, "model.features: expected a multiple of 5, got 12"),
        ({"depths": (1, 2)}, "model.depths: expected 4 whole numbers"),
        ({"reading": "words"}, "model.reading: expected one of regions, pixels"),
        ({"queries": 0}, "model.queries: expected at least 1"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        OpenSegSettings(**{**SMALL, **settings})
