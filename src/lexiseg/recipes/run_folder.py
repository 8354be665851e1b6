"""A run's folder: it goes on only as the run that it holds, and a finished run is left alone."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.utilities import rank_zero_only

from lexiseg.checkpoints.training_file import load_tensors_only, read_step
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.interruption import Kept, keeping
from lexiseg.recipes.settings import Resume
from lexiseg.storage import is_there, make_folder, require_folder, write_json, write_text
from lexiseg.training.checkpointing import BEST, LAST
from lexiseg.training.csv_log import FILE_NAME as LOG_FILE
from lexiseg.training.csv_log import CsvLog
from lexiseg.training.random_state import RANDOM_STATE_KEY

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

RECORD_FILE = "config.yaml"
RESULT_FILE = "result.json"
"""What every run writes into its folder when it is complete."""

_TRAINING_STATE = (
    "global_step",
    "epoch",
    "optimizer_states",
    "lr_schedulers",
    "loops",
    "callbacks",
    RANDOM_STATE_KEY,
    "pytorch-lightning_version",
)
"""What a checkpoint holds beside weights where a run can go on from it; an imported one has none of it."""

_NOT_COMPARED = ("resume", "output_dir", "trainer", "logger", "validation", "checkpoint", "pictures")
"""Settings that may change between a run and its resumption."""

_ABSENT = object()

ReadDescription = Callable[[Mapping[str, Any], Path], object]
"""Reads what a loaded checkpoint says of itself; raises :class:`CheckpointError` for another kind's."""


def require_run_name(name: object) -> None:
    """Refuse a name by which a run would lie anywhere but in a folder of its own below the others.

    Raises:
        ConfigError: No name, or one that leads elsewhere.
    """
    parts = Path(name).parts if isinstance(name, str) else ()
    if not parts or Path(*parts).is_absolute() or ".." in parts or Path(*parts) == Path():
        raise ConfigError(
            f"name: expected the name of a run's own folder, such as mine or tables/first, got {name!r}; for a place elsewhere "
            "say output_dir=FOLDER"
        )


def require_output_dir(folder: object, key: str = "output_dir") -> None:
    """Refuse an output folder that is none, which would be the folder that the command is started in, or takes no results.

    Raises:
        ConfigError: An empty name, or no name.
        LexisegError: Nothing can be written there.
    """
    if not isinstance(folder, str | Path) or not str(folder).strip():
        raise ConfigError(f"{key}: expected a folder, got {folder!r}; for the present one say {key}=.")
    require_folder(Path(folder), key)


