"""The tables of ``conf/COMMAND/ablation``: a file a table, a row an entry: overrides as one types them, or a method.

``lexiseg sweep`` runs those of training and of PixelCLIP, a run a row and seed; ``lexiseg benchmark`` measures those of
training-free methods, a method a row. A table's name says which.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lexiseg.errors import ConfigError, did_you_mean
from lexiseg.plain_settings import require_seed
from lexiseg.recipes.conf_files import choices, own_folder, read_conf

SWEPT = ("train", "pixelclip")
"""Commands whose runs ``lexiseg sweep`` goes through."""

MEASURED = "benchmark"
"""The command whose tables hold methods."""

_KEY = "ablation="
_SOURCE = "source"
"""Entry of a table's file that is no row: where its published numbers are printed."""


@dataclass(frozen=True)
class AblationRow:
    """One row of a table.

    Attributes:
        name: Its entry in the table's file.
        label: What the paper calls it.
        number: Place in the table, from 1.
        published: Published numbers in percent, by benchmark: seen, unseen (and harmonic) mIoU of trained models, or one mIoU.
        settings: Overrides of a training run.
        method: An entry of ``methods`` of ``lexiseg benchmark``, where the table is one of those.
    """

    name: str
    label: str
    number: int
    published: Mapping[str, Sequence[float]] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    method: Mapping[str, Any] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """What a run says of the row that it is of: all but the settings, which it says anyway."""
        about = {"name": self.name, "number": self.number, "label": self.label}
        return about | ({"published": dict(self.published)} if self.published else {})


def table_names(*commands: str) -> list[str]:
    """The tables: a file a table.

    Args:
        commands: Of these commands; none: of those that are swept.
    """
    return [table for command in commands or SWEPT for table in choices(command, "ablation")]


def command_of(table: str, *commands: str) -> str:
    """Whose runs, or methods, a table's rows are.

    Args:
        table: Its name.
        commands: That it may be of; none: those that are swept.

    Raises:
        ConfigError: No such table, or one of another command.
    """
    wanted = commands or SWEPT
    found = [command for command in (*SWEPT, MEASURED) if table in table_names(command)]
    if not found:
        there = table_names(*wanted)
        raise ConfigError(f"no table '{table}'; choose from {', '.join(there)}{did_you_mean(table, there)}")
    if found[0] not in wanted:
        door = "benchmark" if found[0] == MEASURED else "sweep"
        raise ConfigError(
            f"the table {table} is one of `lexiseg {door} ablation={table}`; choose from {', '.join(table_names(*wanted))}"
        )
    return found[0]


def read_table(table: str, *commands: str) -> dict[str, AblationRow]:
    """A table's rows by name, in their order.

    Args:
        table: Its name.
        commands: As of :func:`command_of`.

    Raises:
        ConfigError: No such table.
    """
    entries = {name: row for name, row in _read(table, *commands).items() if name != _SOURCE}
    return {
        name: AblationRow(
            name,
            row["label"],
            number,
            {key: _numbers(value) for key, value in row.get("published", {}).items()},
            tuple(row.get("settings", ())),
            row.get("method", {}),
        )
        for number, (name, row) in enumerate(entries.items(), 1)
    }


def table_source(table: str, *commands: str) -> str | None:
    """Where a table's published numbers are printed; None where it has none.

    Raises:
        ConfigError: No such table.
    """
    source: str | None = _read(table, *commands).get(_SOURCE)
    return source


def find_row(choice: str, *commands: str) -> AblationRow:
    """The row that ``TABLE/ROW`` names.

    Args:
        choice: As one types it.
        commands: As of :func:`command_of`.

    Raises:
        ConfigError: No such table or row.
    """
    table, _, name = choice.partition("/")
    rows = read_table(table, *commands)
    if name not in rows:
        raise ConfigError(
            f"ablation={choice}: {table} has the rows {', '.join(rows)}; name one, as ablation={table}/{next(iter(rows))}, "
            f"or run all of them: `lexiseg sweep ablation={table}`"
        )
    return rows[name]


def choose_rows(table: str, wanted: str | Sequence[str], *commands: str) -> list[AblationRow]:
    """The rows of a table that are wanted, in its order.

    Args:
        table: Its name.
        wanted: ``all``, a row's name, or several.
        commands: As of :func:`command_of`.

    Raises:
        ConfigError: No such table or row.
    """
    rows = read_table(str(table), *commands)
    if not isinstance(wanted, str | list | tuple):
        raise ConfigError(f"rows: expected all, or names of rows, got {wanted!r}")
    names = list(rows) if wanted == "all" else [wanted] if isinstance(wanted, str) else list(wanted)
    unknown = [str(name) for name in names if name not in rows]
    if unknown or not names:
        raise ConfigError(
            f"rows: {table} has no row {', '.join(unknown) or 'in an empty list'}; it has {', '.join(rows)}"
        )
    return [row for name, row in rows.items() if name in names]


def choose_seeds(given: int | Sequence[int]) -> list[int]:
    """The seeds of a sweep.

    Raises:
        ConfigError: None, one twice, or no whole numbers.
    """
    seeds: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
    if not seeds or any(type(seed) is not int for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds: expected different whole numbers such as [0,1,2], got {seeds}")
    for seed in seeds:
        require_seed(seed)
    return seeds


def take_ablation(overrides: Sequence[str]) -> tuple[str | None, list[str]]:
    """What ``ablation=`` names among the overrides, or None, and the others: Hydra would take it for a group."""
    chosen = [override.removeprefix(_KEY) for override in overrides if override.startswith(_KEY)]
    rest = [override for override in overrides if not override.startswith(_KEY)]
    return (chosen[-1] if chosen and chosen[-1] not in ("", "null") else None), rest


def _read(table: str, *commands: str) -> dict[str, Any]:
    return read_conf(own_folder(command_of(table, *commands)) / "ablation" / f"{table}.yaml")


def _numbers(published: float | Sequence[float]) -> Sequence[float]:
    return [published] if isinstance(published, int | float) else published


_MOST_PROCESSES = 4096


def require_processes(processes: object) -> None:
    """Refuse a number of runs at a time that is none.

    Raises:
        ConfigError: Not a whole number from 1 to 4096, nor -1 for one per processor.
    """
    if type(processes) is not int or not (1 <= processes <= _MOST_PROCESSES or processes == -1):
        raise ConfigError(
            f"processes: expected a whole number from 1 to {_MOST_PROCESSES}, or -1 for one per processor, got {processes!r}"
        )
