"""Peak memory and seconds of a segmentation as the vocabulary grows, above what the encoder itself needs.

    python scripts/bench_classes.py                         # 1024×1024, 20 to 10,000 words, TG-CLIP
    python scripts/bench_classes.py --methods sc-clip --classes 171 --short-side 1024

Words are random unit embeddings. Each line is measured in a process of its own; the encoder's own memory is the peak
of another process that only runs the tower over all windows.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import torch

from bench_support import peak_mib, random_text, random_tower, synchronize
from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.dense.methods import METHODS, build_method
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.segmenter import Segmenter
from lexiseg.inference.words import EmbeddedWords


def measure(args: argparse.Namespace) -> dict[str, float]:
    """One number of words in this process; 0 words: the tower alone."""
    torch.manual_seed(0)
    device = torch.device(args.device)
    method = build_method(args.methods[0], random_tower(device))
    words = args.classes[0]
    text = random_text(max(words, 1), device)
    vocabulary = Vocabulary.from_names([f"class {index}" for index in range(len(text))])
    protocol = replace(InferenceProtocol.training_free(), views=method.views, short_side=args.short_side)
    embeddings = TextEmbeddings(text, torch.arange(len(text), device=device))
    segmenter = Segmenter(method.model, EmbeddedWords(vocabulary, embeddings), protocol)
    image = np.random.default_rng(0).integers(0, 256, (*args.size, 3), dtype=np.uint8)
    start = time.perf_counter()
    encoded = segmenter.encode(image)
    synchronize(device)
    encode_seconds = time.perf_counter() - start
    if words:
        start = time.perf_counter()
        segmenter.segment_encoded(encoded, scores=args.scores)
        synchronize(device)
    seconds = time.perf_counter() - start if words else 0.0
    return {"mib": peak_mib(device), "seconds": seconds, "encode": encode_seconds}


def main() -> None:
    """Print the curve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="*", default=["tg-clip"], choices=METHODS)
    parser.add_argument("--classes", type=int, nargs="*", default=[20, 171, 847, 10_000])
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 1024), metavar=("H", "W"))
    parser.add_argument("--short-side", type=int, default=336, help="what the image is resized to")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scores", action="store_true", help="the score map as well")
    parser.add_argument("--json", action="store_true", help="measure one line here and print JSON")
    args = parser.parse_args()
    if args.json:
        print(json.dumps(measure(args)))
        return
    print("| method | classes | MiB above the encoder | seconds after the tower | tower s |")
    print("| --- |" + " ---: |" * 4)
    for method in args.methods:
        alone = ask(args, method, 0)["mib"]
        for classes in args.classes:
            row = ask(args, method, classes)
            print(
                f"| {method} | {classes} | {row['mib'] - alone:.0f} | {row['seconds']:.2f} | {row['encode']:.2f} |"
            )


def ask(args: argparse.Namespace, method: str, classes: int) -> dict[str, float]:
    """Measure one line in a fresh process."""
    command = [sys.executable, __file__, "--json", "--methods", method, "--classes", str(classes)]
    command += ["--size", *map(str, args.size), "--short-side", str(args.short_side), "--device", args.device]
    command += ["--scores"] if args.scores else []
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


if __name__ == "__main__":
    main()
