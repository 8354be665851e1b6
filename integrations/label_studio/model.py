"""lexiseg as a Label Studio ML backend: the labels of the project's configuration are the words.

    pip install 'lexiseg[label-studio]'
    LEXISEG_CHECKPOINT=runs/mine/best.ckpt python integrations/label_studio/_wsgi.py --port 9090

A project with ``<BrushLabels>`` gets a mask for each class found, one with ``<PolygonLabels>`` polygons. Settings are read
from the environment: LEXISEG_CHECKPOINT, LEXISEG_CLIP, LEXISEG_METHOD, LEXISEG_DEVICE, LEXISEG_BACKGROUND, LEXISEG_THRESHOLD.
"""

from __future__ import annotations

import functools
import os
from statistics import fmean
from typing import Any

from label_studio_ml.model import LabelStudioMLBase

import lexiseg
from lexiseg.inference.formats.label_studio import label_studio_results


@functools.cache
def _pipeline() -> lexiseg.Pipeline:
    """One for all projects and requests."""
    given = {
        name: os.environ.get(f"LEXISEG_{name.upper()}") or None for name in ("checkpoint", "clip", "method")
    }
    return lexiseg.Pipeline.load(**given, device=os.environ.get("LEXISEG_DEVICE") or "auto")


@functools.lru_cache(maxsize=8)
def _segmenter(words: tuple[str, ...]) -> lexiseg.Segmenter:
    threshold = os.environ.get("LEXISEG_THRESHOLD")
    return _pipeline().segmenter(
        list(words),
        background=os.environ.get("LEXISEG_BACKGROUND") or None,
        threshold=float(threshold) if threshold else None,
    )


class Lexiseg(LabelStudioMLBase):
    """What Label Studio asks for predictions."""

    def predict(
        self, tasks: list[dict[str, Any]], context: Any = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """A prediction for each task, its score the mean of its regions'."""
        from_name, tag = self._control()
        shape = tag["type"].lower()
        segmenter = _segmenter(tuple(tag["labels"]))
        predictions = []
        for task in tasks:
            path = self.get_local_path(task["data"][tag["inputs"][0]["value"]])
            found = segmenter.segment(path).to_instances()
            results = label_studio_results(found, shape, from_name=from_name, to_name=tag["to_name"][0])
            score = fmean(thing.score for thing in found.things) if found.things else 0.0
            predictions.append({"result": results, "score": score, "model_version": lexiseg.__version__})
        return predictions

    def _control(self) -> tuple[str, dict[str, Any]]:
        for name, tag in self.parsed_label_config.items():
            if tag["type"] in ("BrushLabels", "PolygonLabels") and tag["inputs"][0]["type"] == "Image":
                return name, tag
        raise lexiseg.LexisegError(
            "the labeling configuration has neither BrushLabels nor PolygonLabels of an Image; add one of them"
        )
