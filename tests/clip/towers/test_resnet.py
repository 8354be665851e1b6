"""OpenAI's ResNet CLIP against its forward pass written out plainly, in every form that it travels in."""

import importlib.resources
import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPModel

import resnet_files as files
from lexiseg.clip.formats.openai_resnet import COUNTER, resnet_from_openai, resnet_to_openai
from lexiseg.clip.loading import load_clip
from lexiseg.clip.saving import save_clip
from lexiseg.clip.towers.resnet import ResNetTower
from lexiseg.errors import CheckpointError, ConfigError
from openai_files import openai_state, save_torchscript


@pytest.fixture
def state(tiny_clip) -> dict[str, torch.Tensor]:
    return files.resnet_state(openai_state(tiny_clip))


def build(state: dict[str, torch.Tensor]) -> ResNetTower:
    return ResNetTower(resnet_from_openai(state, vision_heads=files.HEADS, text_heads=2)).eval()


def images(height: int, width: int) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("height", "width"), [(96, 96), (64, 160)], ids=["native", "other"])
@torch.no_grad()
def test_embeddings_and_maps_equal_the_plain_forward_pass(state, height: int, width: int) -> None:
    tower, batch = build(state), images(height, width)
    for ours, theirs in zip(tower.stage_maps(batch), files.naive_maps(state, batch), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    found = tower(batch)
    torch.testing.assert_close(found, files.naive_embedding(state, batch), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(tower(batch[1:]), found[1:], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_regions_are_pooled_by_the_query_of_the_whole_map(state) -> None:
    tower, batch = build(state), images(96, 160)
    last = tower.stage_maps(batch)[-1]
    regions = torch.rand(2, 7, 3, 5, generator=torch.Generator().manual_seed(2)) < 0.3
    regions[:, 0], regions[1, 4] = True, False
    found = tower.pool_regions(last, regions)
    for image in range(2):
        for region in range(7):
            keep = regions[image, region] if regions[image, region].any() else regions[image, 0]
            expected = files.naive_pool(state, last[image], keep=keep)
            torch.testing.assert_close(found[image, region], expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found[:, 0], tower(batch), atol=1e-3), "the mean is no key here"


@torch.no_grad()
def test_dense_features_are_each_positions_value(state) -> None:
    tower, batch = build(state), images(96, 160)
    found = tower.dense_features(batch)
    assert found.shape == (2, 16, *tower.grid(batch)) == (2, 16, 3, 5)
    *_, last = tower.block_tokens(batch)
    weights = {
        name: state[f"visual.attnpool.{name}"]
        for name in ("v_proj.weight", "v_proj.bias", "c_proj.weight", "c_proj.bias")
    }
    value = last[1, 7] @ weights["v_proj.weight"].T + weights["v_proj.bias"]
    torch.testing.assert_close(
        found[1, :, 1, 2], value @ weights["c_proj.weight"].T + weights["c_proj.bias"], rtol=1e-4, atol=1e-4
    )


def test_gradients_reach_all_that_dense_features_read(state) -> None:
    tower = build(state).requires_grad_(requires_grad=True).train()
    before = tower.visual.bn1.running_mean.clone()
    tower.dense_features(images(64, 96)).square().sum().backward()
    unread = {name for name, p in tower.named_parameters() if p.grad is None or not p.grad.any()}
    assert unread == {
        name for name, _ in tower.named_parameters() if name.startswith(tower.unread_parameters)
    }
    assert torch.equal(tower.visual.bn1.running_mean, before), "a batch changes no statistics"


def test_an_image_that_the_stride_does_not_divide_is_refused(state) -> None:
    with pytest.raises(
        ConfigError, match="65×96 pixels is no multiple of the ResNet's stride 32; pad it to 96×96"
    ):
        build(state).dense_features(torch.zeros(1, 3, 65, 96))


def test_all_formats_agree(state, tmp_path) -> None:
    state = {name: t.half().float() if t.is_floating_point() else t for name, t in state.items()}
    torch.save(state, tmp_path / "plain.pt")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "training.pt")
    floats = {name: tensor for name, tensor in state.items() if not name.endswith(COUNTER)}
    save_file({name: tensor.half() for name, tensor in floats.items()}, tmp_path / "half.safetensors")
    save_torchscript(floats, tmp_path / "RN50.pt")
    names = ("plain.pt", "training.pt", "half.safetensors", "RN50.pt")
    clips = [load_clip(tmp_path / name, vision_heads=files.HEADS, text_heads=2) for name in names]
    assert len({clip.fingerprint for clip in clips}) == 1
    assert {clip.config.text_config.hidden_act for clip in clips} == {"quick_gelu"}
    tower = clips[0].tower
    assert (tower.kind, tower.image_size, tower.stage_widths) == ("ResNet", 96, (24, 48, 96, 192))
    assert tower.logit_scale == state["logit_scale"]
    written = resnet_to_openai(tower)
    assert all(torch.equal(tensor, state[name]) for name, tensor in written.items())
    assert written.keys() == {name for name in floats if name.startswith("visual.")}


def test_heads_are_64_channels_wide_unless_given(state, tmp_path) -> None:
    torch.save(state, tmp_path / "w.pt")
    assert load_clip(tmp_path / "w.pt", text_heads=2).tower.visual.attnpool.heads == 192 // 64


def test_every_wrong_key_is_named(state, tmp_path) -> None:
    del state["visual.layer3.0.bn2.running_var"]
    state["visual.layer4.0.conv9.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pt")
    missing, unknown = "visual.layer3.0.bn2.running_var", "visual.layer4.0.conv9.weight"
    with pytest.raises(
        CheckpointError, match=f"a ResNet image tower. missing: {missing}; unknown: {unknown}"
    ):
        load_clip(tmp_path / "w.pt", text_heads=2)


def test_saved_and_loaded_again(tmp_path) -> None:
    """A tuned tower goes into the folder, the text tower and the counters stay those of the file."""
    toy = importlib.resources.files("lexiseg") / "assets" / "toy_clip"
    state = files.resnet_state(openai_state(CLIPModel.from_pretrained(toy)))
    torch.save(state, tmp_path / "w.pt")
    clip = load_clip(tmp_path / "w.pt", vision_heads=files.HEADS, tokenizer=toy)
    with torch.no_grad():
        clip.tower.visual.attnpool.c_proj.bias += 1
    save_clip(clip, tmp_path / "folder")
    again = load_clip(tmp_path / "folder", vision_heads=files.HEADS)
    batch = images(64, 96)
    torch.testing.assert_close(again.tower(batch), clip.tower(batch))
    words = ["a red circle", "a blue square"]
    torch.testing.assert_close(again.require_text().encode(words), clip.require_text().encode(words))


def test_a_folder_that_says_its_activation(state, tmp_path) -> None:
    save_file(state, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"quick_gelu": False}}))
    assert load_clip(tmp_path, text_heads=2).config.text_config.hidden_act == "gelu"
