"""The tables of ``conf/train/ablation``: a file a table, a row an entry, whose settings are overrides as one types them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lexiseg.errors import ConfigError, did_you_mean
from lexiseg.plain_settings import require_seed
from lexiseg.recipes.conf_files import choices, own_folder, read_conf


@dataclass(frozen=True)
class AblationRow:
    """One row of a table.

    Attributes:
        name: Its entry in the table's file.
        label: What the paper calls it.
        number: Place in the table, from 1.
        published: Published seen, unseen (and harmonic) mIoU in percent, by benchmark.
        settings: Overrides of a training run.
    """

    name: str
    label: str
    number: int
    published: Mapping[str, Sequence[float]] = field(default_factory=dict)
    settings: tuple[str, ...] = ()

    def told(self) -> dict[str, Any]:
        """What a run says of the row that it is of: all but the settings, which it says anyway."""
        about = {"name": self.name, "number": self.number, "label": self.label}
        return about | ({"published": dict(self.published)} if self.published else {})


def table_names() -> list[str]:
    """The tables: a file a table."""
    return choices("train", "ablation")


def read_table(table: str) -> dict[str, AblationRow]:
    """A table's rows by name, in their order.

    Raises:
        ConfigError: No such table.
    """
    if table not in table_names():
        there = table_names()
        raise ConfigError(f"no table '{table}'; choose from {', '.join(there)}{did_you_mean(table, there)}")
    entries = read_conf(own_folder("train") / "ablation" / f"{table}.yaml")
    return {
        name: AblationRow(name, row["label"], number, row.get("published", {}), tuple(row["settings"]))
        for number, (name, row) in enumerate(entries.items(), 1)
    }


def find_row(choice: str) -> AblationRow:
    """The row that ``TABLE/ROW`` names.

    Raises:
        ConfigError: No such table or row.
    """
    table, _, name = choice.partition("/")
    rows = read_table(table)
    if name not in rows:
        raise ConfigError(
            f"ablation={choice}: {table} has the rows {', '.join(rows)}; name one, as ablation={table}/{next(iter(rows))}, "
            f"or run all of them: `lexiseg sweep ablation={table}`"
        )
    return rows[name]


def choose_rows(table: str, wanted: str | Sequence[str]) -> list[AblationRow]:
    """The rows of a table that are wanted, in its order.

    Args:
        table: Its name.
        wanted: ``all``, a row's name, or several.

    Raises:
        ConfigError: No such table or row.
    """
    rows = read_table(str(table))
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
