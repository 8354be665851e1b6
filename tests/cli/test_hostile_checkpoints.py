"""A file that would run a command, and one with wrong keys, given to every command that reads weights."""

import copy
import pickle
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

import lexiseg
from hostile import CLASSES, as_pickle, as_torch_file, small_checkpoint
from lexiseg.checkpoints.published_layout import published_layout, published_tower
from lexiseg.cli.main import main
from lexiseg.clip.loading import load_clip
from lexiseg.models.registry import build_model

TOY = Path(lexiseg.__file__).parent / "assets" / "toy_clip"
SMALL_RUN = (
    "resume=false",
    "optim.warmup_steps=2",
    "trainer=cpu",
    "trainer.max_steps=2",
    "data.train.image_size=[40,56]",
    "data.train_transform.base=[40,56]",
    "data.train_transform.crop=[40,56]",
    "data.val.image_size=[40,56]",
    "data.val.length=1",
    "model.stages=[[11],[12]]",
    "model.prompt_length=2",
    "model.decoder_layers=1",
)
SMALL_OPEN_SEG_RUN = (
    *(override for override in SMALL_RUN if not override.startswith("model.")),
    "model=open_seg",
    "model.stem=8",
    "model.stages=[8,8,12,16]",
    "model.depths=[1,1,1,1]",
    "model.features=8",
    "model.query_heads=2",
)
"""A model with an encoder of its own."""


