"""Training from Python, without a configuration file: the same run as the command's, to the last bit."""

import dataclasses

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from lexiseg.checkpoints.training_file import load_tensors_only
from lexiseg.cli.main import main
from lexiseg.clip.loading import load_clip
from lexiseg.data.toy.world import TOY_UNSEEN, ToyWorld
from lexiseg.data.transforms import train_recipe
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.losses.segment_criterion import MASKFORMER
from lexiseg.models.cascade_settings import CascadeSettings
from lexiseg.models.proposers.backbone import Backbone
from lexiseg.models.zegformer import ZegFormerSettings
from lexiseg.recipes import (
    CheckpointSettings,
    SplitSettings,
    TrainerSettings,
    TrainingData,
    TrainRun,
    ValidationSettings,
    train,
    training,
)
from lexiseg.recipes.training import build_task
from lexiseg.training.optim import OptimSettings
from lexiseg.training.self_training import SelfTrainingSettings
from region_model_cases import SIZES

SIZE = [40, 56]
COMMAND = [
    "trainer=cpu",
    "trainer.max_steps=2",
    f"data.train.image_size={SIZE}",
    "data.train.length=211",
    f"data.train_transform.base={SIZE}",
    f"data.train_transform.crop={SIZE}",
    f"data.val.image_size={SIZE}",
    "data.val.length=3",
    "data.batch_size=2",
    "model.prompt_length=3",
    "optim.warmup_steps=1",
    "validation.panels=0",
    "checkpoint.every_steps=2",
    "seed=7",
]


def python_run(folder, **changes):
    data = TrainingData(
        train=ToyWorld(partition="train", length=211, image_size=SIZE, seed=0),
        val=ToyWorld(partition="val", length=3, image_size=SIZE, seed=0),
        train_transform=train_recipe(
            base=SIZE, ratio=[0.75, 1.5], crop=SIZE, cat_max_ratio=0.75, flip=0.5, distort=False
        ),
        batch_size=2,
        val_batch_size=8,
        num_workers=0,
    )
    run = TrainRun(
        data=data,
        split=SplitSettings("toy", unseen=TOY_UNSEEN),
        output_dir=folder,
        model=CascadeSettings(prompt_length=3),
        optim=OptimSettings(warmup_steps=1),
        trainer=TrainerSettings(max_steps=2, accelerator="cpu"),
        validation=ValidationSettings(panels=0),
        checkpoint=CheckpointSettings(every_steps=2),
        seed=7,
    )
    return dataclasses.replace(run, **changes)


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory):
    folder = tmp_path_factory.mktemp("python")
    return folder, train(python_run(folder))


def test_python_and_command_train_the_same_model(by_hand, tmp_path, capsys):
    folder, scores = by_hand
    assert main(["train", *COMMAND, f"output_dir={tmp_path}"]) == 0
    assert "done: seen" in capsys.readouterr().out
    ours, theirs = (load_tensors_only(place / "last.ckpt") for place in (folder, tmp_path))
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    assert all(torch.equal(tensor, theirs["state_dict"][name]) for name, tensor in ours["state_dict"].items())
    assert ours["lexiseg"] == theirs["lexiseg"]
    assert scores.keys() >= {"seen", "unseen", "harmonic"}


def test_a_run_from_python_goes_on_as_itself_and_as_no_other(by_hand):
    folder, scores = by_hand
    told = []
    again = train(python_run(folder, tell=told.append))
    assert told == [f"the run in {folder} is complete; resume=false starts it anew"]
    assert again["seen"] == pytest.approx(scores["seen"])
    record = yaml.safe_load((folder / "config.yaml").read_text())
    assert record["data"]["train"]["_target_"] == "lexiseg.data.toy.world.ToyWorld"
    assert record["data"]["train"]["image_size"] == SIZE
    with pytest.raises(
        ConfigError, match="holds a run with other settings .optim.lr: 0.0002 there, 0.001 now"
    ):
        train(python_run(folder, optim=OptimSettings(warmup_steps=1, lr=1e-3)))


