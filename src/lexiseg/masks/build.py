"""Making the masks of many images, resumable and in several processes."""

import json
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from lexiseg.errors import DataError, LexisegError
from lexiseg.interruption import Kept, ignore_interrupts, keeping, without_interrupts
from lexiseg.masks.provider import MaskProvider, Picture
from lexiseg.masks.sa1b import MaskFile, read_mask_file
from lexiseg.masks.store import MaskStore, remove_stale_parts

Status = Literal["made", "kept", "differs", "failed"]
ReadImage = Callable[[Path], Picture]
Work = Callable[["MaskTask"], "Outcome"]

_WAITING = 2
"""Images per process that are handed out ahead of time."""


@dataclass(frozen=True)
class MaskTask:
    """One image to make masks of.

    Attributes:
        image: Its path.
        store: Where its masks go.
    """

    image: Path
    store: MaskStore

    @property
    def target(self) -> Path:
        """The file that will hold the masks."""
        return self.store.path(self.image)


@dataclass(frozen=True)
class Outcome:
    """What became of one image.

    Attributes:
        image: Its path.
        status: ``made``; ``kept``, being there already; ``differs``, being there with other settings; ``failed``.
        masks: How many it has now.
        dropped: Empty masks that were left out.
        reason: Why it differs or failed.
    """

    image: Path
    status: Status
    masks: int = 0
    dropped: int = 0
    reason: str = ""


def build_masks(
    tasks: Sequence[MaskTask],
    provider: MaskProvider,
    read: ReadImage,
    *,
    workers: int = 1,
    overwrite: bool = False,
) -> Iterator[Outcome]:
    """Make masks image by image and yield what became of each, in the order of completion.

    An image whose masks by the same provider and settings are there is kept as it is, so a run that was killed goes
    on where it stopped; half-written files that it left are removed first. A damaged mask file of ours is made anew.

    Args:
        tasks: The images; no two may share a target.
        provider: Makes the masks; must be picklable for several processes.
        read: Reads an image as ``(H, W, 3)`` uint8 RGB; its :class:`DataError` fails that image only.
        workers: Processes; 1 works in this one.
        overwrite: Replace masks made with other settings or of another version of the photograph.

    Raises:
        DataError: Two images share a target.
        LexisegError: Masks cannot be written, or a process died.
    """
    _require_own_targets(tasks)
    remove_stale_parts(task.target.parent for task in tasks)
    work = partial(make_masks, provider=provider, read=read, overwrite=overwrite)
    with keeping(partial(_kept, tasks)):
        yield from map(work, tasks) if workers == 1 else _in_processes(tasks, work, workers)


def make_masks(task: MaskTask, *, provider: MaskProvider, read: ReadImage, overwrite: bool) -> Outcome:
    """Make and write the masks of one image unless they are there.

    Raises:
        LexisegError: They cannot be written.
    """
    try:
        origin = _origin(provider, task.image)
        there = _existing(task.target)
        if there is not None and there.origin is not None:
            difference = _difference(there.origin, origin)
            if not difference:
                return Outcome(task.image, "kept", len(there.masks), there.masks.dropped)
            if not overwrite:
                return Outcome(task.image, "differs", len(there.masks), reason=difference)
        with warnings.catch_warnings():
            # Large photographs are welcome here; Pillow warns of them as a possible attack.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            masks = provider(read(task.image))
    except DataError as error:
        return Outcome(task.image, "failed", reason=str(error))
    task.store.write(task.image, masks, origin)
    return Outcome(task.image, "made", len(masks), masks.dropped)


def _existing(target: Path) -> MaskFile | None:
    if not target.exists():
        return None
    try:
        return read_mask_file(target)
    except DataError:
        return None


def _kept(tasks: Sequence[MaskTask]) -> Kept:
    there = sum(task.target.exists() for task in tasks)
    return Kept(f"{there} of {len(tasks)} photographs have their masks")


def _origin(provider: MaskProvider, image: Path) -> dict[str, Any]:
    """What the cache records beside the masks, in the form that JSON gives back."""
    try:
        size = image.stat().st_size
    except OSError as error:
        raise DataError(f"cannot read {image} ({error.strerror or error}); check the path") from error
    settings = json.loads(json.dumps(dict(provider.settings)))
    return {"provider": provider.name, "settings": settings, "image_bytes": size}


def _difference(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """In words, how masks that are there were made otherwise than wanted; empty if they were not."""
    if there.get("provider") != wanted["provider"]:
        return f"made by {there.get('provider')}, not by {wanted['provider']}"
    old, new = there.get("settings") or {}, wanted["settings"]
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    if names:
        return "made with " + ", ".join(f"{n} {old.get(n)} (now {new.get(n)})" for n in names)
    return (
        ""
        if there.get("image_bytes") == wanted["image_bytes"]
        else "made of another version of the photograph"
    )


def _require_own_targets(tasks: Sequence[MaskTask]) -> None:
    owners: dict[Path, Path] = {}
    for task in tasks:
        other = owners.setdefault(task.target, task.image)
        if other != task.image:
            raise DataError(
                f"{other} and {task.image} would both have their masks in {task.target}; run once for each folder, with "
                "an output folder each"
            )


def _in_processes(tasks: Sequence[MaskTask], work: Work, workers: int) -> Iterator[Outcome]:
    # Fresh processes, not forks: a fork copies locks that a thread of this process may hold.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_enter_process)
    try:
        pending: set[Future[Outcome]] = set()
        for task in tasks:
            with without_interrupts():  # processes are started as they are needed
                pending.add(pool.submit(_finish, work, task))
            if len(pending) >= _WAITING * workers:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        raise LexisegError(
            "a worker process died, perhaps for want of memory; run the same command with fewer --workers: finished "
            "images are kept"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Process:
    """What one of several processes is doing, for its answer to SIGTERM."""

    busy = False
    leaving = False


def _finish(work: Work, task: MaskTask) -> Outcome:
    """Work on an image to its end, so that no file is left half-written; a SIGTERM that came meanwhile is answered then."""
    _Process.busy = True
    try:
        return work(task)
    finally:
        _Process.busy = False
        if _Process.leaving:
            os._exit(1)


def _leave(*_: Any) -> None:
    _Process.leaving = True
    if not _Process.busy:
        os._exit(1)


def _enter_process() -> None:
    """Leave Ctrl-C to the parent, which lets each image in work be finished, as SIGTERM does; go when the parent is gone."""
    ignore_interrupts()
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
