"""Seconds per image and peak memory of training-free methods, beside the plain way and the machine's own limit.

    python scripts/bench_segment.py                                  # ViT-B/16, 336×448, windows 224 every 112
    python scripts/bench_segment.py --methods sclip --device cuda --precision bfloat16

The plain way is one window at a time through the same encoder, logits of all classes upsampled to the window, summed,
divided by how often each pixel was seen, upsampled to the image, argmax. Weights are random: neither speed nor memory
depends on them. The limit is the time that the method's matrix products need at the rate this machine reaches on a
product of the tower's largest shape, measured in the same process. Each line is measured in its own process, the two
ways in turn, so that a busy machine slows both.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench_support import STUDIED, peak_mib, product_rate, random_text, random_tower, synchronize
from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.dense.methods import METHODS, TrainingFreeMethod, build_method
from lexiseg.dense.multi_view import render_view
from lexiseg.evaluation.efficiency import count_operations
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.segmenter import Segmenter
from lexiseg.inference.words import EmbeddedWords
from lexiseg.ops.resize import keep_ratio_size, resize_image
from lexiseg.ops.sliding_window import window_grid


def plain_loop(
    method: TrainingFreeMethod, text: Tensor, protocol: InferenceProtocol, image: Tensor
) -> Tensor:
    """Labels ``(H, W)`` of an image ``(H, W, 3)`` without anything that saves time or memory."""
    model = method.model
    working = keep_ratio_size((image.shape[0], image.shape[1]), protocol.short_side or min(image.shape[:2]))
    picture = resize_image(image, working).permute(2, 0, 1)[None]
    total = torch.zeros((), device=image.device)
    views = method.views.plan(working, model.patch_size)
    for view in views:
        rendered = model.normalize(render_view(picture, view))
        scores = torch.zeros(1, len(text), *view.size, device=image.device)
        seen = torch.zeros(view.size, device=image.device)
        for top, left, bottom, right in window_grid(view.size, protocol.window, protocol.stride).boxes:
            logits = model.decode(model.encode(rendered[..., top:bottom, left:right]), text).logits
            size = (bottom - top, right - left)
            scores[..., top:bottom, left:right] += F.interpolate(logits.float(), size=size, mode="bilinear")
            seen[top:bottom, left:right] += 1
        scores /= seen
        if view.flip == "horizontal":
            scores = scores.flip(-1)
        total = total + F.interpolate(scores, size=working, mode="bilinear")
    maps = F.interpolate(total / len(views), size=tuple(image.shape[:2]), mode="bilinear")
    return (maps * protocol.logit_scale).softmax(dim=1).argmax(dim=1)[0]


def measure(args: argparse.Namespace) -> dict[str, float]:
    """One method and number of classes in this process."""
    torch.manual_seed(0)
    device = torch.device(args.device)
    method = build_method(args.methods[0], random_tower(device))
    text = random_text(args.classes[0], device)
    vocabulary = Vocabulary.from_names([f"class {index}" for index in range(len(text))])
    protocol = replace(
        InferenceProtocol.training_free(),
        views=method.views,
        precision=args.precision,
        window_batch=args.batch,
        pamr_steps=args.pamr_steps,
    )
    embeddings = TextEmbeddings(text, torch.arange(len(text), device=device))
    segmenter = Segmenter(method.model, EmbeddedWords(vocabulary, embeddings), protocol)
    height, width = args.size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels = torch.from_numpy(image).to(device)

    @torch.inference_mode()
    def plainly() -> np.ndarray:
        with torch.autocast(device.type, torch.bfloat16, enabled=args.precision == "bfloat16"):
            return plain_loop(method, text, protocol, pixels).cpu().numpy()

    def ours() -> np.ndarray:
        return segmenter.segment(image, scores=False).labels

    if args.way:  # memory of one way, in a process of its own
        for _ in range(2):
            (plainly if args.way == "plain" else ours)()
        return {"mib": peak_mib(device)}
    agreement = 1.0 if args.pamr_steps else float((plainly() == ours()).mean())
    plain_seconds, our_seconds = [], []
    for _ in range(args.runs):
        plain_seconds.append(timed(plainly, device) if not args.pamr_steps else math.nan)
        our_seconds.append(timed(ours, device))
    return {
        "plain": statistics.median(plain_seconds),
        "ours": statistics.median(our_seconds),
        "agreement": agreement,
        "gflop": count_operations(segmenter, image) / 1e9,
        "rate": product_rate(device, args.batch * 197),
    }


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="*", default=list(STUDIED), choices=METHODS)
    parser.add_argument("--classes", type=int, nargs="*", default=[21, 171])
    parser.add_argument("--size", type=int, nargs=2, default=(336, 448), metavar=("H", "W"))
    parser.add_argument("--runs", type=int, default=5, help="timed images; the median is printed")
    parser.add_argument("--batch", type=int, default=8, help="windows per pass of the tower")
    parser.add_argument(
        "--pamr-steps",
        type=int,
        default=0,
        help="rounds of refinement (NACLIP: 10); without the plain loop then",
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--json", action="store_true", help="measure one line here and print JSON")
    parser.add_argument("--way", choices=("plain", "ours"), help="with --json: memory of one way only")
    args = parser.parse_args()
    if args.json:
        print(json.dumps(measure(args)))
        return
    height, width = args.size
    print(f"ViT-B/16, {height}×{width}, {args.precision}, {args.device}, {torch.get_num_threads()} threads\n")
    print(
        "| method | classes | plain loop s | ours s | faster | plain MiB | ours MiB | GFLOP | limit s | ours / limit |"
    )
    print("| --- |" + " ---: |" * 9)
    for method in args.methods:
        for classes in args.classes:
            row = ask(args, method, classes)
            ways = ("ours",) if args.pamr_steps else ("plain", "ours")
            memory = {"plain": math.nan} | {way: ask(args, method, classes, way)["mib"] for way in ways}
            limit = row["gflop"] / row["rate"]
            print(
                f"| {method} | {classes} | {row['plain']:.2f} | {row['ours']:.2f} | {row['plain'] / row['ours']:.2f} | "
                f"{memory['plain']:.0f} | {memory['ours']:.0f} | {row['gflop']:.0f} | {limit:.2f} | "
                f"{row['ours'] / limit:.2f} |"
                + (
                    ""
                    if row["agreement"] > 0.999
                    else f" labels agree on {100 * row['agreement']:.2f} % only"
                )
            )


def ask(args: argparse.Namespace, method: str, classes: int, way: str | None = None) -> dict[str, float]:
    """Measure one line in a fresh process."""
    command = [sys.executable, __file__, "--json", "--methods", method, "--classes", str(classes)]
    command += ["--size", *map(str, args.size), *(["--way", way] if way else [])]
    for name in ("runs", "batch", "pamr_steps", "device", "precision"):
        command += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


if __name__ == "__main__":
    main()