@pytest.fixture(autouse=True)
def _offline(tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(np.full((24, 40, 3), 90, np.uint8)).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


@pytest.fixture
def refused(capsys):
    """Runs a command that must fail with one message; returns it."""

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert status == 2, captured
        assert captured.err.startswith("lexiseg: ")
        assert "Traceback" not in captured.out + captured.err
        return " ".join(captured.err.split())

    return run


def run_folder_with(path):
    """A run folder whose last checkpoint is that file."""
    folder = Path("stopped")
    folder.mkdir()
    shutil.copy(path, folder / "last.ckpt")
    return f"output_dir={folder}"


def clip_folder_with(path):
    """A Hugging Face CLIP folder that is fine but for its weights, which are that file under the pickle's name."""
    shutil.copytree(TOY, "clip", ignore=shutil.ignore_patterns("model.safetensors"))
    shutil.copy(path, "clip/pytorch_model.bin")
    return "clip"


def model_folder_with(path, name, *, instead_of=""):
    """A published folder in which that file stands under ``name``."""
    torch.save(small_checkpoint(), "good.ckpt")
    assert main(["export", "good.ckpt", "--to", "folder", "--out", "model"]) == 0
    if instead_of:
        Path("model", instead_of).unlink()
    shutil.copy(path, Path("model", name))
    return "model"


WORDS = ("--classes", "bricks, red circle")
COMMANDS = {
    "import": lambda evil, photo: ("import", evil, "--clip", "toy", "--out", "out.ckpt"),
    "import --clip": lambda evil, photo: ("import", evil, "--clip", evil, "--out", "out.ckpt"),
    "eval": lambda evil, photo: ("eval", f"checkpoint={evil}"),
    "eval clip": lambda evil, photo: ("eval", "checkpoint=good.ckpt", f"clip={evil}"),
    "predict": lambda evil, photo: ("predict", photo, *WORDS, "--checkpoint", evil),
    "predict --clip": lambda evil, photo: ("predict", photo, *WORDS, "--clip", evil),
    "predict, CLIP folder": lambda evil, photo: (
        "predict", photo, *WORDS, "--clip", clip_folder_with(evil)
    ),
    "predict, model folder": lambda evil, photo: (
        "predict", photo, *WORDS, "--checkpoint", model_folder_with(evil, "model.safetensors")
    ),
    "predict, CLIP in a model folder": lambda evil, photo: (
        "predict", photo, *WORDS, "--checkpoint",
        model_folder_with(evil, "clip/pytorch_model.bin", instead_of="clip/model.safetensors"),
    ),
    "compare": lambda evil, photo: ("compare", photo, *WORDS, "--clip", "toy", "--checkpoint", evil),
    "export": lambda evil, photo: ("export", evil, "--to", "published", "--out", "out.pth"),
    "export folder": lambda evil, photo: ("export", evil, "--to", "folder", "--out", "out"),
    "train resume": lambda evil, photo: ("train", *SMALL_RUN, f"resume={evil}", "output_dir=run"),
    "train output_dir": lambda evil, photo: ("train", *SMALL_RUN, "resume=auto", run_folder_with(evil)),
    "train init_from": lambda evil, photo: ("train", *SMALL_RUN, f"init_from={evil}", "output_dir=run"),
    "train backbone_weights": lambda evil, photo: (
        "train", *SMALL_OPEN_SEG_RUN, f"backbone_weights={evil}", "output_dir=run"
    ),
    "train clip": lambda evil, photo: (
        "train", *SMALL_RUN, "clip=file", f"clip.source={evil}", "output_dir=run"
    ),
    "benchmark clip": lambda evil, photo: ("benchmark", "clip=file", f"clip.source={evil}", "output=out"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    ("command", "write"),
    [
        *((command, as_pickle) for command in COMMANDS),
        *((command, as_torch_file) for command in ("import", "predict", "predict --clip", "train resume")),
    ],
)
def test_a_file_that_would_run_a_command(refused, photo, tmp_path, command, write):
    torch.save(small_checkpoint(), "good.ckpt")
    mark, evil = tmp_path / "was-run", tmp_path / "evil.ckpt"
    write(mark, evil)
    told = refused(*COMMANDS[command](evil, photo))
    assert not mark.exists()
    assert any(
        word in told for word in ("nothing from it was run", "nothing was run", "is missing", "not a usable")
    )
    assert not [name for name in ("out", "out.ckpt", "out.pth", "predictions") if Path(name).exists()]


def test_these_files_do_run_a_command_when_unpickled(tmp_path):
    as_pickle(tmp_path / "first", tmp_path / "a")
    as_torch_file(tmp_path / "second", tmp_path / "b")
    pickle.loads((tmp_path / "a").read_bytes())
    torch.load(tmp_path / "b", weights_only=False)
    assert (tmp_path / "first").exists()
    assert (tmp_path / "second").exists()


def without(state, name):
    return {key: tensor for key, tensor in state.items() if key != name}


DAMAGES = {
    "missing": (lambda state, name: without(state, name), "missing: {name}"),
    "extra": (lambda state, name: state | {f"{name}.extra": torch.ones(2)}, "unknown: {name}.extra"),
    "shape": (
        lambda state, name: state | {name: torch.ones(3, 5, 7)},
        "wrong shape: {name}: expected {shape}, got (3, 5, 7)",
    ),
    "all at once": (
        lambda state, name: without(state, name) | {"x.y": torch.ones(2)},
        "missing: {name}; unknown: x.y",
    ),
}
TRAINING_STATE = ("global_step", "epoch", "loops", "callbacks", "optimizer_states", "lr_schedulers", "rng")
READERS = {
    "eval": ("eval", "checkpoint=bad.ckpt"),
    "predict": ("predict", "photo.png", *WORDS, "--checkpoint", "bad.ckpt"),
    "resume": ("train", *SMALL_RUN, "resume=bad.ckpt", "output_dir=run"),
    "init_from": ("train", *SMALL_RUN, "init_from=bad.ckpt", "output_dir=run"),
}


@pytest.mark.one_in(5)
@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("reader", READERS)
def test_wrong_keys_of_a_checkpoint_are_named(refused, photo, reader, kind):
    content = small_checkpoint()
    name = "model.stages.1.decoder.last.q.weight"
    shape = tuple(content["state_dict"][name].shape)
    damage, message = DAMAGES[kind]
    content["state_dict"] = damage(content["state_dict"], name)
    training = dict.fromkeys(TRAINING_STATE, 0) | {"pytorch-lightning_version": pl.__version__}
    torch.save(content | training, "bad.ckpt")
    told = refused(*READERS[reader])
    spoken = name if reader == "resume" else name.removeprefix("model.")
    assert message.format(name=spoken, shape=shape) in told


def published_content():
    return copy.deepcopy(_published_content())


@cache
def _published_content():
    tower = load_clip("toy").vision
    torch.manual_seed(4)
    settings = {"name": "zegclip", "stages": [[tower.depth]], "unused_parameters": True, "prompt_length": 2}
    model = build_model(settings, tower)
    layout = published_layout(model.settings, tower)
    state = published_tower(tower) | layout.to_published(model.state_dict())
    return {"meta": {"CLASSES": list(CLASSES)}, "state_dict": state}


@pytest.mark.parametrize("kind", DAMAGES)
def test_wrong_keys_of_a_released_file_are_named(refused, kind):
    content = published_content()
    name = "decode_head.decoder_1.layers.1.linear1.weight"
    shape = tuple(content["state_dict"][name].shape)
    damage, message = DAMAGES[kind]
    content["state_dict"] = damage(content["state_dict"], name)
    torch.save(content, "bad.pth")
    told = refused("import", "bad.pth", "--clip", "toy", "--out", "out.ckpt")
    assert message.format(name=name, shape=shape) in told
    assert not Path("out.ckpt").exists()


def test_of_many_wrong_keys_a_few_are_named_and_all_counted(refused, photo):
    content = small_checkpoint()
    names = sorted(name.removeprefix("model.") for name in content["state_dict"])
    content["state_dict"] = {}
    torch.save(content, "bad.ckpt")
    told = refused(*READERS["predict"])
    assert f"missing: {', '.join(names[:6])} and {len(names) - 6} more ({len(names)} in all)" in told
    assert names[6] not in told.replace(names[5], "")


def test_a_released_file_where_a_checkpoint_belongs(refused, photo):
    torch.save(published_content(), "bad.ckpt")
    for reader in ("eval", "predict", "resume", "init_from"):
        assert "turn a released .pth into one with `lexiseg import`" in refused(*READERS[reader])


def test_resuming_from_an_imported_checkpoint(refused):
    torch.save(small_checkpoint(), "bad.ckpt")
    told = refused(*READERS["resume"])
    assert "holds no global_step, epoch, optimizer_states, so no run can go on from it" in told
    assert "resume=false init_from=bad.ckpt" in told


DESCRIPTIONS = {
    "no split": (lambda info: info.pop("split"), "incomplete ('split' is missing)"),
    "no fingerprint": (lambda info: info["clip"].pop("fingerprint"), "incomplete ('fingerprint' is missing)"),
    "other clip setting": (lambda info: info["clip"].update(run="x"), "clip has no setting run"),
    "other model setting": (lambda info: info["model"].update(run="x"), "has no setting run"),
    "stages of no kind": (lambda info: info["model"].update(stages=5), "cannot be used"),
    "split of no kind": (lambda info: info.update(split=[1, 2]), "cannot be used"),
    "newer": (lambda info: info.update(format=2), "checkpoint format 2, this version reads 1"),
}


@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_a_description_that_cannot_be_used(refused, photo, kind):
    content = small_checkpoint()
    change, message = DESCRIPTIONS[kind]
    change(content["lexiseg"])
    torch.save(content, "bad.ckpt")
    assert message in refused(*READERS["predict"])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([1, 2], "its state_dict is a list; expected named tensors"),
        ({"model.x": 3}, "'model.x' in its state_dict is a int; expected named tensors"),
    ],
)
def test_weights_that_are_no_tensors(refused, photo, state, message):
    torch.save(small_checkpoint() | {"state_dict": state}, "bad.ckpt")
    assert message in refused(*READERS["predict"])
