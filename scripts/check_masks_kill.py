"""Kill `lexiseg masks build` again and again, resume it each time, and compare with one that nobody killed.

    python scripts/check_masks_kill.py                            # on scenes of the toy world
    python scripts/check_masks_kill.py --images data/camvid/train # on photographs, shrunk

Ten kills of the whole process group, at least two of them while a mask file is being written. Checks that the cache is
complete and equal to the uninterrupted one byte for byte (so no mask is lost), that no mask is there twice, that no
finished file was ever touched again, that nothing half-written is left, and that at most one image per kill and process
was worked on again.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from lexiseg.masks.sa1b import read_mask_file
from lexiseg.masks.superpixels import Superpixels
from struck_process import kill_all, start, strike_at_random, wait_until

_WORK_LOG = "LEXISEG_WORK_LOG"
_PART = ".masks.part"
_LONGEST_WAIT = 1.0
Stamps = dict[str, tuple[int, int]]


def _note_every_image(log: Path) -> None:
    """Have the provider add a line for each image that it starts on; worker processes import this script and do so too."""
    original = Superpixels.__call__

    def noted(self: Superpixels, image: np.ndarray) -> object:
        with log.open("a") as file:
            file.write(f"{image.shape}\n")
        return original(self, image)

    Superpixels.__call__ = noted  # type: ignore[method-assign, assignment]


if _WORK_LOG in os.environ:
    _note_every_image(Path(os.environ[_WORK_LOG]))


def _start(folder: Path, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--child", "masks", "build", str(folder), f"--workers={workers}"]
    return start(command, {_WORK_LOG: str(_log(folder))})


def _log(folder: Path) -> Path:
    return folder.parent / f"{folder.name}.log"


def _started(folder: Path) -> int:
    return len(_log(folder).read_text().splitlines()) if _log(folder).exists() else 0


def _parts(folder: Path) -> list[str]:
    return [entry.name for entry in os.scandir(folder) if entry.name.endswith(_PART)]


def _finished(folder: Path) -> Stamps:
    """Inode and time of each finished file: both change if it is written again."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("*.masks.json")}


def _kill_while_writing(process: subprocess.Popen[bytes], folder: Path) -> bool:
    """Kill as soon as a half-written file stands there; True if it is still there afterwards."""
    stale = set(_parts(folder))
    if not wait_until(process, lambda: bool(set(_parts(folder)) - stale), poll=0):
        return False
    kill_all(process)
    return bool(set(_parts(folder)) - stale)


def _kill_at_random(process: subprocess.Popen[bytes], folder: Path, rng: random.Random) -> bool:
    """Kill a random while after the first image; True if it fell into a write."""
    before, stale = _started(folder), set[str]()

    def strike(process: subprocess.Popen[bytes]) -> None:
        stale.update(_parts(folder))
        kill_all(process)

    struck = strike_at_random(process, lambda: _started(folder) != before, _LONGEST_WAIT, rng, strike)
    return struck and bool(set(_parts(folder)) - stale)


def _fill(folder: Path, images: Path | None, count: int, side: int) -> None:
    """Write the photographs to work on."""
    folder.mkdir()
    if images is None:
        from lexiseg.data.toy.world import ToyWorld

        world = ToyWorld(partition="train", length=count)
        pictures = [Image.fromarray(world[index].image) for index in range(count)]
    else:
        paths = sorted(path for path in images.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        pictures = [Image.open(path).convert("RGB") for path in paths[:count]]
    for index, picture in enumerate(pictures):
        picture.thumbnail((side, side))
        picture.save(folder / f"{index:03}.png")


def _repeated_masks(folder: Path) -> int:
    """Masks that a file holds more than once, over all files."""
    repeated = 0
    for path in folder.glob("*.masks.json"):
        runs = [counts.tobytes() for counts in read_mask_file(path).masks.runs]
        repeated += len(runs) - len(set(runs))
    return repeated


def _kill_again_and_again(folder: Path, args: argparse.Namespace) -> tuple[int, int, int]:
    """Returns kills, those that left a half-written file, and finished files that a later run touched."""
    rng = random.Random(args.seed)
    kills = writing = touched = 0
    total = len(list(folder.glob("*.png")))
    while kills < args.kills or writing < args.writing:
        before = _finished(folder)
        process = _start(folder, args.workers)
        aimed = writing < args.writing and kills % 2 == 0
        hit = _kill_while_writing(process, folder) if aimed else _kill_at_random(process, folder, rng)
        if process.returncode != -signal.SIGKILL:
            sys.exit(f"the build ended by itself after {kills} kills; give more --count")
        after = _finished(folder)
        kills, writing = kills + 1, writing + hit
        touched += sum(after.get(name) != stamp for name, stamp in before.items())
        print(f"kill {kills}{' while writing' if hit else ''}: {len(after)} of {total} finished", flush=True)
    return kills, writing, touched


def main() -> None:
    """Build twice, once killed, and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, help="folder of photographs (default: toy scenes)")
    parser.add_argument("--count", type=int, default=400, help="how many images")
    parser.add_argument("--side", type=int, default=240, help="longer side that they are shrunk to")
    parser.add_argument("--kills", type=int, default=10, help="how often to kill")
    parser.add_argument("--writing", type=int, default=2, help="how many kills must hit a write, at least")
    parser.add_argument("--workers", type=int, default=2, help="processes of the build")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        straight, killed = Path(scratch) / "straight", Path(scratch) / "killed"
        _fill(straight, args.images, args.count, args.side)
        shutil.copytree(straight, killed)
        if _start(straight, args.workers).wait():
            sys.exit("the uninterrupted build failed")
        kills, writing, touched = _kill_again_and_again(killed, args)
        before = _finished(killed)
        if _start(killed, args.workers).wait():
            sys.exit("the last resumption failed")
        after = _finished(killed)
        touched += sum(after.get(name) != stamp for name, stamp in before.items())
        expected = {path.name: path.read_bytes() for path in straight.glob("*.masks.json")}
        found = {path.name: path.read_bytes() for path in killed.glob("*.masks.json")}
        again, allowed = _started(killed) - len(expected), kills * args.workers
        repeated, left = _repeated_masks(killed), len(_parts(killed))
    print(f"{kills} kills, {writing} of them while a file was being written, {args.workers} processes")
    print(
        f"cache complete and equal to the uninterrupted one, byte for byte: {found == expected} ({len(found)} files)"
    )
    print(
        f"masks there twice: {repeated}; finished files touched again: {touched}; half-written files left: {left}"
    )
    print(f"images worked on again: {again}; allowed: {kills} kills × {args.workers} processes = {allowed}")
    sys.exit(0 if found == expected and again <= allowed and not repeated + touched + left else 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        from lexiseg.cli.main import main as lexiseg

        sys.exit(lexiseg(sys.argv[2:]))
    main()
