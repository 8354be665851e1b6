"""``lexiseg train``: compose a run, train, tell."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lexiseg.cli.ablations import compose_training, table_names
from lexiseg.cli.composing import describe_groups

_HELP = """usage: lexiseg train [group=choice ...] [key=value ...]

Train a model on the seen classes of a split.

  lexiseg train experiment=toy                               the toy world, offline, a few minutes on two cores
  lexiseg train experiment=camvid data.root=PATH             street photographs
  lexiseg train experiment=cascade_voc data.root=PATH        the published PASCAL VOC 15/5 recipe
  lexiseg train experiment=cascade_voc_st data.root=PATH     the same, then self-training on unlabelled unseen pixels
  lexiseg train data=folder data.root=PATH split=custom split.unseen='[zebra]' clip=vit_b16
  lexiseg train trainer=ddp trainer.devices=4 trainer.precision=bf16-mixed logger=wandb
  lexiseg train --config [...]                               print the composed configuration and stop

The run folder (output_dir, by default runs/NAME) receives config.yaml, metrics.csv, last.ckpt, best.ckpt, pictures and
result.json. The same command goes on where a killed run stopped.
"""


def run_train(overrides: Sequence[str]) -> int:
    """The command: overrides in, exit status out."""
    if any(flag in overrides for flag in ("-h", "--help")):
        rows = ", ".join(f"{table}/…" for table in table_names())
        print(
            f"{_HELP}\nablation=TABLE/ROW: {rows}; rows: lexiseg sweep --help\n\n{describe_groups('train')}"
        )
        return 0
    config = compose_training([o for o in overrides if o != "--config"])
    if "--config" in overrides:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(config))
        return 0
    from lexiseg.cli.building import training_run
    from lexiseg.recipes.training import train

    run = training_run(config)
    tell_scores(train(run), run.output_dir)
    return 0


def tell_scores(scores: Mapping[str, float], run_folder: Path) -> None:
    """How a run went, on one line."""
    named = ", ".join(f"{name} {100 * value:.1f}" for name, value in scores.items())
    print(f"done: {named} (mIoU in %). Run folder: {run_folder}")
