"""Cases in processes of their own, forked from one that has imported everything: no start, no harm, and a peak to measure."""

import contextlib
import logging
import os
import pickle
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from campaign.case import Answer, Case
from campaign.judging import Verdict, judged, state_of

NOBODY = 65534
"""Becomes an ordinary user where root runs the campaign."""

_FILES = 1024
_POLL_SECONDS = 0.005


@dataclass(frozen=True)
class Outcome:
    """A case with its verdict, and what it took where a command ran to an end."""

    case: Case
    verdict: Verdict
    answer: Answer | None = None


def run_case(case: Case) -> Outcome:
    """Run one case in a forked process and a fresh folder, and judge it."""
    with tempfile.TemporaryDirectory(prefix="lexiseg-", ignore_cleanup_errors=True) as scratch:
        try:
            return _in_child(case, Path(scratch))
        finally:
            _open_up(Path(scratch))


def _in_child(case: Case, scratch: Path) -> Outcome:
    result = scratch / "result"
    result.touch()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.setsid()
            result.write_bytes(pickle.dumps(_ran(case, scratch)))
            status = 0
        except BaseException:
            result.write_bytes(pickle.dumps((Verdict("else", traceback.format_exc()[-1500:]), None)))
        finally:
            os._exit(status)
    late = _wait(child, case.seconds)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # what the command started and left behind
    if late:
        return Outcome(case, Verdict("else", f"still at work after {case.seconds:.0f} s"))
    content = result.read_bytes()
    if not content:
        return Outcome(case, Verdict("else", "the process died without a word"))
    verdict, answer = pickle.loads(content)
    return Outcome(case, verdict, answer)


def _wait(child: int, seconds: float) -> bool:
    """Wait for the end; True if it did not come in time."""
    deadline = time.monotonic() + seconds + 30  # making the input counts for nothing
    while time.monotonic() < deadline:
        done, _ = os.waitpid(child, os.WNOHANG)
        if done:
            return False
        time.sleep(_POLL_SECONDS)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def _ran(case: Case, scratch: Path) -> tuple[Verdict, Answer]:
    home, place, cache = (scratch / name for name in ("home", "here", "cache"))
    for folder in (home, place, cache):
        folder.mkdir()
    if case.ordinary_user and os.geteuid() == 0:
        for path in (scratch, home, place, cache, scratch / "result"):
            os.chown(path, NOBODY, NOBODY)
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    os.environ |= {"HOME": str(home), "LEXISEG_CACHE": str(cache), "TMPDIR": str(home)}
    tempfile.tempdir = str(home)
    os.chdir(place)
    arguments = case.prepare()
    before = state_of(place), state_of(home)
    _limit(case)
    with _captured(scratch) as (out, err):
        started = time.monotonic()
        status = _status(case, arguments)
        seconds = time.monotonic() - started
    peak = _peak()
    after = state_of(place), state_of(home)
    wrote = [name for name, told in after[0].items() if before[0].get(name) != told]
    wrote += [f"gone: {name}" for name in before[0].keys() - after[0].keys()]
    wrote += [f"~/{name}" for name in after[1].keys() - before[1].keys()]
    wrote += [f"cache/{name}" for name in state_of(cache) if name.endswith(".part")]
    answer = Answer(status, _text(out), _text(err), tuple(sorted(wrote)), seconds, peak)
    if seconds > case.seconds:
        return Verdict("else", f"took {seconds:.0f} s, where {case.seconds:.0f} s are enough"), answer
    return judged(case, answer), answer


def _status(case: Case, arguments: Sequence[str]) -> int:
    from lexiseg.cli.main import main

    try:
        return (case.command or main)(list(arguments))
    except SystemExit as stop:  # argparse's way
        return stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 1


def _limit(case: Case) -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = size + case.mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, _FILES))
    with contextlib.suppress(OSError):  # closed to a process that has changed its user
        Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory starts here


def _peak() -> float:
    """Of resident memory since the limit was set, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextlib.contextmanager
def _captured(scratch: Path) -> Iterator[tuple[Path, Path]]:
    """Everything that the process and the libraries in it print, in two files."""
    paths = scratch / "out", scratch / "err"
    os.environ["COLUMNS"] = "10000"  # so that a console breaks no line
    logging.getLogger().handlers.clear()
    with contextlib.ExitStack() as stack:
        out, err = (stack.enter_context(path.open("w", encoding="utf-8", errors="replace")) for path in paths)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout, sys.stderr = out, err
        yield paths
    sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # the judge may call commands of its own


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _open_up(scratch: Path) -> None:
    """Give back the rights that a case took from its own folders, so that they can be removed."""
    scratch.chmod(0o700)
    for root, folders, _ in os.walk(scratch):
        for name in folders:
            path = Path(root, name)
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(exist_ok=True)


def warm_up() -> None:
    """Import everything that a command imports, and load the toy CLIP once, so that no case pays for it; no thread is started."""
    from lexiseg.cli import analyze, benchmark, compare, data, eval, exporting, importing, masks, pixelclip, predict, sweep, train  # noqa: A004, F401
    from lexiseg.cli.main import main
    from lexiseg.recipes import pixelclip as tuning  # noqa: F401
    from lexiseg.recipes import training  # noqa: F401

    with tempfile.TemporaryDirectory(prefix="lexiseg-") as scratch, contextlib.chdir(scratch):
        from campaign.made import predicting, scene
        from PIL import Image

        Image.fromarray(scene()).save("photo.png")
        with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
            main(predicting("photo.png"))
            main(["train", "--config"])
