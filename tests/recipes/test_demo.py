"""The demonstration's parts on two small scenes, and the whole command for one step."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lexiseg.cli.main import main
from lexiseg.clip.loading import load_clip
from lexiseg.data.splits import make_split
from lexiseg.data.toy.world import TOY_UNSEEN, ToyWorld
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.recipes.demo import (
    READINGS,
    Judged,
    Row,
    Stage,
    all_rows,
    best_reading,
    judge_readings,
    keep,
    spread,
)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))


def test_every_reading_is_judged_whole_and_in_windows():
    world = ToyWorld(partition="val", length=2, image_size=(48, 56))
    split = make_split(world.classes, name="toy", unseen=list(TOY_UNSEEN))
    protocol = InferenceProtocol(name="p", short_side=48, window=48, stride=24, seen_penalty=0.1)
    readings = judge_readings(Stage(world, split, load_clip("toy"), "single", protocol))
    titles = [judged.row.title for judged in readings]
    assert titles == [f"{title}, {view}" for title in READINGS.values() for view in ("whole", "windows")]
    used = [judged.segmenter.protocol for judged in readings]
    assert {each.seen_penalty for each in used} == {0.0}
    assert [each.window for each in used] == [None, 48] * len(READINGS)


def judged(title, seen, unseen, harmonic):
    return Judged(Row(title, seen, unseen, harmonic), segmenter=None)


def test_the_table_and_its_spread():
    best = judged("value-only, whole", 0.2, 0.1, 0.13)
    one, two = judged("seed 0", 0.5, 0.3, 0.375), judged("seed 1", 0.7, 0.1, 0.175)
    rows = all_rows(best, [one, two])
    assert [row.title for row in rows] == [
        "zero-shot CLIP (value-only, whole)",
        "seed 0",
        "seed 1",
        "Cascade-CLIP, mean",
    ]
    assert rows[0] == replace(best.row, title=rows[0].title)
    assert np.allclose([rows[-1].seen, rows[-1].unseen, rows[-1].harmonic], [0.6, 0.2, 0.275])
    assert len(all_rows(best, [one])) == 2
    assert np.isclose(spread([one, two])["seen"], 0.2 / np.sqrt(2))


def test_the_best_reading_is_one_with_a_score():
    none = judged("no unseen class in these scenes", 0.9, np.nan, np.nan)
    good, better = judged("good", 0.3, 0.2, 0.24), judged("better", 0.3, 0.3, 0.3)
    assert best_reading([none, good, better]) is best_reading([better, none, good]) is better
    assert best_reading([none]) is none


def test_what_is_kept_is_the_best_reading_and_every_training(tmp_path):
    world = ToyWorld(partition="val", length=2, image_size=(48, 56))
    split = make_split(world.classes, name="toy", unseen=list(TOY_UNSEEN))
    protocol = InferenceProtocol(name="p", short_side=48, window=48, stride=24)
    stage = Stage(world, split, load_clip("toy"), "single", protocol)
    readings = judge_readings(stage)[:2]
    trained = [replace(readings[1], row=Row("trained", 0.5, 0.3, 0.375))]
    rows = keep(tmp_path, stage, readings, trained)
    assert rows == all_rows(best_reading(readings), trained)
    stored = json.loads((tmp_path / "demo.json").read_text())
    assert (len(stored["readings"]), stored["rows"][-1]["title"]) == (2, "trained")
    assert len(list(tmp_path.glob("unseen_*.png"))) == 2


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "demo"), "--steps", "1", "--scenes", "1"]) == 0
    told = capsys.readouterr().out
    assert "Training Cascade-CLIP, seed 0 (1 steps)" in told
    stored = json.loads((tmp_path / "demo" / "demo.json").read_text())
    assert len(stored["readings"]) == 2 * len(READINGS)
    assert [row["title"] for row in stored["rows"]][1:] == ["Cascade-CLIP, seed 0"]
    assert (tmp_path / "demo" / "unseen_0.png").is_file()


def test_no_training_at_all(capsys):
    assert main(["demo", "--seeds", "0"]) == 2
    assert "--seeds 0" in capsys.readouterr().err
