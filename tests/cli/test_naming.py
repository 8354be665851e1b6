"""``masks=`` of ``lexiseg eval`` and ``lexiseg benchmark``, and trained models in its table, as a user types them."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

import region_model_cases
from hostile import small_checkpoint
from lexiseg.checkpoints.training_file import CHECKPOINT_KEY, MODEL_PREFIX, CheckpointInfo
from lexiseg.cli.main import main
from lexiseg.clip.loading import load_clip
from lexiseg.data.toy.world import TOY_CLASSES, TOY_UNSEEN, ToyWorld
from lexiseg.inference.given_masks import ON_THE_SPOT
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.models.region_model import RegionModel
from lexiseg.models.registry import build_model, model_settings
from lexiseg.types import ClassSplit

SCENES = ("length=2", "image_size=[48,56]")
TOY = tuple(f"toy.data.{scene}" for scene in SCENES)
VAL = tuple(f"data.val.{scene}" for scene in SCENES)
WORLD = ToyWorld(partition="val", length=2, image_size=(48, 56))
PRESENT = sum(len(np.unique(WORLD[index].label)) for index in range(2))


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cascade(tmp_path):
    (tmp_path / "mine").mkdir()
    torch.save(small_checkpoint(), tmp_path / "mine" / "best.ckpt")
    return tmp_path / "mine" / "best.ckpt"


@pytest.fixture
def regions(tmp_path):
    """A random ZegFormer that reads whole scenes."""
    clip = load_clip("toy")
    torch.manual_seed(1)
    model = build_model({"name": "zegformer", "branch": "segment", **region_model_cases.SIZES}, clip.tower)
    protocol = InferenceProtocol(name="small", short_side=64, activation="scores", padding="bottom_right")
    info = CheckpointInfo(
        model_settings(model),
        {"source": "toy", "fingerprint": clip.fingerprint},
        ("a photo of a {}",),
        ClassSplit("toy", TOY_CLASSES, TOY_UNSEEN),
        protocol.to_dict(),
    )
    state = {MODEL_PREFIX + name: tensor for name, tensor in model.state_dict().items()}
    torch.save({CHECKPOINT_KEY: info.to_dict(), "state_dict": state}, tmp_path / "regions.ckpt")
    return tmp_path / "regions.ckpt"


def test_a_trained_model_is_judged_by_the_names_it_gives(cascade, regions, capsys, monkeypatch):
    asked, name = [], RegionModel.name_masks
    monkeypatch.setattr(
        RegionModel,
        "name_masks",
        lambda self, images, masks, *a: asked.append(len(masks)) or name(self, images, masks, *a),
    )
    for checkpoint in (cascade, regions):
        given = ["eval", str(checkpoint), *VAL, "device=cpu", "masks=ground_truth", "output=told.json"]
        assert main(given) == 0
        with open("told.json", encoding="utf-8") as file:  # noqa: PTH123
            told = json.load(file)
        assert told["masks"] == {"source": "ground_truth", "judged": PRESENT}
        assert 0 <= told["scores"]["mask_accuracy"] <= 1
        assert told["scores"]["mask_class_accuracy"] is not None
        assert told["protocol"]["area_threshold"] == 0
        assert f"The names of {PRESENT} masks (ground_truth)" in capsys.readouterr().out
    assert (len(asked), sum(asked)) == (2, PRESENT), "the model of regions looks under the masks itself"


@pytest.mark.slow
def test_a_method_and_a_trained_model_in_one_table(cascade, tmp_path, monkeypatch):
    import lexiseg.recipes.benchmark as module

    measured = []
    measure = module.measure
    monkeypatch.setattr(
        module, "measure", lambda choice, *a, **k: measured.append(choice.label) or measure(choice, *a, **k)
    )
    scenes = [
        "toy.data.length=2",
        "toy.data.image_size=[128,136]",
        "device=cpu",
    ]  # at their own size, which the toy CLIP knows
    run = ["benchmark", "clip=toy", "methods=[clip-surgery]", f"checkpoints=[{cascade}]", *scenes]
    assert main([*run, "masks=ground_truth", "output=named"]) == 0
    table = (tmp_path / "named" / "table.md").read_text()
    assert table.startswith("| method | toy | toy masks | toy masks by class | M parameters |")
    assert "| trained: mine |" in table
    assert "Names of given masks (ground_truth)" in table
    cells = {cell["method"]: cell for cell in json.loads((tmp_path / "named" / "results.json").read_text())}
    world = ToyWorld(partition="val", length=2, image_size=(128, 136))
    present = sum(len(np.unique(world[index].label)) for index in range(2))
    assert cells["clip-surgery"]["report"]["masks"] == {"source": "ground_truth", "judged": present}
    assert cells["clip-surgery"]["report"]["scores"]["mask_accuracy"] > 0.2
    own = cells["trained: mine"]["report"]
    assert (own["protocol"]["window"], own["protocol"]["activation"]) == (48, "sigmoid")
    assert own["checkpoint"] == str(cascade)
    assert main([*run, "masks=ground_truth", "output=named"]) == 0
    assert measured == ["clip-surgery", "trained: mine"]
    assert main([*run, "output=named"]) == 0
    assert len(measured) == 4, "other masks, other scores"
    assert "toy masks" not in (tmp_path / "named" / "table.md").read_text()


def test_a_table_of_trained_models_alone_loads_no_other_clip(cascade, tmp_path):
    run = ["benchmark", "clip=file", "clip.source=nowhere", "methods=[]", f"checkpoints={cascade}", *TOY]
    assert main([*run, "device=cpu", "output=out", "limit=1"]) == 0
    assert "| trained: mine |" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.slow
def test_published_numbers_stand_in_the_table_of_their_tower_alone(tmp_path, monkeypatch):
    """The toy CLIP is none; where it counts as one, the column is there, but not for a benchmark that nobody published."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    write_voc(root)
    small = ["protocol.short_side=48", "protocol.window=48", "protocol.stride=24", "device=cpu"]
    run = [
        "benchmark",
        "clip=toy",
        "benchmarks=[voc20,toy]",
        "methods=[sclip,{name: sclip, label: mine, templates: single}]",
        f"data_root={tmp_path}",
        *TOY,
        *small,
    ]
    assert main([*run, "output=out"]) == 0
    assert "published" not in (tmp_path / "out" / "table.md").read_text()
    monkeypatch.setattr("lexiseg.evaluation.published.is_published_tower", lambda tower: True)
    assert main([*run, "output=out"]) == 0
    table = (tmp_path / "out" / "table.md").read_text()
    assert table.startswith("| method | voc20 | voc20 published | toy | mean |")
    assert table.count("| 80.4 a |") == 1, "no paper measured a row with choices of its own"
    assert re.search(r"\| mine \| [\d.]+ \| – \|", table)
    assert "Published, on OpenAI's ViT-B/16 unless it is said: a SCLIP" in table
    assert main([*run, "masks=ground_truth", "output=named"]) == 0
    assert "published" not in (tmp_path / "named" / "table.md").read_text()


