"""Every configuration file is chosen through its command and becomes the objects of a run, as far as no data are needed."""

import copy
import dataclasses
import functools
import shutil

import pytest
import yaml

from lexiseg.cli import composing
from lexiseg.cli.ablations import compose_training
from lexiseg.cli.composing import compose_config, plain
from lexiseg.cli.pixelclip import compose_tuning
from lexiseg.clip.loading import load_clip
from lexiseg.errors import ConfigError, DataError
from lexiseg.evaluation.benchmark import MethodChoice
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.models.registry import MODELS, complete_settings
from lexiseg.recipes import conf_files, mask_adaptation, pixelclip, records, training
from lexiseg.recipes.ablations import MEASURED, choose_rows, read_table, take_ablation
from lexiseg.recipes.benchmark import rows_of_table
from lexiseg.recipes.conf_files import choices, conf_dir, groups
from lexiseg.recipes.records import adaptation_run, build, training_run, tuning_run
from lexiseg.recipes.settings import SplitSettings
from lexiseg.recipes.usage import usage
from lexiseg.training.optim import OptimSettings, learning_rate
from support import slow_but

COMMANDS = ("train", "eval", "pixelclip", "maskadapt", "sweep", "benchmark")
NEEDED = {
    "eval": ["checkpoint=x.ckpt"],
    "sweep": ["ablation=table8"],
    "maskadapt": ["pairs.images=/nowhere/photos", "pairs.folder=/nowhere/pairs"],
}
PARTS = [
    f"{group}/{name}" for group in ("proposer", "classifier") for name in choices("train", f"model/{group}")
]
FITTING = {
    "train/model/san_l14": ("model.early_blocks=9", "model.fusion=[[0,0],[9,3]]"),
    "train/experiment/san_l14_coco": ("model.early_blocks=9", "model.fusion=[[0,0],[9,3]]"),
    "train/loss/segments": ("model=san",),
    "train/loss/maskformer": ("model=zegformer",),
    "train/loss/open_seg": ("model=open_seg",),
    "train/model/proposer/given": ("model=two_stage", "model/classifier=shadow_tokens"),
    **{f"train/model/{part}": ("model=two_stage",) for part in PARTS if part != "proposer/given"},
}
"""What goes with a choice on the toy's CLIP of 12 blocks."""
FILES = sorted(path.relative_to(conf_dir()).with_suffix("").as_posix() for path in conf_dir().rglob("*.yaml"))


def selections(file):
    """The commands that can choose a file, each with the overrides that choose it."""
    first, *rest = file.split("/")
    if not rest:
        return [(first, ())] if first in COMMANDS else []
    if rest[0] == "ablation" and first != MEASURED:
        return [(first, (f"ablation={rest[-1]}/{row}",)) for row in read_table(rest[-1], first)]
    if rest[0] == "ablation":
        return [(first, (f"ablation={rest[-1]}",))]
    if first == "benchmark":
        return [("benchmark", (f"benchmarks=[{rest[0]}]",))]
    own = [first] if len(rest) >= 2 else COMMANDS
    group, _, choice = ("/".join(rest) if len(rest) >= 2 else file).rpartition("/")
    needed = ("clip.source=x",) if choice == "file" else FITTING.get(file, ())
    return [(name, (f"{group}={choice}", *needed)) for name in own if group in groups(name)]


def rarely(param, slow):
    return pytest.param(*param, marks=pytest.mark.slow) if slow else param


@pytest.fixture(scope="module")
def toy_clip():
    return load_clip("toy")


