"""OVSeg: branches put together again from its parts, regions that CLIP is not shown, the demonstration's choice."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from lexiseg.errors import ConfigError
from lexiseg.losses.segment_criterion import MASKFORMER, SegmentCriterion
from lexiseg.losses.segment_targets import segment_targets
from lexiseg.models.ovseg import OVSeg, OVSegSettings
from lexiseg.training.optim import OptimSettings
from region_model_cases import CLASSES, HEIGHT, SIZES, SWIN, WIDTH, photographs, spoken, tiny_tower

BRANCHES = ("ensemble", "clip", "segment")


def model(branch="ensemble", **changes):
    tower = tiny_tower()
    torch.manual_seed(5)
    sizes = SIZES | SWIN | {"class_hidden": 13, "prompt_depth": 2}
    network = OVSeg(tower, OVSegSettings(branch=branch, **sizes | changes)).eval()
    if network.crops.prompts is not None:
        network.crops.prompts.start()
    return network


def answer(network, images, words, content=None):
    with torch.no_grad():
        return network.classify(network.encode(images, content), words)


def with_masks(network, images, masks, content=None):
    with torch.no_grad():
        found = network.proposer(images)
        return network.look(images, replace(found, masks=masks), content)


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("prompt_depth", [0, 2])
def test_a_batch_of_two_is_two_of_one(branch, prompt_depth):
    network, words = model(branch, prompt_depth=prompt_depth), spoken(16)
    images = photographs(network)
    together = answer(network, images, words, (HEIGHT - 5, WIDTH - 11))
    assert together.maps.shape == (2, CLASSES, HEIGHT // 4, WIDTH // 4)
    for index in range(2):
        alone = answer(network, images[index : index + 1], words, (HEIGHT - 5, WIDTH - 11))
        torch.testing.assert_close(alone.scores[0], together.scores[index], rtol=1e-3, atol=1e-4)


def test_branches_are_made_of_their_parts():
    network, words = model(clip_weight=0.7), replace(spoken(16), crop_text=None)
    images = photographs(network)
    masks = network.proposer(images).masks.detach()
    masks[0, 2] = -20
    state = with_masks(network, images, masks)
    with torch.no_grad():
        segment = network.classifier(state.proposals.embeddings, words.text).softmax(-1)[..., :-1]
        clip = (100 * F.normalize(state.crops.vectors, dim=-1) @ words.text.T).softmax(-1)
    visible = state.crops.visible[..., None]
    assert not visible[0, 2]
    shown = segment**0.3 * clip**0.7
    expected = {
        ("ensemble", "one"): torch.where(visible, shown, segment**0.3),
        ("ensemble", "segment"): torch.where(visible, shown, segment),
        ("clip", "one"): torch.where(visible, clip, torch.zeros(())),
    }
    for (branch, instead), scores in expected.items():
        network.settings = replace(network.settings, branch=branch, not_shown=instead)
        found = network.classify(state, words)
        torch.testing.assert_close(found.scores, scores, rtol=1e-4, atol=1e-6)
    network.settings = replace(network.settings, branch="segment")
    torch.testing.assert_close(network.classify(replace(state, crops=None), words).scores, segment)


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("valid", [0, 1])
def test_no_region_to_be_seen_and_exactly_one(branch, valid):
    network, words = model(branch), spoken(16)
    images = photographs(network)
    masks = torch.full((2, 7, HEIGHT // 4, WIDTH // 4), -30.0)
    masks[:, :valid, 3:9, 4:15] = 6
    found = network.classify(with_masks(network, images, masks), words)
    assert found.scores.isfinite().all()
    strongest = found.maps.flatten(1).amax(1)
    assert (strongest > 1e-8).all() if valid else (strongest < 1e-11).all()
    if branch == "clip":
        assert not found.scores[:, valid:].any()


def test_a_region_in_the_padding_alone_is_not_seen():
    network = model()
    images = photographs(network)
    masks = torch.full((2, 7, HEIGHT // 4, WIDTH // 4), -30.0)
    masks[:, 0, :, -2:] = 6  # the last 8 columns of pixels
    assert with_masks(network, images, masks).crops.visible[:, 0].all()
    assert not with_masks(network, images, masks, (HEIGHT, WIDTH - 12)).crops.visible.any()


def test_the_demonstration_draws_each_classs_best_region():
    network, words = model("clip", drawn="best", mask_threshold=0.35), spoken(16)
    images = photographs(network)
    state = network.encode(images)
    network.settings = replace(network.settings, drawn="all")
    plain = network.classify(state, words)
    network.settings = replace(network.settings, drawn="best")
    found = network.classify(state, words)
    masks = F.interpolate(plain.masks, size=(HEIGHT, WIDTH), mode="bilinear", align_corners=False)
    expected = torch.zeros(2, CLASSES, HEIGHT, WIDTH)
    for b in range(2):
        best = {int(plain.scores[b, :, k].argmax()) for k in range(CLASSES)}
        for n in best:
            expected[b] += plain.scores[b, n].view(-1, 1, 1) * (masks[b, n].sigmoid() > 0.35)
    torch.testing.assert_close(found.maps, expected)


def test_it_trains_and_prompts_and_tower_do_not():
    network = model().train()
    output = network(photographs(network), spoken(16).text)
    targets = segment_targets(torch.randint(0, CLASSES, (2, HEIGHT, WIDTH)), CLASSES)
    SegmentCriterion(MASKFORMER)(output.predictions, targets)["loss"].backward()
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert {name for name, _ in network.named_parameters()} - trained == {"crops.prompts.tokens"}
    assert not [n for n, p in network.named_parameters() if n in trained and p.grad is None]
    assert not [p for p in network.tower.parameters() if p.grad is not None]
    assert "crops.prompts.tokens" in network.state_dict()
    grouped = [p for group in network.parameter_groups(OptimSettings()) for p in group["params"]]
    assert len(grouped) == len(trained)


def test_tables_of_relative_positions_are_not_decayed():
    network = model()
    named = {id(p): name for name, p in network.named_parameters()}
    free = [
        named[id(p)]
        for group in network.parameter_groups(OptimSettings(weight_decay=0.3, decay_norms=False))
        if group["weight_decay"] == 0
        for p in group["params"]
    ]
    assert sum(name.endswith("relative_position_bias_table") for name in free) == 5


def test_settings_that_it_cannot_have():
    with pytest.raises(ConfigError, match="model.clip_weight: expected from 0 to 1, got 1.5"):
        OVSegSettings(clip_weight=1.5)
    with pytest.raises(ConfigError, match="at most the tower's 3 blocks, got 4"):
        model(prompt_depth=4)
