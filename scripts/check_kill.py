"""Kill a training again and again, resume it each time, and compare with one that nobody killed.

    python scripts/check_kill.py                 # ten kills, three of them while a checkpoint is being written

Checks that the final weights are equal bit for bit, and that the steps executed over all restarts are at most the total
plus kills × checkpoint interval. A few minutes on two cores.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from struck_process import kill, start, strike_at_random, wait_until

_SETTINGS = (
    "trainer=cpu",
    "optim.warmup_steps=2",
    "data.train.image_size=[64,96]",
    "data.train_transform.base=[64,96]",
    "data.train_transform.crop=[64,96]",
    "data.val.image_size=[64,96]",
    "data.val.length=4",
    "data.batch_size=4",
    "validation.panels=0",
    "resume=auto",
)
_STEP_LOG = "LEXISEG_STEP_LOG"
_POLL_SECONDS = 0.0005
_LONGEST_WAIT = 4.0


def _child(overrides: list[str]) -> None:
    """Train, noting every executed step in a file."""
    from lexiseg.cli.main import main as lexiseg
    from lexiseg.training.task import SegmentationTask

    step_log, original = Path(os.environ[_STEP_LOG]), SegmentationTask.training_step

    def noted(self: SegmentationTask, batch: object, index: int) -> torch.Tensor:
        loss = original(self, batch, index)  # type: ignore[arg-type]
        with step_log.open("a") as file:
            file.write(f"{self.global_step}\n")
        return loss

    SegmentationTask.training_step = noted  # type: ignore[method-assign, assignment]
    sys.exit(lexiseg(["train", *overrides]))


def _start(folder: Path, args: argparse.Namespace) -> subprocess.Popen[bytes]:
    overrides = [
        *_SETTINGS,
        f"output_dir={folder}",
        f"trainer.max_steps={args.steps}",
        f"checkpoint.every_steps={args.every}",
        f"validation.every_steps={args.steps // 3}",
    ]
    environment = {_STEP_LOG: str(folder.parent / f"{folder.name}.steps")}
    command = [sys.executable, __file__, "--child", *overrides]
    return start(command, environment)


def _executed(folder: Path) -> int:
    log = folder.parent / f"{folder.name}.steps"
    return len(log.read_text().splitlines()) if log.exists() else 0


def _kill_while_writing(process: subprocess.Popen[bytes], folder: Path) -> bool:
    """Kill as soon as a half-written checkpoint stands there; False if the run ended first."""
    partial = folder / "last.ckpt.part"
    if not wait_until(process, partial.exists, _POLL_SECONDS):
        return False
    kill(process)
    return partial.exists()  # still there: the write had not finished


def _kill_at_random(process: subprocess.Popen[bytes], folder: Path, rng: random.Random) -> bool:
    """Kill a random while after the first new step; False if the run ended first."""
    before = _executed(folder)
    return strike_at_random(process, lambda: _executed(folder) != before, _LONGEST_WAIT, rng, kill)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]


def main() -> None:
    """Run both trainings and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10, help="how often to kill")
    parser.add_argument(
        "--writing", type=int, default=3, help="how many of the kills hit a checkpoint being written"
    )
    parser.add_argument("--steps", type=int, default=90, help="length of the training")
    parser.add_argument("--every", type=int, default=5, help="checkpoint interval")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        straight, killed = Path(scratch) / "straight", Path(scratch) / "killed"
        if _start(straight, args).wait():
            sys.exit("the uninterrupted training failed")
        kinds = ["writing"] * args.writing + ["random"] * (args.kills - args.writing)
        rng.shuffle(kinds)
        done = {"writing": 0, "random": 0}
        while kinds:
            process = _start(killed, args)
            kind = kinds[-1]
            hit = (
                _kill_while_writing(process, killed)
                if kind == "writing"
                else _kill_at_random(process, killed, rng)
            )
            if process.returncode == 0:
                sys.exit(f"the run ended after {sum(done.values())} kills; give more --steps")
            # A kill that came a moment after the write still counts, as a random one.
            done[kind if hit else "random"] += 1
            if hit or kind == "random":
                kinds.pop()
            print(
                f"kill {sum(done.values())} ({kind if hit else 'just after writing'}), steps so far {_executed(killed)}"
            )
        if _start(killed, args).wait():
            sys.exit("the last resumption failed")
        expected, found = _weights(straight), _weights(killed)
        equal = expected.keys() == found.keys() and all(torch.equal(expected[k], found[k]) for k in expected)
        kills, executed = sum(done.values()), _executed(killed)
        allowed = args.steps + kills * args.every
        print(f"{kills} kills ({done['writing']} while writing): weights equal bit for bit: {equal}")
        print(
            f"steps executed {executed} for {args.steps}; allowed {args.steps} + {kills} × {args.every} = {allowed}"
        )
        sys.exit(0 if equal and executed <= allowed else 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(sys.argv[2:])
    else:
        main()
