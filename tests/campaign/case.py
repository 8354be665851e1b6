"""One bad, or merely odd, input: how it is made, what the command has to say to it, and who judges the answer."""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass


class Expected(enum.Enum):
    """What a command owes an input."""

    REFUSED = "refused"
    """Status 2 and one sentence; nothing is written."""
    SKIPPED = "skipped"
    """Status 1: the one photograph is named and left out; nothing is written."""
    ANSWERED = "answered"
    """Status 0, and an answer that the case's judge finds right."""
    EITHER = "either"
    """Damage that may or may not be seen: any of the three, in its own form."""


@dataclass(frozen=True)
class Answer:
    """What a command said and did.

    Attributes:
        status: Exit status.
        out: Standard output.
        err: Standard error.
        wrote: Files that are new or changed, relative to the folder that the command ran in.
        seconds: The processor's time.
        peak: Largest resident size in MiB, the interpreter's own included.
    """

    status: int
    out: str
    err: str
    wrote: tuple[str, ...]
    seconds: float
    peak: float


def nothing_more(answer: Answer) -> None:
    """Judge of a case whose exit status says all."""


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        kind: What it is an odd form of: a row of the table.
        name: Unique among its kind.
        prepare: Makes the files in the present folder, which is fresh, and returns the command's arguments.
        expected: See :class:`Expected`.
        judge: Looks at an answer of status 0 in the folder that it was given in; raises AssertionError.
        says: Words that a refusal holds.
        writes: Files and folders that the command may write, relative to its folder.
        keeps: What was written whole before the refusal may stay: a full disk shows itself late.
        ordinary_user: As a user whom folders may shut out; not as root, who goes in everywhere.
        seconds: Most of the processor's time that it may take, and a fifth of the wall clock's.
        mebibytes: Most address space that it may take, beyond what the interpreter has when it starts.
    """

    kind: str
    name: str
    prepare: Callable[[], Sequence[str]]
    expected: Expected = Expected.REFUSED
    judge: Callable[[Answer], None] = nothing_more
    says: tuple[str, ...] = ()
    writes: tuple[str, ...] = ("out",)
    keeps: bool = False
    ordinary_user: bool = False
    seconds: float = 60
    mebibytes: int = 3072
