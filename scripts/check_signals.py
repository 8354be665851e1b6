"""Stop each long command at random moments, by SIGTERM, Ctrl-C and SIGKILL, and go on as its own message says.

    python scripts/check_signals.py                          # all six commands, ten moments for each signal; half an hour
    python scripts/check_signals.py train predict --moments 3

On the toy world. A run starts with the command that the one before it named. After each signal: the status is 143 or 130,
there is one line of ours and no traceback, no process is left, every file opens, none is half-written; when all signals have
been sent, the last command named must end with status 0. A third of the moments lie in the start, from when our handlers
are there, some hundredths of a second after Python began. Linux.
"""

import argparse
import csv
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from struck_process import hears, kill, living, start, strike_at_random

_TRAIN = (
    "trainer=cpu optim.warmup_steps=2 data.train.image_size=[64,96] data.train_transform.base=[64,96] "
    "data.train_transform.crop=[64,96] data.val.image_size=[64,96] data.val.length=4 data.batch_size=4 "
    "data.num_workers=2 validation.panels=1 checkpoint.every_steps=3 "
)
COMMANDS = {
    "train": f"train {_TRAIN} trainer.max_steps=40 validation.every_steps=10 output_dir=OUT",
    "pixelclip": (
        "pixelclip experiment=pixelclip/toy mask_data.num_workers=2 trainer.max_steps=40 checkpoint.every_steps=3 "
        "pictures.every_steps=20 pictures.images=8 output_dir=OUT"
    ),
    "predict": "predict PHOTOS --classes 'sand, bricks, water' --clip toy --scores --out OUT",
    "masks build": "masks build PHOTOS --workers 2 --output OUT",
    "benchmark": "benchmark clip=toy methods=[clip,maskclip,sclip,clearclip,naclip] limit=8 output=OUT",
    "sweep": (
        f"sweep ablation=table8 rows=[sum,nga] seeds=[0] {_TRAIN} trainer.max_steps=20 validation.every_steps=20 output=OUT"
    ),
}
_PHOTOGRAPHS = 150
_IN_START, _AT_WORK = 5.0, 4.0
"""Seconds after the handlers are there, and after the first file, in which a moment is drawn."""

_ORPHANS_GONE = 20.0
"""Seconds that processes of a killed one have to notice it."""

_NOISE = ("Traceback", "Exception ignored", "Exception in thread", "leaked", "KeyboardInterrupt", "Error:")
_CAN_READ: dict[str, Callable[[Path], object]] = {
    ".json": lambda path: json.loads(path.read_text()),
    ".yaml": lambda path: yaml.safe_load(path.read_text()),
    ".ckpt": lambda path: torch.load(path, weights_only=True),
    ".safetensors": load_file,
    ".png": lambda path: Image.open(path).load(),
    ".csv": lambda path: _require_rows(path),
}


@dataclass
class Tally:
    """What came of one signal on one command."""

    in_start: int = 0
    at_work: int = 0
    slowest: float = 0.0
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Blow:
    """One signal at one moment."""

    number: signal.Signals
    early: bool


