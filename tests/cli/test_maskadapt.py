"""From captions to an adapted CLIP: `masks pairs`, `maskadapt` in both steps, and OVSeg on what came of it."""

import json

import numpy as np
import pytest
import torch

from caption_cases import captioned_scenes, shown
from lexiseg.checkpoints.mask_prompts import FILE, read_mask_prompts, write_mask_prompts
from lexiseg.cli.ablations import compose_training
from lexiseg.cli.composing import plain
from lexiseg.cli.main import main
from lexiseg.clip.loading import load_clip
from lexiseg.data.toy.world import TOY_CLASSES
from lexiseg.masks.sa1b import read_mask_file
from lexiseg.masks.store import MaskStore
from lexiseg.recipes import training
from lexiseg.recipes.records import training_run

SMALL = ["clip=toy", "trainer=cpu", "pairs.batch_size=3", "pairs.num_workers=0", "optim.warmup_steps=1"]


@pytest.fixture
def scenes(tmp_path):
    return tmp_path / "scenes", captioned_scenes(tmp_path / "scenes")


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """A command of the command line: its status and what it printed, in one line."""
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))

    def call(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        printed = " ".join((captured.out + captured.err).split())
        assert "Traceback" not in printed
        return status, printed

    return call


def pair(run, photos, out, *more, captions=None):
    captions = captions or photos / "captions.json"
    flags = ("--captions", captions, "--output", out, "--clip", "toy", "--device", "cpu")
    words = () if "--words" in more else ("--words", "toy")
    return run("masks", "pairs", photos, *flags, *words, *more)


def test_pairs_of_a_folder(run, scenes, tmp_path):
    photos, samples = scenes
    status, printed = pair(run, photos, tmp_path / "pairs")
    assert status == 0, printed
    assert "4 photographs: 4 made, 0 already there, 0 skipped" in printed
    assert "pairs each: mean 2.0, least 2, most 2" in printed
    for sample in samples:
        (photo,) = photos.rglob(f"{sample.name}.png")
        file = MaskStore(tmp_path / "pairs", photos).path(photo)
        found = read_mask_file(file)
        assert list(found.masks.words) == [TOY_CLASSES[each] for each in shown(sample)[:2]]
        assert found.origin["settings"]["clip"] == load_clip("toy").fingerprint
        whole = {(sample.label == each).tobytes() for each in shown(sample)}
        assert all(mask.tobytes() in whole for mask in found.masks), "a pair's region is one of the masks"
    status, printed = pair(run, photos, tmp_path / "pairs")
    assert "0 made, 4 already there" in printed
    status, printed = pair(run, photos, tmp_path / "pairs", "--min-similarity", 0.99)
    assert status == 1
    assert "least -1.0 (now 0.99); --overwrite makes them anew" in printed
    status, printed = pair(run, photos, tmp_path / "pairs", "--min-similarity", 0.99, "--overwrite")
    assert status == 0
    assert "without any pair (4)" in printed


def test_most_words_take_the_right_region(run, scenes, tmp_path):
    """The toy CLIP knows its world well enough that more than half of the words find their own class's region."""
    photos, samples = scenes
    pair(run, photos, tmp_path / "pairs")
    right = []
    for sample in samples:
        (photo,) = photos.rglob(f"{sample.name}.png")
        found = MaskStore(tmp_path / "pairs", photos).read(photo)
        for word, mask in zip(found.words, found, strict=True):
            right.append(
                bool((np.where(mask, sample.label, TOY_CLASSES.index(word)) == TOY_CLASSES.index(word)).all())
            )
    assert sum(right) > len(right) / 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--captions", "/nowhere/captions.json"), "/nowhere/captions.json"),
        (("--words", "no_such_list"), "no class list named 'no_such_list'"),
        (("--words", "nouns"), "words=nouns needs NLTK"),
        (("--captions-each", "0"), "captions-each: expected at least 1, got 0"),
        (("--min-similarity", "1"), "min-similarity: expected a cosine"),
        (("--templates", "no_such"), "no template set 'no_such'"),
        (("--words", "coco_object_clearclip"), "no word of coco_object_clearclip stands in the captions"),
    ],
)
def test_mistakes_of_pairs(run, scenes, tmp_path, flags, message):
    status, printed = pair(run, scenes[0], tmp_path / "pairs", *flags)
    assert status == 2
    assert message in printed
    assert not (tmp_path / "pairs").exists()


