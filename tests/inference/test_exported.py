"""The exported program behind the segmenter: the same labels, no CLIP for its own words, one message for every damage."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from lexiseg.checkpoints import program_folder
from lexiseg.checkpoints.program_folder import find_program, read_card
from lexiseg.cli.main import main
from lexiseg.clip.loading import load_clip
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.inference import exported, loading
from lexiseg.inference.exported import ClipOnDemand, ExportedModel, OnnxProgram
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.recipes.export_program import export_program
from program_cases import CLASSES, save_checkpoint

OWN = "blue square, bricks"
NEW = "red circle; red square, bricks"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkpoint and its exported folder."""
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEXISEG_CACHE", str(folder / "cache"))
        checkpoint = save_checkpoint(folder)
        assert main(["export", str(checkpoint), "--to", "onnx", "--out", str(folder / "program")]) == 0
    return checkpoint, folder / "program"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def copy(made, tmp_path):
    """A folder of one's own, to damage."""
    return shutil.copytree(made[1], tmp_path / "copy")


@pytest.fixture
def no_clip(monkeypatch):
    """Whoever loads a CLIP fails."""

    def fail(*_, **__):
        raise AssertionError("the CLIP was loaded")

    monkeypatch.setattr(loading, "load_clip", fail)


def picture(height=61, width=83):
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


def segment(path, words, **how):
    return Pipeline.load(path, device="cpu", **how).segmenter(words).segment(picture())


@pytest.mark.one_in(2)
@pytest.mark.parametrize("words", [OWN, NEW, None])
def test_the_same_labels_and_scores_as_the_live_model(made, words):
    live, program = (segment(path, words) for path in made)
    np.testing.assert_allclose(
        program.scores, live.scores, atol=0.02
    )  # the live model runs in its protocol's bfloat16
    assert program.unseen == live.unseen
    assert program.protocol == live.protocol | {"precision": "float32"}
    protocol = InferenceProtocol.from_dict(program.protocol)
    precise = replace(Pipeline.load(made[0], device="cpu"), protocol=protocol)
    exact = precise.segmenter(words).segment(picture())
    np.testing.assert_allclose(program.scores, exact.scores, atol=1e-5)
    assert (program.labels == exact.labels).mean() > 0.9999


def test_own_words_need_no_clip(made, no_clip):
    result = segment(made[1], OWN)
    assert set(result.areas) <= {"blue square", "bricks"}
    assert result.unseen == ("bricks",)


def test_a_new_word_needs_the_clip_and_the_same_one(made, tmp_path, monkeypatch):
    asked = []
    load = loading.load_clip
    monkeypatch.setattr(loading, "load_clip", lambda **how: asked.append(how["source"]) or load(**how))
    shutil.copytree(made[0].parent / "clip", tmp_path / "moved")
    segment(made[1], NEW, clip=str(tmp_path / "moved"))
    assert asked == [str(tmp_path / "moved")]
    with pytest.raises(CheckpointError, match="trained on the CLIP"):
        segment(made[1], "red circle, ring", clip="toy")


def test_own_words_in_other_templates_are_embedded_anew(made, no_clip):
    loaded = Pipeline.load(made[1], device="cpu")
    with pytest.raises(AssertionError, match="the CLIP was loaded"):
        loaded.segmenter(Vocabulary.from_text(OWN, "one {}"))


def test_predict_takes_folder_and_file(made, tmp_path, no_clip, capsys):
    Image.fromarray(picture()).save(tmp_path / "photo.png")
    labels = []
    for checkpoint in (made[1], made[1] / "model.onnx"):
        flags = [
            "--classes",
            OWN,
            "--checkpoint",
            str(checkpoint),
            "--out",
            str(tmp_path / "out"),
            "--no-overlay",
        ]
        assert main(["predict", str(tmp_path / "photo.png"), *flags]) == 0
        with Image.open(tmp_path / "out" / "photo_labels.png") as image:
            labels.append(np.asarray(image).copy())
    assert labels[0].shape == (61, 83)
    assert (labels[0] == labels[1]).all()
    assert "warning" not in capsys.readouterr().out


