"""``lexiseg eval``: judge a checkpoint, with the whole protocol beside the score."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from lexiseg.cli.composing import compose_config, plain
from lexiseg.recipes.evaluate import default_output, judge
from lexiseg.recipes.records import evaluation


def run_eval(overrides: Sequence[str]) -> int:
    """The command: overrides in, exit status out."""
    config = compose_eval(overrides)
    report = judge(evaluation(plain(config)))
    output = Path(config.output) if config.output else default_output(config.checkpoint)
    report.write(output)
    print(report.to_markdown())
    print(f"\nwritten to {output}")
    return 0


def compose_eval(overrides: Sequence[str]) -> DictConfig:
    """``conf/eval.yaml`` with overrides.

    Raises:
        ConfigError: An unknown key or choice.
    """
    # Hydra takes clip= for a choice among conf/clip, which training has and judging a checkpoint has not.
    clips = [o.removeprefix("clip=") for o in overrides if o.startswith("clip=")]
    rest = [o for o in overrides if not o.startswith("clip=")]
    # Changes to the checkpoint's protocol are keys that the composed file cannot know.
    config = compose_config("eval", [f"+{o}" if o.startswith("protocol.") else o for o in rest])
    if clips:
        config.clip = clips[-1]
    return config
