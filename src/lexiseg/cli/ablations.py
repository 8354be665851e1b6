"""Training runs composed with the settings of a table's row."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lexiseg.cli.composing import compose_config
from lexiseg.recipes.ablations import find_row

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
    row = find_row(chosen[-1])
    config = compose_config("train", [*row.settings, *rest])
    with open_dict(config):
        config.row = row.told()
    return config