def test_predict_warns_of_words_that_the_clip_never_read(made, tmp_path, capsys):
    Image.fromarray(picture(24, 40)).save(tmp_path / "photo.png")
    flags = ["--classes", "bricks, zebra", "--checkpoint", str(made[1]), "--out", str(tmp_path / "out")]
    assert main(["predict", str(tmp_path / "photo.png"), *flags]) == 0
    assert "has never read zebra" in " ".join(capsys.readouterr().out.split())


def test_many_words_go_through_in_few_windows(made, monkeypatch):
    card, _ = read_card(made[1])
    program = OnnxProgram(made[1] / "model.onnx", "cpu")
    seen = []
    model = ExportedModel(lambda images, text: seen.append(len(images)) or program(images, text), card)
    images, text = torch.randn(5, 3, 24, 40), F.normalize(torch.randn(7, 16), dim=-1)
    whole = model.decode(model.encode(images), text).logits
    monkeypatch.setattr(exported, "_WORDS_AT_ONCE", 15)
    parts = model.decode(images, text).logits
    assert seen == [5, 2, 2, 1]
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6)


def test_the_clip_is_loaded_once_and_only_when_asked():
    calls = []

    class Clip:
        logit_scale = 7.0

        def unknown_words(self, names):
            return list(names)

    on_demand = ClipOnDemand(lambda: calls.append(1) or Clip(), source="s", fingerprint="f", known=("red",))
    assert (on_demand.source, on_demand.fingerprint) == ("s", "f")
    assert on_demand.unknown_words(["red"]) == []
    assert not calls
    assert on_demand.unknown_words(["red", "zebra"]) == ["zebra"]
    assert on_demand.logit_scale == 7.0
    assert len(calls) == 1


def test_threads_load_the_clip_once():
    calls = []

    def load():
        calls.append(1)
        time.sleep(0.05)
        return SimpleNamespace(logit_scale=7.0)

    on_demand = ClipOnDemand(load, source="s", fingerprint="f", known=())
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: on_demand.logit_scale, range(8))) == [7.0] * 8
    assert len(calls) == 1


def _edit(key, value):
    def change(folder):
        values = json.loads((folder / "program.json").read_text())
        values[key] = value
        (folder / "program.json").write_text(json.dumps(values))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "program.json").write_text("{"), r"program.json: damaged, no readable JSON"),
        (lambda f: (f / "program.json").write_text("[]"), "expected a JSON object, got list"),
        (_edit("format", 9), "program format 9, this version reads 1"),
        (_edit("mean", [1, 2]), "incomplete or damaged"),
        (_edit("patch_size", "8"), "incomplete or damaged"),
        (_edit("split", None), "description"),
        (
            lambda f: (f / "text_embeddings.safetensors").write_bytes(b"x"),
            "embeddings.safetensors: damaged or no safetensors file",
        ),
        (_edit("embed_dim", 17), r"expected float32 \(3, 17\), got torch.float32 \(3, 16\)"),
        (lambda f: (f / "model.onnx").unlink(), "model.onnx is missing; copy the whole folder again"),
        (lambda f: (f / "model.onnx").write_bytes(b"no graph"), "not a readable ONNX program"),
    ],
)
def test_damage_is_told(copy, damage, message):
    damage(copy)
    with pytest.raises(CheckpointError, match=message):
        Pipeline.load(copy, device="cpu")


