"""``lexiseg eval``: on the data that a checkpoint was trained on and on others, with their own words."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from lexiseg.checkpoints.training_file import CheckpointInfo
from lexiseg.cli.composing import plain
from lexiseg.cli.eval import compose_eval, run_eval
from lexiseg.cli.main import main
from lexiseg.clip.loading import load_clip
from lexiseg.data.toy.world import TOY_CLASSES, TOY_UNSEEN
from lexiseg.errors import ConfigError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.shots import Shot
from lexiseg.models.registry import build_model
from lexiseg.recipes.evaluate import describe_training, judge
from lexiseg.recipes.records import evaluation
from lexiseg.types import ClassSplit

SETTINGS = {
    "name": "cascade_clip", "stages": ((6,), (12,)), "prompt_length": 2, "decoder_layers": 1, "decoder_heads": 2,
}  # fmt: skip


def describe(split, **changes):
    values = {
        "model": SETTINGS,
        "clip": {"source": "toy", "fingerprint": load_clip("toy").fingerprint},
        "templates": ("a {}",),
        "split": split,
        "protocol": {"short_side": 48, "seen_penalty": 0.1},
    }
    return CheckpointInfo(**(values | changes))


TOY = ClassSplit("toy", TOY_CLASSES, TOY_UNSEEN)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    weights = build_model(SETTINGS, load_clip("toy").vision).state_dict()
    path = tmp_path / "best.ckpt"
    torch.save({"state_dict": weights, "lexiseg": describe(TOY).to_dict()}, path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Another data set: two toy grounds and a word of its own; validation images only."""
    root = tmp_path / "other"
    for part in ("images/val", "masks/val"):
        (root / part).mkdir(parents=True)
    draw = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(draw.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(
            root / f"images/val/{name}.png"
        )
        Image.fromarray(draw.integers(0, 3, (40, 56), dtype=np.uint8)).save(root / f"masks/val/{name}.png")
    (root / "classes.txt").write_text("red triangle\nzebra\nbricks\n")
    return root


def evaluate(checkpoint, *overrides):
    config = compose_eval([f"checkpoint={checkpoint}", "device=cpu", *overrides])
    return judge(evaluation(plain(config))).to_dict()


def test_another_data_set_with_its_own_words(checkpoint, folder):
    told = evaluate(checkpoint, "data=folder", f"data.root={folder}", "split=all")
    assert [group[0] for group in told["vocabulary"]["words"]] == ["red triangle", "zebra", "bricks"]
    assert told["images"] == 2, "and its training images need not be there"
    assert told["split"]["seen"] == ["red triangle", "zebra", "bricks"]
    assert told["scores"]["seen"] == told["scores"]["miou"]
    assert told["seen_ids"] == [], "no class bears a penalty"
    assert told["trained_on"] == {
        "split": "toy",
        "setting": "inductive",
        "same_classes": False,
        "labelled": ["bricks"],
        "not_labelled": ["red triangle", "zebra"],
        "known_words": ["bricks"],
    }


def test_a_penalty_for_all_classes_alike_changes_no_label(checkpoint, folder, monkeypatch):
    """As published: all classes of the other data set seen, and so penalised; here none is. The scores are the same."""
    overrides = ("data=folder", f"data.root={folder}", "split=all")
    ours = evaluate(checkpoint, *overrides)
    monkeypatch.setattr(
        "lexiseg.inference.pipeline.seen_class_ids", lambda words, trained, judged, synonyms: judged.seen_ids
    )
    published = evaluate(checkpoint, *overrides)
    assert published["seen_ids"] == [0, 1, 2]
    assert published["per_class"] == ours["per_class"]


@pytest.mark.slow
def test_groups_of_another_data_set_are_scored_but_not_penalised(checkpoint, folder):
    told = evaluate(checkpoint, "data=folder", f"data.root={folder}", "split=custom", "split.unseen=[zebra]")
    assert (told["split"]["unseen"], told["seen_ids"]) == (["zebra"], [])
    assert told["scores"]["unseen"] == told["per_class"]["zebra"]["iou"]


@pytest.mark.parametrize(
    ("setting", "labelled"), [("inductive", ["a"]), ("transductive", ["a"]), ("supervised", ["a", "b"])]
)
def test_what_training_had_labels_for(setting, labelled):
    info = describe(ClassSplit("s", ("a", "b", "c"), ("b",), setting))
    told = describe_training(info, ClassSplit("t", ("b", "a", "d"), ("d",)))
    assert sorted(told["labelled"]) == labelled
    assert set(told["labelled"]) | set(told["not_labelled"]) == {"a", "b", "d"}
    assert told["setting"] == setting


def test_the_result_file_stands_beside_the_checkpoint(checkpoint, capsys):
    assert run_eval([f"checkpoint={checkpoint}", "limit=1", "protocol.seen_penalty=0.05"]) == 0
    told = json.loads((checkpoint.parent / "eval.json").read_text())
    assert told["protocol"]["seen_penalty"] == 0.05
    assert told["seen_ids"] == list(TOY.seen_ids)
    assert told["trained_on"]["same_classes"] is True
    assert "| toy |" in capsys.readouterr().out


def test_an_adaptation_gives_the_same_answer_at_every_door(checkpoint, folder, tmp_path, monkeypatch):
    """Python, predict and eval; the result without it stays beside that with it."""
    monkeypatch.chdir(tmp_path)
    stored = torch.load(checkpoint, weights_only=True)
    stored["lexiseg"] = describe(
        TOY, protocol={"short_side": 48}
    ).to_dict()  # else eval and predict differ in who pays
    torch.save(stored, checkpoint)
    words, shots = ["red triangle", "zebra", "bricks"], []
    for name, order in (("a", [0, 1, 2]), ("b", [2, 0, 1])):
        label = np.repeat(np.array(order, np.uint8), [17, 20, 19])[None].repeat(40, axis=0)
        Image.fromarray(label).save(folder / f"masks/val/{name}.png")
        colours = np.array([(250, 20, 30), (30, 240, 20), (20, 30, 250)], np.uint8)
        Image.fromarray(colours[label]).save(folder / f"images/val/{name}.png")
        shots.append(Shot(colours[label], label, name))
    better = Pipeline.load(checkpoint, device="cpu").adapt(shots, words)
    better.adaptation.write("few.safetensors")
    own = ["device=cpu", "data=folder", f"data.root={folder}", "split=all"]
    assert run_eval([f"checkpoint={checkpoint}", *own]) == 0
    assert run_eval([f"checkpoint={checkpoint}", *own, "adapted=few.safetensors"]) == 0
    before, after = (json.loads((tmp_path / name).read_text()) for name in ("eval.json", "eval_adapted.json"))
    expected = [better.segmenter(words).segment(shot.image).labels for shot in shots]
    right = np.mean([labels == shot.label for labels, shot in zip(expected, shots, strict=True)])
    assert after["scores"]["pixel_accuracy"] == pytest.approx(right)
    assert after["scores"]["pixel_accuracy"] > before["scores"]["pixel_accuracy"]
    flags = ["--checkpoint", str(checkpoint), "--classes", ", ".join(words), "--device", "cpu"]
    photo = str(folder / "images" / "val" / "a.png")
    assert main(["predict", photo, *flags, "--adapted", "few.safetensors", "--out", "out"]) == 0
    assert (np.asarray(Image.open(tmp_path / "out" / "a_labels.png")) == expected[0]).all()


def test_a_bare_path_is_the_checkpoint(checkpoint):
    assert compose_eval([str(checkpoint), "limit=2"]).checkpoint == str(checkpoint)
    assert compose_eval(["limit=2", f"checkpoint={checkpoint}"]).checkpoint == str(checkpoint)


def test_a_checkpoint_in_its_run_is_judged_on_the_run_s_data(checkpoint):
    run = {
        "name": "mine",
        "data": {
            "val": {"_target_": "lexiseg.data.toy.ToyWorld", "partition": "val", "length": 3, "seed": 7}
        },
        "split": {
            "name": "mine",
            "unseen": ["red star"],
            "seen": None,
            "setting": "inductive",
            "unseen_pixels": "shown",
        },
    }
    (checkpoint.parent / "config.yaml").write_text(json.dumps(run))
    config = compose_eval([str(checkpoint), "data.val.length=2", "protocol.stride=24"])
    task = evaluation(plain(config))
    assert (len(task.dataset), task.dataset.seed) == (2, 7)
    assert (task.split.name, task.split.unseen) == ("mine", ("red star",))
    assert task.protocol == {"stride": 24}
    assert compose_eval([str(checkpoint), "split=all"]).data.val.length == 200


@pytest.mark.parametrize("record", ["", "[]", "data: toy", "data: {val: ToyWorld(2)}\nsplit: {name: x}"])
def test_a_record_that_says_no_data_is_passed_over(checkpoint, record):
    (checkpoint.parent / "config.yaml").write_text(record)
    assert compose_eval([str(checkpoint)]).data.val.length == 200


TOY_VAL = {"_target_": "lexiseg.data.toy.world.ToyWorld", "partition": "val", "length": 3}
CALL = "{_target_: subprocess.call, args: 'touch ran', shell: true}"


@pytest.mark.parametrize(
    ("val", "split"),
    [
        ({"_target_": "os.system", "command": "touch ran"}, {}),
        ({"_target_": "lexiseg.data.datasets.files.Path.touch", "self": "ran"}, {}),
        (TOY_VAL | {"exclude": [{"_target_": "os.getcwd"}]}, {}),
        (TOY_VAL | {"length": "${split.payload}"}, {"payload": {"_target_": "os.getcwd"}}),
        (TOY_VAL | {"length": '${oc.decode:"' + CALL + '"}'}, {}),
        (TOY_VAL, {"unseen": "${oc.env:HOME}"}),
        (TOY_VAL, {"unseen": {"_target_": "os.getcwd"}}),
    ],
)
def test_a_run_folder_opens_nothing_but_our_own_data(checkpoint, val, split, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = {"name": "x", "data": {"val": val}, "split": {"name": "x"} | split}
    (checkpoint.parent / "config.yaml").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"none of lexiseg's own; nothing was run.*data=… split=…"):
        compose_eval([str(checkpoint)])
    assert not (tmp_path / "ran").exists()


def test_a_damaged_record_is_told(checkpoint):
    (checkpoint.parent / "config.yaml").write_text("data: [")
    with pytest.raises(ConfigError, match="config.yaml: damaged; say which data to judge on"):
        compose_eval([str(checkpoint)])


def test_paths_that_look_like_settings(checkpoint, tmp_path):
    odd = tmp_path / "lr=1" / "it's best.ckpt"
    odd.parent.mkdir()
    odd.write_bytes(checkpoint.read_bytes())
    assert compose_eval([str(odd)]).checkpoint == str(odd)


def test_another_root_of_the_run_s_data(checkpoint):
    (checkpoint.parent / "config.yaml").write_text(
        json.dumps({"name": "x", "data": {"val": TOY_VAL}, "split": {}})
    )
    with pytest.raises(
        ConfigError, match=r"data.root: the run's data name their own places; say data=… data.root=…"
    ):
        compose_eval([str(checkpoint), "+data.root=/x"])
