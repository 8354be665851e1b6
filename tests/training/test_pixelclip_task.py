"""Whole PixelCLIP runs on a few scenes of the toy world: learning, exact resumption, the exported CLIP, guards."""

import csv
import json

import pytest
import torch
from transformers import CLIPModel

from lexiseg.checkpoints.training_file import load_tensors_only, read_info
from lexiseg.cli.composing import plain
from lexiseg.cli.pixelclip import compose_tuning
from lexiseg.clip.loading import load_clip
from lexiseg.errors import CheckpointError, ConfigError, TrainingError
from lexiseg.recipes import tune
from lexiseg.recipes.records import tuning_run
from lexiseg.training.pixel_clip_task import PixelCLIPTask, TuningInfo, read_tuning_info
from support import slow_but

SMALL = [
    "experiment=pixelclip/toy",
    "mask_data.train.dataset.image_size=[40,56]",
    "mask_data.train.dataset.length=16",
    "mask_data.train.dataset.keep=true",
    "mask_data.views.short_side=40",
    "mask_data.views.crop=32",
    "mask_data.views.size=24",
    "mask_data.views.mask_size=24",
    "mask_data.batch_size=2",
    "model.image_size=24",
    "model.mask_size=24",
    "model.clusters=5",
    "model.momentum=0.9",
    "optim.lr=2.0e-4",  # the published rates; the toy preset has others
    "optim.prompt_factor=10",
    "optim.clip_factor=0.01",
    "optim.gradient_clip=0.01",
    "checkpoint.every_steps=2",
    "pictures.images=3",
    "pictures.every_steps=0",
]


def run(folder, *overrides):
    return tune(tuning_run(plain(compose_tuning([*SMALL, f"output_dir={folder}", *overrides])), print))