@pytest.fixture(scope="module", autouse=True)
def no_data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEXISEG_DATA", "/nowhere")
        patch.setattr(records, "_require_photographs", lambda _: None)  # a run is built without any
        patch.setenv("LEXISEG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def unless_absent(opening):
    """What it opens; None where the folder of the data is not there, which is as far as one comes without them."""
    try:
        return opening()
    except DataError as error:
        if "nowhere" not in str(error):
            raise
        return None


@functools.cache
def toy_config():
    return compose_training(["experiment=toy"])


def build_train(overrides, clip):
    config = compose_training(overrides)
    toy = toy_config()
    run = unless_absent(lambda: training_run(plain(config)))
    if run is None:
        config.data = toy.data
        run = training_run(plain(config))
    classes = run.data.train.classes
    fits = run.split.unseen and set(run.split.unseen) <= set(classes)
    split = run.split if fits else SplitSettings(**plain(toy.split))  # another data set's names, or none yet
    task = training.build_task(run, clip, split.of(classes))
    assert any(parameter.requires_grad for parameter in task.model.parameters())
    assert run.trainer.arguments().keys() == (config.trainer.keys() | {"strategy"}) - {"published_batch"}


def build_eval(overrides, clip):
    config = compose_config("eval", overrides)
    val = unless_absent(lambda: build(plain(config.data.val)))
    settings = SplitSettings(**plain(config.split))
    if val is not None and set(settings.unseen) <= set(val.classes):
        assert settings.setting == "supervised" or settings.unseen or config.split.name == "custom"
        dataclasses.replace(settings, setting="supervised").of(val.classes)


def build_pixelclip(overrides, clip):
    run = tuning_run(plain(compose_tuning(overrides)))
    task = pixelclip.build_task(run, clip)
    assert task.model.settings == run.model
    data = unless_absent(run.open_data)
    assert data is None or len(data.train)


def build_adapt(overrides, clip):
    run = unless_absent(lambda: adaptation_run(plain(compose_config("maskadapt", overrides))))
    if run is None:  # what it would be judged on is not there
        return
    task = mask_adaptation.build_task(run, clip, ("red circle", "bricks"))
    assert task.model.prompts is None or len(task.model.prompts.tokens) == run.model.prompt_depth
    assert unless_absent(run.pairs.open) is None


def build_sweep(overrides, clip):
    config = compose_config("sweep", overrides)
    assert len(choose_rows(config.ablation, config.rows)) == 6


def build_benchmark(overrides, clip):
    table, rest = take_ablation(overrides)
    if table is not None:
        assert len(MethodChoice.many(rows_of_table(table, "all"))) > 1
    for name in compose_config("benchmark", rest).benchmarks:
        entry = compose_config(f"benchmark/{name}", ["+data_root=nowhere"]).benchmark
        for own in ({}, *plain(entry.methods).values()):
            InferenceProtocol.from_dict(plain(entry.protocol) | own.get("protocol", {}))
        data = unless_absent(functools.partial(build, plain(entry.data)))
        assert data is None or len(data)


BUILD = {
    "train": build_train,
    "eval": build_eval,
    "pixelclip": build_pixelclip,
    "maskadapt": build_adapt,
    "sweep": build_sweep,
    "benchmark": build_benchmark,
}
PRESETS = [*(f"experiment={name}" for name in choices("train", "experiment")), "debug=overfit"]
"""Choices that may set something of a model."""
_SMALL = {"prompt_dropout": 0.0, "decoder_dropout": 0.0}
OF_CASCADE_CLIP = {
    "experiment=toy": _SMALL | {"decoder_heads": 2},
    "experiment=toy_plus": _SMALL | {"decoder_heads": 2},
    "experiment=camvid": _SMALL | {"decoder_heads": 2},
    "experiment=cascade_voc": {},
    "experiment=cascade_coco_st": {"prompt_length": 50},
    "experiment=cascade_context": {"prompt_length": 35},
    "debug=overfit": _SMALL,
}
"""What some set of Cascade-CLIP and of every model whose file stands on its."""
CASES = [
    rarely((command, chosen), slow=number > 0)
    for file in FILES
    for number, (command, chosen) in enumerate(selections(file))
]
"""In the default suite a file through the first of its commands, a table by its first row; ``tests/cli/test_sweep.py`` composes
every row there."""


@pytest.mark.parametrize("file", FILES)
def test_no_file_that_no_command_can_choose(file):
    assert selections(file)


@pytest.mark.one_in(7)
@pytest.mark.parametrize(
    ("command", "chosen"), CASES, ids=lambda part: part if isinstance(part, str) else "-".join(part)
)
def test_every_file_through_its_command(command, chosen, toy_clip):
    BUILD[command]([*NEEDED.get(command, ()), *chosen], copy.deepcopy(toy_clip))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_group_of_a_root_has_choices_and_its_default_among_them(command):
    root = yaml.safe_load((conf_dir() / f"{command}.yaml").read_text())
    for entry in root.get("defaults", ()):
        for group, default in entry.items() if isinstance(entry, dict) else ():
            assert default is None or default in choices(command, group)
            assert choices(command, group)


def test_only_data_carry_a_target():
    """One habit: what is a setting has a dataclass; what opens files says which class does."""
    carrying = {file for file in FILES if "_target_:" in (conf_dir() / f"{file}.yaml").read_text()}
    assert {file.rpartition("/")[0] for file in carrying} == {"data", "pixelclip/mask_data", "benchmark"}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("experiment", choices("train", "experiment"))
def test_an_experiment_bears_its_name(experiment):
    assert compose_training([f"experiment={experiment}"]).name == experiment


@pytest.fixture
def foreign_model(tmp_path, monkeypatch):
    """A model that shares no setting with Cascade-CLIP but a name that an experiment sets of Cascade-CLIP."""
    shutil.copytree(conf_dir(), tmp_path / "conf")
    (tmp_path / "conf" / "train" / "model" / "probe.yaml").write_text("name: probe\nprompt_length: 7\n")
    for module in (conf_files, composing):
        monkeypatch.setattr(module, "conf_dir", lambda: tmp_path / "conf")


@pytest.mark.parametrize("choice", slow_but(PRESETS, PRESETS[::7]))
def test_settings_for_one_model_do_not_reach_another(choice, foreign_model):
    composed = plain(compose_training([choice, "model=probe"]))
    assert composed["model"] == {"name": "probe", "prompt_length": 7}
    assert "models" not in composed


@pytest.mark.one_in(5)
@pytest.mark.parametrize(
    ("choice", "name"),
    [
        rarely((choice, name), slow=(row - column) % len(MODELS) > 0)
        for row, choice in enumerate(PRESETS)
        for column, name in enumerate(MODELS)
    ],
)
def test_every_preset_takes_every_model(choice, name):
    model = plain(compose_training([choice, f"model={name}"]).model)
    assert model["name"] == name
    assert complete_settings(model) == model


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("choice", "expected"), OF_CASCADE_CLIP.items())
def test_settings_for_a_model_reach_what_is_built_on_it(choice, expected):
    for name in ("cascade_clip", "frozen_clip"):
        alone, chosen = (plain(compose_training([*more, f"model={name}"]).model) for more in ((), (choice,)))
        of_zegclip = {"prompt_length": 100} if name != "cascade_clip" and "coco" in choice else {}
        assert chosen == alone | expected | of_zegclip


