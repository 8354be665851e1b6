"""What a look at the flags can tell is told before a CLIP is loaded; and messages that lead somewhere."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.test_eval import checkpoint  # noqa: F401  # a fixture is used by its name
from lexiseg.cli.main import main
from lexiseg.clip import loading as clip_loading
from lexiseg.errors import ConfigError
from lexiseg.inference import loading, pipeline
from lexiseg.inference.pipeline import Pipeline
from lexiseg.recipes import compare as compare_recipe
from lexiseg.recipes import data as data_recipe
from lexiseg.recipes import import_published as import_recipe
from lexiseg.recipes import masks as masks_recipe
from lexiseg.recipes import records


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def no_clip(monkeypatch):
    """Whoever loads a CLIP fails."""

    def fail(*_, **__):
        raise AssertionError("a CLIP was loaded")

    for module in (loading, pipeline, compare_recipe):
        monkeypatch.setattr(module, "load_clip", fail)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(path)
    return path


EARLY = [
    (("predict",), ("--method", "nothing"), "no training-free method 'nothing'; choose one of"),
    (("predict", "compare"), ("--templates", "nothing"), "nothing"),
    (("predict",), ("--threshold", "1.5"), "--threshold is 1.5; expected a number from 0 to below 1"),
    (("predict",), ("--refine", "-1"), "--refine is -1; expected a number of steps"),
    (("predict",), ("--format", "png,xml"), "--format: 'xml' is none of png, coco"),
    (("predict",), ("--pieces",), "--pieces cuts labels of pixels into objects; add --format"),
    (("predict",), ("--stuff", "sand"), "or for labels of pixels --format panoptic or --pieces"),
    (("predict", "compare"), ("--device", "gpu"), "device 'gpu': expected auto, cpu, cuda, cuda:1"),
    (("compare",), ("--methods", "nothing"), "no training-free method 'nothing'"),
    (("predict", "compare"), ("--out", "{photo}"), "photo.png is a file; choose a folder for the results"),
    (("predict", "compare"), ("--out", "{photo}/below"), "photo.png is a file; choose a folder"),
]


@pytest.mark.parametrize(
    ("command", "flags", "told"),
    [(command, flags, told) for commands, flags, told in EARLY for command in commands],
)
def test_flags_are_looked_at_before_a_clip_is_loaded(command, flags, told, no_clip, photo, capsys):
    flags = [flag.format(photo=photo) for flag in flags]
    assert main([command, str(photo), "--classes", "bricks, sand", "--clip", "toy", *flags]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


@pytest.mark.one_in(4)
@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc, where nobody can write")
@pytest.mark.parametrize(
    "line",
    [
        "predict {photo} --classes sand --clip toy --out OUT",
        "compare {photo} --classes sand --clip toy --out OUT",
        "eval {checkpoint} data=toy split=toy output=OUT/eval.json",
        "benchmark clip=toy methods=[clip] output=OUT",
        "export {checkpoint} --to onnx --out OUT",
        "export {checkpoint} --to torch --out OUT",
        "export {checkpoint} --to folder --out OUT",
        "export {checkpoint} --to published --out OUT/a.pth",
        "import {checkpoint} --clip toy --out OUT/a.ckpt",
        "data check --data toy --out OUT",
        "masks build {photo} --output OUT",
        "masks show {photo} --output OUT",
        "train experiment=toy trainer=cpu output_dir=OUT",
        "pixelclip experiment=pixelclip/toy trainer=cpu output_dir=OUT",
        "demo --out OUT",
    ],
)
def test_places_for_results_come_first(line, photo, checkpoint, monkeypatch, capsys):  # noqa: F811
    def work(*_, **__):
        raise AssertionError("data or weights were read")

    for module, name in (
        (clip_loading, "_load"),
        (records, "build"),
        (data_recipe, "scan_labels"),
        (masks_recipe, "build_masks"),
        (import_recipe, "read_published"),
    ):
        monkeypatch.setattr(module, name, work)
    words = line.format(photo=photo, checkpoint=checkpoint).replace("OUT", "/proc/none").split()
    assert main(words) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert told.startswith("lexiseg: cannot write /proc/none")
    assert told.endswith("(No such file or directory); choose another folder")


@pytest.mark.parametrize("command", ["predict", "compare"])
def test_missing_photographs_are_told_before_a_clip_is_loaded(command, no_clip, tmp_path, capsys):
    assert main([command, str(tmp_path / "gone.jpg"), "--classes", "bricks", "--clip", "toy"]) == 2
    assert "gone.jpg: no such file or folder; check the path" in " ".join(capsys.readouterr().err.split())


def test_a_device_that_is_none_is_answered_in_one_sentence():
    with pytest.raises(ConfigError) as caught:
        Pipeline.load(clip="toy", device="gpu")
    assert "this machine has cpu" in str(caught.value)
    assert "ipu" not in str(caught.value), "torch's own devices help nobody"
    with pytest.raises(ConfigError, match="device 'cuda:97' cannot be used: this machine has cpu"):
        Pipeline.load(clip="toy", device="cuda:97")


def test_background_words_are_told_and_not_the_word_for_them(photo, tmp_path, capsys):
    flags = ["--clip", "toy", "--method", "clip", "--templates", "single", "--out", str(tmp_path / "out")]
    for background, warned in (("bricks, sand", False), ("bricks, zebra", True)):
        assert main(["predict", str(photo), "--classes", "water", "--background", background, *flags]) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert ("warning" in printed) == warned
        assert ("never read zebra;" in printed) == warned
    assert main(["predict", str(photo), "--classes", "water, background", *flags]) == 0
    assert "never read background;" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_the_folder_of_a_run_stands_for_its_best_checkpoint(checkpoint, photo, tmp_path, caplog):  # noqa: F811
    run = tmp_path / "runs" / "mine"
    (run / "transductive").mkdir(parents=True)
    stored = checkpoint.read_bytes()
    (run / "transductive" / "last.ckpt").write_bytes(stored)
    for name, told in (
        ("transductive/last.ckpt", "taking its transductive/last.ckpt"),
        ("last.ckpt", "taking its last.ckpt"),
        ("best.ckpt", "taking its best.ckpt"),
    ):
        (run / name).write_bytes(stored)
        caplog.clear()
        flags = ("--classes", "water, sand", "--checkpoint", str(run), "--out", str(tmp_path / "out"))
        assert main(["predict", str(photo), *flags]) == 0
        assert f"{run} is the folder of a run: {told}" in caplog.text
    data = ("data=toy", "split=toy", "data.val.length=1", "data.val.image_size=[48,56]")
    assert main(["eval", str(run), *data]) == 0
    assert (run / "eval.json").is_file()


def test_a_folder_without_a_model_is_no_run(tmp_path, photo, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(photo), "--classes", "sand", "--checkpoint", str(tmp_path / "empty")]) == 2
    told = capsys.readouterr().err
    assert (
        "empty: no model in this folder; expected a run's folder, with best.ckpt or last.ckpt in it" in told
    )


def test_missing_files_are_told_without_the_systems_words(no_clip, photo, tmp_path, capsys):
    flags = ("--clip", "toy", "--classes-file", str(tmp_path / "words.txt"))
    assert main(["predict", str(photo), *flags]) == 2
    told = capsys.readouterr().err
    assert f"lexiseg: no file at {tmp_path / 'words.txt'}; expected a UTF-8 text file" in told
    assert "Errno" not in told


def test_photographs_that_are_not_there_and_the_key_that_names_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LEXISEG_DATA", raising=False)
    assert main(["pixelclip", "clip=toy", "trainer=cpu"]) == 2
    told = capsys.readouterr().err
    assert "no folder of photographs at data/photos; say images=FOLDER, or experiment=pixelclip/toy" in told
    assert not (tmp_path / "runs").exists()


def test_too_few_scenes_for_a_split(tmp_path, capsys):
    run = ("train", "experiment=toy", "trainer=cpu", "data.train.length=2", f"output_dir={tmp_path / 'run'}")
    assert main(run) == 2
    assert "training label maps; give more images (scenes of the toy world: data.train.length)" in (
        capsys.readouterr().err
    )


def test_short_reprs(photo, checkpoint):  # noqa: F811
    free = Pipeline.load(clip="toy", method="sclip", device="cpu")
    assert repr(free) == "Pipeline(SCLIP on toy, protocol training-free)"
    trained = Pipeline.load(checkpoint, device="cpu")
    assert repr(trained).startswith("Pipeline(cascade_clip on toy, ")
    assert "seen and" in repr(trained)
    result = free.segmenter("water, sand").segment(str(photo))
    assert repr(result).startswith("Segmentation(40x56, with scores: ")
    assert len(repr(result)) < 100
