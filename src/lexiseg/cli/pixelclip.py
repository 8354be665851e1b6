"""``lexiseg pixelclip``: compose a tuning, tune, tell."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lexiseg.cli.composing import compose_config, describe_groups
from lexiseg.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

_HELP = """usage: lexiseg pixelclip images=FOLDER [group=choice ...] [key=value ...]

Make a CLIP's image tower better at pixels, with photographs and masks but without one label (PixelCLIP).

  lexiseg pixelclip experiment=pixelclip/toy                       the toy world, offline, a few minutes on two cores
  lexiseg masks build photos/                                      masks of your photographs, once …
  lexiseg pixelclip images=photos clip=vit_b16                     … then the released recipe on them
  lexiseg pixelclip images=photos masks=superpixels                both in one
  lexiseg pixelclip images=PATH/sa1b experiment=pixelclip/vit_b16 trainer=ddp trainer.devices=4 mask_data.batch_size=12
  lexiseg pixelclip images=photos trainer=bf16 trainer.accumulate_grad_batches=4 mask_data.batch_size=12 logger=wandb
  lexiseg pixelclip images=photos variant=no_momentum model.clusters=32
  lexiseg pixelclip --config [...]                                 print the composed configuration and stop

The run folder (output_dir, by default runs/NAME) receives clip, the tuned CLIP as an ordinary folder; clusters.png, what
the clusters became; config.yaml, metrics.csv, last.ckpt and result.json. The same command goes on where a killed run
stopped. Whatever takes a CLIP takes the tuned one:

  lexiseg predict photo.jpg --classes "dog, grass" --clip runs/NAME/clip --method pixelclip
  lexiseg benchmark clip=file clip.source=runs/NAME/clip methods=[pixelclip,maskclip,sclip] output=runs/NAME/benchmark
  lexiseg train clip=file clip.source=runs/NAME/clip [...]

"""


def run_pixelclip(overrides: Sequence[str]) -> int:
    """The command: overrides in, exit status out."""
    if any(flag in overrides for flag in ("-h", "--help")):
        print(_HELP + describe_groups("pixelclip"))
        return 0
    config = compose_tuning([o for o in overrides if o != "--config"])
    if "--config" in overrides:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(config))
        return 0
    from lexiseg.cli.building import tuning_run
    from lexiseg.recipes.pixelclip import tune

    run = tuning_run(config)
    print(f"done: the tuned CLIP is {tune(run)}. Run folder: {run.output_dir}")
    return 0


def compose_tuning(overrides: Sequence[str]) -> "DictConfig":
    """The configuration of one tuning, with ``images`` and ``masks`` put where the data's own keys are.

    Raises:
        ConfigError: An unknown key or choice, a value that does not parse, or a data set that does not read a folder.
    """
    config = compose_config("pixelclip", overrides)
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
