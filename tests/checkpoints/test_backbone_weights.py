"""Encoders start from whole-image weights: files made here in the names of torchvision, timm and transformers."""

import re

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    SwinConfig,
    SwinForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

import program_cases
from lexiseg.checkpoints import backbone_weights
from lexiseg.checkpoints.backbone_weights import load_backbone_weights
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.models.image_pyramids import ResNetPyramid, VitPyramid, dpt_config
from lexiseg.models.proposers.backbone import Backbone, BackboneSettings
from region_model_cases import SWIN

DEPTHS = (1, 2, 3, 1)
SIZES = {"backbone_width": 16, "stem_width": 8, "backbone_depths": DEPTHS}
VIT = {"patch_size": 4, "grid": 5, "width": 12, "heads": 3, "mlp_width": 20, "taps": (1, 2, 3, 4)}


def resnet(**more):
    return Backbone(BackboneSettings(**SIZES, **more)).eval()


def swin():
    return Backbone(BackboneSettings(backbone_width=16, backbone_depths=DEPTHS, **SWIN)).eval()


def vit():
    return VitPyramid(dpt_config(levels=(5, 6, 7, 8), features=11, **VIT)).eval()


def random(shapes):
    """Tensors to tell apart; variances are positive."""
    generator = torch.Generator().manual_seed(3)
    return {
        name: torch.rand(shape, generator=generator) + ("running_var" in name)
        for name, shape in shapes.items()
    }


