"""What a command costs before it does its work: every ``--help``, and ``predict`` beside the libraries it stands on.

    python scripts/bench_start.py                 # best of 5 processes each
    python scripts/bench_start.py --repeats 9

Every line is a process of its own, from its start to its end: seconds on the clock, seconds of processor time (which other
work on the machine changes less), and peak memory. ``predict`` reads one small toy photograph with the toy CLIP; its bare
libraries are ``import torch`` and the CLIP classes of transformers. The last column is the processor time against these.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lexiseg.cli.main import FLAG_COMMANDS, HYDRA_COMMANDS

BARE = "import torch; from transformers import CLIPModel, CLIPTokenizer"
RENDER = (
    "import sys; from PIL import Image; from lexiseg.data.toy.world import ToyWorld; "
    "Image.fromarray(ToyWorld(partition='val', length=1)[0].image).save(sys.argv[1])"
)
"""In a process of its own: a child's peak memory is never counted below its parent's, so this one stays small."""

NESTED = ("data prepare", "data check", "masks build", "masks show", "analyze cka", "analyze patches")


@dataclass(frozen=True)
class Cost:
    """Of one process: seconds on the clock, seconds of processor time, MiB at its peak."""

    clock: float
    processor: float
    mib: float


def measure(command: Sequence[str], repeats: int) -> Cost:
    """The best of several processes, number by number.

    Raises:
        RuntimeError: A process failed.
    """
    costs = [_once(command) for _ in range(repeats)]
    return Cost(*(min(getattr(cost, name) for cost in costs) for name in ("clock", "processor", "mib")))


def _once(command: Sequence[str]) -> Cost:
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    clock = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
    return Cost(clock, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--repeats", type=int, default=5, help="processes per line; the best counts (default: 5)"
    )
    repeats = parser.parse_args().repeats
    lexiseg = ["-m", "lexiseg.cli.main"]
    print(f"{'':24s} {'s':>6s} {'CPU s':>6s} {'MiB':>5s} {'ratio':>6s}")
    for name in ("", *HYDRA_COMMANDS, *FLAG_COMMANDS, *NESTED):
        tell(f"{name} --help".strip(), measure([*lexiseg, *name.split(), "--help"], repeats))
    bare = measure(["-c", BARE], repeats)
    tell("torch, transformers' CLIP", bare)
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "scene.png"
        subprocess.run([sys.executable, "-c", RENDER, str(photo)], check=True)
        words = ["--classes", "bricks, sand", "--clip", "toy", "--device", "cpu", "--out", folder]
        cost = measure([*lexiseg, "predict", str(photo), *words], repeats)
    tell("predict, toy CLIP", cost, cost.processor / bare.processor)


def tell(name: str, cost: Cost, ratio: float | None = None) -> None:
    """Print one line."""
    against = "" if ratio is None else f"{ratio:6.2f}"
    print(f"{name:24s} {cost.clock:6.2f} {cost.processor:6.2f} {cost.mib:5.0f} {against}", flush=True)


if __name__ == "__main__":
    main()
