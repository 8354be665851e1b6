"""Progress of long work: what is being done, said on standard error where somebody has asked for it.

Whatever may take long says what it does (:func:`doing`, :func:`with_progress`), and is heard only inside :func:`shown`, which
every command stands in and Python's callers do not. On a terminal one line is drawn over and over; it goes away when the work
is done, or when something is printed. Elsewhere nothing is ever drawn over: there are whole lines, the first when two seconds
have passed without a word, the next of the same work 5 and 10 seconds after its silence began, and from then on one every
fifteen. Nothing is imported for it, so that it also tells of imports.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TextIO, TypeVar

T = TypeVar("T")

QUIET_VARIABLE = "LEXISEG_QUIET"
"""Set to anything, it silences all of this."""

_DRAWN_AFTER = 1.0
"""Seconds of the same work before a terminal shows it."""

_LINE_AFTER = (2.0, 3.0, 5.0, 15.0)
"""Seconds without a word before a line is written where there is no terminal: the first of some work, the second, and so on."""

_TICK = 0.2
_SPINNER = "|/-\\"
_BAR_CELLS = 20
_CLEAR = "\r\x1b[2K"


@dataclass(eq=False)
class Doing:
    """Some work that is going on.

    Attributes:
        description: What it is.
        total: Of how many steps; None where they cannot be counted.
        done: Steps done.
        told: More about it, such as a loss.
    """

    description: str
    total: int | None = None
    done: int = 0
    told: str = ""
    _started: float = field(default_factory=time.monotonic, repr=False)
    _first: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Remember where it began, for the time that is left."""
        self._first = self.done

    def advance(self, count: int = 1) -> None:
        """Say that steps are done."""
        self.done += count

    def seconds(self, now: float) -> float:
        """Since it began."""
        return now - self._started

    def tell(self) -> str:
        """What it is and how far it has come; a count that has not moved would tell nothing."""
        counted = f" {self.done}/{self.total}" if self.total is not None and self.done else ""
        return f"{self.description}{counted}{f'  {self.told}' if self.told else ''}"

    def tell_time(self, now: float) -> str:
        """Time left where it can be told, else time spent."""
        steps, spent = self.done - self._first, self.seconds(now)
        if self.total is None or steps < 1:
            return tell_seconds(spent)
        return f"{tell_seconds(spent / steps * max(self.total - self.done, 0))} left"


@contextmanager
def doing(description: str, total: int | None = None, *, done: int = 0) -> Iterator[Doing]:
    """Say what the block does; the work's steps are counted by :meth:`Doing.advance`.

    Args:
        description: As a reader of the command line understands it.
        total: Steps, where they can be counted.
        done: Steps done before.
    """
    work, display = Doing(description, total, done), _Display.present
    if display is None:
        yield work
        return
    display.begin(work)
    try:
        yield work
    finally:
        display.end(work)


