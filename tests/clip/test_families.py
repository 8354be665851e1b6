"""SigLIP 2, MetaCLIP 2 and TIPSv2 beside transformers' own forward passes, and the contract that they keep."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import family_cases as cases
from lexiseg.clip.families import FAMILIES
from lexiseg.clip.loading import load_clip
from lexiseg.clip.saving import save_clip
from lexiseg.clip.tokenizer import TextTooLongError
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.models.pixel_clip import PixelCLIP
from lexiseg.models.pixel_clip_settings import PixelCLIPSettings
from lexiseg.models.registry import build_model
from lexiseg.types import MaskBatch

SENTENCES = ["a photo of the red circle.", "blue", "Stripes of a SQUARE"]


@pytest.fixture(scope="module", params=cases.CASES)
def family(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    model = cases.saved(request.param, folder)
    return request.param, model, load_clip(folder)


def spoken(name: str, said: list[str]) -> dict[str, torch.Tensor]:
    """What transformers' text tower is given."""
    tokens = cases.tokenizer(name)(said, padding="max_length", max_length=13, return_tensors="pt")
    keys = ("input_ids", *(("attention_mask",) if cases.CASES[name].padding_mask else ()))
    return {key: tokens[key] for key in keys}


def images(height: int, width: int) -> torch.Tensor:
    return torch.randn(3, 3, height, width, generator=torch.Generator().manual_seed(1))


def pooled(output) -> torch.Tensor:
    return getattr(output, "pooler_output", output)


