"""Put known slips into a copy of the checkout, one at a time, and see whether the tests notice.

    python scripts/check_mutants.py                            # every slip, against the tests that guard its fact
    python scripts/check_mutants.py flip-of-mask seed-of-data  # these two
    python scripts/check_mutants.py --all-tests --jobs 4       # against the whole default suite; takes hours

The slips stand in ``scripts/mutants.py``. The tests are first run without any slip: what a test that is red anyway
"notices" proves nothing. Ends with status 0 if every slip was noticed, 1 if one was not, and 2 if nothing can be said: a
slip's text is not in its file exactly once, tests are red without a slip, or a slip keeps them from running at all.
"""

import argparse
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mutants import SLIPS, Slip

ROOT = Path(__file__).resolve().parent.parent

_COPIED = (
    "src",
    "tests",
    "conf",
    "scripts",
    "docs",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Makefile",
)
"""What tests may read of a checkout."""

_LIST_TEST = "tests/test_mutants.py"
"""Finds every slip's text in the code, and so fails on any slip whatever it breaks."""

_LIBRARIES = (
    "pytest",
    "torch",
    "torchmetrics",
    "pytorch_lightning",
    "transformers.models.clip.modeling_clip",
    "hydra",
    "scipy.ndimage",
    "skimage.segmentation",
    "PIL.Image",
)
"""What most tests import."""

_FORKS = multiprocessing.get_context("forkserver")

_ALL_PASSED, _SOME_FAILED = 0, 1
"""Exit statuses of pytest; all others say that tests could not be run."""

_SHOWN_LINES = 40
_LOG_WIDTH = 160


@dataclass(frozen=True)
class Run:
    """What pytest said of one copy.

    Attributes:
        status: Its exit status.
        told: What it printed.
        seconds: How long it took.
    """

    status: int
    told: str
    seconds: float

    @property
    def first_failure(self) -> str:
        """The test that noticed; empty if none did."""
        found = re.search(r"^(?:FAILED|ERROR) (\S+)", self.told, re.MULTILINE)
        return found.group(1) if found else ""


def copy_checkout(place: Path) -> None:
    """What tests may read, as it stands in the working tree."""
    place.mkdir()
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        elif source.is_file():  # a source distribution leaves some out
            shutil.copy2(source, place / name)


def run_tests(place: Path, tests: Sequence[str]) -> Run:
    """Run ``tests`` on the copy at ``place``, up to the first that fails; no test named means the default suite.

    In a fork of a process that holds the libraries and nothing of lexiseg, for importing them takes longer than most
    tests.
    """
    told, started = place.with_suffix(".txt"), time.monotonic()
    process = _FORKS.Process(target=_run_pytest, args=(place, told, tuple(tests)))
    process.start()
    process.join()
    status = process.exitcode
    return Run(-1 if status is None else status, told.read_text(), time.monotonic() - started)


def _run_pytest(place: Path, told: Path, tests: tuple[str, ...]) -> None:
    """Become a run of pytest in the copy at ``place``, which writes what it says into ``told``.

    Embedded words are kept by weights, templates and words, not by code: each copy has a cache of its own, so that a slip
    neither reads what the sound code made nor leaves its own for others. Numbers that only some machines have stay out.
    """
    with told.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.chdir(place)
    os.environ.pop("LEXISEG_GOLDEN", None)
    # The checkout itself too, as `python -m pytest` has it: processes that a test starts import the test's module again.
    paths = [str(place / "src"), str(place)]
    os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "LEXISEG_CACHE": str(place / "cache")}
    sys.path[:0] = paths
    flags = ["-x", "-m", "not slow", "-p", "no:cacheprovider"]
    status = pytest.main([*flags, f"--basetemp={place / 'temporary'}", f"--ignore={_LIST_TEST}", *tests])
    sys.stdout.flush()
    shutil.rmtree(place / "temporary", ignore_errors=True)
    sys.exit(int(status))