def test_what_is_typed_or_said_of_the_model_itself_wins(foreign_model, tmp_path):
    own = "# @package _global_\ndefaults: [cascade_coco, _self_]\n"
    folder = tmp_path / "conf" / "train" / "experiment"
    (folder / "mine.yaml").write_text(f"{own}model: {{prompt_length: 100}}\n")
    (folder / "wrong.yaml").write_text(f"{own}models: {{cascade: {{prompt_length: 100}}}}\n")
    (folder / "more.yaml").write_text(f"{own}models: {{zegclip: {{prompt_length: 70}}}}\n")
    assert compose_training(["experiment=mine"]).model.prompt_length == 100
    assert compose_training(["experiment=cascade_coco", "model.prompt_length=10"]).model.prompt_length == 10
    assert compose_training(["experiment=more", "model=spt_seg"]).model.prompt_length == 70
    assert compose_training(["experiment=more"]).model.prompt_length == 50
    with pytest.raises(ConfigError, match="models: no model cascade; there are cascade_clip, .*frozen_clip"):
        compose_training(["experiment=wrong"])


def test_settings_for_a_part_reach_it_wherever_it_is_chosen():
    chosen = ["model=two_stage", "model/proposer=maskformer"]
    alone, small = (plain(compose_training([*more, *chosen]).model) for more in ((), ("experiment=toy",)))
    assert alone["proposer"]["queries"] == 100
    assert small["proposer"] == alone["proposer"] | {
        **{"queries": 24, "backbone_width": 32, "backbone_depths": [1, 1, 1, 1], "stem_width": 16},
        **{
            "feature_width": 64,
            "mask_width": 64,
            "query_width": 64,
            "query_heads": 4,
            "query_feedforward": 128,
        },
        **{"query_layers": 3, "query_dropout": 0.0},
    }
    typed = compose_training(["experiment=toy", *chosen, "model.proposer.queries=7"]).model.proposer
    assert (typed.queries, typed.query_width) == (7, 64)
    assert compose_training(chosen).loss.compared == "pixels", "the loss that goes with the part"
    assert compose_training(["model=two_stage"]).loss.compared == "points"


