"""Models of regions that no program can hold are refused by what they are, before anything is run."""

from dataclasses import replace
from functools import partial

import pytest
import torch

import pair_cases
import stage_towers
from lexiseg.errors import ConfigError
from lexiseg.export.program import require_traceable, trace
from lexiseg.models.fc_clip import FCClip, FCClipSettings
from lexiseg.models.ovseg import OVSeg, OVSegSettings
from lexiseg.models.zegformer import ZegFormer, ZegFormerSettings
from region_model_cases import SIZES, SWIN, photographs, spoken, tiny_tower

PLAIN = {"backbone": "resnet", "class_hidden": 13, "prompt_depth": 0}


def fc_clip():
    return FCClip(tiny_tower(), FCClipSettings(**stage_towers.SMALL))


def zegformer(branch):
    return ZegFormer(tiny_tower(), ZegFormerSettings(**SIZES, branch=branch))


def ovseg(branch, **backbone):
    return OVSeg(tiny_tower(), OVSegSettings(**SIZES, **{**PLAIN, **backbone}, branch=branch))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (fc_clip, "Mask2Former's decoders cannot be traced .* --to folder"),
        (lambda: zegformer("fused"), r"cut out one by one, .*model\.branch=segment"),
        (lambda: ovseg("ensemble"), r"cut out one by one, .*model\.branch=segment"),
        (lambda: ovseg("segment", **SWIN), r"a Swin backbone cannot be traced .*model\.backbone=resnet"),
    ],
    ids=["fc_clip", "zegformer's crops", "ovseg's crops", "swin"],
)
def test_it_is_refused_before_anything_is_run(build, message, monkeypatch):
    model = build()

    def never(*_, **__):
        raise AssertionError("it was run")

    monkeypatch.setattr(torch.export, "export", never)
    monkeypatch.setattr(model, "encode", never)
    with pytest.raises(ConfigError, match=message):
        trace(model)


@pytest.mark.parametrize("build", [lambda: zegformer("segment"), lambda: ovseg("segment")])
def test_whose_crops_nobody_asks_may_be_traced(build):
    require_traceable(build())


@pytest.mark.parametrize(
    "build",
    [
        *(partial(pair_cases.published, name) for name in pair_cases.PUBLISHED),
        partial(pair_cases.published, "zegformer", branch="segment"),
        partial(pair_cases.published, "zegformer", branch="fused"),
        partial(pair_cases.published, "ovseg", branch="segment", prompt_depth=0),
        *(partial(pair_cases.pair, *names) for names in pair_cases.PAIRS),
    ],
    ids=lambda build: "-".join(map(str, (*build.args, *build.keywords.values()))),
)
@torch.no_grad()
def test_what_weighs_words_of_training_is_no_program(build):
    """A program takes embeddings and cannot know which of them training had labels for: whoever asks must be refused."""
    model = build()
    if model.untraceable:
        with pytest.raises(ConfigError):
            require_traceable(model)
        return
    state, words = model.encode(photographs(model, 1)), spoken(model.tower.embed_dim)
    known, new = (
        model.classify(state, replace(words, seen=torch.full_like(words.seen, seen)))
        for seen in (True, False)
    )
    assert torch.equal(known.scores, new.scores)
    assert known.scores.std() > 0


@torch.no_grad()
@pytest.mark.parametrize("build", [fc_clip, lambda: zegformer("fused")])
def test_those_that_weigh_them_are_refused(build):
    model = build().eval()
    state, words = model.encode(photographs(model, 1)), spoken(model.tower.embed_dim)
    known, new = (
        model.classify(state, replace(words, seen=torch.full_like(words.seen, seen)))
        for seen in (True, False)
    )
    assert not torch.equal(known.scores, new.scores)
    with pytest.raises(ConfigError):
        require_traceable(model)