def run_slip(slip: Slip, original: Path, tests: Sequence[str]) -> Run:
    """Run ``tests`` on a copy of ``original`` that holds the slip and nothing else."""
    place = original.with_name(slip.name)
    # With the bytecode that the first run left there: only the slipped file is compiled again, for its time is new.
    shutil.copytree(original, place)
    try:
        file = place / slip.file
        file.write_text(slip.applied(file.read_text(encoding="utf-8")), encoding="utf-8")
        return run_tests(place, tests)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def verdict(run: Run) -> str:
    """In one word, shouted where something is to be done."""
    return {_SOME_FAILED: "killed", _ALL_PASSED: "SURVIVED"}.get(run.status, "NOT RUN")


def choose(names: Sequence[str]) -> tuple[Slip, ...]:
    """The slips of these names, all without any.

    Raises:
        SystemExit: No such slip.
    """
    known = {slip.name: slip for slip in SLIPS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no slip {', '.join(unknown)}; see --list")
    return tuple(known[name] for name in names) if names else SLIPS


def stale(slips: Iterable[Slip]) -> list[str]:
    """What is wrong with slips that no longer fit the code."""
    problems = []
    for slip in slips:
        try:
            slip.applied((ROOT / slip.file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            problems.append(f"{slip.name}: {error}")
    return problems


def tabulate(runs: dict[str, Run]) -> Table:
    """One row per slip, in the list's order."""
    table = Table("slip", "what it breaks", "", "s", "noticed by", title="slips and the tests")
    for slip in SLIPS:
        if slip.name in runs:
            run = runs[slip.name]
            noticed = run.first_failure.removeprefix("tests/")
            table.add_row(slip.name, slip.told, verdict(run), f"{run.seconds:.0f}", noticed)
    return table


def check(slips: Sequence[Slip], *, all_tests: bool, jobs: int, console: Console) -> int:
    """Run everything; see the module for the exit status."""
    named = () if all_tests else tuple(dict.fromkeys(test for slip in slips for test in slip.tests))
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    runs: dict[str, Run] = {}
    with tempfile.TemporaryDirectory() as scratch, Progress(*columns, console=console) as progress:
        bar = progress.add_task("without any slip", total=len(slips) + 1)
        original = Path(scratch) / "original"
        copy_checkout(original)
        sound = run_tests(original, named)
        if sound.status != _ALL_PASSED:
            console.print("\n".join(sound.told.splitlines()[-_SHOWN_LINES:]), markup=False, highlight=False)
            console.print("the tests are red without any slip, so nothing can be said of the slips")
            return 2
        progress.update(bar, advance=1, description="slips")
        with ThreadPoolExecutor(jobs) as pool:
            tasks = {
                pool.submit(run_slip, slip, original, () if all_tests else slip.tests): slip for slip in slips
            }
            for task in as_completed(tasks):
                slip, run = tasks[task], task.result()
                runs[slip.name] = run
                progress.update(bar, advance=1)
                if verdict(run) != "killed" or not console.is_terminal:  # a log has no bar to look at
                    progress.console.print(f"{slip.name}: {verdict(run)}", highlight=False)
    console.print(tabulate(runs))
    counts = {word: sum(verdict(run) == word for run in runs.values()) for word in ("SURVIVED", "NOT RUN")}
    console.print(f"{len(runs)} slips, {counts['SURVIVED']} survived, {counts['NOT RUN']} not run")
    return 2 if counts["NOT RUN"] else int(counts["SURVIVED"] > 0)


def main() -> int:
    """Read the flags, then check or list."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="slips to try; all without any")
    parser.add_argument("--list", action="store_true", help="show the slips and run nothing")
    parser.add_argument("--all-tests", action="store_true", help="the whole default suite against each slip")
    parser.add_argument("--jobs", type=int, default=1, help="how many copies are tested at a time")
    args = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else _LOG_WIDTH)
    slips = choose(args.names)
    if args.list:
        for slip in slips:
            console.print(f"{slip.name}: {slip.told} ({slip.file})", highlight=False, soft_wrap=True)
        return 0
    # Before the libraries are loaded: one thread, so that they can be forked, and no network, as the tests have it.
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    _FORKS.set_forkserver_preload(list(_LIBRARIES))
    problems = stale(slips)
    if problems:
        console.print("\n".join(problems), markup=False, highlight=False)
        return 2
    return check(slips, all_tests=args.all_tests, jobs=max(args.jobs, 1), console=console)


if __name__ == "__main__":
    sys.exit(main())
