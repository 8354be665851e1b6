"""Results of a sweep: read back, averaged by hand, shown in the table's order."""

import json

import pytest

from lexiseg.errors import CheckpointError
from lexiseg.evaluation.benchmark_table import Cell, write_cells
from lexiseg.evaluation.efficiency import Efficiency
from lexiseg.recipes.ablations import AblationRow
from lexiseg.recipes.sweep_table import (
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


def test_mean_and_sample_deviation_by_hand():
    assert mean_and_spread([0.1, 0.2, 0.6]) == "30.0 ± 26.5"
    assert mean_and_spread([0.25]) == "25.0"
    assert mean_and_spread([]) == "–"


def test_a_table_of_what_has_run(tmp_path):
    _finish(tmp_path, "nga", 0, 0.4, 0.2, seconds=10, parameters=1_234_567)
    _finish(tmp_path, "nga", 2, 0.6, 0.2, seconds=20)
    results = read_results(tmp_path, ROWS, [0, 1, 2])
    assert [run.seed for run in results["nga"]] == [0, 2]
    table = to_markdown(ROWS, results, "a paper, table 8").splitlines()
    assert table[0] == "|  | seen | unseen | harmonic | seeds | M trained | s/run | published, coco_stuff |"
    assert table[2] == "| sum | – | – | – | 0 | – | – | – |"
    assert table[3] == (
        "| NGA† | 50.0 ± 14.1 | 20.0 ± 0.0 | 50.0 ± 0.0 | 2 | 1.23 | 15 | 41.1 / 43.4 / 42.2 |"
    )
    assert table[4:] == ["", "Published: a paper, table 8."]


def test_tuned_clips_have_a_column_per_benchmark_once_they_are_measured(tmp_path):
    rows = [AblationRow("wide", "128 clusters", 1, {"voc20": [85.9]}), AblationRow("bare", "32 clusters", 2)]
    for row in rows:
        folder = run_folder(tmp_path, row.name, 3)
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(
            json.dumps({"step": 2, "loss": 0.5, "seconds": 4, "parameters": 70_000})
        )
    cell = Cell("pixelclip", "voc20", "key", 0.375, Efficiency(1, 2, 3.0), {})
    write_cells([cell], run_folder(tmp_path, "wide", 3) / SCORES_FOLDER / "results.json")
    table = to_markdown(rows, read_results(tmp_path, rows, [3])).splitlines()
    assert table[0] == "|  | voc20 | seeds | M trained | s/run | published, voc20 |"
    assert table[2] == "| 128 clusters | 37.5 | 1 | 0.07 | 4 | 85.9 |"
    assert table[3] == "| 32 clusters | – | 0 | – | – | – |", "tuned, and not measured yet"


def test_a_broken_result_is_named(tmp_path):
    _finish(tmp_path, "sum", 0, 0.4, 0.2)
    (run_folder(tmp_path, "sum", 0) / "result.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"sum/seed0/result.json is no result"):
        read_results(tmp_path, ROWS, [0])


def test_a_score_that_no_image_could_give_is_no_part_of_the_mean(tmp_path):
    _finish(tmp_path, "sum", 0, 0.4, None)
    _finish(tmp_path, "sum", 1, 0.6, None)
    _finish(tmp_path, "nga", 0, 0.4, None)
    _finish(tmp_path, "nga", 1, 0.5, 0.2)
    table = to_markdown(ROWS, read_results(tmp_path, ROWS, [0, 1])).splitlines()
    assert table[2] == "| sum | 50.0 ± 14.1 | – | 50.0 ± 0.0 | 2 | – | 7 | – |"
    assert table[3].startswith("| NGA† | 45.0 ± 7.1 | 20.0 | 50.0 ± 0.0 | 2 |")
