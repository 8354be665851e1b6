"""The self-contained folder as files: what is written, what is refused, and that nothing in it names this machine."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from hostile import CLASSES, small_checkpoint
from lexiseg.checkpoints import model_folder
from lexiseg.checkpoints.model_facts import MeasuredScores, ModelFacts, read_measured
from lexiseg.checkpoints.model_folder import (
    download_model_folder,
    is_hub_name,
    read_model_folder,
    write_model_folder,
)
from lexiseg.checkpoints.training_file import load_weights, read_info
from lexiseg.clip.loading import load_clip
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.models.registry import build_model

FACTS = ModelFacts("mit", "apache-2.0", MeasuredScores({"seen": 0.5, "miou": 0.25}, {"name": "p"}, "small"))


@pytest.fixture(scope="module")
def live():
    """A model on the toy CLIP, that CLIP and the description."""
    checkpoint = small_checkpoint()
    info, clip = read_info(checkpoint, "x"), load_clip("toy")
    model = build_model(info.model, clip.vision)
    load_weights(model, checkpoint["state_dict"], "x")
    return model, clip, info


@pytest.fixture(scope="module")
def written(live, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "model"
    write_model_folder(folder, *live, FACTS)
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(written, tmp_path / "model")


def test_everything_comes_back(live, written):
    model, clip, info = live
    found = read_model_folder(written)
    assert found.info.to_dict() == info.to_dict() | {
        "clip": {"source": "toy", "fingerprint": clip.fingerprint},
        "protocol": json.loads(json.dumps(info.protocol)),
    }
    assert found.facts == FACTS
    assert found.clip == written / "clip"
    state = model.state_dict()
    assert found.state_dict.keys() == state.keys()
    assert all(torch.equal(found.state_dict[name], state[name]) for name in state)
    own = Vocabulary.from_names(CLASSES, info.templates).embed(clip).vectors
    assert torch.equal(found.embeddings, own)
    assert not [path for path in written.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl", ".py")]


def test_its_classes_are_spoken_in_the_templates_of_training(live, tmp_path):
    model, clip, info = live
    templates = ("{} by night", "one {}.")
    write_model_folder(
        tmp_path / "model", model, clip, replace(info, templates=templates), FACTS, bundle_clip=False
    )
    found = read_model_folder(tmp_path / "model")
    assert found.info.templates == templates
    assert torch.equal(found.embeddings, Vocabulary.from_names(CLASSES, templates).embed(clip).vectors)
    assert not torch.allclose(found.embeddings, Vocabulary.from_names(CLASSES, "single").embed(clip).vectors)


def test_a_folder_that_only_names_its_clip(live, tmp_path):
    write_model_folder(tmp_path / "model", *live, ModelFacts(), bundle_clip=False)
    found = read_model_folder(tmp_path / "model")
    assert found.clip is None
    assert found.info.clip["source"] == "toy"
    assert found.facts == ModelFacts()
    assert not (tmp_path / "model" / "clip").exists()


@pytest.mark.parametrize("source", ["/home/somebody/secret/ViT-B-16.pt", "clips/vit.pt"])
def test_paths_of_this_machine_are_not_published(live, tmp_path, source):
    model, clip, info = live
    info = replace(info, clip={"source": source, "tokenizer": "/home/somebody/bpe.gz", "fingerprint": "f"})
    write_model_folder(tmp_path / "model", model, clip, info, ModelFacts())
    name = source.rpartition("/")[2]
    assert read_model_folder(tmp_path / "model").info.clip == {"source": name, "fingerprint": "f"}
    assert "somebody" not in (tmp_path / "model" / "config.json").read_text()
    with pytest.raises(ConfigError, match="is a file of this machine.*leave the CLIP in the folder"):
        write_model_folder(tmp_path / "other", model, clip, info, ModelFacts(), bundle_clip=False)
    named = replace(info, clip=info.clip | {"source": "openai/clip-vit-base-patch16"})
    with pytest.raises(ConfigError, match=r"'/home/somebody/bpe\.gz' is a file of this machine"):
        write_model_folder(tmp_path / "other", model, clip, named, ModelFacts(), bundle_clip=False)
    assert not (tmp_path / "other").exists()


def change_config(folder, change):
    values = json.loads((folder / "config.json").read_text())
    change(values)
    (folder / "config.json").write_text(json.dumps(values))


CONFIGS = {
    "newer": (
        lambda c: c.update(format=2, lexiseg_version="9.0"),
        r"folder format 2 of lexiseg 9\.0; this lexiseg \S+ reads 1\. Update lexiseg",
    ),
    "older": (lambda c: c.update(format=0), "folder format 0 of lexiseg"),
    "no format": (lambda c: c.pop("format"), "folder format None"),
    "of another library": (lambda c: c.update(library_name="timm"), "not of a lexiseg model"),
    "no model": (lambda c: c.pop("model"), r"'model' is missing.*\(written by lexiseg"),
    "no split": (lambda c: c.pop("split"), "'split' is missing"),
    "no protocol": (lambda c: c.pop("protocol"), "'protocol' is missing"),
    "no templates": (lambda c: c.pop("templates"), "'templates' is missing"),
    "no clip": (lambda c: c.pop("clip"), r"incomplete or damaged \(KeyError\('clip'\)\)"),
    "no fingerprint": (lambda c: c["clip"].pop("fingerprint"), "'fingerprint' is missing"),
    "setting of a newer version": (
        lambda c: (c["model"].update(wings=2), c.update(lexiseg_version="9.0")),
        r"has no setting wings.*\(written by lexiseg 9\.0, this is",
    ),
    "an unseen class that is none": (lambda c: c["split"].update(unseen=["zebra"]), "'zebra' not among"),
    "scores without protocol": (lambda c: c["facts"]["measured"].pop("protocol"), "incomplete or damaged"),
    "facts of no kind": (lambda c: c.update(facts=[1]), "incomplete or damaged"),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_config_that_cannot_be_used(folder, kind):
    change, message = CONFIGS[kind]
    change_config(folder, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_model_folder(folder)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b'"text"', b"[" * 100_000])
def test_a_config_that_is_broken(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"config\.json: (damaged, no readable JSON|expected a JSON object)"
    ):
        read_model_folder(folder)


def test_facts_of_a_newer_version_are_left_out(folder):
    change_config(folder, lambda c: (c["facts"].update(wings=2), c["facts"]["measured"].update(wings=2)))
    assert read_model_folder(folder).facts == FACTS


@pytest.mark.parametrize("name", ["model.safetensors", "text_embeddings.safetensors"])
@pytest.mark.parametrize("keep", [0, 5, 300, -10])
def test_truncated_tensors(folder, name, keep):
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:keep])
    with pytest.raises(
        CheckpointError, match=f"{name}: damaged or no safetensors file.*nothing from it was run"
    ):
        read_model_folder(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "no config.json in it; expected a folder that `lexiseg export --to folder`"),
        ("model.safetensors", "model.safetensors: missing"),
        ("clip/model.safetensors", "clip/model.safetensors is missing; copy the whole folder again"),
    ],
)
def test_missing_files(folder, name, message):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=message):
        read_model_folder(folder)


def test_embeddings_of_other_classes(folder):
    path = folder / "text_embeddings.safetensors"
    vectors = load_file(path)["vectors"]
    save_file({"vectors": vectors[:2].clone()}, path)
    with pytest.raises(CheckpointError, match=r"a row for each of the 3 classes, got \(2, 64\); remove"):
        read_model_folder(folder)
    path.unlink()
    assert read_model_folder(folder).embeddings is None


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("somebody/my-model_1.5", True),
        ("runs/last.ckpt", False),
        ("runs/x.pth", False),
        ("model", False),
        ("./model", False),
        ("/abs/model", False),
        ("a/b/c", False),
        ("../model", False),
    ],
)
def test_names_of_the_hub(name, is_one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_name(name) is is_one
    if is_one:
        (tmp_path / name).mkdir(parents=True)
        assert not is_hub_name(name), "a folder of that name is meant"


def test_only_harmless_files_are_downloaded(monkeypatch, tmp_path):
    asked = {}

    def fake(name, **settings):
        asked.update(settings, name=name)
        return str(tmp_path)

    monkeypatch.setattr(model_folder, "snapshot_download", fake)
    assert download_model_folder("somebody/model", revision="v1", token="t") == tmp_path
    assert (asked["name"], asked["revision"], asked["token"]) == ("somebody/model", "v1", "t")
    kinds = {pattern.rpartition(".")[2] for pattern in asked["allow_patterns"]}
    assert kinds == {"json", "safetensors", "txt", "md"}


def test_a_name_that_is_not_on_the_hub(monkeypatch):
    def fake(name, **settings):
        raise OSError("no network")

    monkeypatch.setattr(model_folder, "snapshot_download", fake)
    with pytest.raises(CheckpointError, match=r"no such checkpoint: 'a/b' .*hub \(no network\)"):
        download_model_folder("a/b")


EVALUATION = {
    "checkpoint": "runs/x/best.ckpt",
    "scores": {"seen": 0.5, "unseen": None, "miou": 0.5},
    "protocol": {"name": "p"},
    "split": {"name": "small"},
    "images": 7,
    "limit": 7,
    "data": {"_target_": "lexiseg.data.datasets.voc.PascalVOC", "root": "/home/somebody"},
}
RESULT = {"step": 40, "val": {"seen": 0.25, "unseen": 0.5}}


@pytest.fixture
def read(tmp_path, live):
    """Reads what lies beside a checkpoint of that name and step."""
    (tmp_path / "eval.json").write_text(json.dumps(EVALUATION))
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    return lambda name, step: read_measured(tmp_path / name, live[2], step)


def test_scores_of_an_evaluation(read):
    assert read("best.ckpt", 30) == MeasuredScores(
        {"seen": 0.5, "miou": 0.5}, {"name": "p"}, "small", "PascalVOC", images=7, limited=True
    )


def test_scores_of_the_run(read, live):
    found = read("last.ckpt", 40)
    assert found.scores == {"seen": 0.25, "unseen": 0.5}
    assert (found.protocol, found.split) == (live[2].protocol, "small")
    assert found.measured_by == "validation at step 40 of training"


@pytest.mark.parametrize("step", [30, None])
def test_scores_of_another_checkpoint_are_not_taken(read, step):
    assert read("last.ckpt", step) is None


@pytest.mark.parametrize("content", ["{", "[]", '{"checkpoint": "best.ckpt"}', '{"scores": 1}'])
def test_a_broken_record_of_scores(read, tmp_path, content):
    (tmp_path / "eval.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"eval\.json: no readable record of scores"):
        read("best.ckpt", 30)
