"""Scenes of the toy world as image files, and captions of them: photographs to make masks of and to learn from.

python scripts/render_toy_scenes.py toy_scenes --count 1000
lexiseg masks build toy_scenes
lexiseg pixelclip experiment=pixelclip/toy mask_data=toy_folder images=toy_scenes

captions.json is of COCO's layout; who tells a scene names some of what it shows. Labels are written only where --labels says.
"""

import argparse
import random
from pathlib import Path

from PIL import Image

from lexiseg.data.toy.scene import ToyScene
from lexiseg.data.toy.world import ToyWorld
from lexiseg.progress import with_progress
from lexiseg.storage import write_json, write_png, write_text
from toy_captions import caption

_MOST_TOLD = 3
"""Objects that a caption names: people seldom name everything."""


def main() -> None:
    """Write the scenes; those of training and of the benchmark never meet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the PNGs go")
    parser.add_argument("--count", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the world (default: 0)")
    parser.add_argument("--labels", type=Path, help="where label maps and classes.txt go; by default nowhere")
    args = parser.parse_args()
    world = ToyWorld(partition="train", length=args.count, seed=args.seed)
    images, told = [], []
    for index in with_progress(range(args.count), "rendering", args.count):
        sample = world[index]
        write_png(Image.fromarray(sample.image), args.folder / f"{sample.name}.png")
        if args.labels is not None:
            write_png(Image.fromarray(sample.label), args.labels / f"{sample.name}.png")
        images.append({"id": index, "file_name": f"{sample.name}.png"})
        text = tell(world.scene(index), random.Random(f"{args.seed}/{index}"))
        told.append({"id": index, "image_id": index, "caption": text})
    if args.labels is not None:
        write_text("\n".join(world.classes) + "\n", args.labels / "classes.txt")
    write_json({"images": images, "annotations": told}, args.folder / "captions.json")


def tell(scene: ToyScene, draw: random.Random) -> str:
    """A caption of a scene: up to three of its objects, and its grounds."""
    objects = list(dict.fromkeys(f"{figure.attribute} {figure.shape}" for figure in scene.figures))
    return caption(tuple(draw.sample(objects, min(len(objects), _MOST_TOLD))), tuple(scene.grounds), draw)


if __name__ == "__main__":
    main()
