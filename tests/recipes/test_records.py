"""A record, as a run folder's config.yaml keeps it, becomes the run again; from Python, without a configuration framework."""

import pytest
import torch
import yaml

from lexiseg.cli.composing import compose_config, plain
from lexiseg.data.toy.world import ToyWorld
from lexiseg.errors import ConfigError
from lexiseg.recipes.records import (
    benchmark,
    benchmark_run,
    build,
    demo_stage,
    evaluation,
    open_split_and_data,
    training_run,
    tuning_run,
)

WORLD = "lexiseg.data.toy.world.ToyWorld"


def test_a_stored_record_is_the_run_that_it_was_written_by():
    record = plain(compose_config("train", ["experiment=toy", "data.val.length=3", "seed=5"]))
    read_back = yaml.safe_load(yaml.safe_dump(record))
    run = training_run(read_back)
    assert run.record == record
    assert (run.seed, len(run.data.val)) == (5, 3)
    assert run.trainer.max_steps == record["trainer"]["max_steps"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim": None}, "optim: expected settings by name, got None"),
        ({"loss": None}, "loss: expected settings by name, got None"),
        ({"loss.kind": ["x"]}, r"loss.kind: expected one of mask, segments, open_seg, got \['x'\]"),
        ({"trainer": None}, "trainer: expected settings by name, got None"),
        ({"logger": None}, "logger: expected wandb with its settings, or with null, got None"),
        ({"model": {"name": ["x"]}}, r"model.name: expected one of cascade_clip, .*, got '\['x'\]'"),
        ({"model": None}, "model: expected settings by name, got None"),
        ({"data.seed": "x"}, "data.seed: expected a whole number or null, got 'x'"),
        ({"clip.vision_heads": 8.0}, "clip.vision_heads: expected a whole number or null, got 8.0"),
        ({"clip.tokenizer": ["x"]}, r"clip.tokenizer: expected a word or null, got \['x'\]"),
        ({"optim.betas": [0.9]}, r"optim.betas: expected a list of 2 numbers, got \[0.9\]"),
        ({"protocol.views": {"scales": [float("nan")]}}, "views.scales: expected a finite number, got nan"),
        ({"split.unseen": "water"}, "split.unseen: expected a list of words, got 'water'"),
        ({"trainer.max_step": 3}, "trainer: no setting max_step; did you mean max_steps"),
        ({"trainer.zzz": 3}, "trainer: no setting zzz; there are max_steps, accelerator"),
    ],
)
def test_a_bad_value_in_a_record_is_named(changes, message):
    record = plain(compose_config("train", ["experiment=toy"]))
    for key, value in changes.items():
        group, dot, inner = key.partition(".")
        if dot:
            record[group][inner] = value
        else:
            record[key] = value
    with pytest.raises(ConfigError, match=message):
        training_run(record)


@pytest.mark.parametrize(("read", "command"), [(training_run, "train"), (tuning_run, "pixelclip")])
def test_a_record_with_nothing_in_it(read, command):
    with pytest.raises(ConfigError, match=f"lacks name, output_dir, .* conf/{command}.yaml composes to"):
        read({})


def test_what_only_lightning_knows_reaches_it():
    record = plain(compose_config("train", ["experiment=toy"]))
    record["trainer"]["deterministic"] = True
    assert training_run(record).trainer.arguments()["deterministic"] is True


def test_targets_are_built_from_the_inside_and_the_rest_stays():
    built = build(
        {
            "plain": [1, {"a": None}],
            "world": {"_target_": WORLD, "partition": "val", "length": 3, "image_size": [24, 32]},
        }
    )
    assert built["plain"] == [1, {"a": None}]
    assert isinstance(built["world"], ToyWorld)
    assert built["world"][0].image.shape == (24, 32, 3)
    nested = build(
        {
            "_target_": "lexiseg.data.unlabelled.ForgottenLabels",
            "dataset": {"_target_": WORLD, "partition": "val", "length": 3},
        }
    )
    assert isinstance(nested.dataset, ToyWorld)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"_target_": WORLD, "lenght": 3},
            r"_target_ lexiseg.*ToyWorld: .*lenght.*; check its name and its keys",
        ),
        (
            {"_target_": "lexiseg.data.toy.world.Nowhere"},
            "lexiseg.data.toy.world.Nowhere: not built, for it is none",
        ),
        ({"_target_": "no_such_module.Thing"}, "_target_ no_such_module.Thing: not built, for it is none"),
        ({"_target_": 3}, "_target_ 3: not built"),
        ({"_target_": None}, "_target_ None: not built"),
    ],
)
def test_what_cannot_be_built_is_named(record, message):
    with pytest.raises(ConfigError, match=message):
        build(record)


