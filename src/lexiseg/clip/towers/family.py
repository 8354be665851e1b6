"""What makes one kind of CLIP: how its weights become two towers, its words tokens, and the whole a folder again."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lexiseg.clip.formats.huggingface import write_folder
from lexiseg.clip.tokenizer import TextTokenizer
from lexiseg.clip.towers.text import TextTower
from lexiseg.types import Color, ImageTower

if TYPE_CHECKING:
    from lexiseg.clip.model import FrozenCLIP


class BuildImageTower(Protocol):
    """From transformers' model of both towers to the frozen image tower."""

    def __call__(self, model: Any, *, colors: tuple[Color, Color]) -> ImageTower:
        """Take over the weights, frozen."""


@dataclass(frozen=True)
class Family:
    """A kind of CLIP. A new one is a file beside this one that ends in a ``Family``, and a line in the registry.

    Attributes:
        model_class: Name of transformers' class of both towers; None where no Hugging Face folder holds such a CLIP.
        image_tower: Builds the frozen image tower.
        text_tower: Builds the frozen text tower.
        tokenizer: Loads the tokenizer of a folder or hub name.
        colors: Mean and standard deviation of RGB in [0, 1] where a folder does not say.
        save: Writes a CLIP of this kind into a folder.
    """

    model_class: str | None
    image_tower: BuildImageTower
    text_tower: Callable[[Any, TextTokenizer], TextTower]
    tokenizer: Callable[[str], TextTokenizer]
    colors: tuple[Color, Color]
    save: Callable[["FrozenCLIP", Path], None] = write_folder