@dataclass(frozen=True)
class RunFolder:
    """Where a run is kept.

    Attributes:
        path: The folder; made when the run starts.
        resume: Where the run goes on, see :data:`~lexiseg.recipes.settings.Resume`.
        record: The run's settings as plain values: what config.yaml says.
        asked: The same before the run brought some of them in line; a folder that says these is the run's, too.
    """

    path: Path
    resume: Resume
    record: Mapping[str, Any]
    asked: Mapping[str, Any] = field(default_factory=dict)

    def finished(self, max_steps: int) -> dict[str, Any] | None:
        """The result of a run of these settings that has come to its end here, or None.

        Raises:
            ConfigError: The folder holds a run with other settings.
        """
        complete = is_there(self.path / RESULT_FILE) and is_there(self.path / LAST)
        if self.resume != "auto" or not complete:
            return None
        self.check_same_run()
        result = self.result()
        return result if result["step"] == max_steps else None

    def result(self) -> dict[str, Any]:
        """What a complete run wrote here.

        Raises:
            ConfigError: The file is damaged.
        """
        path = self.path / RESULT_FILE
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"{path}: damaged ({error}); remove it, and the run goes on from its {LAST}"
            ) from error
        if not isinstance(result, dict) or "step" not in result:
            raise ConfigError(f"{path}: no result of a run; remove it, and the run goes on from its {LAST}")
        return result

    def resume_from(self) -> Path | None:
        """The checkpoint to go on from, or None.

        Raises:
            CheckpointError: ``resume`` names no file.
            ConfigError: The folder holds a run with other settings.
        """
        if self.resume is False or self.resume is None:
            return None
        last = self.path / LAST
        if self.resume is not True and str(self.resume) != "auto":
            if not Path(self.resume).is_file():
                raise CheckpointError(f"resume={self.resume}: no such file; give a last.ckpt, auto or false")
            return Path(self.resume)
        if not is_there(last):
            return None
        self.check_same_run()
        return last

    def check_same_run(self) -> None:
        """A folder goes on only as the run that it holds.

        Raises:
            ConfigError: Names the settings that differ, with both values.
        """
        recorded = self.path / RECORD_FILE
        if not recorded.is_file():
            return
        before = read_record(recorded)
        changed = [
            difference
            for key in self.record
            if key not in _NOT_COMPARED
            and differences(before.get(key, _ABSENT), self.asked.get(key, self.record[key]), key)
            for difference in differences(before.get(key, _ABSENT), self.record[key], key)
        ]
        if changed:
            raise ConfigError(
                f"{self.path} holds a run with other settings ({'; '.join(changed)}); give those of the run, choose another "
                "name=, or resume=false to start anew in its place"
            )

    def tell_other_length(self, max_steps: int) -> str:
        """What is to be said of a run that goes on here for other than its planned steps; empty for one of the same."""
        recorded = self.path / RECORD_FILE
        before = yaml.safe_load(recorded.read_text(encoding="utf-8")) if recorded.is_file() else None
        trainer = before.get("trainer") if isinstance(before, Mapping) else None
        planned = trainer.get("max_steps") if isinstance(trainer, Mapping) else None
        if not isinstance(planned, int) or planned == max_steps:
            return ""
        return (
            f"note: this run was planned for {planned} steps and goes on to {max_steps}; so far its learning rate followed the "
            f"schedule of {planned}, so it is not the run that one planned for {max_steps} steps would be"
        )

    @property
    def complete(self) -> str:
        """What is said of a run that has nothing left to do."""
        return f"the run in {self.path} is complete; resume=false starts it anew"

    @contextmanager
    def at_work(self) -> Iterator[Path | None]:
        """Hold the folder, find the checkpoint to go on from, and say what is kept if the work is stopped in here.

        Raises:
            LexisegError: As :meth:`held` and :meth:`resume_from`.
        """
        with self.held():
            resume_from = self.resume_from()
            with self.keeping(resume_from):
                yield resume_from

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for one run of this machine: two into one folder would spoil each other's checkpoints.

        The first process of a run holds it for all. The lock lies among the system's temporary files and goes with the process,
        however that ends.

        Raises:
            ConfigError: Another process trains in it.
        """
        if fcntl is None or getattr(rank_zero_only, "rank", 0) != 0:
            yield
            return
        key = hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:24]
        lock = Path(tempfile.gettempdir()) / f"lexiseg-run-{key}.lock"
        try:
            file = lock.open("a+")
        except OSError:  # another user's, or no place to write to: as good as none
            yield
            return
        with file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.seek(0)
                who = file.read(32).strip()
                told = f" (process {who})" if who else ""
                raise ConfigError(
                    f"another run{told} is at work in {self.path}; wait for it, or choose another name"
                ) from error
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)

    def open(self, resume_from: Path | None, step: int) -> CsvLog:
        """Make the folder, write the record into it, and open its log at the step the run goes on from."""
        make_folder(self.path)
        log = CsvLog(self.path)
        if resume_from is None:
            (self.path / LOG_FILE).unlink(missing_ok=True)
        else:
            log.rewind(step)
        write_text(
            yaml.safe_dump(dict(self.record), sort_keys=False, allow_unicode=True), self.path / RECORD_FILE
        )
        return log

    def keeping(self, resume_from: Path | None) -> AbstractContextManager[None]:
        """What this run has kept if it is stopped in here: its own checkpoints, not those that stood here before it.

        A run goes on from its last one alone: where only the best is there, as of a model that has nothing to train, the
        work begins anew.
        """
        own = (self.path / LAST, self.path / BEST)
        foreign = (None, None) if resume_from == own[0] else tuple(_stamp(path) for path in own)

        def tell() -> Kept:
            stamps = zip(own, foreign, strict=True)
            last, best = (_stamp(path) not in (None, before) for path, before in stamps)
            if last:
                step = read_step(own[0])
                return Kept(
                    f"step {step} is kept in {own[0]}", () if self.resume == "auto" else ("resume=auto",)
                )
            told = f"the best so far is kept in {own[1]}, and no {LAST} to go on from yet"
            return Kept(
                told if best else f"no checkpoint in {self.path} yet", goes_on=resume_from is not None
            )

        return keeping(tell)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Say that the run is complete, and how it went."""
        write_json(result, self.path / RESULT_FILE)


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes whenever a file is written anew; None where there is none."""
    if not path.is_file():
        return None
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


def read_record(path: Path) -> dict[str, Any]:
    """What a run's folder says of it.

    Raises:
        ConfigError: The file is damaged.
    """
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: damaged ({' '.join(str(error).split())}); give resume=false to start anew in its place"
        ) from error
    if not isinstance(record, dict):
        raise ConfigError(f"{path}: no record of a run; give resume=false to start anew in its place")
    return record


def differences(before: Any, now: Any, name: str) -> list[str]:
    """In what a recorded setting differs, in words; a class that has only moved to another module does not.

    What is recorded and is no setting any more does not count, nor what was none yet and is null now; in a mapping with numbers
    for keys, such as an ``id_map``, every key is the user's own, and one that is gone does.

    Args:
        before: As recorded.
        now: As it is now.
        name: What the user calls it.
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return [
            difference
            for key in [*now, *(key for key in before if isinstance(key, int) and key not in now)]
            for difference in differences(before.get(key, _ABSENT), now.get(key, _ABSENT), f"{name}.{key}")
        ]
    if name.endswith("._target_") and isinstance(before, str):
        before, now = before.rpartition(".")[2], str(now).rpartition(".")[2]
    if before == now or (before is _ABSENT and now is None):
        return []
    there, here = ("absent" if value is _ABSENT else value for value in (before, now))
    return [f"{name}: {there} there, {here} now"]


def resumed_step(path: Path | None, read: ReadDescription) -> int:
    """Step that a run goes on from; reading it early refuses a bad checkpoint before anything is built."""
    if path is None:
        return 0
    checkpoint = load_tensors_only(path)
    read(checkpoint, path)
    absent = [key for key in _TRAINING_STATE if key not in checkpoint]
    if absent:
        raise CheckpointError(
            f"{path}: holds no {', '.join(absent[:3])}, so no run can go on from it; to start from its weights, give "
            f"resume=false init_from={path}"
        )
    return int(checkpoint["global_step"])
