"""``lexiseg eval``: judge a checkpoint, with the whole protocol beside the score."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lexiseg.checkpoints.model_folder import is_hub_name
from lexiseg.checkpoints.training_file import CheckpointInfo
from lexiseg.cli.building import build_protocol, instantiate_config
from lexiseg.cli.composing import compose_config, describe_groups, plain
from lexiseg.data.splits import make_split
from lexiseg.errors import CheckpointError
from lexiseg.evaluation.evaluate import EvaluationReport, evaluate
from lexiseg.inference.pipeline import Pipeline
from lexiseg.types import ClassSplit

_HELP = """usage: lexiseg eval checkpoint=PATH [group=choice ...] [key=value ...]

Judge a trained model on a data set: seen, unseen and harmonic mIoU, pixel accuracy, IoU of every class.

  lexiseg eval checkpoint=runs/toy/best.ckpt
  lexiseg eval checkpoint=runs/voc/last.ckpt data=voc split=voc_15_5 data.root=PATH
  lexiseg eval checkpoint=runs/coco/last.ckpt data=voc split=all          another data set than it was trained on
  lexiseg eval checkpoint=… protocol.seen_penalty=0          change one setting of the checkpoint's protocol
  lexiseg eval checkpoint=… clip=/other/place/ViT-B-16.pt    the CLIP weights have moved

Writes a JSON file that carries every setting beside the score (output, by default eval.json beside the checkpoint,
or NAME.eval.json beside a published folder NAME).
"""


def run_eval(overrides: Sequence[str]) -> int:
    """The command: overrides in, exit status out."""
    if not overrides or any(flag in overrides for flag in ("-h", "--help")):
        print(_HELP + "\n" + describe_groups("eval"))
        return 0
    config = _compose(overrides)
    report = judge(config)
    output = Path(config.output) if config.output else default_output(config.checkpoint)
    report.write(output)
    print(report.to_markdown())
    print(f"\nwritten to {output}")
    return 0


def _compose(overrides: Sequence[str]) -> DictConfig:
    # Hydra takes clip= for a choice among conf/clip, which training has and judging a checkpoint has not.
    clips = [o.removeprefix("clip=") for o in overrides if o.startswith("clip=")]
    rest = [o for o in overrides if not o.startswith("clip=")]
    # Changes to the checkpoint's protocol are keys that the composed file cannot know.
    config = compose_config("eval", [f"+{o}" if o.startswith("protocol.") else o for o in rest])
    if clips:
        config.clip = clips[-1]
    return config


def default_output(checkpoint: Path | str) -> Path:
    """Beside a checkpoint; beside, not in, a published folder; in the present folder for one of the hub."""
    path = Path(checkpoint)
    if is_hub_name(checkpoint):
        return Path(f"{path.name}.eval.json")
    return (
        path.resolve().with_name(f"{path.resolve().name}.eval.json")
        if path.is_dir()
        else path.parent / "eval.json"
    )


def judge(config: DictConfig) -> EvaluationReport:
    """Evaluate a checkpoint as ``conf/eval.yaml`` describes, on the classes of the data given.

    Raises:
        ConfigError: A protocol key that does not exist, or data that the split does not fit.
    """
    pipeline, info = _load(config)
    val = instantiate_config(config.data.val)
    split = make_split(val.classes, **plain(config.split))
    return evaluate(
        pipeline.segmenter(split),
        val,
        split,
        limit=config.limit,
        context={
            "checkpoint": str(config.checkpoint),
            "model": info.model,
            "clip": info.clip,
            "trained_on": describe_training(info, split),
            "data": plain(config.data.val),
        },
    )


def describe_training(info: CheckpointInfo, split: ClassSplit) -> dict[str, Any]:
    """What a checkpoint was trained on, and which of the judged classes it met there under the same name.

    Args:
        info: The checkpoint's description.
        split: What it is judged on.
    """
    trained = info.split
    labelled = trained.classes if trained.setting == "supervised" else trained.seen
    return {
        "split": trained.name,
        "setting": trained.setting,
        "same_classes": trained.classes == split.classes,
        "labelled": [name for name in split.classes if name in labelled],
        "not_labelled": [name for name in split.classes if name not in labelled],
    }


def _load(config: DictConfig) -> tuple[Pipeline, CheckpointInfo]:
    loaded = Pipeline.load(config.checkpoint, clip=config.clip, device=config.device)
    if loaded.info is None:
        raise CheckpointError(
            f"{config.checkpoint}: says nothing of its training; expected a lexiseg checkpoint"
        )
    protocol = build_protocol(loaded.protocol.to_dict() | (plain(config.protocol) or {}))
    templates = plain(config.templates) or loaded.templates
    return replace(loaded, protocol=protocol, templates=templates), loaded.info