def test_a_photograph_without_a_caption_or_masks_is_skipped(run, scenes, tmp_path):
    photos, samples = scenes
    (photo,) = photos.rglob(f"{samples[0].name}.png")
    MaskStore().path(photo).unlink()
    photo.with_name("new.png").write_bytes(photo.read_bytes())
    status, printed = pair(run, photos, tmp_path / "pairs")
    assert status == 1
    assert "5 photographs: 3 made, 0 already there, 2 skipped" in printed
    assert "new.png: no caption of a photograph of this name" in printed
    assert "run `lexiseg masks build`" in printed


@pytest.mark.slow
def test_both_steps_and_ovseg_on_what_they_leave(run, scenes, tmp_path):
    photos, _ = scenes
    pair(run, photos, tmp_path / "pairs")
    given = [f"pairs.images={photos}", f"pairs.folder={tmp_path / 'pairs'}", "trainer.max_steps=2"]
    judged = ["data=toy", "data.val.length=2"]
    first = tmp_path / "first"
    status, printed = run("maskadapt", *SMALL, *given, *judged, f"output_dir={first}", "optim.lr=1e-3")
    assert status == 0, printed
    assert f"done: the adapted CLIP is {first / 'clip'}" in printed
    result = json.loads((first / "result.json").read_text())
    assert (result["step"], result["pairs"]) == (2, 8)
    assert result["named"]["before"]["regions"] == result["named"]["after"]["regions"] > 5
    assert f"{result['named']['after']['regions']} regions named; right before and after" in printed
    toy, tuned = load_clip("toy"), load_clip(first / "clip")
    assert tuned.fingerprint != toy.fingerprint
    words = ["red circle", "bricks"]
    assert torch.equal(tuned.require_text().encode(words), toy.require_text().encode(words))
    assert not (first / "clip" / FILE).exists()

    second = tmp_path / "second"
    more = ["model=prompts", "model.prompt_depth=2", f"clip={first / 'clip'}", f"output_dir={second}"]
    status, printed = run("maskadapt", *SMALL[1:], *given, *more)
    assert status == 0, printed
    tokens = read_mask_prompts(second / "clip")
    assert tokens.shape == (2, 36, toy.tower.width)
    after = load_clip(second / "clip")
    image = torch.rand(1, 3, 48, 48)
    assert torch.equal(after.tower(image), tuned.tower(image)), "the tower stays"

    sizes = ["experiment=toy", "model=ovseg", f"clip={second / 'clip'}", "data.train.length=60"]
    config = training_run(plain(compose_training([*sizes, "model.prompt_depth=2"])))
    task = training.build_task(config, config.clip.load(), config.split.of(config.data.train.classes))
    assert torch.equal(task.model.crops.prompts.tokens, tokens)
    status, printed = run("train", *sizes, f"output_dir={tmp_path / 'ovseg'}")
    assert status == 2
    assert "mask prompt tokens of 2x36x" in printed
    assert "set model.prompt_depth=2" in printed


