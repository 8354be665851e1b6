"""Real commands, stopped by a signal: one line, the status, nothing half-written or running; the line's command goes on."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from lexiseg.cli.main import main
from lexiseg.data.toy.world import ToyWorld

TRAIN = (
    "trainer=cpu optim.warmup_steps=2 data.train.image_size=[64,96] data.train_transform.base=[64,96] "
    "data.train_transform.crop=[64,96] data.val.image_size=[64,96] data.val.length=2 data.batch_size=2 data.num_workers=2 "
    "validation.panels=0 checkpoint.every_steps=2"
)
COMMANDS = {
    "train": f"train {TRAIN} trainer.max_steps=12 output_dir=OUT",
    "pixelclip": (
        "pixelclip experiment=pixelclip/toy mask_data.num_workers=2 trainer.max_steps=12 checkpoint.every_steps=2 "
        "pictures.every_steps=0 pictures.images=3 output_dir=OUT"
    ),
    "predict": "predict PHOTOS --classes 'sand, bricks' --clip toy --out OUT",
    "masks": "masks build PHOTOS --workers 2 --output OUT",
    "benchmark": "benchmark clip=toy methods=[clip,maskclip,sclip] limit=5 output=OUT",
    "sweep": f"sweep ablation=table8 rows=[sum,nga] seeds=[0] {TRAIN} trainer.max_steps=5 output=OUT",
}
FIRST = {
    "train": "last.ckpt",
    "pixelclip": "last.ckpt",
    "benchmark": "results.json",
    "sweep": "*/*/last.ckpt",
}
"""The file whose coming tells that work is under way; the other commands write one file per photograph."""

TOLD = {
    "train": r"step \d+ is kept in .*last\.ckpt",
    "pixelclip": r"step \d+ is kept in .*last\.ckpt",
    "predict": r"\d+ of 41 photographs are segmented",
    "masks": r"\d+ of 41 photographs have their masks",
    "benchmark": r"results\.json keeps \d of 3 scores",
    "sweep": r"[01] of 2 runs in .* are complete; step \d is kept in .*last\.ckpt",
}


@pytest.fixture
def words(tmp_path):
    """A command's words, with photographs to work on and a place for its results."""

    def filled(name):
        photos = tmp_path / "photos"
        if not photos.exists():
            photos.mkdir()
            world = ToyWorld(partition="train", length=41)
            for index in range(len(world)):
                Image.fromarray(world[index].image).save(photos / f"{index:02}.png")
        text = COMMANDS[name].replace("OUT", str(tmp_path / "out")).replace("PHOTOS", str(photos))
        return shlex.split(text)

    return filled


def stopped(words, out, first, number, *, group):
    """Status and messages of a command that got a signal as soon as its first file was there, and who was left."""
    with out.with_name("messages").open("w") as messages:
        process = subprocess.Popen(
            [sys.executable, "-m", "lexiseg.cli.main", *words],
            stdout=subprocess.DEVNULL,
            stderr=messages,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    while not list(out.glob(first)):
        assert process.poll() is None, out.with_name("messages").read_text()
        time.sleep(0.01)
    (os.killpg if group else os.kill)(process.pid, number)
    status = process.wait(timeout=60)
    deadline = time.monotonic() + 2  # multiprocessing's own helper ends a moment after the command
    while living(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return status, out.with_name("messages").read_text(), living(process.pid)


def living(session):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(its_session) == session and state not in "ZX":
            found.append(stat.parent.name)
    return found


def require_as_promised(words, out, first, number, *, group):
    """Stop the command; returns the words of the one that its line names."""
    status, said, left = stopped(words, out, first, number, group=group)
    assert status == 128 + number, said
    assert "Traceback" not in said
    ours = [line for line in said.splitlines() if line.startswith("lexiseg:")]
    assert len(ours) == 1, said
    assert not left
    assert not [path for path in out.rglob("*") if ".part" in path.name]
    for path in out.rglob("*.json"):
        json.loads(path.read_text())
    told, command = re.split(r"; (?:go on|begin anew) with: ", ours[0])
    assert told.startswith("lexiseg: interrupted; ")
    return told, shlex.split(command)[1:]


pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.usefixtures("ctrl_c"),
]


@pytest.mark.slow
def test_training_with_workers_and_ctrl_c(words, tmp_path):
    out, given = tmp_path / "out", [*words("train"), "resume=false"]
    told, again = require_as_promised(given, out, "last.ckpt", signal.SIGINT, group=True)
    assert "is kept in" in told
    assert str(out / "last.ckpt") in told
    assert again == [*given[:-1], "resume=auto"], "resume=false would throw the checkpoint away"
    assert main(again) == 0
    assert json.loads((out / "result.json").read_text())["step"] == 12


def test_prediction_and_sigterm(words, tmp_path):
    out, given = tmp_path / "out", words("predict")
    told, again = require_as_promised(given, out, "*_labels.png", signal.SIGTERM, group=False)
    assert "of 41 photographs are segmented" in told
    assert again == given
    for path in out.glob("*.png"):
        Image.open(path).load()


@pytest.mark.slow
@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command(words, tmp_path, name, number, group):
    out, given = tmp_path / "out", words(name)
    told, again = require_as_promised(given, out, FIRST.get(name, "*.json"), number, group=group)
    assert re.search(TOLD[name], told), told
    assert again == given
    assert main(again) == 0
