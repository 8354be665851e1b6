"""One table's rows from the command line: run, resumed, told; mistakes in one message."""

import json

import pytest

from lexiseg.cli.composing import compose_config, conf_dir
from lexiseg.cli.main import main

TABLES = sorted(path.name for path in (conf_dir() / "ablation").iterdir() if path.is_dir())
TINY = [
    "experiment=toy",
    "data.train.length=200",
    "data.val.length=1",
    "data.batch_size=2",
    "trainer.max_steps=2",
    "validation.every_steps=2",
    "validation.panels=0",
    "protocol.stride=48",
]


@pytest.mark.parametrize("table", TABLES)
def test_every_row_composes_and_numbers_its_place(table):
    numbers = []
    for path in (conf_dir() / "ablation" / table).glob("*.yaml"):
        config = compose_config("train", ["experiment=toy", f"ablation={table}/{path.stem}"])
        assert config.row.name == path.stem
        numbers.append(config.row.number)
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


def test_a_sweep_runs_each_row_and_seed_once_and_goes_on(tmp_path, capsys):
    command = ["sweep", "ablation=table10", f"output={tmp_path}", "seeds=[3]", *TINY]
    assert main([*command, "rows=[zegclip]"]) == 0
    first = tmp_path / "zegclip" / "seed3" / "result.json"
    written = first.stat().st_mtime_ns
    assert main([*command, "rows=[zegclip,zegclip_st]"]) == 0
    assert "is complete" in capsys.readouterr().out
    assert first.stat().st_mtime_ns == written
    transductive = tmp_path / "zegclip_st" / "seed3"
    whole = json.loads((transductive / "result.json").read_text())
    last = json.loads((transductive / "transductive" / "result.json").read_text())
    assert whole["val"] == last["val"]
    assert whole["seconds"] > last["seconds"]
    assert "| ZegCLIP + ST |" in (tmp_path / "table.md").read_text()
    stored = json.loads((tmp_path / "results.json").read_text())
    assert [row["name"] for row in stored] == ["zegclip", "zegclip_st"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seeds=[0]"], "which table? Give ablation= one of"),
        (["ablation=table11"], "no table 'table11'; choose from sigma"),
        (["ablation=table8", "rows=[mean]"], "table8 has no row mean; it has"),
        (["ablation=table8", "seeds=[0,0]"], "seeds: expected different whole numbers"),
        (["ablation=table8", "model.nonsense=1"], "nonsense"),
        (["ablation=table8", "hydra/launcher=slurmy"], "slurmy"),
    ],
)
def test_mistakes_stop_before_anything_runs(tmp_path, capsys, arguments, message):
    assert main(["sweep", f"output={tmp_path}", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help_lists_the_tables(capsys):
    assert main(["sweep", "--help"]) == 0
    assert "table8   concat, self_attention, sum, nga" in capsys.readouterr().out
