"""``lexiseg train``: compose a run, train it, tell its scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lexiseg.cli.ablations import compose_training
from lexiseg.cli.composing import plain, print_config


def run_train(overrides: Sequence[str]) -> int:
    """The command: overrides in, exit status out."""
    config = compose_training([o for o in overrides if o != "--config"])
    if "--config" in overrides:
        return print_config(config)
    from lexiseg.recipes.records import training_run
    from lexiseg.recipes.training import train

    run = training_run(plain(config), print)
    tell_scores(train(run), run.output_dir)
    return 0


def tell_scores(scores: Mapping[str, float], run_folder: Path) -> None:
    """How a run went, on one line."""
    named = ", ".join(f"{name} {100 * value:.1f}" for name, value in scores.items())
    print(f"done: {named} (mIoU in %). Run folder: {run_folder}")