@pytest.mark.parametrize(
    "place",
    [
        "os.mkdir",
        "lexiseg.data.datasets.files.Path.touch",
        "lexiseg.data.toy.world.os.mkdir",
        "other.ToyWorld",
    ],
)
def test_a_record_builds_nothing_but_our_own(place, tmp_path, monkeypatch):
    """Wherever it stands: nothing is called, nor are the values beside it built."""
    monkeypatch.chdir(tmp_path)
    record = plain(compose_config("train", ["experiment=toy"]))
    record["data"]["train"] = {
        "_target_": place,
        "path": "made",
        "self": "made",
        "inner": dict(record["data"]["train"]),
    }
    with pytest.raises(ConfigError, match="none of lexiseg's own"):
        training_run(record)
    with pytest.raises(ConfigError, match="none of lexiseg's own"):
        build([{"deep": {"_target_": place, "path": "made"}}])
    assert not (tmp_path / "made").exists()


def test_a_class_is_found_where_it_lies_now():
    built = build({"_target_": "lexiseg.data.toy.ToyWorld", "partition": "val", "length": 3})
    assert isinstance(built, ToyWorld)


@pytest.mark.parametrize("read", [evaluation, benchmark])
def test_what_is_no_data_set_is_told(read):
    record = {"_target_": "lexiseg.data.transforms.train_recipe", "crop": [8, 8]}
    with pytest.raises(ConfigError, match="expected a data set, with _target_ and its settings"):
        read({"data": {"val": record} if read is evaluation else record})


def test_the_data_layer_speaks_for_itself():
    with pytest.raises(ConfigError, match="^(?!_target_)"):
        build({"_target_": "lexiseg.data.unlabelled.ForgottenLabels", "dataset": [], "regions": "none"})


def test_split_and_data_of_a_record():
    record = plain(compose_config("train", ["experiment=toy", "data.val.length=2"]))
    split, data = open_split_and_data(record)
    assert split.classes == data.val.classes
    assert split.unseen


def test_a_benchmark_speaks_the_words_of_its_data_unless_told_otherwise():
    record = {
        "name": "toy", "data": {"_target_": WORLD, "length": 2, "partition": "val"}, "words": None, "protocol": {},
        "methods": {"sclip": {"words": "voc20"}},
    }  # fmt: skip
    toy = benchmark(record)
    assert toy.words[None] == tuple((name,) for name in toy.dataset.classes)
    assert toy.words["voc20"][0][0] == "aeroplane"


def test_an_evaluation_of_a_record():
    record = plain(compose_config("eval", ["checkpoint=x.ckpt", "data.val.length=2"]))
    task = evaluation(record)
    assert (task.checkpoint, len(task.dataset), task.split.classes) == ("x.ckpt", 2, task.dataset.classes)
    assert task.data == record["data"]["val"]
    with pytest.raises(ConfigError, match="split: no setting unsean"):
        evaluation(record | {"split": {"name": "s", "unsean": []}})


def test_a_run_of_benchmarks_loads_the_clip():
    record = plain(compose_config("benchmark", ["clip=toy", "methods=[sclip,gem]", "limit=3"]))
    run = benchmark_run(record, [], torch.device("cpu"))
    assert [choice.name for choice in run.methods] == ["sclip", "gem"]
    assert (run.limit, run.clip.source, run.protocol) == (3, "toy", {})


def test_the_stage_of_a_demonstration_is_the_validation_part():
    record = plain(compose_config("train", ["experiment=toy", "data.val.length=2"]))
    stage = demo_stage(record)
    assert len(stage.dataset) == 2
    assert stage.split.unseen
    assert stage.protocol.to_dict()["name"] == record["protocol"]["name"]
