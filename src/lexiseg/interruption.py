"""SIGTERM and Ctrl-C: the work is unwound, one line says what is kept and how to go on, and the status tells which it was."""

import atexit
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import ProcessError
from types import FrameType, TracebackType
from typing import Any, NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_GRACE_SECONDS = 10.0
"""How long the unwinding may take; then the process ends wherever it stands."""

_AGAIN_SECONDS = 0.05
"""After so long the work is stopped anew where the first attempt fell into a destructor, from which nothing can be raised."""

Handler = Callable[[int, FrameType | None], Any] | int | None


class Interrupted(BaseException):
    """Raised in the main thread by the first SIGTERM or SIGINT.

    No KeyboardInterrupt: Lightning and others answer that one with messages and exit codes of their own.
    """


@dataclass(frozen=True)
class Kept:
    """What is left of work that was stopped.

    Attributes:
        told: In words: which files, of how many.
        changes: Overrides ``key=value`` without which the command as typed would not go on from there.
        goes_on: Whether the command, with those changes, goes on from there; otherwise it begins anew.
    """

    told: str
    changes: tuple[str, ...] = ()
    goes_on: bool = True


_kept: list[Callable[[], Kept]] = []
_watch: "_Watch | None" = None


@contextmanager
def keeping(tell: Callable[[], Kept]) -> Iterator[None]:
    """While this work runs, ``tell`` knows what is kept if it is stopped; works inside each other are told outermost first.

    Args:
        tell: Asked once the work has been unwound, or in a signal's handler: it looks at files and takes no lock.
    """
    _kept.append(tell)
    try:
        yield
    finally:
        if not interrupted():  # else it is still to be asked
            _kept.remove(tell)


def interrupted() -> bool:
    """Whether a signal has come: every error from then on is only its consequence."""
    return _watch is not None and _watch.received is not None


def reclaim_signals() -> None:
    """Put our handlers back where a library has put its own over them."""
    if _watch is not None:
        _watch.install()


def ignore_interrupts(*_: Any) -> None:
    """For worker processes: a terminal sends Ctrl-C to all processes, and the one that started the others answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def load_quietly(*_: Any) -> None:
    """For workers that load data: nor does the thread that hands over tensors complain when nobody takes them any more.

    In such a process nothing else comes to ``sys.excepthook``; what a worker cannot load reaches the one that asked for it.
    """
    ignore_interrupts()
    complain = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, OSError | EOFError | ProcessError):
            complain(kind, error, trace)

    sys.excepthook = hook


@contextmanager
def without_interrupts(*, heard: bool = False) -> Iterator[None]:
    """Processes started in here never hear Ctrl-C, not even while they import; in this one all signals wait until the end.

    A process that is half started when its parent turns to other things complains that it was told nothing.

    Args:
        heard: They do not wait: a thread takes Ctrl-C, and the main thread learns of it once it does not wait for a lock.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing.resource_tracker import ensure_running  # type: ignore[attr-defined, unused-ignore]

    ensure_running()  # a helper that lets Ctrl-C through again as it starts, so it starts before
    over = threading.Event()
    if heard:
        threading.Thread(target=over.wait, daemon=True).start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with nullcontext() if heard or _watch is None else _watch.waiting():
            yield
    finally:
        over.set()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_command(work: Callable[[], int], command: Sequence[str], *, program: bool) -> int:
    """Do the work of a command, and answer the signals that come meanwhile.

    Args:
        work: Gives the exit status.
        command: As it was typed.
        program: This is all that the process does: after a signal it ends here; a later one leaves the status as it is.

    Returns:
        The work's status; 130 after Ctrl-C, 143 after SIGTERM.
    """
    global _watch
    _watch = watch = _Watch(command)
    status = 0
    if program:
        atexit.register(watch.ignore)  # before all others, so that it comes after them
    try:
        with watch.in_place(program):
            try:
                status = work()
                if program and not interrupted():  # all is done, so a signal only hastens the end
                    watch.install(lambda *_: os._exit(status))
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) and watch.received is None:
                    watch.received = signal.SIGINT
                if watch.received is None:
                    raise
            if watch.received is None:
                return status
            watch.say()
            if program:
                watch.leave()
            return watch.status
    finally:
        _kept.clear()
        _watch = None


