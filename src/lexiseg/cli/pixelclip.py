"""``lexiseg pixelclip``: compose a tuning, tune, tell."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lexiseg.cli.ablations import compose_row
from lexiseg.cli.composing import plain, print_config
from lexiseg.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run_pixelclip(overrides: Sequence[str]) -> int:
    """The command: overrides in, exit status out."""
    config = compose_tuning([o for o in overrides if o != "--config"])
    if "--config" in overrides:
        return print_config(config)
    from lexiseg.recipes.pixelclip import tune
    from lexiseg.recipes.records import tuning_run

    run = tuning_run(plain(config), print)
    print(f"done: the tuned CLIP is {tune(run)}. Run folder: {run.output_dir}")
    return 0


def compose_tuning(overrides: Sequence[str]) -> "DictConfig":
    """The configuration of one tuning, with ``images`` and ``masks`` put where the data's own keys are.

    Raises:
        ConfigError: An unknown key or choice, a value that does not parse, or a data set that does not read a folder.
    """
    config = compose_row("pixelclip", overrides)
    given = [key for key in ("images", "masks") if config[key] is not None]
    if given and "images" not in config.mask_data.train:
        raise ConfigError(
            f"{', '.join(given)}: this mask_data reads no folder of photographs; choose mask_data=folder, or leave it out"
        )
    if config.images is not None:
        config.mask_data.root = config.images
        config.mask_data.train.images = config.images
        config.mask_data.train.masks.root = config.images
    if config.masks is not None:
        made = Path(config.output_dir) / "masks" if config.masks == "superpixels" else config.masks
        config.mask_data.train.masks.folder = str(made)
    return config
