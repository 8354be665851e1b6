"""Adapt to five toy scenes and judge on others: the table of docs/adapting.md.

    python scripts/adapt_toy.py --seeds 5 --scenes 60

Words are the classes that the five scenes show, whose pixels alone are judged on the others; with --all-words all 42 classes
of the toy world, of which those that were not shown keep their pixels.
"""

import argparse
import time

import numpy as np

from lexiseg.data.toy.world import TOY_CLASSES, ToyWorld
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.shots import Shot
from lexiseg.recipes.adapt import Judged, judge

_FIRST_WORLD = 500
"""Seed of the first world; scenes by which the method was made are of other worlds."""


def main() -> None:
    """A line for each seed, then the means."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--method", default="clip-surgery")
    parser.add_argument("--all-words", action="store_true")
    args = parser.parse_args()
    pipeline, rows = Pipeline.load(clip="toy", method=args.method), []
    for seed in range(args.seeds):
        worlds = [
            ToyWorld(partition="train", length=args.shots, seed=_FIRST_WORLD + seed),
            ToyWorld(partition="val", length=args.scenes, seed=_FIRST_WORLD + seed),
        ]
        present = np.unique(np.concatenate([worlds[0][index].label.ravel() for index in range(args.shots)]))
        ids = (
            range(len(TOY_CLASSES)) if args.all_words else [int(number) for number in present if number < 254]
        )
        words, table = [TOY_CLASSES[number] for number in ids], np.full(256, 255, dtype=np.uint8)
        table[list(ids)] = np.arange(len(words))
        few, others = (
            [Shot(each.image, table[each.label], each.name) for each in _all(world)] for world in worlds
        )
        begun = time.perf_counter()
        better = pipeline.adapt(few, words)
        seconds = time.perf_counter() - begun
        before, after = (judge(each.segmenter(words), others) for each in (pipeline, better))
        rows.append([len(words), seconds, *_numbers(before), *_numbers(after)])
        print(" ".join(f"{value:.3f}" for value in rows[-1]), flush=True)
        if better.adaptation is not None:
            print("   ", "; ".join(_told(step) for step in better.adaptation.account["steps"]), flush=True)
    print("mean", " ".join(f"{value:.3f}" for value in np.mean(rows, 0)))
    print("sd  ", " ".join(f"{value:.3f}" for value in np.std(rows, 0, ddof=min(1, len(rows) - 1))))


def _all(world: ToyWorld) -> list:
    return [world[index] for index in range(len(world))]


def _numbers(judged: Judged) -> tuple[float, float, float]:
    return judged.miou, judged.accuracy, judged.reliability.error


def _told(step: dict) -> str:
    return f"{step['part']} {100 * step['miou']:.1f}{'' if step['kept'] else ' (left out)'}"


if __name__ == "__main__":
    main()
