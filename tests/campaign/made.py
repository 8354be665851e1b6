"""What many cases are made of: a picture whose parts the toy CLIP tells apart, and the commands that read it."""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from campaign.case import Answer

WORDS = ("red circle", "blue square")
SIZE = (40, 72)

SHARED = Path(tempfile.gettempdir()) / f"lexiseg-shared-{os.getpid()}"
"""What many cases need and one makes; whoever runs the campaign removes it."""

BESIDE: list[int] = []
"""Processes that a case has started beside the command; the verdict waits for their end."""

Pixels = npt.NDArray[np.uint8]


def scene(height: int = SIZE[0], width: int = SIZE[1]) -> Pixels:
    """``(H, W, 3)`` red with a blue lower right quarter: the same from no other side."""
    array = np.full((height, width, 3), (205, 42, 40), dtype=np.uint8)
    array[height // 2 :, width // 2 :] = (48, 78, 196)
    return array


def predicting(
    photo: str | Path, *more: str, method: str = "sclip", words: str | None = ", ".join(WORDS)
) -> list[str]:
    """Arguments of ``predict`` into ``out``, with the toy CLIP."""
    named = [] if words is None else ["--classes", words]
    return [
        "predict",
        str(photo),
        *named,
        "--clip",
        "toy",
        "--method",
        method,
        "--templates",
        "single",
        "--out",
        "out",
        *more,
    ]


def read_ids(path: Path) -> npt.NDArray[np.integer]:
    """A label map's raw values."""
    with Image.open(path) as image:
        return np.asarray(image)


def check_prediction(
    stem: str, size: tuple[int, int], names: Sequence[str] = WORDS, out: str = "out"
) -> Pixels:
    """That a result fits together: size, class order, areas. Returns its labels."""
    content = json.loads(Path(out, f"{stem}.json").read_text(encoding="utf-8"))
    told = (content["height"], content["width"])
    assert told == size, f"told size {told}, expected {size}"
    labels = [content["id2label"][str(index)] for index in range(len(names))]
    assert labels == list(names), f"classes {labels[:5]}, expected {list(names)[:5]}"
    ids = read_ids(Path(out, f"{stem}_labels.png"))
    assert ids.shape == size, f"a label map of {ids.shape}, expected {size}"
    assert ids.max() < len(content["id2label"]), f"id {ids.max()} among {len(names)} classes"
    areas = {int(index): int(count) for index, count in zip(*np.unique(ids, return_counts=True), strict=True)}
    found = {entry["id"]: entry["pixels"] for entry in content["found"]}
    assert found == areas, f"told areas {found}, the label map has {areas}"
    assert sum(found.values()) == size[0] * size[1], "areas do not add up to the picture"
    return ids


def check_same_as(stem: str, pixels: Pixels, *more: str, method: str = "sclip") -> None:
    """That a result equals the one of the same pixels in a plain PNG."""
    from lexiseg.cli.main import main

    found = check_prediction(stem, pixels.shape[:2])
    Image.fromarray(pixels).save("plain.png")
    arguments = predicting("plain.png", *more, method=method)
    arguments[arguments.index("--out") + 1] = "reference"
    assert main(arguments) == 0, "the same pixels in a plain PNG are refused"
    expected = check_prediction("plain", pixels.shape[:2], out="reference")
    share = float((found != expected).mean())
    assert share == 0, (
        f"{100 * share:.2f} % of the pixels differ from those of the same picture as a plain PNG"
    )


def answered(answer: Answer, *words: str) -> None:
    """That the output says so."""
    spoken = " ".join((answer.out + answer.err).split())
    missing = [word for word in words if word not in spoken]
    assert not missing, f"does not say {missing}: {spoken[-500:]}"
