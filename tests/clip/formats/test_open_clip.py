"""A CLIP with a ConvNeXt written as open_clip publishes it: the same file, another image tower."""

import json

import pytest
import torch
from safetensors.torch import load_file

import convnext_files as files
from lexiseg.clip.loading import load_clip
from lexiseg.clip.saving import save_clip
from lexiseg.errors import LexisegError
from openai_files import openai_state


@pytest.fixture
def clip(tiny_clip, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    torch.save(files.convnext_state(openai_state(tiny_clip)), source / "open_clip_pytorch_model.bin")
    settings = {"model_cfg": {"vision_cfg": {"image_size": 96}}}
    (source / "open_clip_config.json").write_text(json.dumps(settings))
    load_clip("toy").text_tower.tokenizer.save(source, context_length=13)
    return load_clip(source, text_heads=2)


def test_only_the_image_tower_changes(clip, tmp_path):
    before = load_clip(clip.source, text_heads=2)
    with torch.no_grad():
        clip.tower.visual_projection[0].weight.add_(1)
    save_clip(clip, tmp_path / "out")
    again = load_clip(tmp_path / "out", text_heads=2)
    assert again.fingerprint != before.fingerprint
    assert again.tower.image_size == 96
    assert torch.equal(again.tower.visual_projection[0].weight, clip.tower.visual_projection[0].weight)
    theirs = torch.load(tmp_path / "source" / "open_clip_pytorch_model.bin", weights_only=True)
    ours = load_file(tmp_path / "out" / "open_clip_model.safetensors")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == ["visual.head.proj.weight"]
    assert torch.equal(*(one.text_tower.tokenizer(["red circle"], 13) for one in (again, before)))


def test_what_cannot_be_written(clip, tmp_path):
    clip.text_tower = None
    with pytest.raises(LexisegError, match="has no tokenizer"):
        save_clip(clip, tmp_path / "out")
    assert not (tmp_path / "out").exists()
