"""Runs composed with the settings of a table's row."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lexiseg.cli.composing import compose_config
from lexiseg.recipes.ablations import find_row, take_ablation

if TYPE_CHECKING:
    from omegaconf import DictConfig


def compose_row(command: str, overrides: Sequence[str]) -> "DictConfig":
    """The configuration of one run; ``ablation=TABLE/ROW`` among the overrides stands for that row's settings.

    Whatever else is typed wins over the row, and the row over an experiment. The configuration says which row it was.

    Args:
        command: ``train`` or ``pixelclip``.
        overrides: As typed.

    Raises:
        ConfigError: No such table or row, key or choice, or a value that does not parse; says which.
    """
    from omegaconf import open_dict

    choice, rest = take_ablation(overrides)
    if choice is None:
        return compose_config(command, rest)
    row = find_row(choice, command)
    config = compose_config(command, [*row.settings, *rest])
    with open_dict(config):
        config.row = row.told()
    return config


def compose_training(overrides: Sequence[str]) -> "DictConfig":
    """The configuration of one training run, see :func:`compose_row`."""
    return compose_row("train", overrides)