def test_a_clip_may_be_a_place():
    composed = plain(
        compose_training(["experiment=cascade_voc", "clip=/my weights/it's.pt", "clip.text_heads=2"])
    )
    assert composed["clip"]["source"] == "/my weights/it's.pt"
    assert composed["clip"]["text_heads"] == 2
    assert composed["clip"].keys() == compose_training([]).clip.keys()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.prompt_lenght=3"], "prompt_lenght"),
        (["data=cocostuff"], "data=cocostuff: .* choose from ade20k, .*camvid"),
        (["clip=file"], "clip.source has no default"),
        (
            ["model=two_stage", "model/proposer=boxes"],
            "has no such model/proposer; choose from cross_attention, given",
        ),
        (["model=san", "model/proposer=given"], "model/proposer goes with model=two_stage; choose that too"),
        (["trainer.max_steps"], "trainer.max_steps"),
        (
            ["nonsense=1"],
            "nonsense=1: `lexiseg train` has neither a group nor a key of that name; it has clip, model",
        ),
        (
            ["optim=pixelclip/published"],
            "optim=pixelclip/published: .* has no such optim; choose from lseg, published",
        ),
        (["experiment=pixelclip/vit_b16"], "has no such experiment; choose from camvid, cascade_coco"),
        (["mask_data=toy"], "mask_data=toy: `lexiseg train` has neither"),
        (
            ["ablation=table8/concatt"],
            "table8 has the rows concat, self_attention, .* `lexiseg sweep ablation=table8`",
        ),
        (["ablation=table8"], "name one, as ablation=table8/concat"),
        (["ablation=table3/concat"], "no table 'table3'; choose from sigma"),
    ],
)
def test_mistakes_name_the_key_and_what_there_is(overrides, message):
    with pytest.raises(ConfigError, match=message):
        compose_training(overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.max_steps=0", "trainer.max_steps: expected at least 1, got 0"),
        ("seed=-1", "seed: expected a whole number of at least 0 and below 2..32, got -1"),
        ("seed=abc", "seed: expected a whole number of at least 0 and below 2..32, got 'abc'"),
        ("validation.every_steps=0.5", "validation.every_steps: expected a whole number"),
        ("checkpoint.every_steps=0", "checkpoint.every_steps: expected at least 1"),
        ("+optim.nesterov=true", "optim: no setting nesterov; there are kind, lr"),
        ("+loss.iou=1", "loss: no setting iou"),
        ("+model.depth=3", "model 'cascade_clip' has no setting depth"),
        ("data.batch_size=four", "data.batch_size: expected a whole number, got 'four'"),
    ],
)
def test_bad_values_are_told_before_anything_is_read(override, message):
    with pytest.raises(ConfigError, match=message):
        training_run(plain(compose_training([override])))


