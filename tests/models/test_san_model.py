"""SAN as a whole: images apart, words, empty masks, towers, what trains."""

from dataclasses import replace

import pytest
import torch

import side_cases
from lexiseg.errors import ConfigError
from lexiseg.losses.segment_criterion import SegmentCriterion, SegmentLossSettings
from lexiseg.models.san import SAN
from lexiseg.training.optim import OptimSettings
from lexiseg.types import ClassWords, Proposals, SegmentTargets


@torch.no_grad()
def test_a_batch_is_its_images():
    made, images, words = side_cases.san(), side_cases.images(), ClassWords.plain(side_cases.words())
    both = made.classify(made.encode(images), words)
    for index in range(2):
        one = made.classify(made.encode(images[index, None]), words)
        torch.testing.assert_close(one.maps[0], both.maps[index], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one.nothing[0], both.nothing[index], rtol=1e-4, atol=1e-5)
    assert both.maps.shape == (2, 7, 4, 6)


@torch.no_grad()
def test_training_and_answer_agree():
    made, images, text = side_cases.san(), side_cases.images(), side_cases.words()
    output = made(images, text)
    assert len(output.predictions) == 2
    torch.testing.assert_close(output.logits, made.decode(made.encode(images), text).logits)
    named = made.classify(made.encode(images), ClassWords.plain(text))
    torch.testing.assert_close(named.scores.sum(-1) + named.nothing, torch.ones(2, 5))


@torch.no_grad()
def test_the_best_word_of_a_class_counts():
    made, text = side_cases.san(), side_cases.words(3)
    state = made.encode(side_cases.images())
    apart = made.classify(state, ClassWords.plain(text))
    joined = made.classify(
        state, ClassWords(text, torch.tensor([0, 1, 1]), torch.zeros(2, dtype=torch.bool), None)
    )
    odds = apart.scores / apart.nothing[..., None]
    expected = torch.stack([odds[..., 0], odds[..., 1:].amax(-1)], -1)
    torch.testing.assert_close(joined.scores / joined.nothing[..., None], expected, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_masks_without_a_pixel_and_one_with_all():
    made, words = side_cases.san(), ClassWords.plain(side_cases.words())
    state = made.encode(side_cases.images())
    empty = Proposals(torch.full_like(state.masks, -40.0), state.embeddings)
    assert made.classify(empty, words).maps.max() < 1e-12
    masks = empty.masks.clone()
    masks[:, 2] = 40
    one = made.classify(Proposals(masks, state.embeddings), words)
    torch.testing.assert_close(one.maps, one.scores[:, 2, :, None, None].expand_as(one.maps))


def test_padding_is_seen_like_any_pixel():
    made, images = side_cases.san(), side_cases.images()
    with torch.no_grad():
        assert torch.equal(made.encode(images, content=(50, 70)).masks, made.encode(images).masks)


def test_what_is_saved_is_what_trains():
    made = side_cases.san()
    assert made.state_dict().keys() == {name for name, p in made.named_parameters() if p.requires_grad}
    assert not any(parameter.requires_grad for parameter in made.tower.parameters())
    assert made.to(torch.float64).tower.positions.dtype == torch.float64


def test_it_learns():
    made, images, text = side_cases.san(), side_cases.images(), side_cases.words()
    torch.manual_seed(7)
    targets = [SegmentTargets(torch.tensor([1, 4]), torch.rand(2, *side_cases.SIZE) > 0.5) for _ in range(2)]
    criterion = SegmentCriterion(SegmentLossSettings(points=64))
    optimizer = torch.optim.AdamW(made.parameter_groups(OptimSettings(lr=3e-3)))
    losses = []
    for _ in range(12):
        loss = criterion(made(images, text).predictions, targets)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(parameter.grad is not None for parameter in made.parameters())
    assert losses[-1] < 0.8 * losses[0]


def test_groups():
    made = side_cases.san()
    plain = OptimSettings(lr=0.3, weight_decay=0.2)
    names = {id(parameter): name for name, parameter in made.named_parameters()}

    def spared(optim):
        groups = made.parameter_groups(optim)
        assert all(group["lr"] == 0.3 for group in groups)
        assert sorted(names) == sorted(id(p) for group in groups for p in group["params"])
        return {names[id(p)] for group in groups if group["weight_decay"] == 0 for p in group["params"]}

    embeddings = {
        "early.positions",
        "proposer.queries",
        "proposer.query_positions",
        "proposer.positions",
    }
    norms = {name for name in names.values() if ".norm1." in name or ".norm2." in name}
    assert spared(plain) == embeddings
    assert spared(replace(plain, decay_norms=False)) == embeddings | norms
    assert len(norms) == 12


def test_a_tower_without_blocks_to_spare():
    with pytest.raises(ConfigError, match=r"2 leave none of the CLIP's 2 blocks .* give at most 1"):
        SAN(side_cases.tower(depth=2), side_cases.SETTINGS)


@pytest.mark.parametrize(("flag", "value"), [("kind", "ConvNeXt"), ("takes_prompts", False)])
def test_another_kind_of_tower(monkeypatch, flag, value):
    tower = side_cases.tower()
    monkeypatch.setattr(tower, flag, value, raising=False)
    with pytest.raises(ConfigError, match="model 'san' needs a CLIP"):
        SAN(tower, side_cases.SETTINGS)