def read_log(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def state(folder):
    return load_tensors_only(folder / "last.ckpt")


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Six uninterrupted steps."""
    folder = tmp_path_factory.mktemp("straight")
    run(folder, "trainer.max_steps=6", "pictures.every_steps=3")
    return folder


def test_run_folder(straight):
    names = {path.name for path in straight.iterdir()}
    assert names == {"config.yaml", "last.ckpt", "clusters.png", "result.json", "clip"}
    result = json.loads((straight / "result.json").read_text())
    assert (result["step"], result["images"], result["without_masks"]) == (6, 16, 0)
    assert 0 < result["loss"] < 2


def test_checkpoint_holds_what_trains_and_the_teacher(straight):
    checkpoint = state(straight)
    names = list(checkpoint["state_dict"])
    for part in ("student", "teacher.average"):
        tuned = [name for name in names if name.startswith(f"model.{part}.vision.")]
        assert any("self_attn.v_proj" in name for name in tuned)
        assert all(".self_attn." in name or "position_embedding" in name for name in tuned)
    assert "model.prompts.tokens" in names
    assert not any("mlp" in name or "text" in name for name in names), "what is frozen must not travel"
    info = read_tuning_info(checkpoint, "x")
    assert info.clip == {"source": "toy", "fingerprint": load_clip("toy").fingerprint}
    assert info.model["clusters"] == 5
    with pytest.raises(CheckpointError, match="the folder clip of the same run: give that as the CLIP"):
        read_info(checkpoint, "x")


def test_the_tuned_clip_is_a_clip(straight):
    """transformers loads it; what is tuned has changed and nothing else."""
    model, report = CLIPModel.from_pretrained(straight / "clip", output_loading_info=True)
    assert not any(report[f"{kind}_keys"] for kind in ("missing", "unexpected", "mismatched"))
    before, after = load_clip("toy"), load_clip(straight / "clip")
    assert after.fingerprint != before.fingerprint
    pairs = zip(before.tower.named_parameters(), after.tower.parameters(), strict=True)
    changed = {name for (name, old), new in pairs if not torch.equal(old, new)}
    last = before.tower.depth - 1
    parts = ("k_proj", "v_proj", "q_proj", "out_proj")
    expected = {
        f"vision.encoder.layers.{block}.self_attn.{part}.{kind}"
        for block in range(before.tower.depth)
        for part in (parts if block < last else ("v_proj", "out_proj"))
        for kind in ("weight", "bias")
    } | {"vision.embeddings.position_embedding.weight"}
    # A key's bias shifts all scores of a query alike, so its gradient is rounding and decay alone may move it.
    assert changed - {name for name in changed if name.endswith("k_proj.bias")} == {
        name for name in expected if not name.endswith("k_proj.bias")
    }
    old, new = before.text_tower.state_dict(), after.text_tower.state_dict()
    assert all(torch.equal(old[name], new[name]) for name in old)
    trained = state(straight)["state_dict"]["model.student.vision.encoder.layers.0.self_attn.v_proj.weight"]
    assert torch.equal(model.vision_model.encoder.layers[0].self_attn.v_proj.weight, trained)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("stop", slow_but([2, 3], [3]), ids=["at a checkpoint", "after one"])
def test_resuming_is_exact(straight, tmp_path, stop, monkeypatch):
    """A killed run ends with the very weights, teacher and optimiser of one that was not."""
    original = PixelCLIPTask.training_step

    def dies(self, batch, index):
        if self.global_step == stop:
            raise KeyboardInterrupt
        return original(self, batch, index)

    monkeypatch.setattr(PixelCLIPTask, "training_step", dies)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(tmp_path, "trainer.max_steps=6")
    assert not (tmp_path / "clip").exists()
    monkeypatch.setattr(PixelCLIPTask, "training_step", original)
    run(tmp_path, "trainer.max_steps=6")
    expected, resumed = state(straight), state(tmp_path)
    assert expected["state_dict"].keys() == resumed["state_dict"].keys()
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(tensor, resumed["state_dict"][name]), name
    moments = [one["optimizer_states"][0]["state"][0]["exp_avg"] for one in (expected, resumed)]
    assert torch.equal(*moments)
    assert load_clip(tmp_path / "clip").fingerprint == load_clip(straight / "clip").fingerprint


def test_a_finished_run_is_left_alone_and_another_one_refused(straight, capsys):
    written = (straight / "last.ckpt").stat().st_mtime_ns
    assert run(straight, "trainer.max_steps=6", "pictures.images=2") == straight / "clip"
    assert "is complete; resume=false starts it anew" in capsys.readouterr().out
    with pytest.raises(
        ConfigError, match=r"holds a run with other settings \(model.clusters: 5 there, 4 now\)"
    ):
        run(straight, "trainer.max_steps=6", "model.clusters=4")
    assert (straight / "last.ckpt").stat().st_mtime_ns == written


def test_resuming_from_another_model(straight, tmp_path):
    with pytest.raises(CheckpointError, match="of another model .*model.clusters: 5, now 4"):
        run(tmp_path, f"resume={straight / 'last.ckpt'}", "model.clusters=4")
    other = TuningInfo({"clusters": 5}, {"source": "toy", "fingerprint": "a"})
    another = TuningInfo({"clusters": 5}, {"source": "mine", "fingerprint": "b"})
    assert other.differences(another) == ["clip: toy with fingerprint a, now mine with b"]
    with pytest.raises(CheckpointError, match="not a checkpoint of `lexiseg pixelclip`"):
        read_tuning_info({"state_dict": {}, "lexiseg": {}}, "x.ckpt")


def test_the_teacher_follows_once_per_optimiser_step(tmp_path):
    """Two batches of one are a batch of two as to steps; three updates of the teacher in three steps."""
    from lexiseg.models.pixel_clip import PixelCLIP

    updates = []
    original = PixelCLIP.update_teacher
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PixelCLIP, "update_teacher", lambda self: (updates.append(1), original(self))[1])
        run(
            tmp_path,
            "trainer.max_steps=3",
            "trainer.accumulate_grad_batches=2",
            "ablation=pixelclip_components/fixed_prompts",
        )
    assert len(updates) == 3
    assert state(tmp_path)["global_step"] == 3


def test_learning_rates_follow_the_published_cosine(straight):
    """Prompts 10, tower 0.01, decoder 1 of 2e-4; all at half of it at the end."""
    checkpoint = state(straight)
    groups = {group["name"]: group for group in checkpoint["optimizer_states"][0]["param_groups"]}
    starts = {name: group["initial_lr"] for name, group in groups.items()}
    assert starts == pytest.approx({"prompts": 2e-3, "clip": 2e-6, "decoder": 2e-4, "decoder_norms": 2e-4})
    assert {name: group["lr"] / starts[name] for name, group in groups.items()} == pytest.approx(
        dict.fromkeys(starts, 0.5)
    )
    assert groups["decoder_norms"]["weight_decay"] == 0


def test_without_clusters_there_is_no_picture(tmp_path):
    run(
        tmp_path,
        "trainer.max_steps=2",
        "ablation=pixelclip_components/no_clustering",
        "trainer.precision=bf16-mixed",
    )
    assert not (tmp_path / "clusters.png").exists()
    assert (tmp_path / "clip" / "model.safetensors").is_file()


def test_loss_that_is_no_number(tmp_path):
    with pytest.raises(TrainingError, match="the loss became nan at step 1.*Lower optim.lr"):
        run(tmp_path, "trainer.max_steps=4", "optim.lr=1.0e+30", "optim.gradient_clip=0")
    assert not (tmp_path / "last.ckpt").exists()


@pytest.mark.slow
def test_it_learns(tmp_path):
    """On one scene the loss goes far below that of a decoder which sees nothing and says how much is covered."""
    run(
        tmp_path,
        "trainer.max_steps=60",
        "optim.lr=0.01",
        "optim.gradient_clip=1.0",
        "checkpoint.every_steps=60",
        "model.momentum=0.99",
        "mask_data.train.dataset.length=1",
        "mask_data.train.dataset.image_size=[40,40]",
        "mask_data.views.crop=40",
        "mask_data.views.flip=0",
        "mask_data.views.cut_masks=false",
        "mask_data.views.strong.hole_side=[0.1,0.1]",
    )
    rows = read_log(tmp_path)
    assert {row["name"] for row in rows} == {
        f"train/{name}" for name in ("loss", "masks", "clusters", "similarity")
    }
    losses = [float(row["value"]) for row in rows if row["name"] == "train/loss"]
    assert losses[-1] < 0.6 * losses[0]
