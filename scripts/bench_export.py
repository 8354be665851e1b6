"""Seconds per image of an exported model beside the live one, and how far they are apart.

    python scripts/bench_export.py                            # toy size, and ViT-B/16 at 512×512 with 171 classes
    python scripts/bench_export.py --models toy --runs 20

Random weights. Live model, torch.export's program and onnxruntime answer in turn for the same image in one process, on as
many threads each; the median is printed. The programs are read back from their files. Parity is what `lexiseg export` checks.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bench_support import random_tower
from lexiseg.clip.loading import load_clip
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.export.onnx_program import write_onnx
from lexiseg.export.parity import check_parity
from lexiseg.export.program import trace
from lexiseg.export.torch_program import write_torch
from lexiseg.inference.exported import OnnxProgram, TorchProgram
from lexiseg.models.cascade_clip import CascadeCLIP, CascadeSettings

Runner = Callable[[Tensor, Tensor], Tensor]


def toy() -> tuple[CascadeCLIP, int, int]:
    """A cascade on the shipped CLIP's tower; side and classes of the toy world."""
    return build(load_clip("toy").vision), 128, 42


def vit_b16() -> tuple[CascadeCLIP, int, int]:
    """The published size."""
    return build(random_tower(torch.device("cpu"))), 512, 171


MODELS: dict[str, Callable[[], tuple[CascadeCLIP, int, int]]] = {"toy": toy, "vit_b16": vit_b16}


def build(tower: VisionTower) -> CascadeCLIP:
    """Cascade-CLIP with the last blocks of a tower of any depth as its stages."""
    depth = tower.depth
    first, second = tuple(range(depth // 2, 3 * depth // 4)), tuple(range(3 * depth // 4, depth))
    return CascadeCLIP(tower, CascadeSettings(stages=(first, second, (depth,)))).eval()


def programs(model: CascadeCLIP, folder: Path) -> dict[str, Runner]:
    """The live model and both programs, each as a function of images and text."""

    @torch.inference_mode()
    def live(images: Tensor, text: Tensor) -> Tensor:
        return model(images, text).logits

    traced = trace(model)
    write_torch(traced, folder / "model.pt2")
    write_onnx(traced, folder / "model.onnx")
    return {
        "live": live,
        "torch.export": TorchProgram(folder / "model.pt2", torch.device("cpu")),
        "onnxruntime": OnnxProgram(folder / "model.onnx", "cpu"),
    }


def measure(runners: dict[str, Runner], images: Tensor, text: Tensor, runs: int) -> dict[str, float]:
    """Median seconds of each, taken in turn after one run that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(runs + 1):
        for name, run in runners.items():
            start = time.perf_counter()
            run(images, text)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def report(name: str, runs: int) -> None:
    """Lines of one model."""
    torch.manual_seed(0)
    model, side, classes = MODELS[name]()
    images = model.normalize(torch.randint(0, 256, (1, 3, side, side)))
    text = F.normalize(torch.randn(classes, model.tower.embed_dim), dim=-1)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        runners = programs(model, Path(folder))
        spent = time.perf_counter() - start
        seconds = measure(runners, images, text, runs)
        for runner, run in runners.items():
            told = "| | |"
            if runner != "live":
                parity = check_parity(model, run)
                logit = max(case.logit for case in parity.cases)
                told = f"| {parity.difference:.1e} of {logit:.2g} | {100 * parity.labels:.4f} |"
            ratio = seconds[runner] / seconds["live"]
            print(
                f"| {name} | {side} | {classes} | {runner} | {seconds[runner]:.4f} | {ratio:.2f} {told}",
                flush=True,
            )
    print(f"\n{name}: tracing, both files and reading them back took {spent:.0f} s\n", flush=True)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=MODELS)
    parser.add_argument("--runs", type=int, default=7, help="timed images; the median is printed")
    args = parser.parse_args()
    print(f"{torch.get_num_threads()} threads\n")
    print(
        "| model | side | classes | form | s/image | of live | largest logit difference | labels differ % |"
    )
    print("| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    for name in args.models:
        report(name, args.runs)


if __name__ == "__main__":
    main()
