"""One table's rows from the command line: run, resumed, told; mistakes in one message."""

import json

import pytest
import yaml
from omegaconf import OmegaConf

from lexiseg.cli.ablations import compose_training
from lexiseg.cli.main import main
from lexiseg.cli.pixelclip import compose_tuning
from lexiseg.recipes.ablations import read_table, table_names
from lexiseg.recipes.conf_files import groups
from support import slow_but

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


@pytest.mark.one_in(3)
@pytest.mark.parametrize("table", slow_but(table_names("train"), ["table8"]))
def test_every_row_composes_and_numbers_its_place(table):
    for number, (name, row) in enumerate(read_table(table).items(), 1):
        config = compose_training(["experiment=toy", f"ablation={table}/{name}"])
        assert (config.row.name, config.row.number, config.row.label) == (name, number, row.label)
        for setting in row.settings:
            key, _, value = setting.partition("=")
            chosen = OmegaConf.select(config, key)
            assert chosen == yaml.safe_load(value) or key in groups("train"), setting


def test_what_is_typed_wins_over_the_row_and_the_row_over_the_experiment():
    row = compose_training(["experiment=toy", "ablation=table10/spt_seg"])
    assert (row.model.name, row.loss.ssim, row.loss.dice) == ("spt_seg", 1.0, 10.0)
    typed = compose_training(
        ["experiment=toy", "model=zegclip", "ablation=table8/sum", "model.aggregation=concat"]
    )
    assert (typed.model.name, typed.model.aggregation, typed.model.aggregation_trained) == (
        "zegclip",
        "concat",
        False,
    )


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
    assert whole["parameters"] == last["parameters"] == json.loads(first.read_text())["parameters"] > 1000
    assert "| ZegCLIP + ST |" in (tmp_path / "table.md").read_text()
    stored = json.loads((tmp_path / "results.json").read_text())
    assert [row["name"] for row in stored] == ["zegclip", "zegclip_st"]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("table", table_names("pixelclip"))
def test_every_row_of_pixelclip_composes(table):
    for number, (name, row) in enumerate(read_table(table).items(), 1):
        config = compose_tuning(["experiment=pixelclip/toy", f"ablation={table}/{name}"])
        assert (config.row.name, config.row.number) == (name, number)
        for key, value in (setting.split("=") for setting in row.settings):
            assert OmegaConf.select(config, key) == yaml.safe_load(value)


@pytest.mark.slow
def test_a_sweep_of_pixelclip_tunes_and_measures(tmp_path):
    tiny = [
        "experiment=pixelclip/toy", "mask_data.train.dataset.length=8", "mask_data.batch_size=2", "trainer.max_steps=1",
        "pictures.images=1", "score.toy.data.length=1", "score.toy.data.image_size=[48,56]",
    ]  # fmt: skip
    command = ["sweep", "ablation=pixelclip_clusters", f"output={tmp_path}", "seeds=[1]", *tiny]
    assert main([*command, "rows=[clusters_32]"]) == 0
    table = (tmp_path / "table.md").read_text()
    assert table.startswith("|  | toy | seeds | M trained |")
    assert "\n| 32 clusters | " in table
    stored = json.loads((tmp_path / "clusters_32" / "seed1" / "scores" / "results.json").read_text())
    assert stored[0]["method"] == "pixelclip"
    assert stored[0]["report"]["clip"]["source"].startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["ablation=table8", "experiment=toy", "score.limit=3"],
            "score.limit=3: a trained model is judged on",
        ),
        (
            ["ablation=pixelclip_clusters", "experiment=pixelclip/toy", "score.benchmarks=[voc22]"],
            "no benchmark 'voc22'",
        ),
        (["ablation=pamr"], "`lexiseg benchmark ablation=pamr`"),
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


def test_scores_are_read_before_the_processes_of_a_tuning_know_each_other(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")  # as in a process that Lightning starts: no RANK
    monkeypatch.delenv("RANK", raising=False)
    command = ["sweep", "ablation=pixelclip_clusters", f"output={tmp_path}", "experiment=pixelclip/toy"]
    assert main([*command, "score.limit=0"]) == 2
    assert "limit: expected" in capsys.readouterr().err
    assert main([*command, "score.device=gpu"]) == 2
    assert "device 'gpu'" in capsys.readouterr().err


def test_a_failed_run_is_told_in_its_own_sentence_alone(tmp_path, capsys):
    mistake = "model.stages=[[99]]"  # only the tower knows that it has no such block
    command = ["sweep", "ablation=table8", f"output={tmp_path}", "rows=[sum]", "seeds=[0]", *TINY, mistake]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "Error executing job" not in told
    assert told.startswith("lexiseg: ")
    assert "99" in told


def test_help_lists_the_tables(capsys):
    assert main(["sweep", "--help"]) == 0
    told = capsys.readouterr().out
    assert "\n  table8 " in told
    assert " concat, self_attention, sum, nga" in told
    assert "pixelclip_clusters " in told
