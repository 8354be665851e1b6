"""open_clip's ConvNeXt CLIP against its forward pass written out plainly, in every form that it travels in."""

import copy
import importlib.resources
import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPModel, CLIPTextConfig, ConvNextConfig

import convnext_files as files
from lexiseg.clip.formats.open_clip import convnext_from_open_clip, convnext_to_open_clip
from lexiseg.clip.loading import FrozenCLIP, load_clip
from lexiseg.clip.towers.convnext import ConvNextClip, ConvNextTower
from lexiseg.clip.towers.text import ClipTextTower
from lexiseg.errors import CheckpointError, ConfigError
from openai_files import openai_state
from support import tiny_clip_config


@pytest.fixture
def text(tiny_clip) -> dict[str, torch.Tensor]:
    return openai_state(tiny_clip)


@pytest.fixture
def state(text) -> dict[str, torch.Tensor]:
    return files.convnext_state(text)


def build(state: dict[str, torch.Tensor]) -> ConvNextTower:
    return ConvNextTower(convnext_from_open_clip(state, text_heads=2, image_size=64)).eval()


def images(height: int, width: int) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


each_head = pytest.mark.parametrize("hidden", [None, 17], ids=["linear", "mlp"])


@each_head
@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 160), (97, 131)])
@torch.no_grad()
def test_embeddings_equal_the_plain_forward_pass(text, hidden, height: int, width: int) -> None:
    state = files.convnext_state(text, hidden=hidden)
    tower, batch = build(state), images(height, width)
    found = tower(batch)
    torch.testing.assert_close(found, files.naive_embedding(state, batch), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(tower(batch[1:]), found[1:], rtol=1e-5, atol=1e-5)


@each_head
@torch.no_grad()
def test_dense_features_leave_out_the_average_alone(text, hidden) -> None:
    state = files.convnext_state(text, hidden=hidden)
    tower, batch = build(state), images(96, 160)
    found = tower.dense_features(batch)
    assert found.shape == (2, 16, *tower.grid(batch)) == (2, 16, 3, 5)
    expected = files.naive_head(state, files.naive_map(state, batch))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found.mean(dim=(2, 3)), tower(batch), atol=1e-3), "norm and average commute?"
    one = batch[:, :, :32, :32]
    torch.testing.assert_close(tower.dense_features(one)[:, :, 0, 0], tower(one))


@pytest.mark.parametrize(("widths", "eps"), [((5, 7), 1e-6), ((384,), 1e-5)], ids=["others", "xxlarge"])
@torch.no_grad()
def test_epsilon_of_every_norm(text, widths: tuple[int, ...], eps: float) -> None:
    """Weights so small that the channels' variance is about the epsilon in every norm."""
    state = files.convnext_state(text, widths=widths, depths=[1] * len(widths))
    for name, tensor in state.items():
        if ".head.proj" not in name and name.startswith("visual."):
            tensor.mul_(2e-3)
    batch = images(32, 64)
    found, expected = build(state)(batch), files.naive_embedding(state, batch, eps=eps)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-9)
    other = files.naive_embedding(state, batch, eps=1.1e-5 - eps)
    assert not torch.allclose(found, other, rtol=1e-2, atol=1e-9)


@torch.no_grad()
def test_text_is_an_ordinary_clip_text_tower(tiny_clip, state) -> None:
    config = tiny_clip_config()
    config.text_config.hidden_act = "gelu"
    exact = CLIPModel(config).eval()
    exact.load_state_dict(tiny_clip.state_dict())
    ids = torch.tensor([[95, 3, 5, 96, 0], [95, 7, 96, 0, 0]])
    built = convnext_from_open_clip(state, text_heads=2, image_size=64)
    expected = ClipTextTower(exact, None)(ids)
    torch.testing.assert_close(ClipTextTower(built, None)(ids), expected)
    quick = convnext_from_open_clip(state, activation="quick_gelu", text_heads=2, image_size=64)
    assert not torch.allclose(ClipTextTower(quick, None)(ids), expected, atol=1e-4)


