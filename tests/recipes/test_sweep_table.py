"""Results of a sweep: read back, averaged by hand, shown in the table's order."""

import json

import pytest

from lexiseg.errors import CheckpointError
from lexiseg.recipes.ablations import AblationRow
from lexiseg.recipes.sweep_table import mean_and_spread, read_results, run_folder, to_markdown

ROWS = [
    AblationRow(name="nga", label="NGA†", number=2, published={"coco_stuff": (41.1, 43.4, 42.2)}),
    AblationRow(name="sum", label="sum", number=1),
]


def _finish(root, row, seed, seen, unseen, seconds=7.0):
    folder = run_folder(root, row, seed)
    folder.mkdir(parents=True)
    scores = {"seen": seen, "unseen": unseen, "harmonic": 0.5, "pixel_accuracy": 0.9}
    (folder / "result.json").write_text(json.dumps({"step": 3, "val": scores, "seconds": seconds}))


def test_mean_and_sample_deviation_by_hand():
    assert mean_and_spread([0.1, 0.2, 0.6]) == "30.0 ± 26.5"
    assert mean_and_spread([0.25]) == "25.0"
    assert mean_and_spread([]) == "–"


def test_a_table_of_what_has_run(tmp_path):
    _finish(tmp_path, "nga", 0, 0.4, 0.2, seconds=10)
    _finish(tmp_path, "nga", 2, 0.6, 0.2, seconds=20)
    results = read_results(tmp_path, ROWS, [0, 1, 2])
    assert [run.seed for run in results["nga"]] == [0, 2]
    table = to_markdown(ROWS, results).splitlines()
    assert table[0] == "|  | seen | unseen | harmonic | seeds | s/run | published, coco_stuff |"
    assert table[2] == "| sum | – | – | – | 0 | – | – |"
    assert table[3] == ("| NGA† | 50.0 ± 14.1 | 20.0 ± 0.0 | 50.0 ± 0.0 | 2 | 15 | 41.1 / 43.4 / 42.2 |")


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
    assert table[2] == "| sum | 50.0 ± 14.1 | – | 50.0 ± 0.0 | 2 | 7 | – |"
    assert table[3].startswith("| NGA† | 45.0 ± 7.1 | 20.0 | 50.0 ± 0.0 | 2 |")
