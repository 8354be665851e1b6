"""A combination that nobody published: a proposer of one's own, one file and one config, with a classifier that there is."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import patch_queries
from lexiseg.checkpoints.training_file import load_tensors_only
from lexiseg.cli import composing
from lexiseg.cli.main import main
from lexiseg.data.toy.world import ToyWorld
from lexiseg.inference.pipeline import Pipeline
from lexiseg.models.proposers.registry import PROPOSERS
from lexiseg.recipes import conf_files
from lexiseg.recipes.conf_files import conf_dir

SIZE = [40, 56]
SMALL = [
    "experiment=toy",
    "trainer=cpu",
    "trainer.max_steps=2",
    f"data.train.image_size={SIZE}",
    "data.train.length=211",
    f"data.train_transform.base={SIZE}",
    f"data.train_transform.crop={SIZE}",
    f"data.val.image_size={SIZE}",
    "data.val.length=3",
    "data.batch_size=2",
    "loss.points=97",
    "validation.panels=0",
    "model=two_stage",
]


@pytest.fixture
def seventh(tmp_path, monkeypatch):
    """Its configuration among the others, its file imported."""
    shutil.copytree(conf_dir(), tmp_path / "conf")
    (tmp_path / "conf" / "train" / "model" / "proposer" / "patch_queries.yaml").write_text(
        patch_queries.CONFIG
    )
    for module in (conf_files, composing):
        monkeypatch.setattr(module, "conf_dir", lambda: tmp_path / "conf")
    monkeypatch.setattr("lexiseg.models.proposers.registry.PROPOSERS", PROPOSERS)
    patch_queries.register()
    yield
    del PROPOSERS["patch_queries"]


@pytest.mark.one_in(2)
@pytest.mark.usefixtures("seventh")
@pytest.mark.parametrize("classifier", ["mask_pooling", "pooled_queries"])
def test_it_is_trained_and_predicts(classifier, tmp_path, capsys):
    run = tmp_path / "run"
    chosen = ["model/proposer=patch_queries", f"model/classifier={classifier}", "model.proposer.queries=11"]
    assert main(["train", *SMALL, *chosen, f"output_dir={run}"]) == 0
    assert "done: seen" in capsys.readouterr().out
    checkpoint = load_tensors_only(run / "last.ckpt")
    model = checkpoint["lexiseg"]["model"]
    assert model["proposer"] == {"name": "patch_queries", "queries": 11, "sharpness": 20.0}
    assert checkpoint["state_dict"]["model.proposer.queries"].shape[0] == 11
    assert (checkpoint["state_dict"]["model.proposer.map.bias"] != 0).any()
    photograph = ToyWorld(partition="val", length=3, image_size=SIZE, seed=0)[0].image
    Image.fromarray(photograph).save(tmp_path / "scene.png")
    words = ["--classes", "red circle, blue square, bricks", "--checkpoint", str(run / "last.ckpt")]
    assert main(["predict", str(tmp_path / "scene.png"), *words, "--out", str(tmp_path / "out")]) == 0
    segmenter = Pipeline.load(run / "last.ckpt").segmenter(("red circle", "blue square", "bricks"))
    labels = segmenter.segment(photograph).labels
    assert labels.shape == tuple(SIZE)
    assert set(np.unique(labels)) <= {0, 1, 2}


def test_masks_that_are_given_need_no_step(tmp_path, capsys):
    """Superpixels named by a frozen CLIP: there is nothing to train, and the checkpoint is used like any other."""
    chosen = ["model/proposer=given", "model/classifier=mask_pooling", "model.proposer.most=23"]
    assert main(["train", *SMALL, *chosen, f"output_dir={tmp_path}"]) == 0
    told, progress = capsys.readouterr()
    assert "min left" not in progress
    assert "model 'two_stage' as chosen has nothing to train; it is judged as it is" in told
    assert "done: seen" in told
    assert not load_tensors_only(tmp_path / "last.ckpt")["state_dict"]
    model = Pipeline.load(tmp_path / "best.ckpt").model
    assert model.settings.proposer["most"] == 23
    photograph = ToyWorld(partition="val", length=3, image_size=SIZE, seed=0)[0].image
    images = model.normalize(torch.from_numpy(photograph).permute(2, 0, 1)[None].float())
    state = model.encode(images[..., :32, :48])
    assert 2 <= state.masks.shape[1] <= 23
    assert (state.masks > 0).any(1).float().mean() > 0.9, "superpixels cover the photograph"