def test_all_formats_agree(state, tmp_path) -> None:
    state = {name: tensor.half().float() for name, tensor in state.items()}
    prefixed = {
        name if name.startswith(("visual.", "logit_scale")) else f"text.{name}": tensor
        for name, tensor in state.items()
    }
    torch.save(state, tmp_path / "plain.pt")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "training.pt")
    torch.save(prefixed, tmp_path / "custom_text.bin")
    save_file({name: tensor.half() for name, tensor in state.items()}, tmp_path / "half.safetensors")
    (tmp_path / "folder").mkdir()
    save_file(state, tmp_path / "folder/open_clip_model.safetensors")
    names = ("plain.pt", "training.pt", "custom_text.bin", "half.safetensors", "folder")
    clips = [load_clip(tmp_path / name, text_heads=2) for name in names]
    assert len({clip.fingerprint for clip in clips}) == 1
    assert clips[0].logit_scale == pytest.approx(state["logit_scale"].exp().item())
    batch = images(33, 64)
    expected = files.naive_embedding(state, batch)
    for clip in clips:
        torch.testing.assert_close(clip.tower(batch), expected, rtol=1e-5, atol=1e-5)


def test_a_folder_as_open_clip_publishes_it(state, tmp_path) -> None:
    """Its tokenizer is taken along; with a transformers configuration beside it, transformers reads the folder."""
    torch.save(state, tmp_path / "open_clip_pytorch_model.bin")
    assert load_clip(tmp_path, text_heads=2).text_tower is None
    toy = importlib.resources.files("lexiseg") / "assets" / "toy_clip"
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        (tmp_path / name).write_text((toy / name).read_text())
    clip = load_clip(tmp_path, text_heads=2)
    assert isinstance(clip.text_tower, ClipTextTower)
    assert clip.source == str(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not a usable Hugging Face CLIP folder"):
        load_clip(tmp_path)


def test_what_tensors_do_not_tell_is_read_beside_them(state, tmp_path, caplog) -> None:
    torch.save(state, tmp_path / "w.bin")
    assert load_clip(tmp_path / "w.bin", text_heads=2).tower.image_size == 320
    assert "does not say its image size; taking 320" in caplog.text
    caplog.clear()
    for size, quick in ((256, False), ([384, 384], True)):
        settings = {"model_cfg": {"quick_gelu": quick, "vision_cfg": {"image_size": size}}}
        (tmp_path / "open_clip_config.json").write_text(json.dumps(settings))
        clip = load_clip(tmp_path / "w.bin", text_heads=2)
        assert clip.tower.image_size == (384 if quick else 256)
        assert clip.config.text_config.hidden_act == ("quick_gelu" if quick else "gelu")
    chosen = load_clip(tmp_path / "w.bin", activation="gelu", text_heads=2)
    assert chosen.config.text_config.hidden_act == "gelu"
    assert not caplog.text
    (tmp_path / "open_clip_config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="expected open_clip's settings as a JSON object"):
        load_clip(tmp_path / "w.bin")


def test_sizes_are_read_off_the_tensors(text) -> None:
    state = files.convnext_state(text, widths=(3, 5, 7), depths=(2, 1, 4), patch=2)
    tower = build(state)
    assert (tower.width, tower.embed_dim, tower.patch_size) == (7, 16, 8)
    assert tower.vision_model.config.depths == [2, 1, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("visual.trunk.stages.2.blocks.1.gamma"), "missing: .*stages.2.blocks.1.gamma"),
        (lambda s: s.pop("visual.trunk.head.norm.bias"), "missing: visual.trunk.head.norm.bias"),
        (lambda s: s.pop("visual.head.proj.weight"), "missing: visual.head.proj.weight"),
        (lambda s: s.pop("visual.trunk.stem.0.weight"), "missing: visual.trunk.stem.0.weight"),
        (lambda s: s.pop("visual.trunk.stages.1.blocks.0.norm.weight"), "missing: .*stages.1.blocks.0.norm"),
        (lambda s: s.pop("ln_final.bias"), "missing: text_model.final_layer_norm.bias"),
        (lambda s: s.pop("ln_final.weight"), "missing: ln_final.weight"),
        (lambda s: s.pop("logit_scale"), "missing: logit_scale"),
        (
            lambda s: s.update({"visual.trunk.stages.0.blocks.0.mlp.grn.weight": torch.ones(1, 1, 1, 20)}),
            "unknown: visual.trunk.stages.0.blocks.0.mlp.grn.weight",
        ),
        (lambda s: s.update({"surprise.weight": torch.ones(1)}), "unknown: surprise.weight"),
        (
            lambda s: s.update({"visual.trunk.stages.3.downsample.1.weight": torch.ones(13, 11, 3, 3)}),
            r"wrong shape: visual.trunk.stages.3.downsample.1.weight: expected \(13, 11, 2, 2\)",
        ),
    ],
)
def test_strict_keys(state, tmp_path, change, message: str) -> None:
    change(state)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=message):
        load_clip(tmp_path / "w.pt", text_heads=2)