@pytest.mark.slow
def test_folders_of_runs_before_classes_moved_go_on(by_hand, tmp_path, capsys):
    """config.yaml as versions wrote it whose classes lay in other modules, and whose data had a class of their own."""
    assert main(["train", *COMMAND, f"output_dir={tmp_path}"]) == 0
    path = tmp_path / "config.yaml"
    old = yaml.safe_load(path.read_text())
    old["data"]["_target_"] = "lexiseg.data.datamodule.SegmentationDataModule"
    old["trainer"]["_target_"] = "pytorch_lightning.Trainer"
    for part in ("train", "val"):
        old["data"][part]["_target_"] = "lexiseg.data.toy.ToyWorld"
    path.write_text(yaml.safe_dump(old, sort_keys=False))
    capsys.readouterr()
    assert main(["train", *COMMAND, f"output_dir={tmp_path}"]) == 0
    assert "is complete" in capsys.readouterr().out
    for part, key, value, told in (
        ("train", "length", 99, "data.train.length: 99 there, 211 now"),
        (
            "train",
            "_target_",
            "lexiseg.data.voc.PascalVoc",
            "data.train._target_: PascalVoc there, ToyWorld now",
        ),
    ):
        changed = yaml.safe_load(yaml.safe_dump(old))
        changed["data"][part][key] = value
        path.write_text(yaml.safe_dump(changed))
        assert main(["train", *COMMAND, f"output_dir={tmp_path}"]) == 2
        assert told in capsys.readouterr().err


def test_an_old_run_of_another_seed_is_told_how_it_goes_on(tmp_path, capsys):
    """When every run had data order 0, seed 7 was another run than it is now."""
    assert main(["train", *COMMAND, "data.seed=0", f"output_dir={tmp_path}"]) == 0
    assert main(["train", *COMMAND, f"output_dir={tmp_path}"]) == 2
    assert "data.seed: 0 there, 7 now" in capsys.readouterr().err
    assert main(["train", *COMMAND, "data.seed=0", f"output_dir={tmp_path}"]) == 0


def test_unknown_models_and_settings_are_told_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError, match="model.name: expected one of cascade_clip"):
        python_run(tmp_path, model={"name": "segformer"})
    with pytest.raises(ConfigError, match="seed: expected a whole number"):
        python_run(tmp_path, seed=0.5)


@pytest.mark.slow
def test_overfitting_on_purpose_brings_the_loss_near_zero(tmp_path):
    command = ["train", "experiment=toy", "debug=overfit", "trainer=cpu", "data.val.length=1"]
    assert (
        main([*command, "trainer.max_steps=200", "validation.every_steps=200", f"output_dir={tmp_path}"]) == 0
    )
    rows = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    losses = {
        name: [float(row[2]) for row in rows if row[1] == name] for name in ("train/loss", "train/loss_focal")
    }
    assert losses["train/loss"][-1] < losses["train/loss"][0] / 6
    assert losses["train/loss_focal"][-1] < 1.2


@pytest.mark.parametrize(
    ("setting", "penalty"), [("inductive", 0.1), ("transductive", 0.0), ("supervised", 0.0)]
)
def test_only_inductive_models_bear_the_penalty(tmp_path, setting, penalty):
    run = python_run(tmp_path, split=SplitSettings("toy", unseen=TOY_UNSEEN, setting=setting))
    task = build_task(run, load_clip("toy"), run.split.of(run.data.train.classes))
    assert run.protocol.seen_penalty == 0.1
    assert task.info.protocol["seen_penalty"] == penalty


@pytest.mark.parametrize(
    ("model", "setting", "taken"),
    [
        ({"name": "zegclip"}, "inductive", ("sigmoid", 0.1)),
        ({"name": "zegclip"}, "transductive", ("sigmoid", 0.0)),
        ({"name": "zegformer"}, "inductive", ("scores", 0.0)),
        ({"name": "open_seg", "reading": "pixels"}, "inductive", ("linear", 0.0)),
    ],
)
def test_the_record_says_the_protocol_that_the_run_takes(tmp_path, model, setting, taken):
    run = python_run(tmp_path, model=model, split=SplitSettings("toy", unseen=TOY_UNSEEN, setting=setting))
    folder = run.folder
    folder.open(None, 0)
    told = yaml.safe_load((tmp_path / "config.yaml").read_text())["protocol"]
    assert (told["activation"], told["seen_penalty"]) == taken
    assert told["name"] == run.protocol.name
    folder.check_same_run()
    again = dataclasses.replace(run, protocol=InferenceProtocol.from_dict(told))
    assert again.folder.record["protocol"] == told, "a run of that record is the same run"
    again.folder.check_same_run()


