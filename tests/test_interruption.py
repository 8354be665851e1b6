"""Signals sent to this very process, and to small ones that import nothing heavy."""

import os
import signal
import subprocess
import sys
import time

import pytest

from lexiseg.interruption import (
    Interrupted,
    Kept,
    interrupted,
    keeping,
    load_quietly,
    reclaim_signals,
    run_command,
    without_interrupts,
)

pytestmark = pytest.mark.usefixtures("ctrl_c")

COMMAND = ["lexiseg", "train", "name=my run", "resume=false"]
GO_ON = "go on with: lexiseg train 'name=my run' resume=false\n"


def answered(work, capsys):
    status = run_command(work, COMMAND, program=False)
    assert not interrupted()
    return status, capsys.readouterr().err


def stopped(number=signal.SIGTERM):
    signal.raise_signal(number)
    return 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_one_line_and_the_status(capsys, number, status):
    before = signal.getsignal(number)
    done = answered(lambda: stopped(number), capsys)
    assert done == (status, f"lexiseg: interrupted; what was written before is whole; {GO_ON}")
    assert signal.getsignal(number) is before


def test_work_that_nobody_stops(capsys):
    assert answered(lambda: 7, capsys) == (7, "")
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0, COMMAND, program=False)
    with pytest.raises(SystemExit):
        run_command(lambda: sys.exit(2), COMMAND, program=False)


def test_what_is_kept_is_told_outermost_first_after_the_unwinding(capsys):
    runs, steps = [], []

    def work():
        with keeping(lambda: Kept("nothing of the first")):
            pass
        with (
            keeping(lambda: Kept(f"{len(runs)} runs")),
            keeping(lambda: Kept(f"step {len(steps)}", ("resume=auto",))),
        ):
            try:
                return stopped()
            finally:
                steps.extend([1, 2, 3])

    status, said = answered(work, capsys)
    assert status == 143
    assert said == f"lexiseg: interrupted; 0 runs; step 3; {GO_ON}", "changes belong to a single run"


def test_an_override_that_would_start_anew_is_replaced(capsys):
    def work():
        with keeping(lambda: Kept("step 3", ("resume=auto",))):
            return stopped()

    _, said = answered(work, capsys)
    assert said.endswith("go on with: lexiseg train 'name=my run' resume=auto\n")


def test_work_that_begins_anew_says_so(capsys):
    def work():
        with keeping(lambda: Kept("step 3", goes_on=False)):
            return stopped()

    def inside_of_more():
        with keeping(lambda: Kept("2 runs")):
            return work()

    assert (
        answered(work, capsys)[1] == f"lexiseg: interrupted; step 3; {GO_ON.replace('go on', 'begin anew')}"
    )
    assert answered(inside_of_more, capsys)[1] == f"lexiseg: interrupted; 2 runs; step 3; {GO_ON}"


