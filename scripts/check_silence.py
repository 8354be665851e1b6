"""How long every command leaves its reader without a word, at most.

    python scripts/check_silence.py                    # all, on a terminal and into a log
    python scripts/check_silence.py predict export     # those whose name begins so
    python scripts/check_silence.py --fresh train      # as after an installation: no byte code there yet

Each command runs in a process of its own with the toy CLIP, once with a terminal as its output and once with a pipe. Told are
its seconds, the longest time between two outputs of any kind (the start counts as one) on each, what stood last before that
time, and the seconds from the last word to the end. On a terminal no silence should be above three seconds; in a log the
first word of some work should come within three seconds, and others of the same work within fifteen.
"""

import argparse
import os
import pty
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lexiseg.data.toy.world import ToyWorld

TERMINAL_LIMIT = 3.0
LOG_LIMIT = 16.0
"""Seconds; beyond them a command is marked."""

FIRST_IMPORT = "predict, first import"
"""Always without byte code, which is when importing takes longest."""


@dataclass(frozen=True)
class Silence:
    """Of one process.

    Attributes:
        seconds: It took.
        longest: Seconds without output.
        first: Seconds to the first output.
        before: The last of what stood before the longest silence.
        leaving: Seconds from the last word, which says that it is done, to the end: Python unloads what was imported.
        status: It ended with.
    """

    seconds: float
    longest: float
    first: float
    before: str
    leaving: float
    status: int


