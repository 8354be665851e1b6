"""Results of a sweep: read back, averaged by hand, shown in the table's order."""

import json

import pytest

from lexiseg import interruption
from lexiseg.errors import CheckpointError
from lexiseg.evaluation.benchmark_table import Cell, write_cells
from lexiseg.evaluation.efficiency import Efficiency
from lexiseg.recipes.ablations import AblationRow
from lexiseg.recipes.sweep_table import (
    keeping_runs,
    mean_and_spread,
    read_results,
    run_folder,
    to_markdown,
)
from lexiseg.recipes.tuned_scores import SCORES_FOLDER

ROWS = [
    AblationRow(name="nga", label="NGA†", number=2, published={"coco_stuff": (41.1, 43.4, 42.2)}),
    AblationRow(name="sum", label="sum", number=1),
]


def _finish(root, row, seed, seen, unseen, seconds=7.0, **more):
    folder = run_folder(root, row, seed)
    folder.mkdir(parents=True)
    scores = {"seen": seen, "unseen": unseen, "harmonic": 0.5, "pixel_accuracy": 0.9}
    (folder / "result.json").write_text(json.dumps({"step": 3, "val": scores, "seconds": seconds, **more}))


def _tune(root, row, seed, **scores):
    """A tuned CLIP, and what a benchmark has measured of it so far."""
    folder = run_folder(root, row, seed)
    folder.mkdir(parents=True)
    told = {"step": 2, "loss": 0.5, "seconds": 4, "parameters": 70_000}
    (folder / "result.json").write_text(json.dumps(told))
    cells = [Cell("pixelclip", name, "key", miou, Efficiency(1, 2, 3.0), {}) for name, miou in scores.items()]
    if cells:
        write_cells(cells, folder / SCORES_FOLDER / "results.json")


def test_mean_and_sample_deviation_by_hand():
    assert mean_and_spread([0.1, 0.2, 0.6]) == "30.0 ± 26.5"
    assert mean_and_spread([0.25]) == "25.0"
    assert mean_and_spread([]) == "–"


def test_a_table_of_what_has_run(tmp_path):
    _finish(tmp_path, "nga", 0, 0.4, 0.2, seconds=10, parameters=1_234_567)
    _finish(tmp_path, "nga", 2, 0.6, 0.2, seconds=20)
    results = read_results(tmp_path, ROWS, [0, 1, 2], [])
    assert [run.seed for run in results["nga"]] == [0, 2]
    table = to_markdown(ROWS, results, "a paper, table 8").splitlines()
    assert (
        table[0]
        == "|  | seen | unseen | harmonic | seeds | M trained | s/run | published, coco_stuff (seen / unseen / harmonic) |"
    )
    assert table[2] == "| sum | – | – | – | 0 | – | – | – |"
    assert table[3] == (
        "| NGA† | 50.0 ± 14.1 | 20.0 ± 0.0 | 50.0 ± 0.0 | 2 | 1.23 | 15 | 41.1 / 43.4 / 42.2 |"
    )
    assert table[4:] == ["", "Published: a paper, table 8."]


def test_two_published_numbers_are_seen_and_unseen():
    rows = [AblationRow(name="a", label="A", number=1, published={"voc": (91.9, 77.8)})]
    assert to_markdown(rows, {}).splitlines()[0].endswith("| published, voc (seen / unseen) |")


def test_tuned_clips_have_a_column_per_benchmark_once_they_are_measured(tmp_path):
    rows = [AblationRow("wide", "128 clusters", 1, {"voc20": [85.9]}), AblationRow("bare", "32 clusters", 2)]
    _tune(tmp_path, "wide", 3, voc20=0.375)
    _tune(tmp_path, "bare", 3)
    table = to_markdown(rows, read_results(tmp_path, rows, [3], ["voc20"])).splitlines()
    assert table[0] == "|  | voc20 | seeds | M trained | s/run | published, voc20 |"
    assert table[2] == "| 128 clusters | 37.5 | 1 | 0.07 | 4 | 85.9 |"
    assert table[3] == "| 32 clusters | – | 0 | – | – | – |", "tuned, and not measured yet"


def test_a_run_counts_once_its_clip_is_measured_on_all_benchmarks_and_on_those_alone(tmp_path):
    _tune(tmp_path, "sum", 0, ade20k=0.2, voc20=0.4, cityscapes=0.9)
    _tune(tmp_path, "sum", 1, voc20=0.6)
    _tune(tmp_path, "sum", 2, voc20=0.8, ade20k=0.4)
    results = read_results(tmp_path, ROWS, [0, 1, 2], ["voc20", "ade20k"])
    assert [run.seed for run in results["sum"]] == [0, 2]
    table = to_markdown(ROWS, results).splitlines()
    assert table[0].startswith("|  | voc20 | ade20k | seeds |")
    assert table[2].startswith("| sum | 60.0 ± 28.3 | 30.0 ± 14.1 | 2 |")
    with keeping_runs(tmp_path, ROWS, [0, 1, 2], ["voc20", "ade20k"]):
        assert interruption._kept[-1]().told == f"2 of 6 runs in {tmp_path} are complete"


def test_a_broken_result_is_named(tmp_path):
    _finish(tmp_path, "sum", 0, 0.4, 0.2)
    (run_folder(tmp_path, "sum", 0) / "result.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"sum/seed0/result.json is no result"):
        read_results(tmp_path, ROWS, [0], [])


def test_a_score_that_no_image_could_give_is_no_part_of_the_mean(tmp_path):
    _finish(tmp_path, "sum", 0, 0.4, None)
    _finish(tmp_path, "sum", 1, 0.6, None)
    _finish(tmp_path, "nga", 0, 0.4, None)
    _finish(tmp_path, "nga", 1, 0.5, 0.2)
    table = to_markdown(ROWS, read_results(tmp_path, ROWS, [0, 1], [])).splitlines()
    assert table[2] == "| sum | 50.0 ± 14.1 | – | 50.0 ± 0.0 | 2 | – | 7 | – |"
    assert table[3].startswith("| NGA† | 45.0 ± 7.1 | 20.0 | 50.0 ± 0.0 | 2 |")
