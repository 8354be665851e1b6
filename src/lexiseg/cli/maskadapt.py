"""``lexiseg maskadapt``: compose an adaptation, adapt, tell."""

from collections.abc import Sequence

from lexiseg.cli.composing import compose_config, plain, print_config


def run_maskadapt(overrides: Sequence[str]) -> int:
    """The command: overrides in, exit status out."""
    config = compose_config("maskadapt", [o for o in overrides if o != "--config"])
    if "--config" in overrides:
        return print_config(config)
    from lexiseg.recipes.mask_adaptation import adapt
    from lexiseg.recipes.records import adaptation_run

    run = adaptation_run(plain(config), print)
    print(f"done: the adapted CLIP is {adapt(run)}. Run folder: {run.output_dir}")
    return 0
