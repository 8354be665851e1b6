"""Scenes of the toy world as image files without labels: a folder of photographs to make masks of and to learn from.

python scripts/render_toy_scenes.py toy_scenes --count 1000
lexiseg masks build toy_scenes
lexiseg pixelclip experiment=pixelclip/toy mask_data=toy_folder images=toy_scenes
"""

import argparse
from pathlib import Path

from PIL import Image

from lexiseg.data.toy.world import ToyWorld
from lexiseg.progress import with_progress
from lexiseg.storage import write_png


def main() -> None:
    """Write the scenes; those of training and of the benchmark never meet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the PNGs go")
    parser.add_argument("--count", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the world (default: 0)")
    args = parser.parse_args()
    world = ToyWorld(partition="train", length=args.count, seed=args.seed)
    for index in with_progress(range(args.count), "rendering", args.count):
        sample = world[index]
        write_png(Image.fromarray(sample.image), args.folder / f"{sample.name}.png")


if __name__ == "__main__":
    main()
