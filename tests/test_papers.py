"""Every command of docs/papers.md becomes the objects of its run, as far as no data are needed; nothing is left out there."""

import re
import sys
from pathlib import Path

import pytest

from lexiseg.cli.ablations import compose_row
from lexiseg.cli.benchmark import _sort_overrides, load_benchmark
from lexiseg.cli.composing import compose_config, plain
from lexiseg.cli.main import FLAG_COMMANDS, build_parser
from lexiseg.cli.pixelclip import compose_tuning
from lexiseg.errors import DataError
from lexiseg.recipes import records
from lexiseg.recipes.ablations import MEASURED, SWEPT, command_of, read_table, table_names, take_ablation
from lexiseg.recipes.analyze import read_point
from lexiseg.recipes.compare import choose_methods

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
from try_papers import PAGE, read_rows  # noqa: E402

TEXT = PAGE.read_text(encoding="utf-8")
ROWS = read_rows(TEXT)
COMMANDS = sorted({command for row in ROWS for command in (*row.published, *row.toy)})
NUMBERED = {
    "Cascade-CLIP": (10, 6),
    "TG-CLIP": (6, 3),
    "SCLIP": (4, 6),
}
"""Tables and figures of the papers that number them."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(records, "_require_photographs", lambda _: None)  # a run is built without any


def numbers(kind, section):
    """Of the section's rows that name tables, or figures."""
    names = [row.name for row in read_rows(section) if re.match(rf"{kind}s? ", row.name)]
    return sorted(int(number) for name in names for number in re.findall(r"\d+", name))


@pytest.mark.parametrize("paper", NUMBERED)
def test_every_numbered_table_and_figure_has_its_row(paper):
    variables, _, rest = TEXT.partition(f"## {paper} (")
    section = rest.partition("\n## ")[0]
    tables, figures = NUMBERED[paper]
    preamble = variables.partition("## ")[0]
    assert numbers("table", preamble + section) == [*range(1, tables + 1)]
    assert numbers("figure", preamble + section) == [*range(1, figures + 1)]


def test_every_preset_of_a_table_is_there():
    told = {word.removeprefix("ablation=") for command in COMMANDS for word in command}
    assert set(table_names(*SWEPT, MEASURED)) - told == {"systems"}, "no paper has that one"


def test_what_was_tried_says_how_long_it_took():
    assert all(row.seconds.isdecimal() == bool(row.toy) for row in ROWS)


def absent_or(opening):
    """What it opens; None where published data are not there."""
    try:
        return opening()
    except DataError as error:
        if "PATH" not in str(error):
            raise
        return None


def swept(overrides):
    own = [each for each in overrides if each.partition("=")[0] in ("ablation", "rows", "seeds", "output")]
    config = compose_config("sweep", own)
    command, rest = command_of(config.ablation), [each for each in overrides if each not in own]
    scoring = [each.removeprefix("score.") for each in rest if each.startswith("score.")]
    runs = [each for each in rest if not each.startswith("score.")]
    if command == "pixelclip":
        measured(["methods=[pixelclip]", *scoring])
    for name in read_table(config.ablation):
        chosen = [*runs, f"ablation={config.ablation}/{name}", "seed=0"]
        if command == "pixelclip":
            assert records.tuning_run(plain(compose_tuning(chosen))).model
        else:
            composed = plain(compose_row(command, chosen))
            assert absent_or(lambda composed=composed: records.training_run(composed)) or "PATH" in str(runs)


def measured(overrides):
    table, rest = take_ablation(overrides)
    own, of_benchmarks = _sort_overrides(rest)
    config = compose_config("benchmark", own)
    config.ablation = table
    records.require_benchmark(plain(config))
    for name in plain(config.benchmarks):
        opened = absent_or(lambda name=name: load_benchmark(name, config, of_benchmarks.get(name, ())))
        assert opened or "PATH" in config.data_root


def tuned(overrides):
    assert records.tuning_run(plain(compose_tuning(overrides))).trainer.max_steps


def flagged(arguments):
    args = build_parser(arguments[0]).parse_args(arguments)
    if arguments[0] == "compare":
        choose_methods(args.methods, proxy=args.proxy, masks=args.masks, sam=args.sam)
    points = getattr(args, "at", None) or ()
    assert all(map(read_point, [points] if isinstance(points, str) else points))


@pytest.mark.one_in(11)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_becomes_what_it_runs(command):
    name, *rest = command
    if name in FLAG_COMMANDS:
        flagged([*command])
    else:
        {"sweep": swept, "benchmark": measured, "pixelclip": tuned}[name](rest)
