"""Every form of CLIP weights gives the same frozen tower; damaged or unsafe files give a message."""

import json
import os
import pickle

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from lexiseg.clip import loading
from lexiseg.clip.loading import load_clip
from lexiseg.errors import CheckpointError, ConfigError, LexisegError
from openai_files import openai_state, save_torchscript

HEADS = {"vision_heads": 3, "text_heads": 2}


@pytest.fixture
def quick_clip(tiny_clip):
    """The tiny CLIP with its weights rounded to half precision, exactly representable in every format."""
    with torch.no_grad():
        for parameter in tiny_clip.parameters():
            parameter.copy_(parameter.half().float())
    return tiny_clip


@pytest.mark.parametrize("name", ["tyo", "TOY", "toyy"])
def test_a_misspelled_toy_is_not_looked_for_on_the_hub(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "read_settings", lambda location: pytest.fail("the hub was asked"))
    with pytest.raises(ConfigError, match=f"no CLIP '{name}'; did you mean toy?"):
        load_clip(name)


def test_all_formats_agree(quick_clip, tmp_path):
    state = openai_state(quick_clip)
    image = torch.randn(2, 3, 40, 40)
    expected = quick_clip.get_image_features(image)
    expected = getattr(expected, "pooler_output", expected)
    torch.save(state, tmp_path / "plain.pt")
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "open_clip.pt"
    )
    save_file(state, tmp_path / "open_clip.safetensors")
    save_torchscript(state, tmp_path / "script.pt")
    quick_clip.save_pretrained(tmp_path / "folder")
    (tmp_path / "folder/vocab.json").write_text("{}")
    fingerprints = set()
    for name in ("plain.pt", "open_clip.pt", "open_clip.safetensors", "script.pt"):
        clip = load_clip(tmp_path / name, **HEADS)
        torch.testing.assert_close(clip.vision(image), expected, rtol=1e-5, atol=1e-5)
        fingerprints.add(clip.fingerprint)
    assert len(fingerprints) == 1, "one CLIP must have one fingerprint in every format"


def test_activation_as_the_checkpoint_says(quick_clip, tmp_path, caplog):
    state = openai_state(quick_clip)
    torch.save(state, tmp_path / "weights.pt")
    image = torch.randn(1, 3, 40, 40)
    quick = load_clip(tmp_path / "weights.pt", **HEADS).vision(image)
    assert "does not say its activation" in caplog.text
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"embed_dim": 16}}))
    exact = load_clip(tmp_path / "weights.pt", **HEADS).vision(image)
    forced = load_clip(tmp_path / "weights.pt", activation="quick_gelu", **HEADS).vision(image)
    assert torch.equal(quick, forced)
    assert (quick - exact).abs().max() > 1e-4


def test_head_count_defaults_to_width_over_64(tiny_clip, tmp_path):
    torch.save(openai_state(tiny_clip), tmp_path / "w.pt")
    assert load_clip(tmp_path / "w.pt").vision.num_heads == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("visual.ln_post.bias"), "missing: vision_model.post_layernorm.bias"),
        (lambda s: s.update({"visual.surprise": torch.ones(1)}), "unknown: .*visual.surprise"),
        (
            lambda s: s.update({"ln_final.bias": torch.ones(3)}),
            "wrong shape: text_model.final_layer_norm.bias",
        ),
    ],
)
def test_strict_keys(tiny_clip, tmp_path, change, message):
    state = openai_state(tiny_clip)
    change(state)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=message):
        load_clip(tmp_path / "w.pt", **HEADS)


class _Payload:
    def __reduce__(self):
        return os.system, ("touch {}".format(os.environ["LEXISEG_TEST_MARK"]),)


def test_code_in_a_pickle_is_not_run(tmp_path, monkeypatch):
    mark = tmp_path / "was-run"
    monkeypatch.setenv("LEXISEG_TEST_MARK", str(mark))
    with (tmp_path / "evil.pt").open("wb") as file:
        pickle.dump({"state_dict": _Payload()}, file)
    with pytest.raises(CheckpointError, match="without running code"):
        load_clip(tmp_path / "evil.pt")
    assert not mark.exists()


def test_code_in_a_torchscript_archive_is_not_run(tiny_clip, tmp_path, monkeypatch):
    import zipfile

    mark = tmp_path / "was-run"
    monkeypatch.setenv("LEXISEG_TEST_MARK", str(mark))
    save_torchscript(openai_state(tiny_clip), tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(tmp_path / "evil.pt", "w") as evil:
        for name in good.namelist():
            content = good.read(name)
            evil.writestr(name, pickle.dumps(_Payload()) if name.endswith("/data.pkl") else content)
    with pytest.raises(CheckpointError, match="system.*nothing was run"):
        load_clip(tmp_path / "evil.pt")
    assert not mark.exists()


def test_nothing_there(monkeypatch):
    with pytest.raises(LexisegError, match="clip=toy") as caught:
        load_clip("nobody/no-such-clip")
    assert "point clip=PATH (--clip PATH where a command has flags) at local weights" in str(caught.value)


def test_without_a_network_the_hub_is_not_tried_again_and_again(monkeypatch):
    def unknown(*args, **kwargs):
        raise OSError("name or service not known")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("lexiseg.clip.formats.huggingface.getproxies", dict)
    monkeypatch.setattr("lexiseg.clip.formats.huggingface.socket.getaddrinfo", unknown)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail(f"waits {seconds} s"))
    with pytest.raises(LexisegError, match="nor to be had from the Hugging Face hub"):
        load_clip("nobody/no-such-clip")
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


def test_no_tokenizer(tiny_clip, tmp_path):
    torch.save(openai_state(tiny_clip), tmp_path / "w.pt")
    clip = load_clip(tmp_path / "w.pt", **HEADS)
    with pytest.raises(LexisegError, match=r"bpe_simple_vocab_16e6.txt.gz"):
        clip.require_text()


def test_a_huggingface_file_instead_of_its_folder(tiny_clip, tmp_path):
    tiny_clip.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="give its folder"):
        load_clip(tmp_path / "model.safetensors")


def test_stays_frozen_and_in_evaluation_mode(tiny_clip, tmp_path):
    torch.save(openai_state(tiny_clip), tmp_path / "w.pt")
    clip = load_clip(tmp_path / "w.pt", **HEADS).train()
    assert not clip.training
    assert not any(parameter.requires_grad for parameter in clip.parameters())