def write_voc(root):
    """One photograph in PASCAL VOC's layout."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Segmentation/val.txt").write_text("a\n")
    Image.fromarray(WORLD[0].image).save(root / "JPEGImages/a.jpg")
    Image.fromarray((np.arange(48 * 56).reshape(48, 56) // 500).astype(np.uint8)).save(
        root / "SegmentationClass/a.png"
    )


@pytest.mark.one_in(2)
@pytest.mark.parametrize("command", ["eval", "benchmark"])
def test_mistakes_get_one_sentence(command, cascade, tmp_path, capsys):
    run = {
        "eval": ["eval", str(cascade), *VAL],
        "benchmark": ["benchmark", "clip=toy", "methods=[clip]", *TOY, "output=out"],
    }[command]
    (tmp_path / "given").mkdir()

    def answer(*more):
        assert main([*run, "device=cpu", *more]) == 2
        told = capsys.readouterr().err
        assert "Traceback" not in told
        return told

    known = ", ".join(ON_THE_SPOT)
    assert f"masks: expected null, ground_truth, {known}, or a folder" in answer("masks=typo")
    assert f"no file at given/{WORLD[0].name}.png" in answer("masks=given")
    Image.fromarray(np.ones((48, 55), np.uint8)).save(tmp_path / "given" / f"{WORLD[0].name}.png")
    assert "has 48x55 pixels (height x width), the photograph" in answer("masks=given")
    if command == "benchmark":
        assert "checkpoints: expected a list of paths" in answer("checkpoints=[3]")
        assert "gone.ckpt" in answer("checkpoints=[gone.ckpt]")
        twice = answer(f"checkpoints=[{cascade},{cascade}]")
        assert "checkpoints: two rows are called trained: mine; give each a label of its own" in twice
        assert not (tmp_path / "out").exists()