def test_half_a_program_file(copy):
    whole = (copy / "model.onnx").read_bytes()
    (copy / "model.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="not a readable ONNX program"):
        Pipeline.load(copy, device="cpu")


def test_a_file_without_its_card(copy):
    (copy / "program.json").unlink()
    with pytest.raises(CheckpointError, match=r"no program.json beside it"):
        Pipeline.load(copy / "model.onnx", device="cpu")
    assert find_program(copy) is None


@pytest.mark.parametrize("name", ["gone/model.onnx", "gone/model.pt2"])
def test_a_program_that_is_not_there_is_not_sought_on_the_hub(name):
    with pytest.raises(CheckpointError, match=f"{name}: no such checkpoint"):
        Pipeline.load(name, device="cpu")


@pytest.mark.parametrize("name", ["", "model.pt2"])
def test_torch_archives_are_not_opened_unless_trusted(copy, name):
    _edit("program", "torch")(copy)
    (copy / "model.pt2").write_bytes(b"would run anything")
    with pytest.raises(
        CheckpointError, match=r"may run code that is in it.* --trust .*export with --to onnx"
    ):
        Pipeline.load(copy / name, device="cpu")
    with pytest.raises(CheckpointError, match="not a readable torch program"):
        Pipeline.load(copy / name, device="cpu", trusted=True)


def test_predict_runs_a_torch_program_that_is_trusted(made, tmp_path, no_clip, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "load_clip", load_clip)
        assert main(["export", str(made[0]), "--to", "torch", "--out", str(tmp_path / "program")]) == 0
    Image.fromarray(picture()).save(tmp_path / "photo.png")
    flags = ["--classes", OWN, "--out", str(tmp_path / "out"), "--no-overlay", "--device", "cpu"]
    command = ["predict", str(tmp_path / "photo.png"), *flags, "--checkpoint", str(tmp_path / "program")]
    assert main(command) == 2
    assert "--trust" in capsys.readouterr().err
    assert main([*command, "--trust"]) == 0
    with Image.open(tmp_path / "out" / "photo_labels.png") as image:
        labels = np.asarray(image)
    assert (labels == segment(made[1], OWN).labels).mean() > 0.9999


@pytest.mark.slow
def test_the_card_names_the_templates_of_the_embeddings_beside_it(made, tmp_path):
    """Whatever the pipeline speaks in when it is exported."""
    loaded = replace(Pipeline.load(made[0], device="cpu"), templates=("one {} more",))
    (tmp_path / "program").mkdir()
    export_program(loaded, "torch", tmp_path / "program")
    (card, embeddings), (_, expected) = read_card(tmp_path / "program"), read_card(made[1])
    assert card.info.templates == loaded.info.templates != loaded.templates
    torch.testing.assert_close(embeddings, expected)


def test_without_onnxruntime(copy, monkeypatch):
    monkeypatch.setattr(program_folder, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"needs onnxruntime, not installed here; run `pip install 'lexiseg\[export\]'`"
    ):
        Pipeline.load(copy, device="cpu")


@pytest.mark.parametrize("device", ["cuda", "cuda:x", "mps"])
def test_a_device_that_onnxruntime_does_not_have(made, device):
    with pytest.raises(
        ConfigError, match=f"device '{device}' cannot run an ONNX program here; onnxruntime offers cpu"
    ):
        OnnxProgram(made[1] / "model.onnx", device)


def test_the_card_tells_other_runtimes_what_goes_in(made):
    card = json.loads((made[1] / "program.json").read_text())
    assert "multiples of 8, at least 16" in card["inputs"]["images"]
    assert card["outputs"]["logits"].startswith("float32 (batch, classes, height / 8, width / 8)")
    read, embeddings = read_card(made[1])
    assert read.to_dict() == card
    assert read.info.split.classes == CLASSES
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))


def test_a_program_of_a_model_of_regions_takes_one_word_a_class(copy):
    """Synonyms would compete with each other in its soft-max; a pixel model's may, and the best of them counts."""
    card = json.loads((copy / "program.json").read_text())
    card["protocol"]["activation"] = "scores"
    (copy / "program.json").write_text(json.dumps(card))
    pipeline = Pipeline.load(copy, device="cpu")
    segmenter = pipeline.segmenter(OWN)
    assert segmenter.segment(picture()).labels.shape == (61, 83)
    for ask in (pipeline.segmenter, segmenter.with_words, segmenter.set_classes):
        with pytest.raises(
            ConfigError, match="takes one word a class, got red circle; red square; leave the"
        ):
            ask(NEW)
    with pytest.raises(ConfigError, match="takes one word a class, got background; wall; floor"):
        pipeline.segmenter(OWN, background="wall, floor")
