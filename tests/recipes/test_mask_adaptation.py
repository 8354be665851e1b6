"""The recipe of maskadapt beside its command: where a run is judged; and its tokens in models other than OVSeg."""

import pytest
import torch

from lexiseg.clip.loading import load_clip
from lexiseg.data.toy.world import TOY_UNSEEN, ToyWorld
from lexiseg.errors import ConfigError
from lexiseg.evaluation.region_accuracy import RegionAccuracy
from lexiseg.models.region_classifiers.mask_prompts import MaskPrompts
from lexiseg.recipes import mask_adaptation, training
from lexiseg.recipes.clip_folder import write_clip_folder
from lexiseg.recipes.settings import ClipSource, SplitSettings, TrainingData
from region_model_cases import SIZES


def test_both_towers_are_judged_where_the_run_computed(tmp_path, monkeypatch):
    clip, places = load_clip("toy"), []
    run = mask_adaptation.AdaptRun(
        mask_adaptation.PairSettings(images=tmp_path, folder=tmp_path),
        tmp_path / "run",
        judged_on=ToyWorld(partition="val", length=1),
    )
    model = mask_adaptation.build_task(run, clip, ("bricks", "sand")).model

    def accuracy(tower, *_):
        places.append(next(tower.parameters()).device.type)
        return RegionAccuracy(1, 1.0, 1.0)

    monkeypatch.setattr(mask_adaptation, "_accuracy", accuracy)
    mask_adaptation._judged(run, clip, model, torch.device("meta"))
    assert places == ["meta", "meta"]


def cut_out(folder, source, depth):
    model = {
        "name": "two_stage",
        "proposer": {"name": "given"},
        "classifier": {"name": "masked_crops", "style": "region", "prompt_depth": depth},
    }
    return built(folder, source, model)


def built(folder, source, model):
    world = ToyWorld(partition="val", length=1)
    run = training.TrainRun(
        data=TrainingData(train=world, val=world),
        split=SplitSettings("toy", unseen=TOY_UNSEEN),
        output_dir=folder,
        clip=ClipSource(source=str(source)),
        model=model,
    )
    split = run.split.of(run.data.train.classes)
    return training.build_task(run, run.clip.load(), split).model


def test_any_model_that_reads_with_mask_prompts_takes_them_from_its_clip(tmp_path):
    clip = load_clip("toy")
    tokens = torch.randn_like(MaskPrompts(clip.tower, 2).tokens)
    write_clip_folder(clip, tmp_path / "clip", tokens)
    model = cut_out(tmp_path / "run", tmp_path / "clip", 2)
    assert torch.equal(model.classifier.network.prompts.tokens, tokens)
    with pytest.raises(ConfigError, match=r"tokens of 2x36x.* set model\.classifier\.prompt_depth=2"):
        cut_out(tmp_path / "run", tmp_path / "clip", 3)
    with pytest.raises(
        ConfigError, match=r"^model\.classifier\.prompt_depth: the CLIP \(toy\) brings no mask"
    ):
        cut_out(tmp_path / "run", "toy", 2)


@pytest.mark.parametrize(
    ("changes", "warned"), [({}, True), ({"prompt_depth": 0}, False), ({"branch": "segment"}, False)]
)
def test_ovseg_on_a_clip_without_tokens_says_so(tmp_path, caplog, changes, warned):
    small = SIZES | {"backbone": "resnet", "class_hidden": 13, "prompt_depth": 2}
    model = built(tmp_path, "toy", {"name": "ovseg", **small, **changes})
    told = "model.prompt_depth: the CLIP (toy) brings no mask prompt tokens, and here they do not train"
    assert (told in caplog.text) == warned
    if warned:
        assert "or set model.prompt_depth=0; they stay zero" in caplog.text
        assert not model.crops.prompts.tokens.any()
    caplog.clear()
    write_clip_folder(
        load_clip("toy"), tmp_path / "clip", torch.randn_like(MaskPrompts(model.tower, 2).tokens)
    )
    if warned:
        built(tmp_path, tmp_path / "clip", {"name": "ovseg", **small})
        assert "mask prompt tokens" not in caplog.text
