"""Which models a few photographs can adapt, and how an adaptation knows its model again."""

import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from lexiseg.checkpoints.training_file import CheckpointInfo
from lexiseg.clip.model import fingerprint
from lexiseg.errors import ConfigError
from lexiseg.inference.encoding import reads_pixels
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.types import Segmentable


def require_adaptable(model: Segmentable, protocol: InferenceProtocol) -> None:
    """Refuse a model whose answer is no map of logits for each word.

    Raises:
        ConfigError: It names regions, reads inside masks, gives scores, or is compared with words at pixels only.
    """
    reasons = {
        "names regions": model.names_regions,
        "reads inside masks": model.needs.masks,
        "gives scores instead of logits": protocol.activation == "scores",
        "is compared with words at pixels only": reads_pixels(model),
    }
    why = next((reason for reason, holds in reasons.items() if holds), None)
    if why is not None:
        raise ConfigError(
            f"{type(model).__name__} {why}, and only a model that gives logits for each word and patch can be adapted; use a "
            "training-free reading such as clip-surgery or sc-clip, or a trained mask model"
        )


def made_for(
    model: Segmentable, clip: str, info: CheckpointInfo | None, method: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What tells a model from others, plain values.

    Args:
        model: The model.
        clip: Fingerprint of its CLIP.
        info: Of a trained model.
        method: Of a training-free reading.
    """
    if info is None:
        told = dict(method or {"name": type(model).__name__})
        name = str(told.pop("name"))
        return {"clip": clip, "method": name, "settings": json.dumps(told, sort_keys=True, default=str)}
    weights = fingerprint(model) if isinstance(model, nn.Module) else "an exported program"
    return {"clip": clip, "model": str(info.model.get("name")), "weights": weights}
