"""The tables of ``conf/train/ablation``: a file a table, a row an entry, whose settings are overrides as one types them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lexiseg.cli.composing import compose_config
from lexiseg.cli.conf_files import read_table
from lexiseg.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

_KEY = "ablation="


def compose_training(overrides: Sequence[str]) -> "DictConfig":
    """The configuration of one training run; ``ablation=TABLE/ROW`` among the overrides stands for that row's settings.

    Whatever else is typed wins over the row, and the row over an experiment. The configuration says which row it was.

    Raises:
        ConfigError: No such row, key or choice, or a value that does not parse; says which.
    """
    from omegaconf import open_dict

    rest = [override for override in overrides if not override.startswith(_KEY)]
    chosen = [override.removeprefix(_KEY) for override in overrides if override.startswith(_KEY)]
    if not chosen or chosen[-1] == "null":
        return compose_config("train", rest)
    settings, row = _find_row(chosen[-1])
    config = compose_config("train", [*settings, *rest])
    with open_dict(config):
        config.row = row
    return config


def _find_row(choice: str) -> tuple[list[str], dict[str, Any]]:
    """A row's overrides, and what it says of itself: name, place from 1, label, published figures."""
    table, _, name = choice.partition("/")
    rows = read_table(table)
    if name not in rows:
        raise ConfigError(
            f"ablation={choice}: {table} has the rows {', '.join(rows)}; name one, as ablation={table}/{next(iter(rows))}, "
            f"or run all of them: `lexiseg sweep ablation={table}`"
        )
    told = {"name": name, "number": list(rows).index(name) + 1, **rows[name]}
    return told.pop("settings"), told
