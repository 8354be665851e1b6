"""The task ``zero-shot-image-segmentation`` of transformers: photographs and ``candidate_labels`` in, masks out."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from transformers import Pipeline as TransformersPipeline
from transformers.pipelines import PIPELINE_REGISTRY

from lexiseg.errors import ConfigError
from lexiseg.inference.encoding import device_of
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.segmenter import Segmenter

TASK = "zero-shot-image-segmentation"


def register_task() -> None:
    """Make the task known to ``transformers.pipeline``; a second time changes nothing.

    Then ``transformers.pipeline("zero-shot-image-segmentation", model=lexiseg.Pipeline.load(...))`` gives a
    :class:`ZeroShotSegmentation`.
    """
    if TASK not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(TASK, pipeline_class=ZeroShotSegmentation)


class ZeroShotSegmentation(TransformersPipeline):  # type: ignore[misc]
    """Called with an image, or several, and ``candidate_labels``; answers with a list of label, score and mask for each.

    Args:
        model: A pipeline of ours; where it lies is where it computes.
        others: transformers' own arguments; and ``candidate_labels``, ``threshold`` and ``background``, which a call may give
            as well and which are those of :meth:`lexiseg.Pipeline.segmenter`.

    Raises:
        ConfigError: Another model, or another device than the model's.
    """

    _load_processor = _load_image_processor = _load_video_processor = False  # type: ignore[assignment]
    _load_feature_extractor = _load_tokenizer = False  # type: ignore[assignment]

    def __init__(self, model: Any, **others: Any) -> None:
        if not isinstance(model, Pipeline):
            raise ConfigError(
                f"model: expected what lexiseg.Pipeline.load gave, got {type(model).__name__}; give that as model="
            )
        self._ours = model
        self._ready: tuple[Any, Segmenter] | None = None
        device = device_of(model.model)
        if others.get("device") not in (None, -1) and torch.device(others["device"]) != device:
            raise ConfigError(
                f"device {others['device']}: the model lies on {device}; choose it by lexiseg.Pipeline.load(device=...)"
            )
        super().__init__(model=_stand_in(device), **{**others, "device": device})

    def _sanitize_parameters(self, **given: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        chosen: dict[str, Any] = {
            key: given[key] for key in ("candidate_labels", "threshold", "background") if key in given
        }
        return {}, chosen, {}

    def preprocess(self, image: Any) -> dict[str, Any]:  # type: ignore[override]
        """An image as it came, of any kind that :func:`lexiseg.read_image` takes."""
        return {"image": image}

    def _forward(  # type: ignore[override]
        self,
        inputs: dict[str, Any],
        *,
        candidate_labels: str | Sequence[str] | None = None,
        threshold: float | None = None,
        background: str | Sequence[str] | None = None,
    ) -> dict[str, Any]:
        wanted = (candidate_labels, threshold, background)
        if candidate_labels is None and self._ours.info is None:
            raise ConfigError("candidate_labels are missing; give what to look for, such as ['dog', 'grass']")
        if self._ready is None or self._ready[0] != wanted:
            made = self._ours.segmenter(candidate_labels, threshold=threshold, background=background)
            self._ready = (wanted, made)
        return {"result": self._ready[1].segment(inputs["image"])}

    def postprocess(self, outputs: dict[str, Any]) -> list[dict[str, Any]]:  # type: ignore[override]
        """Label, score and mask of each class found, the largest first."""
        found: list[dict[str, Any]] = outputs["result"].to_hf()
        return found


def _stand_in(device: torch.device) -> Any:
    """What transformers asks of a model that it does not run itself."""
    return SimpleNamespace(
        device=device,
        config=SimpleNamespace(),
        can_generate=lambda: False,
        input_modalities=("image", "text"),
    )
