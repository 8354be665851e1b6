"""A real command in a session of its own that is struck by a signal at a chosen moment: what the checks of kills share."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_POLL_SECONDS = 0.01


def start(
    command: Sequence[str], environment: Mapping[str, str] | None = None, stderr: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, its messages in a file or nowhere."""
    # What a shell behind the scenes ignores, children would ignore too; they are to hear Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with (stderr or Path(os.devnull)).open("wb") as messages:
        return subprocess.Popen(
            list(command),
            env=os.environ | dict(environment or {}),
            stdout=subprocess.DEVNULL,
            stderr=messages,
            start_new_session=True,
        )


def wait_until(
    process: subprocess.Popen[bytes], seen: Callable[[], bool], poll: float = _POLL_SECONDS
) -> bool:
    """Wait for something to be seen; False if the process ended first."""
    while process.poll() is None:
        if seen():
            return True
        time.sleep(poll)
    return False


def strike_at_random(
    process: subprocess.Popen[bytes],
    seen: Callable[[], bool],
    within: float,
    rng: random.Random,
    strike: Callable[[subprocess.Popen[bytes]], None],
) -> bool:
    """Strike a random while, of at most ``within`` seconds, after something was seen; False if the process ended first."""
    if not wait_until(process, seen):
        return False
    deadline = time.monotonic() + rng.uniform(0, within)
    wait_until(process, lambda: time.monotonic() >= deadline)
    if process.poll() is not None:
        return False
    strike(process)
    return True


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process alone; returns when it is gone."""
    process.kill()
    process.wait()


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process and those that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def living(session: int) -> list[int]:
    """Processes of a session that are not dead, whoever reaps them; Linux."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            state, _, _, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if int(its_session) == session and state not in "ZX":
            found.append(int(entry.name))
    return found


def hears(process: subprocess.Popen[bytes], number: int) -> bool:
    """Whether the process has a handler of its own for a signal; Linux."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return False
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)
