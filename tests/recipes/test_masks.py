"""Masks of a folder from Python: who is asked, how many processes, what became of it."""

import numpy as np
import pytest
from PIL import Image

from lexiseg.errors import ConfigError, DataError
from lexiseg.masks.build import Outcome
from lexiseg.recipes.masks import MaskBuild, MaskSummary, count_workers, draw_masks, mask_tasks, start_masks
from mask_cases import photograph


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "deep/b.png")):
        Image.fromarray(photograph(37, 53, seed)).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def test_build_summary_and_picture(photos, tmp_path):
    build = MaskBuild([photos, photos / "a.png"], tmp_path / "masks", settings={"regions": (3, 5)}, workers=1)
    count, outcomes = start_masks(build)
    summary = MaskSummary(list(outcomes))
    assert count == len(summary.outcomes) == len(summary.ready) == 2, "a photograph named twice counts once"
    assert summary.of("failed") == summary.bare == []
    task = mask_tasks([photos], tmp_path / "masks")[0]
    picture = draw_masks(task, photograph(37, 53, 0))
    assert np.asarray(picture).std() > 10


def test_what_is_summed_up(tmp_path):
    outcomes = [
        Outcome(tmp_path / "a", "made", masks=7, dropped=2),
        Outcome(tmp_path / "b", "kept", masks=0, dropped=3),
        Outcome(tmp_path / "c", "failed", reason="torn"),
    ]
    summary = MaskSummary(outcomes)
    assert summary.ready == outcomes[:2]
    assert summary.bare == outcomes[1:2]
    assert summary.dropped == 5
    assert summary.facts() == [
        "3 photographs: 1 made, 1 already there, 1 skipped",
        "masks each: mean 3.5, least 0, most 7",
        "5 empty masks left out",
    ]
    assert summary.worries() == {"without any mask (1)": str(tmp_path / "b")}


def test_photographs_left_as_they_are_are_named_until_they_are_counted(tmp_path):
    outcomes = [Outcome(tmp_path / str(index), "differs", reason="made by dino") for index in range(7)]
    ((kind, which),) = MaskSummary(outcomes).worries().items()
    assert kind == "left as they are (7)"
    assert which.endswith(f"{tmp_path / '4'}, and 2 more: made by dino; --overwrite makes them anew")
    assert MaskSummary(outcomes).facts() == ["7 photographs: 0 made, 0 already there, 0 skipped"]


def test_processes(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 97)
    assert count_workers("superpixels", None) == 16
    assert count_workers("superpixels", 23) == 23
    assert count_workers("sam", None) == count_workers("dino", 1) == 1
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        count_workers("superpixels", 0)
    with pytest.raises(ConfigError, match="one process"):
        count_workers("sam", 2)


def test_mistakes(photos, tmp_path):
    with pytest.raises(DataError, match="no file or folder"):
        start_masks(MaskBuild([tmp_path / "absent"]))
    with pytest.raises(ConfigError, match="expected a folder"):
        start_masks(MaskBuild([photos], photos / "a.png"))
    with pytest.raises(ConfigError, match="no mask provider 'superpixel'"):
        start_masks(MaskBuild([photos], provider="superpixel", workers=1))
