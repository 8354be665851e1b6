"""Backbones: strides, fixed batch norms, what trains, DeepLab's stem, and settings that fit no network."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lexiseg.errors import ConfigError
from lexiseg.models.proposers.backbone import Backbone, BackboneSettings
from region_model_cases import SWIN

RESNET = {"backbone_width": 16, "stem_width": 8, "backbone_depths": (2, 1, 1, 3)}
KINDS = {
    "resnet": RESNET,
    "deep": RESNET | {"stem": "deep", "last_dilations": (1, 2, 4)},
    "swin": SWIN | {"backbone_width": 16, "backbone_depths": (2, 1, 1, 1)},
}


def backbone(kind, **changes):
    torch.manual_seed(0)
    return Backbone(BackboneSettings(**KINDS[kind] | changes)).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_maps_halve_their_side(kind):
    network = backbone(kind)
    maps = network(torch.randn(2, 3, 64, 160))
    assert [tuple(each.shape) for each in maps] == [
        (2, 16, 16, 40),
        (2, 32, 8, 20),
        (2, 64, 4, 10),
        (2, 128, 2, 5),
    ]
    assert network.channels == (16, 32, 64, 128)
    sum(each.sum() for each in maps).backward()
    assert not [name for name, each in network.named_parameters() if each.grad is None]


@pytest.mark.parametrize("kind", ["resnet", "deep"])
def test_batch_norms_are_fixed(kind):
    network = backbone(kind).train()
    assert not [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert not [name for name, each in network.named_buffers() if each.requires_grad]
    copy.deepcopy(network)
    before = {name: each.clone() for name, each in network.named_buffers()}
    images = torch.randn(2, 3, 64, 96)
    alone = network(images[:1])
    together = network(images)
    for one, both in zip(alone, together, strict=True):
        torch.testing.assert_close(one, both[:1], rtol=1e-4, atol=1e-4)
    assert all(torch.equal(each, before[name]) for name, each in network.named_buffers())


def naive_norm(inputs, norm):
    parts = (each.view(1, -1, 1, 1) for each in (norm.weight, norm.bias, norm.running_mean, norm.running_var))
    weight, bias, mean, variance = parts
    return (inputs - mean) / (variance + 1e-5).sqrt() * weight + bias


def naive_unit(unit, inputs, stride=1, dilation=1, *, relu=True):
    weight = unit.convolution.weight
    padding = dilation * (weight.shape[-1] // 2)
    outputs = naive_norm(
        F.conv2d(inputs, weight, stride=stride, padding=padding, dilation=dilation), unit.normalization
    )
    return outputs.relu() if relu else outputs


@pytest.mark.parametrize("kind", ["resnet", "deep"])
def test_a_resnet_step_by_step(kind):
    """Stride in the 3×3 convolution; with the deep stem three of them, and dilations 1, 2, 4 in the last stage."""
    network = backbone(kind)
    for name, buffer in network.named_buffers():
        torch.manual_seed(len(name))
        buffer.copy_(torch.rand_like(buffer) + 0.5)
    images = torch.randn(1, 3, 64, 96)
    stem = network.network.embedder
    if kind == "deep":
        outputs = images
        for index, unit in enumerate(stem.layers):
            outputs = naive_unit(unit, outputs, stride=2 if index == 0 else 1)
        assert [unit.convolution.weight.shape[:2] for unit in stem.layers] == [(4, 3), (4, 4), (8, 4)]
    else:
        outputs = naive_unit(stem.embedder, images, stride=2)
    outputs = F.max_pool2d(outputs, 3, stride=2, padding=1)
    for stage, found in enumerate(network(images)):
        for index, block in enumerate(network.network.encoder.stages[stage].layers):
            stride = 2 if stage and not index else 1
            dilation = (1, 2, 4)[index] if kind == "deep" and stage == 3 else 1
            inner = naive_unit(block.layer[0], outputs)
            inner = naive_unit(block.layer[1], inner, stride=stride, dilation=dilation)
            inner = naive_unit(block.layer[2], inner, relu=False)
            if not index:
                outputs = naive_unit(block.shortcut, outputs, stride=stride, relu=False)
            outputs = (inner + outputs).relu()
        torch.testing.assert_close(found, outputs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_how_much_stays_as_it_starts(frozen):
    network = backbone("deep", backbone_frozen=frozen)
    fixed = {name for name, each in network.named_parameters() if not each.requires_grad}
    stem = {name for name in fixed if name.startswith("network.embedder")}
    first = {name for name in fixed if name.startswith("network.encoder.stages.0")}
    assert bool(stem) == (frozen >= 1)
    assert bool(first) == (frozen >= 2)
    assert fixed == stem | first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone_depths": [2, 2, 2]}, "model.backbone_depths: expected 4 whole numbers"),
        ({"backbone_depths": "2222"}, "model.backbone_depths: expected a list of whole numbers"),
        ({"backbone_depths": [2, 2, 0, 2]}, "at least 1"),
        ({"backbone_depths": [2, 2, 1.5, 2]}, "expected a list of whole numbers"),
        ({"backbone_width": 18}, "multiple of 4"),
        ({"backbone": "vgg"}, "expected one of resnet, swin"),
        ({"last_dilations": [1, 2]}, "expected 3 whole numbers"),
        ({"backbone": "swin", "backbone_width": 12, "swin_heads": [1, 2, 5, 8]}, "5 heads cannot share 48"),
    ],
    ids=str,
)
def test_settings_that_fit_no_network(changes, message):
    with pytest.raises(ConfigError, match=message):
        BackboneSettings(**changes)


def test_no_program_of_a_swin(monkeypatch):
    monkeypatch.setattr("lexiseg.models.proposers.backbone.is_exporting", lambda: True)
    images = torch.randn(1, 3, 64, 64)
    assert len(backbone("resnet")(images)) == 4
    with pytest.raises(ConfigError, match="a program needs model.backbone=resnet"):
        backbone("swin")(images)


def test_lists_become_tuples():
    settings = BackboneSettings(backbone_depths=[3, 4, 23, 3], last_dilations=[1, 2, 4])
    assert settings.backbone_depths == (3, 4, 23, 3)
    assert settings.last_dilations == (1, 2, 4)
    assert settings.backbone_channels == (256, 512, 1024, 2048)