def with_progress(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield the items, each of which is a step of some work."""
    with doing(description, total) as work:
        for item in items:
            yield item
            work.advance()


@contextmanager
def shown() -> Iterator[None]:
    """Say on standard error what is being done inside; of several processes of one run only the first one speaks."""
    follows = any(os.environ.get(name, "0") != "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    if _Display.present is not None or follows or os.environ.get(QUIET_VARIABLE):
        yield
        return
    display, streams = _Display(sys.stderr), (sys.stdout, sys.stderr)
    watched = [_Watched(stream, display) for stream in streams]
    handlers = [
        handler
        for handler in logging.root.handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr
    ]
    sys.stdout, sys.stderr = watched  # type: ignore[assignment]
    for handler in handlers:
        handler.setStream(sys.stderr)
    _Display.present = display
    display.start()
    try:
        yield
    finally:
        _Display.present = None
        display.stop()
        sys.stdout, sys.stderr = streams
        for handler in handlers:
            handler.setStream(sys.stderr)


def say_no_more() -> None:
    """From here on nothing is said: the work goes on until somebody ends it, as a server's does."""
    display, _Display.present = _Display.present, None
    if display is not None:
        display.stop()


class _Display:
    """Shows the work that goes on, from a thread of its own.

    Args:
        stream: Where to.
    """

    present: "_Display | None" = None
    """The one that hears what is being done."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._terminal = stream, stream.isatty()
        self._lock, self._over = threading.RLock(), threading.Event()
        self._works: list[Doing] = []
        self._changed = self._spoke = self._imported = time.monotonic()
        self._modules, self._ticks = len(sys.modules), 0
        self._drawn, self._mid_line = False, False
        self._said: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="lexiseg progress", daemon=True)

    def start(self) -> None:
        """Begin to look on."""
        self._thread.start()

    def stop(self) -> None:
        """Take the line away and look on no more."""
        self._over.set()
        self._thread.join(timeout=1.0)  # it may hang on a pipe that nobody reads
        with suppress(OSError, ValueError):
            self._clear()

    def silence(self) -> None:
        """In the child of a fork, which has no such thread and may have got the lock while it was held."""
        self._lock = threading.RLock()
        self._over.set()
        self._drawn = False

    def begin(self, work: Doing) -> None:
        """Hear of some work."""
        with self._lock:
            self._works.append(work)
            self._changed = time.monotonic()

    def end(self, work: Doing) -> None:
        """Hear that it is done."""
        with self._lock:
            self._works.remove(work)
            self._changed = time.monotonic()
            if not self._works:
                self._clear()

    def pass_on(self, stream: TextIO, text: str) -> int:
        """Let somebody else write; our line goes away first where it would be in the way."""
        if self._over.is_set():
            return stream.write(text)
        with self._lock:
            if text:
                if stream.isatty():
                    self._clear()
                    self._mid_line = not text.endswith("\n")
                self._spoke = time.monotonic()
            return stream.write(text)

    def _run(self) -> None:
        while not self._over.wait(_TICK):
            with self._lock:
                try:
                    self._look(time.monotonic())
                except (OSError, ValueError):  # nobody reads any more, or the stream is closed
                    return

    def _look(self, now: float) -> None:
        self._ticks += 1
        if len(sys.modules) != self._modules:
            self._modules, self._imported = len(sys.modules), now
        works = [work for work in self._works if work.seconds(now) > _DRAWN_AFTER]
        works = works or self._works or [self._unnamed(now)]
        silent = now - self._spoke
        if self._terminal:
            # Much short work, one after another, is no less silent than some that is long.
            if (works[0].seconds(now) > _DRAWN_AFTER or silent > _LINE_AFTER[0]) and not self._mid_line:
                self._spoke = now
                self._draw(works, now)
            return
        key = works[0].description  # whatever goes on inside it
        said = self._said.get(key, 0)
        if silent > _LINE_AFTER[min(said, len(_LINE_AFTER) - 1)]:
            self._said[key] = said + 1
            self._spoke = now
            self._stream.write(f"[{tell_seconds(works[0].seconds(now))}] {_chain(works)}\n")
            self._stream.flush()

    def _unnamed(self, now: float) -> Doing:
        """What goes on while nothing is said of it; modules that come in betray an import."""
        importing = now - self._imported < _LINE_AFTER[0]
        return Doing("importing libraries" if importing else "working", _started=self._changed)

    def _draw(self, works: list[Doing], now: float) -> None:
        mark = _SPINNER[self._ticks % len(_SPINNER)]
        text = f"{mark} {_bar(works[0])}{_chain(works)}  {works[0].tell_time(now)}"
        self._stream.write(f"{_CLEAR}{text[: _width(self._stream) - 1]}")
        self._stream.flush()
        self._drawn = True

    def _clear(self) -> None:
        if self._drawn:
            self._drawn = False
            self._stream.write(_CLEAR)
            self._stream.flush()


class _Watched:
    """A standard stream whose writers and the display do not get into each other's way."""

    def __init__(self, stream: TextIO, display: _Display) -> None:
        self._stream, self._display = stream, display

    def write(self, text: str) -> int:
        return self._display.pass_on(self._stream, text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _chain(works: list[Doing]) -> str:
    return " · ".join(work.tell() for work in works)


def _bar(work: Doing) -> str:
    if not work.total or not work.done:
        return ""
    filled = min(_BAR_CELLS * work.done // work.total, _BAR_CELLS)
    return f"[{'#' * filled}{'.' * (_BAR_CELLS - filled)}] "


def tell_seconds(seconds: float) -> str:
    """A time in words: seconds below a minute, then ``M:SS``, then ``H:MM:SS``."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _width(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _silence_child() -> None:
    if _Display.present is not None:
        _Display.present.silence()
        _Display.present = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_silence_child)