class Case:
    """One command, struck again and again; a run that ends by itself is followed by one in a new folder."""

    def __init__(self, name: str, scratch: Path, rng: random.Random) -> None:
        self.name, self.scratch, self.rng = name, scratch, rng
        self.tallies = {number: Tally() for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)}
        self.ended, self._folders = 0, 0
        self._anew()

    def run(self, blows: list[Blow]) -> None:
        """Deal all blows, then let the last command named go to its end."""
        while blows:
            if self._deal(blows[-1]):
                blows.pop()
        process, _ = self._start()
        self._ended_well(process.wait())

    def _anew(self) -> None:
        self._folders += 1
        self.out = self.scratch / f"{self.name.replace(' ', '_')}{self._folders}"
        given = (
            COMMANDS[self.name].replace("OUT", str(self.out)).replace("PHOTOS", str(self.scratch / "photos"))
        )
        self.command = ["lexiseg", *shlex.split(given)]

    def _start(self) -> tuple[subprocess.Popen[bytes], Path]:
        messages = self.out.with_suffix(".err")
        command = [sys.executable, "-m", "lexiseg.cli.main", *self.command[1:]]
        return start(command, {"OMP_NUM_THREADS": "1"}, messages), messages

    def _deal(self, blow: Blow) -> bool:
        """One run and one blow; False if the run ended first."""
        begun = time.time_ns()
        process, messages = self._start()
        seen = (
            partial(hears, process, signal.SIGTERM)
            if blow.early
            else lambda: any(_written(path) > begun for path in _files(self.out))
        )
        within = _IN_START if blow.early else _AT_WORK
        struck = strike_at_random(process, seen, within, self.rng, partial(self._strike, blow.number))
        at = time.monotonic()
        status = process.wait(timeout=120)
        if not struck or status == 0:
            self._ended_well(status)
            self._anew()
            return False
        tally = self.tallies[blow.number]
        tally.slowest = max(tally.slowest, time.monotonic() - at)
        tally.in_start, tally.at_work = tally.in_start + blow.early, tally.at_work + (not blow.early)
        faults = list(self._faults(blow.number, process.pid, status, messages.read_text()))
        tally.wrong += faults
        told = "; ".join(faults) or "as promised"
        print(f"{self.name}, {blow.number.name}{' in start' if blow.early else ''}: {told}", flush=True)
        return True

    def _strike(self, number: signal.Signals, process: subprocess.Popen[bytes]) -> None:
        if number == signal.SIGKILL:
            kill(process)
        elif number == signal.SIGINT or self.rng.random() < 0.5:  # a terminal's Ctrl-C comes to all processes
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)

    def _faults(self, number: signal.Signals, session: int, status: int, said: str) -> Iterator[str]:
        """What is not as promised after a signal; the command that goes on is noted."""
        killed = number == signal.SIGKILL
        if status != (-number if killed else 128 + number):
            yield f"status {status}"
        ours = [line for line in said.splitlines() if line.startswith("lexiseg:")]
        if len(ours) != (0 if killed else 1) or any(noise in said for noise in _NOISE):
            yield f"said {said[-1500:]!r}"
        elif not killed:
            self.command = shlex.split(re.split(r"(?:go on|begin anew) with: ", ours[0])[1])
        deadline = time.monotonic() + (_ORPHANS_GONE if killed else 1.0)
        while (left := living(session)) and time.monotonic() < deadline:
            time.sleep(0.05)
        if left:
            yield f"{len(left)} processes left"
        for path in _files(self.out):
            if fault := _fault_of(path, killed):
                yield f"{path.relative_to(self.out)}: {fault}"

    def _ended_well(self, status: int) -> None:
        if status != 0:
            sys.exit(
                f"{shlex.join(self.command)}\nended with {status}: {self.out.with_suffix('.err').read_text()}"
            )
        self.ended += 1


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def _written(path: Path) -> int:
    """When a file was last written, in nanoseconds; 0 where it has just been renamed."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _fault_of(path: Path, killed: bool) -> str:
    """Why a file is not whole; empty if it is."""
    if any(".part" in part for part in path.parts[-2:]):
        return "" if killed else "left half-written"  # under a name of its own: nobody takes it for the file
    try:
        _CAN_READ.get(path.suffix, Path.read_bytes)(path)
    except Exception as error:  # whatever a reader says of half a file
        return f"{type(error).__name__} {error}"
    return ""


def _require_rows(path: Path) -> None:
    with path.open(newline="") as file:
        if any(len(row) != 3 for row in csv.reader(file)):
            raise ValueError("half a row")


def _photographs(folder: Path) -> None:
    from lexiseg.data.toy.world import ToyWorld

    folder.mkdir()
    world = ToyWorld(partition="train", length=_PHOTOGRAPHS)
    for index in range(_PHOTOGRAPHS):
        Image.fromarray(world[index].image).save(folder / f"{index:03}.png")


def _blows(moments: int, kills: int, rng: random.Random) -> list[Blow]:
    """In random order: every third moment of a signal lies in the start."""
    counts = {signal.SIGTERM: moments, signal.SIGINT: moments, signal.SIGKILL: kills}
    blows = [Blow(number, index % 3 == 2) for number, count in counts.items() for index in range(count)]
    rng.shuffle(blows)
    return blows


def main() -> None:
    """Strike every command, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commands", nargs="*", default=list(COMMANDS), help=f"of {', '.join(COMMANDS)}")
    parser.add_argument("--moments", type=int, default=10, help="moments of SIGTERM, and as many of Ctrl-C")
    parser.add_argument("--kills", type=int, default=3, help="moments of SIGKILL")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    cases: list[Case] = []
    with tempfile.TemporaryDirectory() as scratch:
        _photographs(Path(scratch) / "photos")
        for name in args.commands:
            rng = random.Random(f"{args.seed} {name}")
            cases.append(Case(name, Path(scratch), rng))
            cases[-1].run(_blows(args.moments, args.kills, rng))
    print("\n| command | signal | in start | at work | as promised | slowest, s | runs that ended with 0 |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for case in cases:
        for number, tally in case.tallies.items():
            hits = tally.in_start + tally.at_work
            well = f"{'all' if not tally.wrong else f'{len(tally.wrong)} faults'} of {hits}"
            told = (
                case.name,
                number.name,
                tally.in_start,
                tally.at_work,
                well,
                f"{tally.slowest:.1f}",
                case.ended,
            )
            print(f"| {' | '.join(map(str, told))} |")
    sys.exit(any(tally.wrong for case in cases for tally in case.tallies.values()))


if __name__ == "__main__":
    main()
