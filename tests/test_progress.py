"""Long work says what it does: on a terminal and in a log, in a command only, and out of the way of what is printed."""

import io
import os
import subprocess
import sys
import threading
import time

import pytest

from lexiseg import progress
from lexiseg.progress import QUIET_VARIABLE, doing, say_no_more, shown, tell_seconds, with_progress


class Stream(io.StringIO):
    """A text stream that says whether it is a terminal."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def streams(monkeypatch):
    """Sets standard output and standard error, and makes the display hurry."""
    monkeypatch.delenv(QUIET_VARIABLE, raising=False)
    for name, value in (("_DRAWN_AFTER", 0.1), ("_LINE_AFTER", (0.2, 0.3, 0.5, 9)), ("_TICK", 0.02)):
        monkeypatch.setattr(progress, name, value)

    def use(*, terminal):
        out, err = Stream(terminal=terminal), Stream(terminal=terminal)
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        return out, err

    return use


def test_a_log_gets_whole_lines(streams):
    _, err = streams(terminal=False)
    with shown(), doing("embedding words", 7) as work:
        work.advance(3)
        time.sleep(1.4)
    lines = err.getvalue().splitlines()
    assert len(lines) == 3, "after 0.2, another 0.3 and another 0.5 seconds"
    assert all(line.endswith("s] embedding words 3/7") for line in lines)
    assert "\r" not in err.getvalue()
    assert "\x1b" not in err.getvalue()


def test_a_server_that_is_there_says_no_more(streams):
    out, err = streams(terminal=False)
    with shown():
        say_no_more()
        with doing("reading windows"):
            time.sleep(0.5)
        sys.stdout.write("an address\n")
    assert err.getvalue() == ""
    assert out.getvalue() == "an address\n"


def test_short_work_says_nothing(streams):
    out, err = streams(terminal=True)
    with shown():
        for _ in range(3):
            with doing("loading"):
                time.sleep(0.03)
    assert err.getvalue() == ""
    assert out.getvalue() == ""


def test_changing_inner_work_does_not_begin_the_lines_anew(streams):
    _, err = streams(terminal=False)
    with shown(), doing("training"):
        for name in ("validating", "reading windows", "labelling pixels", "drawing") * 2:
            with doing(name):
                time.sleep(0.25)
    assert len(err.getvalue().splitlines()) <= 3


@pytest.mark.parametrize("terminal", [True, False])
def test_much_short_work_is_not_silent(streams, terminal):
    _, err = streams(terminal=terminal)
    with shown():
        for _ in range(12):
            with doing("loading"):
                time.sleep(0.05)
    assert "loading" in err.getvalue()


def test_a_terminal_gets_one_line_drawn_over_and_taken_away(streams):
    _, err = streams(terminal=True)
    with shown():
        assert list(with_progress(_slowly(range(5)), "making masks", 5)) == [0, 1, 2, 3, 4]
        assert "making masks 2/5" in err.getvalue()
    drawn = err.getvalue()
    assert drawn.endswith("\r\x1b[2K"), "nothing is left behind"
    assert "\n" not in drawn
    assert "####" in drawn
    assert "left" in drawn


def test_inner_work_stands_behind_the_outer(streams):
    _, err = streams(terminal=False)
    with shown(), doing("judging", 3) as images, doing("reading windows", 11) as windows:
        images.advance()
        windows.advance(4)
        time.sleep(0.3)
    assert err.getvalue().strip().endswith("judging 1/3 · reading windows 4/11")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_count_that_never_moves_is_not_told(streams, terminal):
    _, err = streams(terminal=terminal)
    with shown(), doing("reading windows", 64):
        time.sleep(0.3)
    assert "reading windows" in err.getvalue()
    assert "0/64" not in err.getvalue()
    assert "...." not in err.getvalue()


def test_the_next_lines_of_the_same_work_come_later_and_later():
    after = progress._LINE_AFTER
    spoken = [sum(after[: count + 1]) for count in range(len(after))]
    assert spoken[:3] == [2, 5, 10]
    assert after[-1] == 15


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (754, "12:34"), (7384, "2:03:04")]
)
def test_seconds_below_a_minute(seconds, told):
    assert tell_seconds(seconds) == told


def test_what_is_printed_stands_on_a_clean_line(streams):
    out, err = streams(terminal=True)
    with shown(), doing("segment", 3):
        time.sleep(0.3)
        sys.stdout.write("photo.jpg: dog 50 %\n")
        told = err.getvalue()
    assert told.endswith("\r\x1b[2K"), "the line was taken away before anybody printed"
    assert out.getvalue() == "photo.jpg: dog 50 %\n"


def test_an_unfinished_line_is_not_drawn_over(streams):
    _, err = streams(terminal=True)
    with shown():
        sys.stdout.write("password: ")
        with doing("waiting"):
            time.sleep(0.3)
    assert "waiting" not in err.getvalue()


def test_printing_counts_as_a_word(streams):
    _, err = streams(terminal=False)
    with shown(), doing("training"):
        for _ in range(6):
            sys.stdout.write("step\n")
            time.sleep(0.1)
    assert err.getvalue() == ""


def test_unnamed_work_is_told_as_such(streams):
    _, err = streams(terminal=False)
    with shown():
        time.sleep(0.4)
        list(sys.modules)
    assert "working" in err.getvalue() or "importing libraries" in err.getvalue()


def test_python_hears_nothing_unless_it_asks(streams):
    out, err = streams(terminal=True)
    with doing("loading"):
        time.sleep(0.4)
    assert err.getvalue() == out.getvalue() == ""
    assert threading.active_count() == len(threading.enumerate())
    assert "lexiseg progress" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("variable", [QUIET_VARIABLE, "RANK", "LOCAL_RANK"])
def test_only_the_first_process_speaks_and_only_where_it_may(streams, monkeypatch, variable):
    _, err = streams(terminal=False)
    monkeypatch.setenv(variable, "1")
    with shown(), doing("loading"):
        time.sleep(0.4)
    assert err.getvalue() == ""


def test_streams_are_given_back_when_work_fails(streams):
    out, err = streams(terminal=True)

    def fail():
        with shown(), doing("loading"):
            time.sleep(0.2)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert (sys.stdout, sys.stderr) == (out, err)
    assert err.getvalue().endswith("\r\x1b[2K")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_says_nothing():
    program = (
        "import os, sys, time\n"
        "from lexiseg import progress\n"
        "progress._LINE_AFTER = (0.1,)\n"
        "with progress.shown():\n"
        "    if not (child := os.fork()):\n"
        "        with progress.doing('below'):\n"
        "            print('child', flush=True); time.sleep(0.5); os._exit(0)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
    )
    env = {name: value for name, value in os.environ.items() if name != QUIET_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env, timeout=60
    )
    assert done.stdout == "child\n"
    assert "below" not in done.stderr


def test_a_command_tells_of_its_imports():
    """Before it has said anything itself."""
    program = (
        "from lexiseg import progress; from lexiseg.cli.main import main; progress._LINE_AFTER = (0.3,); "
        "main(['predict', 'no.jpg', '--classes', 'dog', '--clip', 'toy'])"
    )
    env = {name: value for name, value in os.environ.items() if name != QUIET_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=env, timeout=250, check=False
    )
    assert "s] importing libraries" in done.stderr


def _slowly(items):
    for item in items:
        time.sleep(0.15)
        yield item
