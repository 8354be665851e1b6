"""Seconds from an encoded photograph to its labels as the words grow: every word at every pixel, and bounds first.

    python scripts/bench_words.py                                    # TG-CLIP, 1024×1024, 20 to 10,000 words
    python scripts/bench_words.py --threads 1 --plain-up-to 1000     # the plain way takes minutes at 10,000 words

Words are random unit embeddings. Features are those of a tower with random weights on noise (``tower``: nearly alike
everywhere), random ones that change slowly (``smooth``: several things in a photograph), or random ones of each patch by itself
(``patches``: no photograph is so hard). Both ways run in turn in one process, and processor time stands beside
the clock's, since on a busy machine only that can be compared.
"""

import argparse
import sys
import time
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from bench_support import random_text, random_tower
from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.dense.base import DenseState
from lexiseg.dense.methods import METHODS, build_method
from lexiseg.inference.encoding import EncodedImage
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.segmenter import Segmenter
from lexiseg.inference.words import EmbeddedWords
from lexiseg.ops import class_chunks

Features = Literal["tower", "smooth", "patches"]

_COARSE = 4
"""Sides of the grid of random features between which smooth ones are interpolated."""


class Timed(NamedTuple):
    """One call: its labels, seconds by the clock and of the processor."""

    labels: npt.NDArray[np.integer]
    wall: float
    processor: float


def with_features(encoded: EncodedImage, features: Features) -> EncodedImage:
    """The photograph as if the tower had given other features; drawn anew for every window and view."""
    if features == "tower":
        return encoded
    generator = torch.Generator().manual_seed(0)
    batches = []
    for batch in encoded.batches:
        size = batch.state.features.shape
        if features == "patches":
            drawn = torch.randn(size, generator=generator)
        else:
            coarse = torch.randn(*size[:2], _COARSE, _COARSE, generator=generator)
            drawn = F.interpolate(coarse, size=size[2:], mode="bilinear")
        batches.append(replace(batch, state=DenseState(drawn)))
    return replace(encoded, batches=tuple(batches))


def timed(segmenter: Segmenter, encoded: EncodedImage, worth: int) -> Timed:
    """Labels, with bounds from ``worth`` words on."""
    class_chunks._WORDS_WORTH_BOUNDS = worth
    wall, processor = time.perf_counter(), time.process_time()
    labels = segmenter.segment_encoded(encoded, scores=False).labels
    return Timed(labels, time.perf_counter() - wall, time.process_time() - processor)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", default="tg-clip", choices=METHODS)
    parser.add_argument("--words", type=int, nargs="*", default=[20, 171, 847, 10_000])
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 1024), metavar=("H", "W"))
    parser.add_argument("--short-side", type=int, default=336, help="what the image is resized to")
    parser.add_argument(
        "--features", nargs="*", default=["tower", "smooth"], choices=("tower", "smooth", "patches")
    )
    parser.add_argument("--plain-up-to", type=int, default=10_000, help="words with which the plain way runs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    worth = class_chunks._WORDS_WORTH_BOUNDS
    device = torch.device("cpu")
    method = build_method(args.method, random_tower(device))
    protocol = replace(InferenceProtocol.training_free(), views=method.views, short_side=args.short_side)
    image = np.random.default_rng(0).integers(0, 256, (*args.size, 3), dtype=np.uint8)

    def segmenter(words: int) -> Segmenter:
        vocabulary = Vocabulary.from_names([f"class {index}" for index in range(words)])
        embeddings = TextEmbeddings(random_text(words, device), torch.arange(words))
        return Segmenter(method.model, EmbeddedWords(vocabulary, embeddings), protocol)

    encoded = segmenter(1).encode(image)
    print(f"{args.method}, {args.size[0]}×{args.size[1]}, {args.threads} threads\n")
    print(
        "| features | words | plain s | processor s | ours s | processor s | faster | ms a word | pixels that differ |"
    )
    print("| --- |" + " ---: |" * 8)
    for features in args.features:
        shown = with_features(encoded, features)
        timed(segmenter(worth), shown, worth)  # warm
        for words in args.words:
            ours = timed(segmenter(words), shown, worth)
            row = f"| {features} | {words} |"
            if words <= args.plain_up_to:
                plain = timed(segmenter(words), shown, sys.maxsize)
                row += f" {plain.wall:.2f} | {plain.processor:.2f} |"
                last = f"{plain.processor / ours.processor:.1f}"
                differ = str(int((plain.labels != ours.labels).sum()))
            else:
                row, last, differ = row + " | |", "", ""
            each = 1000 * ours.processor / words
            print(
                f"{row} {ours.wall:.2f} | {ours.processor:.2f} | {last} | {each:.2f} | {differ} |", flush=True
            )


if __name__ == "__main__":
    main()