@pytest.mark.parametrize(("height", "width"), [(40, 40), (24, 56), (56, 16)])
@torch.no_grad()
def test_image_embeddings_are_transformers(family, height: int, width: int) -> None:
    name, model, clip = family
    batch = images(height, width)
    settings = {} if cases.CASES[name].interpolates else {"interpolate_pos_encoding": True}
    expected = pooled(model.get_image_features(pixel_values=batch, **settings))
    ours = clip.tower.position_mode or "bicubic"
    found = clip.tower(batch, position_mode=ours)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(clip.tower(batch[1:2], position_mode=ours), found[1:2], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_text_embeddings_are_transformers(family) -> None:
    name, model, clip = family
    said = [s.lower() if cases.CASES[name].lower_case else s for s in SENTENCES]
    expected = F.normalize(pooled(model.get_text_features(**spoken(name, said))), dim=-1)
    torch.testing.assert_close(clip.text_tower.encode(SENTENCES), expected, rtol=1e-5, atol=1e-5)
    alone = clip.text_tower.encode(SENTENCES[1:2])
    torch.testing.assert_close(alone, expected[1:2], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_scores_are_transformers(family) -> None:
    """Scale and bias, through the whole model's own logits."""
    name, model, clip = family
    batch, said = images(40, 40), [s.lower() for s in SENTENCES]
    expected = model(pixel_values=batch, **spoken(name, said)).logits_per_image
    cosines = F.normalize(clip.tower(batch), dim=-1) @ clip.text_tower.encode(said).T
    found = clip.logit_scale * cosines + (clip.logit_bias or 0.0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (clip.logit_bias is None) == (not hasattr(model, "logit_bias"))


def test_what_each_declares(family) -> None:
    name, _, clip = family
    tower, case = clip.tower, cases.CASES[name]
    assert (tower.prefix_tokens, tower.has_class_token) == (case.prefix, case.class_token)
    assert (tower.takes_prompts, tower.aligned_patches) == (case.takes_prompts, case.aligned_patches)
    assert tower.has_blocks
    assert clip.text_tower.pooling == case.pooling
    assert (tower.patch_size, tower.image_size) == (8, 40)
    assert not any(parameter.requires_grad for parameter in clip.parameters())


@torch.no_grad()
def test_a_block_is_transformers_block_and_tokens_start_behind_the_prefix(family) -> None:
    _, model, clip = family
    batch = images(40, 40)
    outputs = model.vision_model(pixel_values=batch, output_hidden_states=True)
    found = list(clip.tower.block_tokens(batch))
    assert len(found) == 3
    for index in (0, 1):  # what stands after the last block differs between families: with or without norm
        expected = outputs.hidden_states[index + 1][:, clip.tower.prefix_tokens :]
        torch.testing.assert_close(found[index], expected, rtol=1e-5, atol=1e-5)


def test_colors_are_the_folders_else_the_familys(family) -> None:
    name, _, clip = family
    assert (clip.tower.mean, clip.tower.std) == cases.CASES[name].colors


@torch.no_grad()
def test_a_siglip_patch_alone_is_its_own_image(tmp_path) -> None:
    """The head's attention over a single patch is that patch's value: dense and pooled reading must then agree."""
    cases.saved("siglip", tmp_path)
    tower = load_clip(tmp_path).tower
    one = images(8, 8)
    torch.testing.assert_close(
        tower.dense_features(one)[:, :, 0, 0], tower(one, position_mode="bicubic"), rtol=1e-5, atol=1e-5
    )


def test_saved_again_it_is_the_same_clip(family, tmp_path) -> None:
    _, model, clip = family
    save_clip(clip, tmp_path)
    again = load_clip(tmp_path)
    assert again.fingerprint == clip.fingerprint
    assert (again.tower.mean, again.logit_scale) == (clip.tower.mean, clip.logit_scale)
    words = Vocabulary.from_text("red circle, blue; square", templates="single")
    assert torch.equal(words.embed(again).vectors, words.embed(clip).vectors)
    loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[f"{kind}_keys"] for kind in ("missing", "unexpected", "mismatched"))
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [type(loaded).__name__]


def test_a_sentence_is_refused_not_cut(family) -> None:
    _, _, clip = family
    with pytest.raises(TextTooLongError, match="is longer than the 13 that CLIP reads"):
        clip.text_tower.encode(["a photo of the red circle of the blue square of the stripes ."])


def test_trained_models_take_a_tower_with_one_class_token_alone(family) -> None:
    name, _, clip = family
    settings = {"name": "zegclip", "prompt_length": 2, "decoder_heads": 2, "stages": [[3]]}
    if cases.CASES[name].takes_prompts:
        output = build_model(settings, clip.vision)(images(24, 56), F.normalize(torch.randn(5, 16), dim=1))
        assert output.logits.shape == (3, 5, 3, 7)
        return
    with pytest.raises(ConfigError, match="image tower, which cannot take learned prompts"):
        _ = clip.vision
    with pytest.raises(ConfigError, match="takes learned prompts"):
        build_model(settings, clip.tower)


def test_words_are_learned_through_clips_kind_of_text_tower_alone(family) -> None:
    name, _, clip = family
    ids = torch.tensor([[1, 5, 7, 2]])
    if cases.CASES[name].pooling == "end marker":
        found = clip.text_tower.forward_embedded(clip.text_tower.embed_tokens(ids), end=3)
        torch.testing.assert_close(found, clip.text_tower(ids), rtol=1e-5, atol=1e-5)
        return
    with pytest.raises(ConfigError, match=f"read at its {clip.text_tower.pooling}"):
        clip.text_tower.embed_tokens(ids)


@torch.no_grad()
def test_a_tips_sentence_that_fills_the_context_is_read_whole(tmp_path) -> None:
    """It ends in no marker, so its last words are told from padding by the padding's id alone."""
    model = cases.saved("tipsv2", tmp_path)
    said = ["the " + " ".join(["red"] * 12), "blue"]
    tokens = cases.tokenizer("tipsv2")(said, padding="max_length", max_length=13, return_tensors="pt")
    expected = F.normalize(pooled(model.get_text_features(**tokens)), dim=-1)
    for some in (slice(0, 1), slice(1, 2), slice(0, 2)):
        found = load_clip(tmp_path).text_tower.encode(said[some])
        torch.testing.assert_close(found, expected[some], rtol=1e-5, atol=1e-5)


def test_gradients_reach_all_but_the_unread(family) -> None:
    _, _, clip = family
    tower = copy.deepcopy(clip.tower).requires_grad_()
    tower.dense_features(images(24, 56)).square().sum().backward()
    unread = {name for name, parameter in tower.named_parameters() if parameter.grad is None}
    assert unread == {
        name for name, _ in tower.named_parameters() if name.startswith(tower.unread_parameters)
    }


def test_pixelclip_tunes_every_tower_but_clusters_by_clips_kind_of_words(family) -> None:
    name, _, clip = family
    settings = {"image_size": 56, "mask_size": 16, "decoder_channels": 32}
    model = PixelCLIP(clip.tower, None, PixelCLIPSettings(global_clustering=False, **settings))
    assert any("attn" in each or "attention" in each for each in model.student.names)
    side = model.settings.image_size
    batch = MaskBatch(
        *torch.randint(0, 256, (2, 3, 3, side, side), dtype=torch.uint8).unbind(0),
        masks=torch.rand(5, 16, 16) > 0.5,
        image_of_mask=torch.tensor([0, 0, 1, 2, 2]),
    )
    assert torch.isfinite(model(batch)["loss"])
    if cases.CASES[name].pooling != "end marker":
        with pytest.raises(ConfigError, match="words cannot be learned through this text tower"):
            PixelCLIP(clip.tower, clip.text_tower, PixelCLIPSettings(clusters=3, prompt_length=2, **settings))


def test_a_damaged_preparation_is_told(tmp_path) -> None:
    cases.saved("siglip", tmp_path)
    file = tmp_path / "preprocessor_config.json"
    file.write_text("[1")
    with pytest.raises(CheckpointError, match=r"preprocessor_config.json: expected a JSON object"):
        load_clip(tmp_path)
    file.write_text('{"image_mean": [0.5], "image_std": [0.5]}')
    with pytest.raises(CheckpointError, match="three means and three deviations above 0"):
        load_clip(tmp_path)
    file.unlink()
    within = {"image_processor": {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}}
    (tmp_path / "processor_config.json").write_text(json.dumps(within))
    assert load_clip(tmp_path).tower.mean == (0.1, 0.2, 0.3)


def test_predict_from_the_shell(family, tmp_path, monkeypatch, capsys) -> None:
    from lexiseg.cli.main import main

    _, _, clip = family
    photo = np.random.default_rng(0).integers(0, 255, (53, 97, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    command = ["predict", str(tmp_path / "photo.png"), "--classes", "red circle, blue square"]
    command += ["--clip", clip.source, "--out", str(tmp_path / "out")]
    assert main(command) == 0
    labels = next((tmp_path / "out").rglob("*labels*.png"))
    assert np.asarray(Image.open(labels)).shape[:2] == (53, 97)
    assert main([*command, "--method", "sc-clip"]) == (0 if clip.tower.has_class_token else 2)
    if not clip.tower.has_class_token:
        assert "set class_share=0" in " ".join("".join(capsys.readouterr()).split())


def test_naflex_and_strangers_are_refused(tmp_path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "siglip2"}')
    with pytest.raises(ConfigError, match="NaFlex form of SigLIP 2 takes lists of patches"):
        load_clip(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    known = ", ".join(name for name, each in FAMILIES.items() if each.model_class)
    with pytest.raises(ConfigError, match=f"expected a CLIP of model_type {known}, got 'bert'"):
        load_clip(tmp_path)


def test_a_siglip_without_its_head_is_refused(tmp_path) -> None:
    cases.saved("siglip", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"]["vision_use_head"] = False
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises((ConfigError, CheckpointError), match="head"):
        load_clip(tmp_path)


def test_an_older_transformers_is_told_to_update(tmp_path, monkeypatch) -> None:
    cases.saved("tipsv2", tmp_path)
    newer = replace(FAMILIES["tipsv2"], model_class="Tipsv9Model")
    monkeypatch.setitem(FAMILIES, "tipsv2", newer)
    with pytest.raises(ConfigError, match=r"Tipsv9Model, which version .* does not have; update"):
        load_clip(tmp_path)