class Bottleneck(nn.Module):
    """As torchvision and timm name its parts."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        inner = outputs // 4
        self.conv1, self.bn1 = nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample = None
        if inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, images):
        outputs = F.relu(self.bn1(self.conv1(images)))
        outputs = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(outputs)))))
        return F.relu(outputs + (images if self.downsample is None else self.downsample(images)))


class ResNet(nn.Module):
    """torchvision's; with a deep stem timm's ``resnet*c``."""

    def __init__(self, *, deep):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False)
        if deep:
            self.conv1 = nn.Sequential(
                nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
                nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
                nn.Conv2d(4, 8, 3, padding=1, bias=False),
            )  # fmt: skip
        self.bn1, inputs = nn.BatchNorm2d(8), 8
        for stage, depth in enumerate(DEPTHS):
            blocks = []
            for block in range(depth):
                blocks.append(Bottleneck(inputs, 16 * 2**stage, 2 if stage and not block else 1))
                inputs = 16 * 2**stage
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, 5)

    def forward(self, images):
        outputs, maps = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, 2, 1), []
        for stage in range(4):
            outputs = getattr(self, f"layer{stage + 1}")(outputs)
            maps.append(outputs)
        return maps


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("ours", "deep"),
    [
        (lambda: resnet(), False),
        (lambda: resnet(stem="deep"), True),
        (lambda: ResNetPyramid(stem=8, stages=(16, 32, 64, 128), depths=DEPTHS).eval(), False),
    ],
    ids=["maskformer", "deep stem", "open_seg"],
)
@torch.no_grad()
def test_a_resnet_of_torchvision_and_timm(tmp_path, images, ours, deep):
    theirs, model = ResNet(deep=deep).eval(), ours()
    theirs.load_state_dict(
        random({name: tensor.shape for name, tensor in theirs.state_dict().items()}), strict=False
    )
    torch.save(
        {"state_dict": {f"module.{name}": each for name, each in theirs.state_dict().items()}},
        tmp_path / "a.pth",
    )
    load_backbone_weights(nn.Sequential(model), tmp_path / "a.pth")
    for mine, wanted in zip(model(images), theirs(images), strict=True):
        assert mine.shape == wanted.shape
        torch.testing.assert_close(
            mine / wanted.abs().max(), wanted / wanted.abs().max(), rtol=1e-4, atol=1e-5
        )


@torch.no_grad()
def test_a_resnet_of_transformers(tmp_path, images):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[16, 32, 64, 128], depths=list(DEPTHS))
    theirs, model = ResNetForImageClassification(config).eval(), resnet()
    theirs.save_pretrained(tmp_path)
    load_backbone_weights(model, tmp_path)
    states = theirs(images, output_hidden_states=True).hidden_states[1:]
    for mine, wanted in zip(model(images), states, strict=True):
        torch.testing.assert_close(mine, wanted)


def hidden_maps_of_swin(model, images):
    """What enters the norms of the four maps."""
    seen = []
    hooks = [
        norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        for norm in model.network.hidden_states_norms.values()
    ]
    model(images)
    for hook in hooks:
        hook.remove()
    return seen


@torch.no_grad()
def test_a_swin_of_transformers(tmp_path, images):
    config = SwinConfig(
        embed_dim=16, depths=list(DEPTHS), num_heads=[1, 2, 4, 8], window_size=3, drop_path_rate=0.0
    )
    theirs, model = SwinForImageClassification(config).eval(), swin()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if "hidden_states" in name}
    theirs.save_pretrained(tmp_path)
    load_backbone_weights(model, tmp_path)
    images = F.interpolate(images, size=(96, 192))  # whole windows at every stage
    last = hidden_maps_of_swin(model, images)[-1]
    wanted = theirs.swin.encoder(theirs.swin.embeddings(images)[0], (24, 48))
    torch.testing.assert_close(last, wanted.last_hidden_state)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


SWIN_NAMES = {
    "transformers' hub": [
        (
            r"attention\.([qkv])_proj",
            lambda f: f"attention.self.{ {'q': 'query', 'k': 'key', 'v': 'value'}[f[1]] }",
        ),
        (r"attention\.o_proj", "attention.output.dense"),
        (r"attention\.relative_position_bias\.", "attention.self."),
        (r"mlp\.fc1", "intermediate.dense"),
        (r"mlp\.fc2", "output.dense"),
    ],
    "original": [
        (r"swin\.embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
        (r"swin\.embeddings\.norm", "patch_embed.norm"),
        (r"swin\.encoder\.", ""),
        (r"layernorm_before", "norm1"),
        (r"layernorm_after", "norm2"),
        (r"attention\.o_proj", "attn.proj"),
        (r"attention\.relative_position_bias\.", "attn."),
    ],
}
SWIN_NAMES["timm"] = [
    *SWIN_NAMES["original"],
    (r"^layers\.(\d)\.downsample", lambda f: f"layers.{int(f[1]) + 1}.downsample"),
]
SWIN_NAMES["torchvision"] = [
    *SWIN_NAMES["original"],
    (r"patch_embed\.proj", "features.0.0"),
    (r"patch_embed\.norm", "features.0.2"),
    (r"^layers\.(\d)\.downsample", lambda f: f"features.{2 * int(f[1]) + 2}"),
    (r"^layers\.(\d)\.blocks", lambda f: f"features.{2 * int(f[1]) + 1}"),
    (r"mlp\.fc1", "mlp.0"),
    (r"mlp\.fc2", "mlp.3"),
]
VIT_NAMES = {
    "timm": [
        (r"embeddings\.cls_token", "cls_token"),
        (r"embeddings\.position_embeddings", "pos_embed"),
        (r"embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
        (r"encoder\.layer\.", "blocks."),
        (r"layernorm_before", "norm1"),
        (r"layernorm_after", "norm2"),
        (r"attention\.output\.dense", "attn.proj"),
        (r"intermediate\.dense", "mlp.fc1"),
        (r"(?<=\d\.)output\.dense", "mlp.fc2"),
    ],
    "torchvision": [
        (r"embeddings\.cls_token", "class_token"),
        (r"embeddings\.position_embeddings", "encoder.pos_embedding"),
        (r"embeddings\.patch_embeddings\.projection", "conv_proj"),
        (r"encoder\.layer\.", "encoder.layers.encoder_layer_"),
        (r"layernorm_before", "ln_1"),
        (r"layernorm_after", "ln_2"),
        (r"attention\.output\.dense", "self_attention.out_proj"),
        (r"intermediate\.dense", "mlp.linear_1"),
        (r"(?<=\d\.)output\.dense", "mlp.linear_2"),
    ],
}
JOINED = {"original": "attn.qkv.", "timm": "attn.qkv.", "torchvision": "attn.qkv."}
HEADS = {
    "transformers' hub": ["swin.layernorm.weight", "classifier.bias"],
    "original": ["norm.weight", "head.weight", "layers.0.blocks.0.attn.relative_position_index"],
    "timm": ["norm.weight", "head.fc.weight", "layers.2.blocks.1.attn_mask"],
    "torchvision": ["norm.bias", "head.bias", "features.1.0.attn.relative_position_index"],
}


def renamed(state, table, parts, joined):
    """Our tensors under other names; queries, keys and values as one where there is a name for them."""
    there = {}
    for name, tensor in state.items():
        if joined and (found := re.search(parts[0], name)):
            others = [state[name.replace(parts[0], part)] for part in parts]
            name, tensor = name.replace(f"{found[0]}.", joined), torch.cat(others)
        elif joined and any(part in name for part in parts[1:]):
            continue
        for pattern, new in table:
            name = re.sub(pattern, new, name)
        there[name] = tensor
    return there


@pytest.mark.parametrize("layout", SWIN_NAMES)
def test_every_tensor_of_a_swin_finds_its_place(tmp_path, layout):
    model = swin()
    state = model.network.state_dict()
    wanted = random({name: tensor.shape for name, tensor in state.items() if "hidden_states" not in name})
    parts = [f"attention.{letter}_proj" for letter in "qkv"]
    there = renamed(wanted, SWIN_NAMES[layout], parts, JOINED.get(layout))
    assert not any("attention.q" in name for name in there)
    save_file({**there, **{name: torch.zeros(3) for name in HEADS[layout]}}, tmp_path / "a.safetensors")
    load_backbone_weights(model, tmp_path / "a.safetensors")
    for name, tensor in wanted.items():
        assert torch.equal(model.network.state_dict()[name], tensor), name


@pytest.mark.parametrize("layout", VIT_NAMES)
def test_every_tensor_of_a_vit_finds_its_place(tmp_path, layout):
    model = vit()
    wanted = random({name: tensor.shape for name, tensor in model.network.state_dict().items()})
    parts = [f"attention.attention.{part}" for part in ("query", "key", "value")]
    joined = "attn.qkv." if layout == "timm" else "self_attention.in_proj_"
    there = renamed(wanted, VIT_NAMES[layout], parts, joined)
    heads = ["norm.weight", "head.bias"] if layout == "timm" else ["encoder.ln.weight", "heads.head.weight"]
    save_file({**there, **{name: torch.zeros(3) for name in heads}}, tmp_path / "a.safetensors")
    load_backbone_weights(model, tmp_path / "a.safetensors")
    for name, tensor in wanted.items():
        assert torch.equal(model.network.state_dict()[name], tensor), name


@torch.no_grad()
def test_a_vit_of_transformers(tmp_path):
    config = ViTConfig(
        hidden_size=12, num_hidden_layers=4, num_attention_heads=3, intermediate_size=20, image_size=20, patch_size=4,
        layer_norm_eps=1e-6,
    )  # fmt: skip
    theirs, model = ViTForImageClassification(config).eval(), vit()
    theirs.save_pretrained(tmp_path)
    load_backbone_weights(model, tmp_path)
    images = torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    states = theirs(images, output_hidden_states=True).hidden_states
    for mine, wanted in zip(model.tokens(images), states[1:], strict=True):
        torch.testing.assert_close(mine, wanted)


def test_what_does_not_fit_is_named(tmp_path):
    model = resnet()
    there = random({name: tensor.shape for name, tensor in ResNet(deep=False).state_dict().items()})
    there["layer9.0.conv1.weight"] = torch.zeros(3)
    there["layer2.0.conv2.weight"] = torch.zeros(8, 5, 3, 3)
    del there["layer1.0.bn2.bias"]
    torch.save(there, tmp_path / "a.pth")
    with pytest.raises(CheckpointError) as refused:
        load_backbone_weights(model, tmp_path / "a.pth")
    told = str(refused.value)
    assert told.startswith("the file is not the expected ResNet of this model's sizes")
    assert "missing: encoder.stages.0.layers.0.layer.1.normalization.bias;" in told
    assert "encoder.stages.8.layers.0.layer.0.convolution.weight" in told
    assert (
        "encoder.stages.1.layers.0.layer.1.convolution.weight: expected (8, 8, 3, 3), got (8, 5, 3, 3)"
        in told
    )
    torch.save({"model": {"visual.proj": torch.zeros(3), **there}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="unknown: .*visual.proj"):
        load_backbone_weights(model, tmp_path / "a.pth")


def test_nothing_is_run_and_nothing_else_is_taken(tmp_path, monkeypatch):
    (tmp_path / "evil.pth").write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00exit\x85R.")
    with pytest.raises(CheckpointError, match="refused.*nothing from it was run"):
        load_backbone_weights(resnet(), tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"gone\.pth: no such checkpoint; expected weights of a ResNet"):
        load_backbone_weights(resnet(), "gone.pth")
    with pytest.raises(ConfigError, match="has no encoder of its own beside CLIP"):
        load_backbone_weights(program_cases.variant("zegclip"), tmp_path / "evil.pth")
    asked = []

    def fetch(name, file):
        asked.append((name, file))
        raise OSError("no network")

    monkeypatch.setattr(backbone_weights, "hf_hub_download", fetch)
    with pytest.raises(
        CheckpointError, match=r"'org/resnet' is neither a file nor .*model\.safetensors .*\(no network\)"
    ):
        load_backbone_weights(resnet(), "org/resnet")
    assert asked == [("org/resnet", "model.safetensors")]
    save_file(dict(ResNet(deep=False).state_dict()), tmp_path / "a.safetensors")
    monkeypatch.setattr(backbone_weights, "hf_hub_download", lambda *_: str(tmp_path / "a.safetensors"))
    model = resnet()
    load_backbone_weights(model, "org/resnet")
    assert model.network.state_dict()["embedder.embedder.normalization.weight"].eq(1).all()
