"""LSeg: its ResNet by a naive second implementation on published names, its block by hand, and what it refuses."""

import pytest
import torch
import torch.nn.functional as F

import program_cases
from lexiseg.checkpoints.layouts.lseg import lseg_layout
from lexiseg.errors import ConfigError
from lexiseg.models.lseg import LSeg
from lexiseg.models.lseg_settings import LSegSettings
from lexiseg.training.optim import OptimSettings

EMBED = 13
RESNET = {
    "encoder": "resnet",
    "stem": 8,
    "stages": (16, 20, 24, 28),
    "depths": (2, 1, 3, 1),
    "features": 11,
}


class Tower(torch.nn.Module):
    embed_dim = EMBED


def build(**settings):
    torch.manual_seed(3)
    model = LSeg(Tower(), LSegSettings(**settings)).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "running" in name or "norm" in name:
                tensor.copy_(torch.rand_like(tensor.float()) + 0.5)
    return model


def words(count):
    return F.normalize(torch.randn(count, EMBED, generator=torch.Generator().manual_seed(1)), dim=1)


def images(count, height, width):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(2))


def norm(state, name, maps):
    kinds = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(maps, *(state[f"{name}.{kind}"] for kind in kinds))


def naive_resnet(state, maps):
    """torchvision's ResNet of bottlenecks, by its own names."""
    maps = F.conv2d(maps, state["pretrained.layer1.0.weight"], stride=2, padding=3)
    maps = F.max_pool2d(norm(state, "pretrained.layer1.1", maps).relu(), 3, stride=2, padding=1)
    levels = []
    for stage, depth in enumerate(RESNET["depths"]):
        start = "pretrained.layer1.4." if stage == 0 else f"pretrained.layer{stage + 1}."
        for index in range(depth):
            block = f"{start}{index}."
            stride = 2 if index == 0 and stage else 1
            inner = norm(state, f"{block}bn1", F.conv2d(maps, state[f"{block}conv1.weight"])).relu()
            inner = F.conv2d(inner, state[f"{block}conv2.weight"], stride=stride, padding=1)
            inner = norm(state, f"{block}bn2", inner).relu()
            inner = norm(state, f"{block}bn3", F.conv2d(inner, state[f"{block}conv3.weight"]))
            if f"{block}downsample.0.weight" in state:
                maps = F.conv2d(maps, state[f"{block}downsample.0.weight"], stride=stride)
                maps = norm(state, f"{block}downsample.1", maps)
            maps = (inner + maps).relu()
        levels.append(maps)
    return levels


@torch.no_grad()
def test_the_resnet_on_published_names():
    model = build(**RESNET)
    state = lseg_layout(model.settings, EMBED, prefix="").to_published(model.state_dict())
    photographs = images(2, 64, 96)
    for ours, naive in zip(model.encoder(photographs), naive_resnet(state, photographs), strict=True):
        torch.testing.assert_close(ours, naive, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["depthwise", "bottleneck"])
@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("activation", ["lrelu", "tanh", "relu"])
def test_the_block_by_loops(kind, depth, activation):
    small = program_cases.SMALL_LSEG | {"block": kind, "block_depth": depth, "activation": activation}
    model, maps = build(**small), torch.randn(2, 3, 5, 7)
    weight, bias = model.block.convolution.weight[0, 0], model.block.convolution.bias[0]
    acts = {
        "lrelu": lambda x: torch.where(x > 0, x, 0.01 * x),
        "tanh": torch.tanh,
        "relu": lambda x: x.clamp(min=0),
    }
    naive = maps
    for time in range(max(depth, 1)):
        naive = acts[activation](naive) if time else naive
        padded, result = F.pad(naive, (1, 1, 1, 1)), torch.zeros_like(naive)
        for row in range(5):
            for column in range(7):
                window = padded[:, :, row : row + 3, column : column + 3]
                result[:, :, row, column] = (window * weight).sum((-1, -2)) + bias
        naive = result + naive.amax(1, keepdim=True) if kind == "bottleneck" else result
    torch.testing.assert_close(model.block(maps), naive, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("block", ["none", "depthwise", "bottleneck"])
def test_words_see_each_other_in_the_bottleneck_alone(block):
    model = build(**RESNET, block=block)
    assert model.depends_on_text == model.words_together == (block == "bottleneck")
    state, text = model.encode(images(2, 32, 64)), words(5)
    assert torch.allclose(
        model.decode(state, text[:2]).logits, model.decode(state, text).logits[:, :2], atol=1e-4
    ) != (block == "bottleneck")


@torch.no_grad()
def test_one_photograph_as_two_and_the_sizes_of_masks():
    photographs, text = images(2, 64, 96), words(3)
    for settings in (RESNET, {**program_cases.SMALL_LSEG, "patch_size": 16}):
        model = build(**settings)
        whole = model(photographs, text).logits
        assert whole.shape == (2, 3, 64, 96)
        torch.testing.assert_close(model(photographs[1:], text).logits, whole[1:], rtol=1e-4, atol=1e-4)
        model.settings = LSegSettings(**{**settings, "upsampled": False})
        half = model(photographs, text).logits
        assert half.shape == (2, 3, 32, 48)
        larger = F.interpolate(half, size=(64, 96), mode="bilinear", align_corners=True)
        torch.testing.assert_close(larger, whole)


def test_colours_follow_the_encoder():
    black = torch.zeros(1, 3, 2, 2)
    assert build(**program_cases.SMALL_LSEG).normalize(black).unique().tolist() == [-1]
    assert build(**RESNET).normalize(black)[0, :, 0, 0].tolist() == pytest.approx(
        [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    )


def test_what_starts_from_scratch_learns_faster_and_all_of_it_trains():
    model = build(**RESNET, block="depthwise").train()
    groups = model.parameter_groups(OptimSettings(lr=0.1, scratch_lr_scale=10, weight_decay=0.3))
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert all(group["weight_decay"] == 0.3 for group in groups)
    model(images(2, 64, 96), words(3)).logits.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == pytest.approx(0.1 if name.startswith("encoder.") else 1.0), name
        assert parameter.grad is not None, name
    assert any(name.startswith("encoder.") for name, _ in model.named_parameters())


def test_sizes_that_do_not_fit():
    with pytest.raises(
        ConfigError, match="image of 80x96 pixels: this model needs multiples of 32; pad it or resize it"
    ):
        build(**RESNET).encode(images(1, 80, 96))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"taps": [6, 12, 12, 24]}, "model.taps: expected blocks from shallow to deep"),
        ({"taps": [6, 12]}, "model.taps: expected 4 whole numbers of at least 1"),
        ({"stages": "wide"}, "model.stages: expected a list of whole numbers"),
        ({"heads": 5}, "model.heads=5 does not divide model.width=1024"),
        ({"block": "conv"}, "model.block: expected one of none, bottleneck, depthwise"),
        ({"block_depth": -1}, "model.block_depth: expected at least 0"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        LSegSettings(**settings)
