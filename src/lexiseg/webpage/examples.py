"""Photographs to begin with: scenes of the toy world, drawn when the page starts, so that nothing has to be shipped."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lexiseg.data.toy.world import ToyWorld
from lexiseg.storage import write_png

_SIZE = (192, 256)
_SEED = 11
_SCENES = 4


@dataclass(frozen=True)
class Example:
    """A scene, and words to ask of it.

    Attributes:
        path: Of its PNG.
        words: Classes with commas between.
    """

    path: Path
    words: str


def draw_examples(folder: Path) -> list[Example]:
    """Draw the scenes into a folder; a second or two for all."""
    world = ToyWorld(partition="val", length=_SCENES, image_size=_SIZE, seed=_SEED)
    examples = []
    for index in range(_SCENES):
        sample, scene = world[index], world.scene(index)
        path = folder / f"scene_{index + 1}.png"
        write_png(Image.fromarray(sample.image), path)
        shapes = [f"{figure.attribute} {figure.shape}" for figure in scene.figures]
        examples.append(Example(path, ", ".join(dict.fromkeys((*shapes, *scene.grounds)))))
    return examples