def test_folders_that_say_the_protocol_as_it_was_asked_for_go_on(tmp_path):
    run = python_run(tmp_path, split=SplitSettings("toy", unseen=TOY_UNSEEN, setting="transductive"))
    run.folder.open(None, 0)
    old = yaml.safe_load((tmp_path / "config.yaml").read_text())
    old["protocol"]["seen_penalty"] = 0.1
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(old))
    run.folder.check_same_run()
    old["protocol"]["seen_penalty"] = 0.3
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(old))
    with pytest.raises(ConfigError, match="protocol.seen_penalty: 0.3 there, 0.0 now"):
        run.folder.check_same_run()


def test_no_checkpoint_is_of_both_runs_of_self_training(tmp_path):
    two = SelfTrainingSettings(enabled=True)
    with pytest.raises(
        ConfigError, match=r"resume=a\.ckpt: .* a checkpoint is of one of them; say resume=auto"
    ):
        train(python_run(tmp_path / "run", self_training=two, resume="a.ckpt"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resume": 3}, "resume: expected auto, true, false or the path of a checkpoint, got 3"),
        ({"init_from": 2.5}, "init_from: expected the path of a checkpoint, or null, got 2.5"),
        (
            {"backbone_weights": 2.5},
            "backbone_weights: expected a file, a folder or a hub name, or null, got 2.5",
        ),
        (
            {"backbone_weights": "a.pth", "init_from": "b.ckpt"},
            "init_from brings the whole model, its encoder too",
        ),
        ({"templates": 5}, "templates: expected a set's name, or a list of templates"),
        ({"templates": ["a {}", 7]}, "templates: expected a set's name, or a list of templates"),
    ],
)
def test_what_names_no_checkpoint_and_no_templates(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        python_run(tmp_path / "run", **changes)


@pytest.mark.slow
def test_an_encoder_starts_from_its_own_weights_once(tmp_path):
    own = Backbone(ZegFormerSettings(**SIZES)).network.state_dict()
    save_file(
        {f"resnet.{name}": tensor for name, tensor in own.items()},
        tmp_path / "a.safetensors",
    )
    run = python_run(
        tmp_path / "run",
        model={"name": "zegformer", **SIZES, "branch": "segment"},
        loss=MASKFORMER,
        backbone_weights=tmp_path / "a.safetensors",
    )
    model = build_task(run, run.clip.load(), run.split.of(run.data.train.classes)).model
    given, name = (
        load_file(tmp_path / "a.safetensors"),
        "encoder.stages.1.layers.1.layer.2.convolution.weight",
    )
    assert torch.equal(model.proposer.backbone.network.state_dict()[name], given[f"resnet.{name}"])
    train(run)
    (tmp_path / "a.safetensors").unlink()
    train(dataclasses.replace(run, trainer=TrainerSettings(max_steps=3, accelerator="cpu")))
    with pytest.raises(CheckpointError, match=r"a\.safetensors: "):
        train(dataclasses.replace(run, resume=False))


def test_only_the_first_stage_of_self_training_starts_its_encoder(tmp_path, monkeypatch):
    stages = []

    def trained(run):
        stages.append(run)
        run.folder.write_result({"step": 1})
        return {}, 0.0

    monkeypatch.setattr(training, "_train_once", trained)
    train(python_run(tmp_path, self_training=SelfTrainingSettings(enabled=True), backbone_weights="a.pth"))
    assert [stage.backbone_weights for stage in stages] == ["a.pth", None]
    assert [stage.record["backbone_weights"] for stage in stages] == ["a.pth", None]


def test_folders_of_runs_before_a_setting_was_there_go_on_where_it_is_null(by_hand):
    run = python_run(by_hand[0])
    place = run.output_dir / "config.yaml"
    record = yaml.safe_load(place.read_text())
    assert record.pop("backbone_weights", "absent") is None
    place.write_text(yaml.safe_dump(record))
    run.folder.check_same_run()
    with pytest.raises(ConfigError, match=r"backbone_weights: absent there, a\.pth now"):
        dataclasses.replace(run, backbone_weights="a.pth").folder.check_same_run()