def test_work_that_cannot_tell_is_left_out(capsys):
    def work():
        with keeping(lambda: Kept(str(1 // 0))), keeping(lambda: Kept("step 3")):
            return stopped()

    assert answered(work, capsys) == (143, f"lexiseg: interrupted; step 3; {GO_ON}")


def test_later_errors_are_consequences(capsys):
    def work():
        try:
            stopped()
        except Interrupted:
            raise RuntimeError("a worker died") from None

    status, said = answered(work, capsys)
    assert status == 143
    assert said.count("\n") == 1


def test_a_signal_that_falls_into_a_destructor(capsys):
    class Swallows:
        def __del__(self):
            stopped()

    def work():
        Swallows()
        time.sleep(60)

    started = time.monotonic()
    status, said = answered(work, capsys)
    assert status == 143
    assert said.startswith("lexiseg: interrupted")
    assert said.count("\n") == 1
    assert time.monotonic() - started < 9


def test_a_library_that_sets_its_own_handler(capsys):
    def work():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        reclaim_signals()
        return stopped()

    assert answered(work, capsys)[0] == 143


def test_who_ignores_a_signal_goes_on_ignoring_it(capsys):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert answered(lambda: stopped(signal.SIGINT), capsys) == (0, "")
    finally:
        signal.signal(signal.SIGINT, before)


def test_python_s_own_interrupt(capsys):
    def work():
        raise KeyboardInterrupt

    assert answered(work, capsys)[0] == 130


@pytest.mark.parametrize(
    ("rank", "status"), [({"RANK": "1", "LOCAL_RANK": "1"}, 143), ({"LOCAL_RANK": "1"}, 0)]
)
def test_only_the_first_of_several_processes_speaks(capsys, monkeypatch, rank, status):
    for name, value in rank.items():
        monkeypatch.setenv(name, value)
    assert answered(stopped, capsys) == (status, "")


def test_under_torchrun_the_command_is_torchrun_s(capsys, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("RANK", "0")
    assert answered(stopped, capsys)[1].endswith("go on with: the same torchrun command\n")


def test_children_started_without_interrupts_never_hear_one(capsys):
    program = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    waited = []

    def work():
        with without_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            child = subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, check=True
            )
            waited.append(child.stdout.strip())
        waited.append("lost")

    assert answered(work, capsys)[0] == 130
    assert waited == ["True"], "blocked in the child, and delivered here afterwards"


def test_a_process_that_is_being_started_is_started_whole(capsys):
    started = []

    def work():
        with without_interrupts():
            stopped(signal.SIGTERM)
            started.append("whole")
        started.append("more")

    assert answered(work, capsys)[0] == 143
    assert started == ["whole"]


def test_a_thread_hears_for_a_main_thread_that_starts_processes(capsys):
    def work():
        with without_interrupts(heard=True):
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(300):
                time.sleep(0.01)
            return 0

    started = time.monotonic()
    assert answered(work, capsys)[0] == 130
    assert time.monotonic() - started < 2


_STUBBORN = """
import time
from lexiseg.interruption import Kept, keeping, run_command

def work():
    with keeping(lambda: Kept("step 3")):
        try:
            print("ready", flush=True)
            time.sleep(60)
        finally:
            print("unwinding", flush=True)
            time.sleep(60)

run_command(work, ["lexiseg", "demo"], program=True)
"""


def test_the_second_signal_ends_at_once():
    process = subprocess.Popen(
        [sys.executable, "-c", _STUBBORN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "unwinding\n"
    again = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert time.monotonic() - again < 8
    assert process.returncode == 130
    assert said == "lexiseg: interrupted; step 3; go on with: lexiseg demo\n"


_DONE = """
import time
from lexiseg.interruption import run_command

status = run_command(lambda: 7, ["lexiseg", "demo"], program=True)
print("done", flush=True)
time.sleep(60)
"""


def test_a_signal_after_the_work_ends_the_process_with_the_work_s_status():
    process = subprocess.Popen(
        [sys.executable, "-c", _DONE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "done\n"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (7, "")


def test_a_worker_whose_tensors_nobody_takes_is_quiet(capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    before = signal.getsignal(signal.SIGINT)
    try:
        load_quietly(3)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    sys.excepthook(ConnectionResetError, ConnectionResetError("gone"), None)
    assert capsys.readouterr().err == ""
    sys.excepthook(ValueError, ValueError("a bad sample"), None)
    assert "a bad sample" in capsys.readouterr().err


LATE = """
import os, signal, sys
from lexiseg.interruption import run_command

class Late:
    def __del__(self, kill=os.kill, this=os.getpid(), number=signal.Signals({number})):
        kill(this, number)

late = Late()  # goes when modules do, after Python took its handlers away
sys.exit(run_command(lambda: {status}, ["lexiseg"], program=True))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("status", [0, 1])
def test_a_signal_while_python_clears_up_leaves_the_status(number, status):
    done = subprocess.run(
        [sys.executable, "-c", LATE.format(number=int(number), status=status)],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (status, b"")
