"""Rows of the tables, chosen by name from Python."""

import pytest

from lexiseg.errors import ConfigError
from lexiseg.recipes.ablations import (
    MEASURED,
    SWEPT,
    choose_rows,
    choose_seeds,
    command_of,
    find_row,
    read_table,
    require_processes,
    table_names,
    table_source,
)


def test_rows_stand_in_the_table_s_order_whatever_the_order_asked():
    chosen = choose_rows("table8", ["sum", "concat"])
    assert [(row.name, row.number) for row in chosen] == [("concat", 1), ("sum", 3)]
    assert choose_rows("table8", "all") == list(read_table("table8").values())
    assert choose_rows("table8", "sum") == [find_row("table8/sum")]


def test_a_row_tells_all_but_its_settings():
    told = find_row("table8/sum").told()
    assert told == {
        "name": "sum",
        "number": 3,
        "label": "sum",
        "published": {"coco_stuff": [39.3, 42.0, 40.6]},
    }


@pytest.mark.parametrize("table", table_names(*SWEPT, MEASURED))
def test_every_table_can_be_read(table):
    rows = read_table(table, *SWEPT, MEASURED).values()
    assert all(bool(row.method) != bool(row.settings) and row.label for row in rows)
    assert len({row.label for row in rows}) == len(rows)
    printed = any(row.published for row in rows)
    assert (table_source(table, *SWEPT, MEASURED) is not None) == printed, "numbers have a source"


def test_a_table_belongs_to_one_command():
    assert [command_of(table) for table in ("table8", "pixelclip_prompts")] == ["train", "pixelclip"]
    assert command_of("tg_clip_table4", MEASURED) == MEASURED
    names = table_names(*SWEPT, MEASURED)
    assert len(set(names)) == len(names)
    assert read_table("tg_clip_table4", MEASURED)["one"].published["voc21"] == [64.4]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: read_table("table3"), "no table 'table3'; choose from sigma"),
        (lambda: read_table("pamr"), "pamr is one of `lexiseg benchmark ablation=pamr`; choose from sigma"),
        (lambda: read_table("table8", MEASURED), "one of `lexiseg sweep ablation=table8`; choose from pamr"),
        (lambda: find_row("table8/sum", "pixelclip"), "choose from pixelclip_clusters"),
        (lambda: find_row("table8"), "name one, as ablation=table8/concat"),
        (lambda: choose_rows("table8", ["mean"]), "table8 has no row mean; it has concat"),
        (lambda: choose_rows("table8", []), "table8 has no row in an empty list"),
        (lambda: choose_seeds([0, 0]), r"different whole numbers such as \[0,1,2\], got \[0, 0\]"),
        (lambda: choose_seeds([True]), "different whole numbers"),
        (lambda: choose_seeds([]), "different whole numbers"),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_one_seed_alone():
    assert choose_seeds(3) == [3]


@pytest.mark.parametrize("seeds", [[-1], [2**32], 10**21, 1.5, None, "x", []])
def test_seeds_that_no_generator_takes(seeds):
    with pytest.raises(ConfigError, match="seed"):
        choose_seeds(seeds)


@pytest.mark.parametrize("processes", [0, -7, 1.5, True, "two", None, 10**21])
def test_no_number_of_processes(processes):
    with pytest.raises(ConfigError, match="processes: expected a whole number from 1 to 4096, or -1"):
        require_processes(processes)


def test_numbers_of_processes():
    require_processes(1)
    require_processes(-1)


@pytest.mark.parametrize("rows", [3, None, {"sum": 1}])
def test_rows_that_are_none(rows):
    with pytest.raises(ConfigError, match="rows: expected all, or names of rows"):
        choose_rows("table8", rows)
