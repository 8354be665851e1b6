"""The page that a published model shows: what it segments, how well by which rules, under which licence, how to use it.

Its words are in ``model_card.md`` beside this file; here is what fills them in.
"""

import json
import re
from functools import partial
from importlib.resources import files
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from lexiseg.checkpoints.info import LIBRARY, CheckpointInfo
from lexiseg.checkpoints.model_facts import MeasuredScores, ModelFacts
from lexiseg.clip.loading import TOY_CLIP

TASK = "image-segmentation"
_TAGS = ("lexiseg", "zero-shot", "open-vocabulary", "semantic-segmentation", "clip")
_SCORES = {
    "seen": "mIoU, seen classes",
    "unseen": "mIoU, unseen classes",
    "harmonic": "harmonic mean of both",
    "miou": "mIoU, all classes",
    "miou_absent_as_zero": "mIoU, all classes, absent ones as 0",
    "pixel_accuracy": "pixel accuracy",
}
_SHOWN_CLASSES = 3


def model_card(
    info: CheckpointInfo, facts: ModelFacts, *, name: str, parameters: int, bundled: bool
) -> ModelCard:
    """Write the card.

    Args:
        info: Settings, split and protocol.
        facts: Licences, training data and scores.
        name: How a reader gets the model: ``ORG/NAME``, or a folder's name.
        parameters: Trained numbers in it.
        bundled: Whether the CLIP lies in the folder.
    """
    return ModelCard.from_template(
        _metadata(info, facts, name),
        template_str=files("lexiseg.checkpoints").joinpath("model_card.md").read_text(encoding="utf-8"),
        info=info,
        facts=facts,
        measured=facts.measured,
        scores=[(_SCORES[key], value) for key, value in _known(facts.measured).items()],
        split=info.split,
        name=name,
        parameters=parameters,
        bundled=bundled,
        ships=info.clip["source"] == TOY_CLIP,
        words=[*info.split.unseen, *info.split.seen][:_SHOWN_CLASSES] or ["dog", "grass", "sky"],
        json=partial(json.dumps, ensure_ascii=False),
    )


def _metadata(info: CheckpointInfo, facts: ModelFacts, name: str) -> ModelCardData:
    """What the hub reads: an entry that nobody knows the value of is left out."""
    source = str(info.clip["source"])
    scores = _index(facts.measured) if facts.measured else []
    return ModelCardData(
        library_name=LIBRARY,
        pipeline_tag=TASK,
        tags=[*_TAGS, info.model["name"].replace("_", "-")],
        license=facts.license,
        base_model=source if "/" in source else None,
        datasets=list(facts.datasets) or None,
        metrics=sorted({score.metric_type for score in scores}) or None,
        model_name=name,
        eval_results=scores or None,
    )


def _index(measured: MeasuredScores) -> list[EvalResult]:
    """The scores as the hub's leaderboards read them, in percent."""
    title = measured.dataset or measured.split
    return [
        EvalResult(
            task_type=TASK,
            dataset_type=re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-"),
            dataset_name=f"{title} ({measured.split})" if measured.dataset else title,
            metric_type="accuracy" if key == "pixel_accuracy" else "mean_iou",
            metric_name=f"{_SCORES[key]} (%)",
            metric_value=round(100 * value, 2),
        )
        for key, value in _known(measured).items()
    ]


def _known(measured: MeasuredScores | None) -> dict[str, Any]:
    """The scores that a card has words for, in its order."""
    scores = {} if measured is None else measured.scores
    return {key: scores[key] for key in _SCORES if key in scores}
