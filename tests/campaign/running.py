"""Cases in processes of their own, forked from one that has imported everything: no start, no harm, and a peak to measure."""

import contextlib
import gc
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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from campaign.case import Answer, Case
from campaign.judging import Verdict, judged, state_of
from campaign.made import BESIDE

NOBODY = 65534
"""Becomes an ordinary user where root runs the campaign."""

_FILES = 1024
_POLL_SECONDS = 0.003
_PATIENCE = 5
"""Wall-clock seconds allowed for each of the processor's: others may be at work on the machine, and a wait is no work."""

_TO_PREPARE = 30
"""Seconds that making the input may take, which count for nothing."""


@dataclass(frozen=True)
class Outcome:
    """A case with its verdict, and what it took where a command ran to an end."""

    case: Case
    verdict: Verdict
    answer: Answer | None = None


@dataclass
class _Running:
    """A case at work in a process of its own."""

    case: Case
    scratch: Path
    process: int
    deadline: float

    def ended(self) -> Outcome | None:
        """What came of it; None while it is at work and in time."""
        late = time.monotonic() > self.deadline
        done, _ = os.waitpid(self.process, os.WNOHANG)
        if not done and not late:
            return None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process, signal.SIGKILL)  # what the command started and left behind
        if not done:
            os.waitpid(self.process, 0)
        content = b"" if not done else (self.scratch / "result").read_bytes()
        _remove(self.scratch)
        if not content:
            told = "died without a word" if done else f"did not end in {_PATIENCE * self.case.seconds:.0f} s"
            return Outcome(self.case, Verdict("else", f"the process {told}"))
        verdict, answer = pickle.loads(content)
        return Outcome(self.case, verdict, answer)


def run_cases(cases: Iterable[Case], jobs: int = 1) -> Iterator[Outcome]:
    """Run cases, each in a forked process and a fresh folder, so many at a time, and judge them; in the order of their ends."""
    waiting, running = iter(cases), list[_Running]()
    while True:
        running += [_start(case) for case in islice(waiting, jobs - len(running))]
        if not running:
            return
        for one in list(running):
            outcome = one.ended()
            if outcome is not None:
                running.remove(one)
                yield outcome
        time.sleep(_POLL_SECONDS)


def _start(case: Case) -> _Running:
    scratch = Path(tempfile.mkdtemp(prefix="lexiseg-"))
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
    deadline = time.monotonic() + _PATIENCE * case.seconds + _TO_PREPARE
    return _Running(case, scratch, child, deadline)


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
    os.environ["LEXISEG_QUIET"] = "1"  # how far long work has come is no part of an answer
    tempfile.tempdir = str(home)
    os.chdir(place)
    with _captured(scratch):
        arguments = case.prepare()
    before = state_of(place), state_of(home)
    _limit(case)
    with _captured(scratch) as (out, err):
        started = time.process_time()
        status = _status(arguments)
        seconds = time.process_time() - started
        for process in BESIDE:
            os.waitpid(process, 0)
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


def _status(arguments: Sequence[str]) -> int:
    from lexiseg.cli.main import main

    try:
        return main(list(arguments))
    except SystemExit as stop:  # as after a help
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
    # What comes after, the judge above all, may call commands of its own, whose words are nobody's.
    sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  (the process ends soon)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _remove(scratch: Path) -> None:
    """Remove a case's folders, and give back before what rights it took from them."""
    for root, folders, _ in os.walk(scratch):
        for path in (Path(root, name) for name in folders):
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(scratch, ignore_errors=True)


def warm_up() -> None:
    """Import everything that a command imports, and load the toy CLIP once, so that no case pays for it; starts no thread."""
    from lexiseg.cli import (  # noqa: F401
        analyze,
        benchmark,
        compare,
        data,
        eval,
        exporting,
        importing,
        masks,
        pixelclip,
        predict,
        sweep,
        train,
    )
    from lexiseg.cli.main import main
    from lexiseg.recipes import pixelclip as tuning  # noqa: F401
    from lexiseg.recipes import training  # noqa: F401

    with tempfile.TemporaryDirectory(prefix="lexiseg-") as scratch, contextlib.chdir(scratch):
        from PIL import Image

        from campaign.made import predicting, scene

        Image.fromarray(scene()).save("photo.png")
        with (
            Path(os.devnull).open("w") as nothing,
            contextlib.redirect_stdout(nothing),
            contextlib.redirect_stderr(nothing),
        ):
            main(predicting("photo.png"))
            main(["train", "--config"])
    gc.collect()
    gc.freeze()  # children need not look at what they inherit, and so do not copy it
