"""Models of regions in the corners, through the commands: fewer regions than things, none at all, words known in part."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import stage_towers
from lexiseg.checkpoints.training_file import load_tensors_only
from lexiseg.cli.main import main
from lexiseg.errors import ConfigError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.models.registry import build_model
from support import slow_but

KINDS = ("san", "fc_clip", "zegformer", "ovseg", "open_seg", "lseg")
WITHOUT_REGIONS = ("lseg",)
TINY = {
    "zegformer": ["model.branch=fused", "model.crops_at_a_time=3"],
    "ovseg": ["model.prompt_depth=1", "model.crops_at_a_time=3"],
}
COMMON = (
    "experiment=toy", "trainer.max_steps=2", "trainer.accelerator=cpu", "data.num_workers=0", "data.train.length=150",
    "data.val.length=2", "data.batch_size=2", "validation.every_steps=2", "validation.panels=1",
    "checkpoint.every_steps=2",
)  # fmt: skip


@pytest.fixture(scope="module", params=slow_but(KINDS, ["fc_clip", "lseg"]))
def trained(request, tmp_path_factory):
    """Two steps on crops, which show some of a scene's classes and others not."""
    kind, folder = request.param, tmp_path_factory.mktemp(request.param)
    whole = () if kind in WITHOUT_REGIONS else ("protocol.window=null", "protocol.stride=null")
    command = ["train", f"model={kind}", *COMMON, *whole, *TINY.get(kind, ()), f"output_dir={folder / 'run'}"]
    assert main(command) == 0
    return kind, folder / "run" / "last.ckpt"


@pytest.fixture
def photograph(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (41, 59, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def predicted(checkpoint, photograph, words):
    out = photograph.parent / "out"
    flags = ["--checkpoint", str(checkpoint), "--classes", words, "--out", str(out), "--device", "cpu"]
    assert main(["predict", str(photograph), *flags]) == 0
    return json.loads((out / "photo.json").read_text())


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", ["san", "fc_clip", "zegformer", "ovseg"])
def test_fewer_regions_than_things_are_told(kind, tmp_path, capsys):
    """OpenSeg's loss gives every class its best region, so that it alone may have fewer."""
    assert main(["train", f"model={kind}", "model.queries=1", *COMMON, f"output_dir={tmp_path / 'run'}"]) == 2
    assert "segments but the model only 1 queries; train with at least" in capsys.readouterr().err


@pytest.mark.slow
def test_fewer_regions_than_things_where_each_class_takes_its_best(tmp_path):
    assert (
        main(["train", "model=open_seg", "model.queries=1", *COMMON, f"output_dir={tmp_path / 'run'}"]) == 0
    )


@pytest.mark.slow
def test_words_known_in_part(trained, photograph):
    """The result says which words training had labels for, by any of a class's words and whatever the case."""
    _, checkpoint = trained
    told = load_tensors_only(checkpoint)["lexiseg"]["split"]
    seen = next(name for name in told["classes"] if name not in told["unseen"])
    words = f"zebra; {seen.upper()}, {told['unseen'][0]}, heaven"
    found = predicted(checkpoint, photograph, words)
    assert found["known_words"] == [seen.upper()]
    assert (found["height"], found["width"]) == (41, 59)
    assert predicted(checkpoint, photograph, "zebra, heaven")["known_words"] == []


@pytest.mark.one_in(2)
def test_eval_says_which_words_were_known(trained, tmp_path):
    _, checkpoint = trained
    out = tmp_path / "eval.json"
    assert main(["eval", str(checkpoint), "limit=1", "device=cpu", f"output={out}"]) == 0
    report = json.loads(out.read_text())
    assert report["trained_on"]["known_words"] == report["trained_on"]["labelled"]


def test_no_proposal_holds_a_pixel(trained, photograph, monkeypatch):
    """Masks that are nowhere above 0: every pixel still gets one of the words, and scores are numbers."""
    kind, checkpoint = trained
    if kind in WITHOUT_REGIONS:
        return
    pipeline = Pipeline.load(checkpoint, device="cpu")
    proposer, forward = pipeline.model.proposer, pipeline.model.proposer.forward

    def empty(*given, **how):
        found = forward(*given, **how)
        for each in found if isinstance(found, tuple) else (found,):
            if hasattr(each, "masks"):
                each.masks.fill_(-1e4)
        return found

    monkeypatch.setattr(proposer, "forward", empty)
    result = pipeline.segmenter("red circle, bricks, sand").segment(photograph)
    assert result.labels.max() < 3
    assert np.isfinite(result.scores).all()


@pytest.mark.slow
def test_more_classes_than_whole_maps_would_fit(trained, photograph, monkeypatch):
    """A few classes at a time are the same as all of them."""
    _, checkpoint = trained
    words = [f"thing {index}" for index in range(97)]
    segmenter = Pipeline.load(checkpoint, device="cpu").segmenter(words)
    whole = segmenter.segment(photograph)
    monkeypatch.setattr("lexiseg.ops.class_chunks.TILE_BYTES", {"cpu": 2**12})
    monkeypatch.setattr("lexiseg.inference.segmenter._LOGIT_BYTES", 2**14)
    parts = segmenter.segment(photograph)
    np.testing.assert_allclose(parts.scores, whole.scores, rtol=1e-4, atol=1e-5)
    assert (parts.labels != whole.labels).mean() < 0.01


@pytest.mark.parametrize("kind", stage_towers.KINDS)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "san"}, "model 'san' needs a CLIP with a ViT; got a {kind}"),
        ({"name": "ovseg", "prompt_depth": 3}, "ViT"),
    ],
    ids=["san", "ovseg's tokens"],
)
def test_a_clip_without_patches_is_refused_by_what_needs_them(kind, settings, message, tiny_clip):
    with torch.device("meta"):
        tower = stage_towers.stage_tower(kind, tiny_clip)
    with pytest.raises(ConfigError, match=message.format(kind=kind)):
        build_model(settings, tower)
