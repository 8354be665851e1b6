"""The verdict on an answer: its form, and that nothing was written where nothing may be."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from campaign.case import Answer, Case, Expected

_WARNING = re.compile(r"^(WARNING: |INFO: |note: |\S+\.py:\d+: \w*Warning: )")
_LONGEST_LINE = 2000
_HALF_WRITTEN = (".part", ".tmp", ".partial")


@dataclass(frozen=True)
class Verdict:
    """What came of a case.

    Attributes:
        outcome: ``refused``, ``answered``, or ``else``, which is wrong.
        why: Of the last, in words.
    """

    outcome: str
    why: str = ""


def judged(case: Case, answer: Answer) -> Verdict:
    """Whether a command did with an input what it owes it."""
    try:
        _quiet_about_itself(answer)
        _inside(case, answer)
        return Verdict(_form(case, answer))
    except AssertionError as error:
        return Verdict("else", str(error) or "a judge's bare assertion failed")


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and link below a folder with what changes when it is written: modification time and size."""
    state = {}
    for root, folders, files in os.walk(folder):
        for name in [*files, *folders]:
            path = Path(root, name)
            told = path.lstat()
            changing = (0, 0) if path.is_dir() and not path.is_symlink() else (told.st_mtime_ns, told.st_size)
            state[str(path.relative_to(folder))] = changing
    return state


def _quiet_about_itself(answer: Answer) -> None:
    for text in (answer.out, answer.err):
        assert "Traceback (most recent call last)" not in text, f"a traceback: {text[-600:]}"
        assert "Exception ignored" not in text, f"an ignored exception: {text[-600:]}"


def _inside(case: Case, answer: Answer) -> None:
    outside = [name for name in answer.wrote if not _below(name, case.writes)]
    assert not outside, f"wrote outside its folder: {outside[:5]}"
    half = [name for name in answer.wrote if name.endswith(_HALF_WRITTEN)]
    assert not half, f"left half-written files: {half[:5]}"


def _below(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or name.startswith(f"{place}/") for place in places)


def _form(case: Case, answer: Answer) -> str:
    if answer.status == 0 and case.expected in (Expected.ANSWERED, Expected.EITHER):
        case.judge(answer)
        return "answered"
    if answer.status == 1 and case.expected is Expected.SKIPPED:
        _check_skipped(answer)
    elif answer.status == 1 and case.expected is Expected.EITHER:
        assert answer.out.strip() or answer.err.strip(), "status 1 without a word"
    elif answer.status == 2 and case.expected in (Expected.REFUSED, Expected.EITHER):
        _check_refused(answer)
    else:
        told = (answer.err or answer.out)[-400:]
        raise AssertionError(f"expected {case.expected.value}, got status {answer.status}: {told}")
    assert case.keeps or not answer.wrote, f"refused, yet wrote {answer.wrote[:5]}"
    spoken = " ".join((answer.out + answer.err).split())
    missing = [words for words in case.says if words not in spoken]
    assert not missing, f"does not say {missing}: {spoken[-400:]}"
    return "refused"


def _check_refused(answer: Answer) -> None:
    """One line of our own; a layout that a message draws may follow it, one-line warnings may stand before."""
    lines = [line for line in answer.err.splitlines() if line.strip()]
    ours = [index for index, line in enumerate(lines) if line.startswith("lexiseg: ")]
    assert len(ours) == 1, (
        f"expected one line of ours on standard error, got {len(ours)}: {answer.err[-600:]}"
    )
    before = lines[: ours[0]]
    odd = [line for line in before if not _WARNING.match(line)]
    assert not odd, f"before the message stands {odd[0][:300]!r}"
    after = [
        line
        for line in lines[ours[0] + 1 :]
        if not line.startswith(("    ", "looked in:", "expected layout:", "point "))
    ]
    assert not after, f"behind the message stands {after[0][:300]!r}"
    sentence = lines[ours[0]]
    assert len(sentence) <= _LONGEST_LINE, f"a message of {len(sentence)} letters: {sentence[:300]}…"
    assert len(sentence) > len("lexiseg: ") + 8, f"a message that says nothing: {sentence!r}"


def _check_skipped(answer: Answer) -> None:
    assert answer.out.count("skipped:") == 1, f"expected one photograph skipped aloud: {answer.out[-600:]}"
    assert " photographs segmented" in answer.out, answer.out[-600:]
