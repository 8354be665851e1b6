"""Seconds and peak memory of a whole Cascade-CLIP training step at ViT-B/16 on random weights, beside the floor.

    python scripts/bench_step.py                       # 512×512, 156 classes, batch 1 and 2, and one inference
    python scripts/bench_step.py --batch 4 --precision bf16

The floor is the time that the step's matrix products alone need at the rate this machine reaches on a product of the
same shape, measured in the same process. Operations are counted by torch's flop counter over one real step, so the
floor is of this implementation's own arithmetic: what the published code computes and nothing else.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench_support import peak_mib, product_rate, random_tower, synchronize
from lexiseg.losses.criterion import MaskCriterion
from lexiseg.models.cascade_clip import CascadeCLIP, CascadeSettings
from lexiseg.training.optim import OptimSettings, build_optimizer

_KIB_PER_MIB = 1024
_PUBLISHED = {1: (8.3, 4.6), 2: (20.8, 7.8)}
"""Seconds and GiB of the published code at batch 1 and 2, 156 classes, on two cores (measured once, elsewhere)."""


def _attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
    """Two products of all queries with all keys; torch's counter does not know the processor's fused attention."""
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[2] * (width + value[3])


def _attention_backward_flops(
    grad: torch.Size, query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object
) -> int:
    """Five products: the map once more, and the gradients of map, queries, keys and values."""
    return 5 * _attention_flops(query, key, value) // 2


_FLOPS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}


def _model(device: torch.device) -> CascadeCLIP:
    return CascadeCLIP(random_tower(device), CascadeSettings(prompt_length=50)).to(device)


def _measure(args: argparse.Namespace) -> dict[str, float]:
    """One configuration in this process."""
    torch.manual_seed(0)
    device = torch.device(args.device)
    model = _model(device)
    text = torch.nn.functional.normalize(torch.randn(args.classes, 512, device=device), dim=-1)
    images = torch.randn(args.batch, 3, args.size, args.size, device=device)
    coarse = torch.randint(0, args.classes, (args.batch, 1, 8, 8), device=device).float()
    labels = torch.nn.functional.interpolate(coarse, size=(args.size, args.size)).squeeze(1).long()
    optimizer, _ = build_optimizer(model, OptimSettings(), 1000)
    criterion = MaskCriterion()
    precision: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    if args.precision == "bf16":
        precision = lambda: torch.autocast(device.type, torch.bfloat16)  # noqa: E731

    def step() -> None:
        with precision():
            logits = model(images, text).logits
        loss = criterion(logits, labels)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def infer() -> None:
        with torch.no_grad(), precision():
            model(images, text)

    if args.mode == "infer":
        model.eval().requires_grad_(requires_grad=False)  # the flop counter trips over unused gradients
    run = infer if args.mode == "infer" else step
    run()
    peak = peak_mib(device)
    seconds = []
    for _ in range(args.steps):
        start = time.perf_counter()
        run()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    tokens = args.batch * (1 + 50 + (args.size // 16) ** 2)
    rates = [product_rate(device, tokens) for _ in range(3)]
    with FlopCounterMode(display=False, custom_mapping=_FLOPS) as counter:
        run()
    return {
        "seconds": statistics.median(seconds),
        "mib": max(peak, peak_mib(device) if device.type == "cuda" else peak),
        "gflop": counter.get_total_flops() / 1e9,
        "rate": max(rates),
    }


def main() -> None:
    """Print one line per configuration."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512, help="side of the square image")
    parser.add_argument("--classes", type=int, default=156, help="classes in training (156: COCO-Stuff seen)")
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 2], help="batch sizes")
    parser.add_argument("--steps", type=int, default=5, help="timed steps; the median is printed")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument(
        "--mode", choices=("step", "infer"), help="measure one thing and print JSON (used by the parent)"
    )
    args = parser.parse_args()
    if args.mode:
        args.batch = args.batch[0]
        print(json.dumps(_measure(args)))
        return
    print(
        f"ViT-B/16, {args.size}×{args.size}, {args.precision}, {args.device}, {torch.get_num_threads()} threads"
    )
    runs = [("step", batch, args.classes) for batch in args.batch] + [("infer", 1, 171)]
    for mode, batch, classes in runs:
        command = [sys.executable, __file__, "--mode", mode, "--batch", str(batch), "--classes", str(classes)]
        for name in ("size", "steps", "device", "precision"):
            command += [f"--{name}", str(getattr(args, name))]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        floor = row["gflop"] / row["rate"]
        line = (
            f"{mode:5s} batch {batch}, {classes} classes: {row['seconds']:6.2f} s, peak {row['mib'] / 1024:5.2f} GiB; "
            f"{row['gflop']:.0f} GFLOP at {row['rate']:.0f} GFLOP/s = floor {floor:.2f} s, {row['seconds'] / floor:.2f} of it"
        )
        if mode == "step" and batch in _PUBLISHED and args.device == "cpu" and args.size == 512:
            seconds, gib = _PUBLISHED[batch]
            shares = f"{row['seconds'] / seconds:.2f} and {row['mib'] / _KIB_PER_MIB / gib:.2f}"
            line += f"; published {seconds} s, {gib} GiB: {shares} of it"
        print(line)


if __name__ == "__main__":
    main()
