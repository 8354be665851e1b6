"""``lexiseg eval``: judge a checkpoint, with the whole protocol beside the score."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from lexiseg.cli.building import build_protocol, build_split_and_data, embed_split
from lexiseg.cli.composing import compose_config, describe_groups, plain
from lexiseg.clip.templates import resolve_templates
from lexiseg.inference.evaluate import EvaluationReport, evaluate
from lexiseg.inference.loading import Loaded, load_trained
from lexiseg.inference.segmenter import Segmenter
from lexiseg.types import ClassSplit

_HELP = """usage: lexiseg eval checkpoint=PATH [group=choice ...] [key=value ...]

Judge a trained model on a data set: seen, unseen and harmonic mIoU, pixel accuracy, IoU of every class.

  lexiseg eval checkpoint=runs/toy/best.ckpt
  lexiseg eval checkpoint=runs/voc/last.ckpt data=voc split=voc_15_5 data.root=PATH
  lexiseg eval checkpoint=… protocol.seen_penalty=0          change one setting of the checkpoint's protocol
  lexiseg eval checkpoint=… clip=/other/place/ViT-B-16.pt    the CLIP weights have moved

Writes a JSON file that carries every setting beside the score (output, by default eval.json beside the checkpoint).
"""


def run_eval(overrides: Sequence[str]) -> int:
    """The command: overrides in, exit status out."""
    if not overrides or any(flag in overrides for flag in ("-h", "--help")):
        print(_HELP + "\n" + describe_groups("eval"))
        return 0
    # Changes to the checkpoint's protocol are keys that the composed file cannot know.
    added = [f"+{o}" if o.startswith("protocol.") else o for o in overrides]
    config = compose_config("eval", added)
    report = judge(config)
    output = Path(config.output) if config.output else Path(config.checkpoint).parent / "eval.json"
    report.write(output)
    print(report.to_markdown())
    print(f"\nwritten to {output}")
    return 0


def judge(config: DictConfig) -> EvaluationReport:
    """Evaluate a checkpoint as ``conf/eval.yaml`` describes.

    Raises:
        ConfigError: A protocol key that does not exist, or data that the split does not fit.
    """
    loaded = load_trained(config.checkpoint, clip=config.clip, device=config.device)
    split, data = build_split_and_data(config)
    segmenter = _segmenter(loaded, config, split)
    return evaluate(
        segmenter,
        data.val,
        split,
        limit=config.limit,
        context={
            "checkpoint": str(config.checkpoint),
            "model": loaded.info.model if loaded.info else None,
            "clip": loaded.info.clip if loaded.info else None,
            "trained_on": {"split": loaded.info.split.name, "setting": loaded.info.split.setting}
            if loaded.info
            else None,
            "data": plain(config.data.val),
        },
    )


def _segmenter(loaded: Loaded, config: DictConfig, split: ClassSplit) -> Segmenter:
    templates = resolve_templates(plain(config.templates)) if config.templates else loaded.templates
    vocabulary, embeddings = embed_split(loaded.clip, split, templates)
    changes = plain(config.protocol) or {}
    protocol = build_protocol(loaded.protocol.to_dict() | changes)
    seen = split.seen_ids if split.unseen else ()
    return Segmenter(loaded.model, vocabulary, embeddings, protocol, seen_ids=seen)