def listen(command: Sequence[str], env: dict[str, str], *, terminal: bool) -> Silence:
    """Run a command and note when it says something."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    started = last = time.monotonic()
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL, env=env)
    os.close(theirs)
    longest, first, before, tail = 0.0, None, "", b""
    while True:
        ready, _, _ = select.select([ours], [], [], 0.5)
        now = time.monotonic()
        if not ready:
            continue
        try:
            read = os.read(ours, 65536)
        except OSError:  # a terminal whose other side is closed
            read = b""
        if not read:
            break
        if now - last > longest:
            longest, before = now - last, _last_words(tail)
        last = now
        first = now - started if first is None else first
        tail = (tail + read)[-400:]
    os.close(ours)
    status, ended = process.wait(), time.monotonic()
    return Silence(ended - started, longest, first or longest, before, ended - last, status)


def _last_words(tail: bytes) -> str:
    text = tail.decode(errors="replace").replace("\x1b[2K", "\n").replace("\r", "\n")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-60:] if lines else "(the start)"


def commands(work: Path) -> dict[str, Callable[[str], list[str]]]:
    """What to run, by name; each takes the name of a folder that is new."""
    photos, large, words, prompts = work / "photos", work / "large.png", work / "words.txt", work / "many.txt"
    photos.mkdir()
    scenes = ToyWorld(partition="val", length=24, image_size=(480, 640))
    for index in range(len(scenes)):
        Image.fromarray(scenes[index].image).save(photos / f"{index}.png")
    scene = Image.fromarray(scenes[0].image)
    scene.resize((4000, 3000)).save(large)
    words.write_text("red ring\nwater\nsand\nblue circle\n")
    draw = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    prompts.write_text("\n".join({"".join(draw.choice(letters, 7)) for _ in range(5000)}))
    photo, checkpoint = str(photos / "0.png"), str(work / "trained" / "last.ckpt")
    toy = (
        "experiment=toy",
        "trainer=cpu",
        "data.val.length=8",
        "trainer.max_steps=30",
        "validation.every_steps=30",
    )
    few, rows = ("--classes-file", str(words)), "methods=[clip,resclip,tg-clip]"
    mine = ("experiment=pixelclip/toy", "mask_data=toy_folder", "trainer=cpu", "trainer.max_steps=20")
    clip = ("--clip", "toy", "--device", "cpu")
    asked = {
        "train": ("train", *toy, "output_dir=OUT"),
        "pixelclip, superpixels": ("pixelclip", *mine, f"images={photos}", "masks=superpixels", "output_dir=OUT"),
        "predict, 5,000 words": ("predict", photo, "--classes-file", str(prompts), *clip, "--out", "OUT"),
        "predict, 4000x3000": ("predict", str(large), *few, *clip, "--out", "OUT"),
        "predict, refined": ("predict", str(large), *few, *clip, "--refine", "--out", "OUT"),
        FIRST_IMPORT: ("predict", photo, *few, *clip, "--out", "OUT"),
        "predict, trained": ("predict", photo, *few, "--checkpoint", checkpoint, "--out", "OUT"),
        "export onnx": ("export", checkpoint, "--to", "onnx", "--out", "OUT"),
        "export torch": ("export", checkpoint, "--to", "torch", "--out", "OUT"),
        "export folder": ("export", checkpoint, "--to", "folder", "--out", "OUT"),
        "eval": ("eval", checkpoint, "data.val.length=40", "output=OUT.json"),
        "benchmark": ("benchmark", *("clip=toy", "device=cpu", "toy.data.length=6"), rows, "output=OUT"),
        "compare": ("compare", photo, *few, *clip, "--out", "OUT"),
        "masks build": ("masks", "build", str(photos), "--output", "OUT", "--workers", "1"),
        "data check": ("data", "check", "--data", "toy", "--split", "toy", "--out", "OUT"),
        "demo": ("demo", "--steps", "20", "--scenes", "8", "--out", "OUT"),
        "sweep": ("sweep", "ablation=table8", *toy, "rows=[concat,sum]", "seeds=[0]", "output=OUT"),
    }  # fmt: skip
    return {name: partial(_with_folder, words) for name, words in asked.items()}


def _with_folder(words: Sequence[str], folder: str) -> list[str]:
    return [word.replace("OUT", folder) for word in words]


def main() -> None:
    """Run all of them and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("only", nargs="*", metavar="NAME", help="beginnings of names")
    parser.add_argument("--fresh", action="store_true", help="without byte code, as after an installation")
    given = parser.parse_args()
    console = Console()
    table = Table("command", *("seconds", "on a terminal", "first in a log", "in a log", "leaving", "after"))
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        env = {key: value for key, value in os.environ.items() if key != "LEXISEG_QUIET"}
        env |= {"HF_HUB_OFFLINE": "1"}
        run = [sys.executable, "-m", "lexiseg.cli.main"]
        todo = commands(work)
        subprocess.run(
            [*run, *todo["train"](str(work / "trained"))], check=True, capture_output=True, env=env
        )
        for name, command in todo.items():
            if given.only and not name.startswith(tuple(given.only)):
                continue
            heard = {}
            for kind in ("terminal", "log"):
                env["LEXISEG_CACHE"] = str(work / f"cache {kind} {name}")
                env.pop("PYTHONPYCACHEPREFIX", None)
                if given.fresh or name == FIRST_IMPORT:
                    env["PYTHONPYCACHEPREFIX"] = str(work / f"bytes {kind} {name}")
                out = str(work / f"{kind} {name}".replace(" ", "_").replace(",", ""))
                heard[kind] = listen([*run, *command(out)], env, terminal=kind == "terminal")
                if heard[kind].status:
                    console.print(f"[red]{name} ended with status {heard[kind].status}[/red]")
            terminal, log = heard["terminal"], heard["log"]
            worst = terminal if terminal.longest > TERMINAL_LIMIT else log
            told = f"{terminal.longest:.1f} s after '{terminal.before}'"
            console.print(f"{name}: {told}; in a log {log.first:.1f}, {log.longest:.1f}", markup=False)
            table.add_row(
                name,
                f"{terminal.seconds:.1f}",
                _marked(terminal.longest, TERMINAL_LIMIT),
                _marked(log.first, TERMINAL_LIMIT),
                _marked(log.longest, LOG_LIMIT),
                f"{terminal.leaving:.1f}",
                escape(worst.before),
            )
    console.print(table)


def _marked(seconds: float, limit: float) -> str:
    return f"[red]{seconds:.1f}[/red]" if seconds > limit else f"{seconds:.1f}"


if __name__ == "__main__":
    main()
