"""Places: folders without rights, full disks, files where folders should be, links in circles, two runs in one folder."""

import contextlib
import ctypes
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from campaign.case import Answer, Case, Expected
from campaign.made import BESIDE, SIZE, WORDS, answered, check_prediction, predicting, read_ids, scene
from campaign.weights import training
from lexiseg.cli.main import main

KIND = "file system"

_TO_COMPARE = ["compare", "photo.png", "--classes", ", ".join(WORDS), "--clip", "toy", "--methods", "clip"]
_TO_ANALYZE = ["analyze", "patches", "photo.png", "--at", "3,5", "--clip", "toy", "--blocks", "12"]
_TO_BENCHMARK = [
    "benchmark",
    "clip=toy",
    "methods=[clip]",
    "toy.data.length=1",
    "toy.data.image_size=[40,56]",
]

Arguments = Callable[[str], list[str]]

_WRITERS: dict[str, Arguments] = {
    "predict": lambda out: _into(predicting("photo.png"), out),
    "compare": lambda out: [*_TO_COMPARE, "--out", out],
    "masks build": lambda out: ["masks", "build", "photo.png", "--output", out, "--workers", "1"],
    "analyze": lambda out: [*_TO_ANALYZE, "--out", out],
    "train": lambda out: [*training(), f"output_dir={out}"],
    "benchmark": lambda out: [*_TO_BENCHMARK, f"output={out}"],
    "data check": lambda out: ["data", "check", "--data", "toy", "--out", out, "--overlays", "1"],
}
"""Commands that write into a folder."""


def _into(arguments: list[str], out: str) -> list[str]:
    arguments[arguments.index("--out") + 1] = out
    return arguments


def cases() -> Iterator[Case]:
    """Places, then disks, then two at a time."""
    yield from _places()
    yield from _inputs()
    yield from _disks()
    yield from _names()
    yield from _twice()
    yield from _again()


def _photo() -> None:
    Image.fromarray(scene()).save("photo.png")


def _a_file(path: Path) -> None:
    path.write_text("mine")


def _closed(path: Path) -> None:
    path.mkdir()
    path.chmod(0o555)


def _dark(path: Path) -> None:
    path.mkdir()
    path.chmod(0)


def _with_others(path: Path) -> None:
    path.mkdir()
    (path / "mine.txt").write_text("mine")


_REFUSED: dict[str, tuple[Callable[[Path], object], str, bool]] = {
    "a file": (_a_file, "out", False),
    "below a file": (_a_file, "out/deeper", False),
    "a closed folder": (_closed, "out", True),
    "below a closed folder": (_closed, "out/deeper/yet", True),
    "a folder that cannot be looked into": (_dark, "out", True),
    "a link to itself": (lambda path: path.symlink_to("out"), "out", False),
    "a device": (lambda path: path.symlink_to("/dev/null"), "out", False),
    "a name too long": (lambda path: None, "o" * 300, False),
    "a path too long": (lambda path: None, "/".join(["out", *(["d" * 200] * 30)]), False),
    "a place of the system": (lambda path: None, "/proc/lexiseg", True),
}
"""How ``out`` is made, which folder is asked for, and whether root would get in."""


def _places() -> Iterator[Case]:
    accepted = {
        "an empty folder": Path.mkdir,
        "a link to an empty folder": _link_to_folder,
        "a folder with things of others": _with_others,
    }
    for command, arguments in _WRITERS.items():
        for name, (make, out, ordinary) in _REFUSED.items():
            prepare = _made(make, out, arguments)
            yield Case(KIND, f"{command} into {name}", prepare, ordinary_user=ordinary, writes=())
        for name, make_good in accepted.items():
            yield Case(
                KIND,
                f"{command} into {name}",
                _made(make_good, "out", arguments),
                Expected.ANSWERED,
                _judge_with_others if "others" in name else _judge_wrote,
                writes=("out", "elsewhere"),
            )


def _made(make: Callable[[Path], object], out: str, arguments: Arguments) -> Callable[[], list[str]]:
    def prepare() -> list[str]:
        _photo()
        make(Path("out"))
        return arguments(out)

    return prepare


def _judge_wrote(answer: Answer) -> None:
    assert answer.wrote, "wrote nothing"


def _judge_with_others(answer: Answer) -> None:
    _judge_wrote(answer)
    assert Path("out/mine.txt").read_text() == "mine"


def _inputs() -> Iterator[Case]:
    def unread(*command: str) -> Callable[[], list[str]]:
        def prepare() -> list[str]:
            Path("photos").mkdir()
            Image.fromarray(scene()).save("photos/a.png")
            Path("photos").chmod(0)
            return list(command)

        return prepare

    prepare = unread(*predicting("photos"))
    yield Case(KIND, "photographs in a folder that cannot be looked into", prepare, ordinary_user=True)
    prepare = unread("masks", "build", "photos", "--output", "out")
    yield Case(KIND, "masks of a folder that cannot be looked into", prepare, ordinary_user=True)

    def circle() -> list[str]:
        Path("photos/deeper").mkdir(parents=True)
        Image.fromarray(scene()).save("photos/a.png")
        Path("photos/deeper/up").symlink_to("../..")
        return ["masks", "build", "photos", "--output", "out", "--workers", "1"]

    def judge_circle(answer: Answer) -> None:
        answered(answer, "1 made")

    yield Case(KIND, "masks of a folder with a link in a circle", circle, Expected.ANSWERED, judge_circle)