@pytest.mark.parametrize(
    "row", ["table1/baseline", "table2/zegclip", "table4/baseline", "table10/zegclip_st"]
)
def test_rows_of_zegclip_have_its_own_prompts(row):
    assert compose_training(["experiment=cascade_coco", f"ablation={row}"]).model.prompt_length == 100
    cascade = compose_training(["experiment=cascade_coco", "ablation=table10/zegclip_cascade"]).model
    assert (cascade.prompt_length, cascade.stages) == (50, [[6, 7, 8], [9, 10, 11], [12]])


@pytest.mark.parametrize(
    ("name", "steps", "batch", "rate", "decay", "classes"),
    [
        ("san_coco", 60000, 32, 1e-4, 1e-4, 171),
        ("san_l14_coco", 60000, 32, 1e-4, 1e-4, 171),
        ("fc_clip_coco", 368750, 16, 1e-4, 0.05, 133),
        ("zegformer_coco", 60000, 32, 1e-4, 1e-4, 171),
        ("ovseg_coco", 120000, 32, 6e-5, 0.01, 171),
    ],
)
def test_published_recipes_of_regions(name, steps, batch, rate, decay, classes):
    config = plain(compose_training([f"experiment={name}"]))
    optim = OptimSettings(**config["optim"])
    assert (config["trainer"]["max_steps"], config["trainer"]["gradient_clip_val"]) == (steps, 0.01)
    assert config["data"]["batch_size"] * {32: 8, 16: 4}[batch] == batch
    assert config["trainer"]["published_batch"] == batch
    assert (optim.lr, optim.weight_decay, optim.decay_norms) == (rate, decay, False)
    last = learning_rate(steps - 1, steps, optim)
    assert last < rate * (0.011 if optim.schedule == "steps" else 1e-4), "it has decayed by the end"
    assert learning_rate(2000, steps, optim) > 0.9 * rate
    assert config["data"]["train_transform"]["fill"] == [128, 128, 128]
    build(config["data"]["train_transform"])
    assert config["protocol"]["activation"] == "scores"
    assert config["protocol"]["resize"] == "pillow"
    assert (
        classes
        == {"coco_stuff": 171, "coco": 133}[config["data"]["root"].split("/")[-1].removesuffix("164k")]
    )


def test_help_names_every_group():
    for command in ("train", "pixelclip", "maskadapt", "eval"):
        told = usage(command)
        assert all(f"  {group}" in told for group in groups(command))


def test_what_goes_with_a_model_comes_with_it_unless_it_is_given():
    assert compose_training(["model=san"]).loss.kind == "segments"
    assert compose_training(["model=san", "experiment=toy"]).loss.dice == 5.0, "the toy's is of masks"
    assert compose_training(["model=san", "loss.dice=7", "loss.points=97"]).loss.dice == 7
    assert compose_training(["model=zegformer"]).loss.compared == "pixels"
    assert compose_training(["model=zegformer", "loss=segments"]).loss.classes == 2.0
    assert "kind" not in compose_training(["model=zegclip"]).loss
    with pytest.raises(ConfigError, match=r"loss\.focal: no such key"):
        compose_training(["model=san", "loss.focal=3"])


@pytest.mark.parametrize(
    ("model", "loss", "fitting"), [("cascade_clip", "segments", "mask"), ("san", "mask", "segments")]
)
def test_a_loss_that_a_model_cannot_learn_by(toy_clip, model, loss, fitting):
    run = training_run(plain(compose_training(["experiment=toy", f"model={model}", f"loss={loss}"])))
    with pytest.raises(ConfigError, match=f"model '{model}' .*; take loss={fitting}"):
        training.build_task(run, toy_clip, run.split.of(run.data.train.classes))


def test_a_model_whose_name_is_none_is_left_to_who_reads_it():
    assert compose_training(["model.name=[x]"]).model.name == ["x"]