def test_the_tower_goes_back_to_open_clips_names(state) -> None:
    written = convnext_to_open_clip(build(state))
    visual = {name: tensor for name, tensor in state.items() if name.startswith("visual.")}
    assert written.keys() == visual.keys()
    assert all(torch.equal(written[name], visual[name]) for name in visual)


def test_frozen_and_refused_where_attention_is_needed(state) -> None:
    clip = FrozenCLIP(
        convnext_from_open_clip(state, text_heads=2, image_size=64), None, source="here"
    ).train()
    assert not clip.tower.training
    assert not any(parameter.requires_grad for parameter in clip.parameters())
    with pytest.raises(
        ConfigError, match="the CLIP 'here' has a ConvNeXt image tower, .* needs a CLIP with a ViT"
    ):
        _ = clip.vision


def test_heads_of_a_tower_without_attention(state, tmp_path) -> None:
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"clip\.vision_heads: .* has a ConvNeXt, without heads"):
        load_clip(tmp_path / "w.pt", vision_heads=3)


def test_images_off_the_grid(state) -> None:
    with pytest.raises(
        ConfigError, match="97×64 pixels is no multiple of the ConvNeXt's stride 32; pad it to 128×64"
    ):
        build(state).dense_features(torch.zeros(1, 3, 97, 64))


def test_whole_tower_can_be_tuned(state) -> None:
    """Every parameter takes part in the dense features, in a copy that leaves the original alone."""
    original = build(state)
    tuned = copy.deepcopy(original).requires_grad_()
    assert tuned.unread_parameters == ()
    tuned.dense_features(images(64, 96)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in tuned.parameters())
    assert not any(parameter.requires_grad for parameter in original.parameters())


@pytest.mark.parametrize(
    ("widths", "depths", "text", "hidden", "millions"),
    [
        ((128, 256, 512, 1024), (3, 3, 27, 3), (640, 640, 12), None, (88.22, 179.39)),
        ((192, 384, 768, 1536), (3, 3, 27, 3), (768, 768, 16), 1536, (199.77, 351.77)),
        ((384, 768, 1536, 3072), (3, 4, 30, 3), (1024, 1024, 24), None, (846.54, 1200.58)),
    ],
    ids=["convnext_base_w", "convnext_large_d", "convnext_xxlarge"],
)
def test_parameters_of_the_released_sizes(widths, depths, text, hidden, millions) -> None:
    """As many, in the image tower and in all, as open_clip's own table of models states."""
    embed_dim, text_width, layers = text
    words = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=text_width,
        intermediate_size=4 * text_width,
        num_hidden_layers=layers,
        num_attention_heads=text_width // 64,
        projection_dim=embed_dim,
    )
    with torch.device("meta"):
        trunk = ConvNextConfig(hidden_sizes=list(widths), depths=list(depths))
        model = ConvNextClip(trunk, words, head_width=hidden, image_size=320)
    counts = [sum(p.numel() for p in part.parameters()) for part in (ConvNextTower(model), model)]
    assert tuple(round(count / 1e6, 2) for count in counts) == millions
