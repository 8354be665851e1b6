"""What a published file holds of a convolutional image tower, whichever it is."""

from lexiseg.clip.formats.open_clip import convnext_to_open_clip
from lexiseg.types import StageTower


def published_visual(tower: StageTower) -> dict[str, tuple[int, ...]]:
    """Names (``visual.*``) and shapes of a frozen image tower as OpenAI and open_clip store it."""
    return {name: tuple(tensor.shape) for name, tensor in convnext_to_open_clip(tower).items()}
