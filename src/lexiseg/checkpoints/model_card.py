"""The page that a published model shows: what it segments, how well by which rules, under which licence, how to use it."""

import json
import re
from collections.abc import Sequence

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from lexiseg.checkpoints.model_facts import MeasuredScores, ModelFacts
from lexiseg.checkpoints.training_file import CheckpointInfo
from lexiseg.clip.loading import TOY_CLIP

LIBRARY = "lexiseg"
TASK = "image-segmentation"
_TAGS = ("lexiseg", "zero-shot", "open-vocabulary", "semantic-segmentation", "clip")
_SCORES = {
    "seen": "mIoU, seen classes",
    "unseen": "mIoU, unseen classes",
    "harmonic": "harmonic mean of both",
    "miou": "mIoU, all classes",
    "pixel_accuracy": "pixel accuracy",
}
_SHOWN_CLASSES = 3


def model_card(
    info: CheckpointInfo, facts: ModelFacts, *, name: str, parameters: int, bundled: bool
) -> ModelCard:
    """Write the card.

    Args:
        info: Settings, split and protocol.
        facts: Licences and scores.
        name: How a reader gets the model: ``ORG/NAME``, or a folder's name.
        parameters: Trained numbers in it.
        bundled: Whether the CLIP lies in the folder.
    """
    parts = [
        f"# {name}",
        f"A `{info.model['name']}` model of {parameters:,} trained parameters on a frozen CLIP, made with lexiseg: name things "
        "in words, get back which pixel is what, also for classes that training had no label for.",
        _usage(info, name),
        _split(info),
        _scores(info, facts.measured),
        _settings(info),
        _contents(info, bundled=bundled),
        _licences(info, facts),
    ]
    return ModelCard(f"---\n{_metadata(info, facts, name).to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n")


def _metadata(info: CheckpointInfo, facts: ModelFacts, name: str) -> ModelCardData:
    source = str(info.clip["source"])
    return ModelCardData(
        library_name=LIBRARY,
        pipeline_tag=TASK,
        tags=[*_TAGS, info.model["name"].replace("_", "-")],
        license=facts.license,
        base_model=source if "/" in source else None,
        model_name=name,
        eval_results=_index(facts.measured) if facts.measured else None,
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
        for key, value in measured.scores.items()
        if key in _SCORES
    ]


def _usage(info: CheckpointInfo, name: str) -> str:
    words = [*info.split.unseen, *info.split.seen][:_SHOWN_CLASSES] or ["dog", "grass", "sky"]
    own = 'model.segment("photo.jpg")  # the classes of its own split\n' if info.split.classes else ""
    listed = json.dumps(words, ensure_ascii=False)
    return f"""## Use it

`pip install lexiseg`, then

```python
import lexiseg

model = lexiseg.PretrainedSegmenter.from_pretrained({json.dumps(name)})
{own}result = model.segment("photo.jpg", {listed})  # any words
result.save("results", "photo", image="photo.jpg")
```

or on the command line

```sh
lexiseg predict photo.jpg --checkpoint {name} --classes "{", ".join(words)}"
```"""


def _split(info: CheckpointInfo) -> str:
    split = info.split
    if not split.classes:
        return "## Classes\n\nThe checkpoint does not say which classes it was trained on."
    rules = {
        "inductive": "Unseen names were unknown in training.",
        "transductive": "Unseen names were known in training, their pixels had no label.",
        "supervised": "Every class had labels.",
    }
    shown = {
        "shown": "Training images may show unseen objects as unlabelled pixels.",
        "excluded": "Images with unseen objects were left out of training.",
    }
    rows = [
        f"## Classes\n\nSplit `{split.name}`, {split.setting}. {rules[split.setting]}"
        + (f" {shown[split.unseen_pixels]}" if split.unseen else ""),
        _names("seen", split.seen),
        _names("unseen", split.unseen),
    ]
    return "\n\n".join(rows)


def _names(kind: str, names: Sequence[str]) -> str:
    return f"**{len(names)} {kind}**: {', '.join(names) or 'none'}"


def _scores(info: CheckpointInfo, measured: MeasuredScores | None) -> str:
    if measured is None:
        return "## Scores\n\nNone were recorded with this checkpoint."
    images = "" if measured.images is None else f", {measured.images} images"
    limited = " (the first of the data set only)" if measured.limited else ""
    scored = f" on {measured.dataset}" if measured.dataset else ""
    rows = [
        f"| {told} | {100 * measured.scores[key]:.1f} |"
        for key, told in _SCORES.items()
        if key in measured.scores
    ]
    told = f"As measured by {measured.measured_by}{scored}, split `{measured.split}`{images}{limited}"
    same = json.dumps(measured.protocol) == json.dumps(info.protocol)
    return "\n".join(
        [
            "## Scores\n",
            f"{told}, by the protocol below. mIoU is over all pixels of the data set, not a mean over images.\n",
            "| | % |",
            "| --- | ---: |",
            *rows,
            *([] if same else ["", _block("Protocol of these scores", measured.protocol)]),
        ]
    )


def _settings(info: CheckpointInfo) -> str:
    return "\n\n".join(
        [
            "## Settings",
            _block("Model", info.model),
            _block("Protocol", info.protocol),
            _block("Prompt templates", list(info.templates)),
        ]
    )


def _block(title: str, values: object) -> str:
    return f"{title}:\n\n```json\n{json.dumps(values, ensure_ascii=False)}\n```"


def _contents(info: CheckpointInfo, *, bundled: bool) -> str:
    clip = f"`{info.clip['source']}` (fingerprint `{info.clip['fingerprint']}`)"
    place = (
        f"`clip/` is the frozen CLIP, {clip}, with its tokenizer: an ordinary Hugging Face folder"
        if bundled
        else f"The frozen CLIP, {clip}, is not in it and is loaded by its name"
    )
    return (
        "## What lies here\n\n`model.safetensors` holds what was trained, `config.json` every setting, "
        f"`text_embeddings.safetensors` the classes' text embeddings. {place}. There is no code in it, and none is run."
    )


def _licences(info: CheckpointInfo, facts: ModelFacts) -> str:
    shipped = " (ships with lexiseg)" if info.clip["source"] == TOY_CLIP else ""
    return f"## Licence\n\nTrained weights: {facts.license}. CLIP weights{shipped}: {facts.clip_license}."
