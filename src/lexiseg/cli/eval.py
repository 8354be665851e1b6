"""``lexiseg eval``: judge a checkpoint, with the whole protocol beside the score."""

from collections.abc import Sequence

from omegaconf import DictConfig, open_dict

from lexiseg.cli.composing import compose_config, plain
from lexiseg.errors import ConfigError
from lexiseg.recipes.evaluate import data_of_run, judge, report_place
from lexiseg.recipes.records import evaluation
from lexiseg.storage import leads_somewhere


def run_eval(overrides: Sequence[str]) -> int:
    """The command: overrides in, exit status out."""
    config = compose_eval(overrides)
    output = report_place(config.output, config.checkpoint, config.segments, config.masks, config.adapted)
    report = judge(evaluation(plain(config)))
    report.write(output)
    print(report.to_markdown())
    print(f"\nwritten to {output}")
    return 0


def compose_eval(overrides: Sequence[str]) -> DictConfig:
    """``conf/eval.yaml`` with overrides; a word that sets nothing is the checkpoint's path.

    A checkpoint in its run's folder is judged on the run's own data and split, unless either is chosen.

    Raises:
        ConfigError: An unknown key or choice.
    """
    quoted = "checkpoint='{}'".format
    overrides = [
        quoted(o.replace("'", r"\'")) if "=" not in o or leads_somewhere(o) else o for o in overrides
    ]
    # Hydra takes clip= for a choice among conf/clip, which training has and judging a checkpoint has not.
    clips = [o.removeprefix("clip=") for o in overrides if o.startswith("clip=")]
    rest = [o for o in overrides if not o.startswith("clip=")]
    # Changes to the checkpoint's protocol are keys that the composed file cannot know.
    config = compose_config("eval", [f"+{o}" if o.startswith("protocol.") else o for o in rest])
    if clips:
        config.clip = clips[-1]
    own = data_of_run(config.checkpoint)
    if own is not None and not any(o.startswith(("data=", "split=")) for o in rest):
        with open_dict(config):
            config.update(own)
        changes = [o for o in rest if o.lstrip("+").startswith(("data.", "split."))]
        if any(o.lstrip("+").startswith("data.root=") for o in changes):
            raise ConfigError(
                "data.root: the run's data name their own places; say data=… data.root=… to judge on others"
            )
        config.merge_with_dotlist([o.lstrip("+") for o in changes])
    return config