class _Watch:
    """The handlers of one command."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command, self.process = list(command), os.getpid()
        self.received: int | None = None
        self._said = self._again = False
        self._heard: list[int] = []
        self._waits, self._waiting = False, 0

    @property
    def status(self) -> int:
        """What a shell expects of a process that a signal ended; see :func:`_rank` for the exception."""
        launched = _rank() > 0 and "RANK" not in os.environ
        # Lightning kills the first process where one that it launched reports a failure.
        return 0 if launched else 128 + int(self.received or 0)

    @contextmanager
    def in_place(self, program: bool) -> Iterator[None]:
        """Handlers and hooks are ours meanwhile."""
        if threading.current_thread() is not threading.main_thread():  # others may not set handlers
            yield
            return
        # A shell that starts commands behind the scenes has them ignore Ctrl-C, and so it stays.
        self._heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.getsignal(number) for number in self._heard}
        hooks = sys.unraisablehook, threading.excepthook
        sys.unraisablehook, threading.excepthook = self._quietly(hooks[0]), self._quietly(hooks[1])
        self.install()
        try:
            yield
        finally:
            _set_alarm(0)
            sys.unraisablehook, threading.excepthook = hooks
            if not program:
                for number, handler in before.items():
                    signal.signal(number, handler)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A signal that comes meanwhile is answered afterwards."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
            number, self._waiting = self._waiting, 0
            if number:
                self._on_signal(number, None)

    def install(self, handler: Handler = None) -> None:
        """Let a handler, by default our own, answer the signals."""
        for number in self._heard:
            signal.signal(number, handler or self._on_signal)

    def ignore(self) -> None:
        """Hear nothing more: Python takes its handlers away before it clears up, and a signal would then undo the status."""
        self.install(signal.SIG_IGN)

    def say(self) -> None:
        """The one line, once, of the first process of several."""
        if not self._said and _rank() == 0:
            self._said = True
            with suppress(OSError):  # a terminal that is gone
                sys.stderr.write(self._line())
                sys.stderr.flush()

    def leave(self) -> NoReturn:
        """End the process without its tear-down, in which libraries may still complain or wait."""
        with suppress(BaseException):
            atexit._run_exitfuncs()  # worker processes are ended here, and logs sent
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(self.status)

    def _line(self) -> str:
        kept: list[Kept] = []
        for tell in _kept:
            with suppress(Exception):  # a file that is damaged or gone is no reason to say nothing
                kept.append(tell())
        told = "; ".join(item.told for item in kept) or "what was written before is whole"
        command = shlex.join(_changed(self.command, kept[0].changes if len(kept) == 1 else ()))
        if "TORCHELASTIC_RUN_ID" in os.environ:
            command = "the same torchrun command"
        what = "go on" if not kept or any(item.goes_on for item in kept) else "begin anew"
        return f"lexiseg: interrupted; {told}; {what} with: {command}\n"

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self.process:  # forked from the command a moment ago, with its handlers
            os._exit(128 + number)
        if self._waits:
            self._waiting = number
            return
        if self.received is not None:
            self._end_now()
        self.received = number
        if hasattr(signal, "SIGALRM"):
            signal.signal(signal.SIGALRM, self._on_alarm)
        _set_alarm(_GRACE_SECONDS)
        raise Interrupted

    def _on_alarm(self, _: int, __: FrameType | None) -> None:
        if not self._again:
            self._end_now()
        self._again = False
        _set_alarm(_GRACE_SECONDS)
        raise Interrupted

    def _end_now(self) -> NoReturn:
        """Wherever the process stands, maybe in the middle of its own tear-down: no buffer, no lock."""
        try:
            if not self._said and _rank() == 0:
                self._said = True
                with suppress(OSError):  # nobody may be there to read it
                    os.write(2, (_CLEAR_LINE if os.isatty(2) else b"") + self._line().encode())
            if hasattr(signal, "SIGCHLD"):  # torch's handler would raise for each worker that ends
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            multiprocessing = sys.modules.get("multiprocessing")
            for child in multiprocessing.active_children() if multiprocessing else ():
                child.kill()
        finally:
            os._exit(self.status)

    def _quietly(self, hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A hook for errors that nobody can catch; those after the signal are not worth a word."""

        def heard(unraisable: Any) -> None:
            if self.received is None:
                hook(unraisable)
            elif issubclass(unraisable.exc_type, Interrupted):
                self._again = True
                _set_alarm(_AGAIN_SECONDS)

        return heard


_CLEAR_LINE = b"\r\x1b[K\x1b[?25h"
"""Wipes what a progress bar left, and shows the cursor that it hid."""


def _rank() -> int:
    """This process's number among those that share a training; only the first one speaks."""
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    return int(next((os.environ[name] for name in names if name in os.environ), "0"))


def _changed(command: Sequence[str], changes: Sequence[str]) -> list[str]:
    """The command with some overrides in place of those of the same keys."""
    keys = tuple(change.partition("=")[0] + "=" for change in changes)
    return [*(part for part in command if not part.startswith(keys)), *changes] if keys else list(command)


def _set_alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
