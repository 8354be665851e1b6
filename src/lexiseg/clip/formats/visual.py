"""What a published file holds of a convolutional image tower, whichever it is."""

from typing import Any

from lexiseg.clip.formats.open_clip import convnext_to_open_clip
from lexiseg.clip.formats.openai_resnet import COUNTER, resnet_to_openai
from lexiseg.types import StageTower

_VARIANCE = ".running_var"


def published_visual(tower: StageTower) -> dict[str, tuple[int, ...]]:
    """Names (``visual.*``) and shapes of a frozen image tower as OpenAI and open_clip store it."""
    given: Any = tower
    tensors = convnext_to_open_clip(given) if tower.kind == "ConvNeXt" else resnet_to_openai(given)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    counters = {name.removesuffix(_VARIANCE) + COUNTER: () for name in shapes if name.endswith(_VARIANCE)}
    return shapes | counters