@pytest.mark.slow
def test_a_run_goes_on_bit_for_bit(run, scenes, tmp_path):
    photos, _ = scenes
    pair(run, photos, tmp_path / "pairs")
    given = [
        f"pairs.images={photos}",
        f"pairs.folder={tmp_path / 'pairs'}",
        "model=prompts",
        "checkpoint.every_steps=2",
    ]
    given += ["optim.schedule_steps=4"]
    run("maskadapt", *SMALL, *given, "trainer.max_steps=4", f"output_dir={tmp_path / 'whole'}")
    for steps in (2, 4):
        status, printed = run(
            "maskadapt", *SMALL, *given, f"trainer.max_steps={steps}", f"output_dir={tmp_path / 'parts'}"
        )
        assert status == 0, printed
    whole, parts = (read_mask_prompts(tmp_path / name / "clip") for name in ("whole", "parts"))
    assert torch.equal(whole, parts)
    checkpoint = torch.load(tmp_path / "parts" / "last.ckpt", weights_only=True)
    assert set(checkpoint["state_dict"]) == {"model.prompts.tokens", "model.logit_scale"}, "nothing frozen"
    status, printed = run(
        "maskadapt", *SMALL, *given, "trainer.max_steps=4", f"output_dir={tmp_path / 'parts'}"
    )
    assert "is complete" in printed
    status, printed = run(
        "predict", photos, "--classes", "bricks", "--checkpoint", tmp_path / "parts" / "last.ckpt"
    )
    assert status == 2
    assert "the training state of `lexiseg maskadapt`" in printed
    status, printed = run(
        "maskadapt", *SMALL, *given, "model.prompt_depth=1", "trainer.max_steps=4", f"output_dir={tmp_path / 'other'}",
        f"resume={tmp_path / 'parts' / 'last.ckpt'}",
    )  # fmt: skip
    assert status == 2
    assert "is of another model (model.prompt_depth: 3, now 1)" in printed


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["pairs.folder=x"], "pairs.images has no default"),
        (["pairs.images=/nowhere/photos", "pairs.folder=x"], "found none at /nowhere/photos"),
        (["pairs.images=PHOTOS", "pairs.folder=/nowhere/pairs"], "make them first: `lexiseg masks pairs`"),
        (["pairs.images=PHOTOS", "pairs.folder=PHOTOS"], "masks without words"),
        (["pairs.images=PHOTOS", "pairs.folder=x", "pairs.batch_size=1"], "pairs.batch_size: expected"),
        (["pairs.images=PHOTOS", "pairs.folder=x", "model.name=text"], "model.name"),
        (
            ["pairs.images=PHOTOS", "pairs.folder=x", "model=text"],
            "has no such model; choose from prompts, tower",
        ),
        (["pairs.images=PHOTOS", "pairs.folder=x", "templates=[no]"], "every template needs exactly one {}"),
        (
            ["pairs.images=PHOTOS", "pairs.folder=x", "data=toy", "data.val=3"],
            "data: expected a data set with val",
        ),
        (["pairs.images=0.5", "pairs.folder=x"], "pairs.images: expected"),
        (["pairs.images=PHOTOS", "pairs.folder=null"], "pairs.folder: expected"),
        (["pairs.images=PHOTOS", "pairs.folder=x", "optim.milestones=[word]"], "optim.milestones: expected"),
        (["pairs.images=PHOTOS", "pairs.folder=x", "optim.schedule=none"], "optim.schedule: expected"),
    ],
)
def test_mistakes_of_adapt(run, scenes, tmp_path, overrides, message):
    overrides = [each.replace("PHOTOS", str(scenes[0])) for each in overrides]
    status, printed = run(
        "maskadapt", *SMALL, *overrides, "trainer.max_steps=1", f"output_dir={tmp_path / 'run'}"
    )
    assert status == 2
    assert printed.startswith("lexiseg: ")
    assert message in printed
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_files_of_tokens(tmp_path):
    assert read_mask_prompts("toy") is None
    tokens = torch.randn(2, 5, 7)
    write_mask_prompts(tokens, tmp_path)
    assert torch.equal(read_mask_prompts(tmp_path), tokens)
    (tmp_path / FILE).write_bytes(b"nothing")
    with pytest.raises(Exception, match="damaged or no safetensors file"):
        read_mask_prompts(tmp_path)
