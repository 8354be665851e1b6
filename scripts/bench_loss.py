"""Seconds and peak memory of the fused mask loss beside the direct formulation, each in a process of its own.

    python scripts/bench_loss.py
    python scripts/bench_loss.py --size 256 --classes 59 --batch 4

Direct is what the formulas say under autograd: interpolate to full size, one-hot, focal on binary cross-entropy,
sigmoid dice. The tests check it, and the fused form, against published values.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch

from lexiseg.losses.functional import direct_mask_loss
from lexiseg.losses.fused import MaskLossWeights, count_masks, fused_mask_loss

_KIB_PER_MIB = 1024


def _peak_mib() -> float:
    """Peak resident memory of this process so far, in MiB (Linux reports KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_MIB


def _measure(form: str, args: argparse.Namespace) -> dict[str, float]:
    """Run one form in this process: seconds per step (median), memory above the inputs, loss and gradient norm."""
    torch.manual_seed(0)
    grid = args.size // 16
    logits = torch.randn(args.batch, args.classes, grid, grid, requires_grad=True)
    blocks = torch.randint(
        0, args.classes, (args.batch, 1, args.size // 64 or 1, args.size // 64 or 1)
    ).float()
    labels = torch.nn.functional.interpolate(blocks, size=(args.size, args.size)).squeeze(1).long()
    num_masks = count_masks(labels, args.classes)
    weights = MaskLossWeights()
    torch.nn.functional.interpolate(
        torch.randn(1, 1, 8, 8), size=(16, 16)
    )  # load kernels before the baseline
    before, seconds = _peak_mib(), []
    for _ in range(args.steps):
        logits.grad = None
        start = time.perf_counter()
        if form == "direct":
            focal, dice = direct_mask_loss(logits, labels, float(num_masks))
            loss = weights.focal * focal + weights.dice * dice
        else:
            loss, _, _ = fused_mask_loss(logits, labels, num_masks, weights)
        loss.backward()
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": statistics.median(seconds),
        "mib": _peak_mib() - before,
        "loss": loss.item(),
        "gradient_norm": logits.grad.norm().item(),  # type: ignore[union-attr]
    }


def main() -> None:
    """Print a table of both forms and their ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size", type=int, default=512, help="side of the label map in pixels; logits have size/16"
    )
    parser.add_argument("--classes", type=int, default=156, help="classes in the loss (156: COCO-Stuff seen)")
    parser.add_argument("--batch", type=int, default=2, help="images per step")
    parser.add_argument("--steps", type=int, default=5, help="steps per form; the median is printed")
    parser.add_argument(
        "--form", choices=("direct", "fused"), help="measure one form and print JSON (used by the parent)"
    )
    args = parser.parse_args()
    if args.form:
        print(json.dumps(_measure(args.form, args)))
        return
    results = {}
    for form in ("direct", "fused"):
        command = [sys.executable, __file__, "--form", form]
        for name in ("size", "classes", "batch", "steps"):
            command += [f"--{name}", str(getattr(args, name))]
        results[form] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    direct, fused = results["direct"], results["fused"]
    print(
        f"{args.batch} × {args.classes} × {args.size}×{args.size}, {torch.get_num_threads()} threads, forward + backward"
    )
    for form, row in results.items():
        print(
            f"{form:7s} {row['seconds']:7.3f} s  {row['mib']:8.1f} MiB above the inputs  loss {row['loss']:.6f}"
        )
    print(
        f"direct / fused: time {direct['seconds'] / fused['seconds']:.1f}×, memory {direct['mib'] / fused['mib']:.1f}×"
    )
    gap = abs(direct["gradient_norm"] - fused["gradient_norm"]) / direct["gradient_norm"]
    print(f"relative difference of the gradients' norms {gap:.1e}")


if __name__ == "__main__":
    main()