def _link_to_folder(path: Path) -> None:
    Path("elsewhere").mkdir()
    path.symlink_to("elsewhere")


def _disks() -> Iterator[Case]:
    for command, arguments in _WRITERS.items():
        for size in (0, 3000):

            def prepare(arguments: Arguments = arguments, size: int = size) -> list[str]:
                _photo()
                _small_disk(Path("out"), size)
                return arguments("out")

            name = f"{command} onto a disk of {size} bytes"
            yield Case(KIND, name, prepare, Expected.EITHER, says=("cannot write",), keeps=True)


def _small_disk(path: Path, size: int) -> None:
    """A file system that is soon full; where none may be mounted, no file may become larger."""
    path.mkdir()
    library = ctypes.CDLL(None, use_errno=True)
    private = library.unshare(0x00020000) == 0 and library.mount(b"none", b"/", None, 0x44000, None) == 0
    options = f"size=4k,nr_inodes={3 if size == 0 else 40}".encode()
    if private and library.mount(b"tmpfs", os.fsencode(path.absolute()), b"tmpfs", 0, options) == 0:
        if size == 0:
            (path / "full").write_bytes(bytes(4096))
        return
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


_NAMES = (
    "line\nbreak", "tab\tstop", " blanks ", "-dash", "--out", "quote'quote", 'double"quote', "back\\slash", "ünïcödé", "日本語",
    "[bold]", "${nothing}", "$HOME", "a=b", "a,b", "a:b", "{a}", "*", "~", "#", "%s", "\x1b[31mred", "..dots", "con",
)  # fmt: skip


def _names() -> Iterator[Case]:
    for name in _NAMES:

        def prepare(name: str = name) -> list[str]:
            folder = Path("in") / name
            folder.mkdir(parents=True)
            Image.fromarray(scene()).save(folder / f"{name}.png")
            return predicting(str(folder / f"{name}.png"))

        def judge(_: Answer, name: str = name) -> None:
            check_prediction(name, SIZE)

        yield Case(KIND, f"a photograph in a folder called {name!r}", prepare, Expected.ANSWERED, judge)

        def prepare_out(name: str = name) -> list[str]:
            _photo()
            return _into(predicting("photo.png"), f"./{name}")

        def judge_out(_: Answer, name: str = name) -> None:
            check_prediction("photo", SIZE, out=name)

        yield Case(
            KIND,
            f"results in a folder called {name!r}",
            prepare_out,
            Expected.ANSWERED,
            judge_out,
            writes=(name,),
        )


def _twice() -> Iterator[Case]:
    for command in ("predict", "masks build", "compare"):

        def prepare(command: str = command) -> list[str]:
            _photo()
            arguments = _WRITERS[command]("out")
            _also(arguments)
            return arguments

        def judge(_: Answer, command: str = command) -> None:
            if command == "predict":
                check_prediction("photo", SIZE)
            half = [path.name for path in Path("out").iterdir() if path.name.endswith(".part")]
            assert not half, f"left {half}"

        yield Case(KIND, f"two at a time into one folder: {command}", prepare, Expected.ANSWERED, judge)


def _trained() -> None:
    """A finished training in ``out``."""
    assert main(training()) == 0


def _again() -> Iterator[Case]:
    def other_settings() -> list[str]:
        _trained()
        return training("optim.lr=0.5")

    yield Case(
        KIND, "a second training with other settings", other_settings, says=("optim.lr", "other settings")
    )

    def same_settings() -> list[str]:
        _trained()
        return training()

    def judge_same(answer: Answer) -> None:
        answered(answer, "is complete")

    yield Case(KIND, "the same training twice", same_settings, Expected.ANSWERED, judge_same)

    def again() -> list[str]:
        _photo()
        assert main(predicting("photo.png")) == 0
        np.save("first.npy", read_ids(Path("out/photo_labels.png")))
        return predicting("photo.png")

    def judge_again(_: Answer) -> None:
        assert (check_prediction("photo", SIZE) == np.load("first.npy")).all(), "other labels the second time"

    yield Case(KIND, "the same prediction twice", again, Expected.ANSWERED, judge_again)
    for file in ("config.yaml", "result.json", "last.ckpt", "metrics.csv"):
        for told, content in (("empty", b""), ("binary", bytes(range(256))), ("a list", b"[1, 2]")):

            def damaged(file: str = file, content: bytes = content) -> list[str]:
                _trained()
                Path("out", file).write_bytes(content)
                return training("trainer.max_steps=2")

            yield Case(KIND, f"a run folder whose {file} is {told}", damaged, Expected.EITHER)


def _also(arguments: list[str]) -> None:
    """Start the same command in a process beside this one."""
    process = os.fork()
    BESIDE.append(process)
    if process == 0:
        with (
            Path(os.devnull).open("w") as nothing,
            contextlib.redirect_stdout(nothing),
            contextlib.redirect_stderr(nothing),
        ):
            status = main(arguments)
        os._exit(status)
