"""One thread that owns the model; what waits for it under the same rules is done together."""

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

Answer = Callable[[Any, Sequence[Any]], Sequence[Any]]
"""A key and the items that share it to one result for each."""


@dataclass(eq=False)
class _Job:
    key: Hashable
    item: Any
    weight: int
    future: "Future[Any]" = field(default_factory=Future)
    came: float = field(default_factory=time.monotonic)


class Batcher:
    """Hands waiting items to a function, the oldest first, with others of its key.

    Args:
        answer: Called in the one thread only. Where it fails for several items, each is tried alone, so that nobody bears
            another's mistake.
        most: Items handed over together.
        most_weight: Of them together; an item by itself may weigh more.
        gather_seconds: How long an item waits for others of its key, from when it came.
    """

    def __init__(
        self, answer: Answer, *, most: int, most_weight: float = float("inf"), gather_seconds: float = 0.0
    ) -> None:
        self._answer = answer
        self._most, self._most_weight, self._gather_seconds = most, most_weight, gather_seconds
        self._waiting: list[_Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Items that wait."""
        return len(self._waiting)

    def submit(self, key: Hashable, item: Any, *, weight: int = 0) -> "Future[Any]":
        """Let an item wait; if its future is cancelled before its turn, it is left out.

        Raises:
            RuntimeError: After :meth:`close`.
        """
        job = _Job(key, item, weight)
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._waiting.append(job)
            self._changed.notify()
        job.future.add_done_callback(lambda _: self._forget(job))
        return job.future

    def _forget(self, job: _Job) -> None:
        """Let go of what was cancelled: its photograph would wait in memory behind a long answer."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                self._changed.notify()

    def close(self) -> None:
        """Take nothing more; return when all that waits is done."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next():
            live = [job for job in batch if job.future.set_running_or_notify_cancel()]
            if live and not self._done(live):
                for job in live:
                    self._done([job])
            del batch, live  # or the last photographs would stay until others come

    def _next(self) -> list[_Job]:
        """Jobs of one key; none once closed and empty."""
        with self._changed:
            while not self._ready():
                if self._closed:
                    return []
                self._changed.wait()
            batch = self._joined()
            self._waiting = [job for job in self._waiting if job not in batch]
            return batch

    def _ready(self) -> bool:
        """Whether somebody waits, and has waited long enough for others."""
        while self._waiting and not self._closed and len(self._joined()) < self._most:
            left = self._waiting[0].came + self._gather_seconds - time.monotonic()
            if left <= 0:
                break
            self._changed.wait(left)
        return bool(self._waiting)

    def _joined(self) -> list[_Job]:
        """The oldest and those that may join it, in their order."""
        first, weight = self._waiting[0], self._waiting[0].weight
        batch = [first]
        for job in self._waiting[1:]:
            if len(batch) == self._most:
                break
            if job.key == first.key and weight + job.weight <= self._most_weight:
                batch.append(job)
                weight += job.weight
        return batch

    def _done(self, jobs: Sequence[_Job]) -> bool:
        """Whether the jobs have their results; a single one has its error otherwise."""
        try:
            results = self._answer(jobs[0].key, [job.item for job in jobs])
        except BaseException as error:
            if len(jobs) > 1:
                return False
            jobs[0].future.set_exception(error)
            return True
        for job, result in zip(jobs, results, strict=True):
            job.future.set_result(result)
        return True
