"""ZegFormer: branches put together again from its parts, what trains, photographs without a region."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from lexiseg.errors import ConfigError
from lexiseg.losses.segment_criterion import MASKFORMER, SegmentCriterion
from lexiseg.losses.segment_targets import segment_targets
from lexiseg.models.zegformer import ZegFormer, ZegFormerSettings
from lexiseg.training.optim import OptimSettings
from region_model_cases import CLASSES, HEIGHT, SIZES, SWIN, WIDTH, photographs, spoken, tiny_tower

BRANCHES = ("segment", "image", "fused", "fused_all")


def model(branch="fused", **changes):
    tower = tiny_tower()
    torch.manual_seed(5)
    return ZegFormer(tower, ZegFormerSettings(branch=branch, **SIZES | changes)).eval()


def answer(network, images, words, content=None):
    with torch.no_grad():
        return network.classify(network.encode(images, content), words)


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_batch_of_two_is_two_of_one(branch):
    network, words = model(branch), spoken(16)
    images = photographs(network)
    together = answer(network, images, words)
    assert together.scores.shape == (2, 7, CLASSES)
    assert together.maps.shape == (2, CLASSES, HEIGHT // 4, WIDTH // 4)
    for index in range(2):
        alone = answer(network, images[index : index + 1], words)
        torch.testing.assert_close(alone.scores[0], together.scores[index], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(alone.masks[0], together.masks[index], rtol=1e-3, atol=1e-4)


def test_branches_are_made_of_their_parts():
    network, words = model("image", fusion_weight=0.6), spoken(16)
    images = photographs(network)
    state = network.encode(images)
    with torch.no_grad():
        segment = network.classifier(state.proposals.embeddings, words.text)
        looks = 100 * F.normalize(state.crops.vectors, dim=-1) @ words.crop_text.T
    p = segment.softmax(-1)[..., :-1]
    q = torch.cat([looks, segment[..., -1:]], dim=-1).softmax(-1)[..., :-1]
    mean = q[..., words.seen].mean(-1, keepdim=True)
    expected = {
        "segment": p,
        "image": q,
        "fused": torch.where(words.seen, p**0.6 * mean**0.4, p**0.4 * q**0.6),
        "fused_all": p**0.4 * q**0.6,
    }
    for branch, scores in expected.items():
        network.settings = replace(network.settings, branch=branch)
        crops = None if branch == "segment" else state.crops
        found = network.classify(replace(state, crops=crops), words)
        torch.testing.assert_close(found.scores, scores.detach(), rtol=1e-4, atol=1e-6)
    without = network.classify(state, replace(words, crop_text=None))
    torch.testing.assert_close(
        without.scores, network.classify(state, replace(words, crop_text=words.text)).scores
    )


def test_the_segment_branch_never_asks_clip(monkeypatch):
    network = model("segment")
    monkeypatch.setattr(type(network.tower), "forward", None)
    answer(network, photographs(network), spoken(16))
    network(photographs(network), spoken(16).text)


def test_a_class_of_two_words_has_their_mean():
    network, words = model("segment"), spoken(16)
    first, second = F.normalize(torch.randn(2, 16), dim=-1)
    twice = replace(
        words,
        text=torch.cat([words.text[:2], first[None], second[None], words.text[3:]]),
        class_ids=torch.tensor([0, 1, 2, 2, 3, 4]),
        crop_text=None,
    )
    text = words.text.clone()
    text[2] = F.normalize(first + second, dim=-1)
    images = photographs(network)
    found, expected = answer(network, images, twice), answer(network, images, replace(words, text=text))
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("branch", BRANCHES)
def test_photographs_without_a_region(branch):
    network, words = model(branch), spoken(16)
    state = network.encode(photographs(network))
    empty = replace(state.proposals, masks=torch.full_like(state.proposals.masks, -50))
    if state.crops is not None:
        state = replace(state, crops=network._look(photographs(network), empty, None))
    found = network.classify(replace(state, proposals=empty), words)
    assert found.scores.isfinite().all()
    assert found.maps.abs().max() < 1e-15


@pytest.mark.parametrize("kind", ["resnet", "swin"])
def test_it_trains_and_the_tower_does_not(kind):
    network = model("fused", **(SWIN if kind == "swin" else {})).train()
    assert not {id(p) for p in network.tower.parameters()} & {id(p) for p in network.parameters()}
    images, text = photographs(network), spoken(16).text
    output = network(images, text)
    assert len(output.predictions) == 3
    assert output.logits.shape == (2, CLASSES, HEIGHT // 4, WIDTH // 4)
    torch.manual_seed(3)
    targets = segment_targets(torch.randint(0, CLASSES, (2, HEIGHT, WIDTH)), CLASSES)
    SegmentCriterion(MASKFORMER)(output.predictions, targets)["loss"].backward()
    assert not [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not [p for p in network.tower.parameters() if p.grad is not None]


def test_the_last_prediction_is_the_segment_branch():
    network, words = model("segment"), spoken(16)
    images = photographs(network)
    with torch.no_grad():
        output = network(images, words.text)
    torch.testing.assert_close(output.logits, answer(network, images, words).maps, rtol=1e-4, atol=1e-5)


def test_groups_of_parameters():
    network = model("segment", backbone_lr_scale=0.2)
    optim = OptimSettings(lr=1e-3, weight_decay=0.3, decay_norms=False)
    named = {id(p): name for name, p in network.named_parameters()}
    seen = {}
    for group in network.parameter_groups(optim):
        for parameter in group["params"]:
            seen[named[id(parameter)]] = (round(group["lr"], 9), group["weight_decay"])
    assert seen.keys() == {name for name, p in network.named_parameters() if p.requires_grad}
    for name, (lr, decay) in seen.items():
        assert lr == (2e-4 if ".backbone." in name else 1e-3), name
        free = "norm" in name or "queries_embedder" in name or (".1." in name and "fpn" in name)
        if "fpn" in name:
            free = name.split(".")[-2] == "1"
        assert decay == (0 if free else 0.3), name
    kept = network.parameter_groups(OptimSettings(weight_decay=0.3, decay_norms=True))
    assert {group["weight_decay"] for group in kept} == {0.3}


def test_full_size():
    """MaskFormer with ResNet-50 has 41.3 M parameters with 171 classes; here E and a background instead of a linear layer."""
    tower = tiny_tower()
    with torch.device("meta"):
        network = ZegFormer(tower, ZegFormerSettings())
    count = sum(p.numel() for p in network.parameters() if p.requires_grad)
    projection = 257 * 16 + 16
    decoder = 6 * (2 * 4 * 257 * 256 + 257 * 2048 + 2049 * 256 + 3 * 512) + 512
    pixels = 9 * 256 * 2048 + 256 * (256 + 512 + 1024) + 3 * 9 * 256 * 256 + 7 * 512 + 9 * 256 * 256 + 256
    rest = 100 * 256 + 2049 * 256 + 3 * 257 * 256
    assert count == 23_454_912 + projection + decoder + pixels + rest


def test_settings_that_it_cannot_have():
    with pytest.raises(ConfigError, match=r"model.branch: expected one of segment, image, fused, fused_all"):
        ZegFormerSettings(branch="both")
    with pytest.raises(ConfigError, match="model.crop: expected one of mask, crop, cropmask"):
        ZegFormerSettings(crop="region")
