"""A part of the campaign of bad inputs, of each kind alike, with the same judges."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from campaign.case import Answer, Case, Expected
from campaign.judging import judged

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="the limits of memory and the peaks are Linux'")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("every", [75, pytest.param(10, marks=pytest.mark.slow)])
def test_cases_of_every_kind_end_well(tmp_path, every):
    """In a process of its own, which no other test has left threads in: every case is forked from it."""
    done = subprocess.run(
        [
            sys.executable,
            "scripts/check_bad_input.py",
            "--every",
            str(every),
            "--jobs",
            "2",
            "--json",
            tmp_path / "told.json",
        ],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (tmp_path / "told.json").is_file(), done.stdout + done.stderr
    told = json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))
    assert told["failures"] == []
    assert done.returncode == 0
    assert sum(row["cases"] for row in told["rows"]) >= 3000 / every
    assert all(row["cases"] for row in told["rows"])


def answer(status=0, out="", err="", wrote=()):
    return Answer(status, out, err, wrote, 0.1, 300.0)


def case(expected, judge=lambda told: None, **more):
    return Case("kind", "name", list, expected, judge, **more)


def wrong(_):
    raise AssertionError("areas do not add up")


SENTENCE = "lexiseg: seed: expected a whole number, got 'x'\n"


@pytest.mark.parametrize(
    ("of", "came"),
    [
        (case(Expected.REFUSED), answer(2, err=SENTENCE)),
        (case(Expected.REFUSED), answer(2, err="WARNING: one line\n" + SENTENCE)),
        (case(Expected.REFUSED, keeps=True), answer(2, err=SENTENCE, wrote=("out/whole.png",))),
        (case(Expected.SKIPPED), answer(1, out="skipped: a.png is damaged\n0 of 1 photographs segmented\n")),
    ],
)
def test_refusals_in_order(of, came):
    assert judged(of, came).outcome == "refused"


@pytest.mark.parametrize(
    ("of", "came", "why"),
    [
        (case(Expected.REFUSED), answer(0), "expected refused, got status 0"),
        (case(Expected.REFUSED), answer(1, err=SENTENCE), "expected refused, got status 1"),
        (case(Expected.REFUSED), answer(2, err=SENTENCE * 2), "one line of ours on standard error, got 2"),
        (case(Expected.REFUSED), answer(2, err=""), "one line of ours on standard error, got 0"),
        (case(Expected.REFUSED), answer(2, err="lexiseg: x\n"), "says nothing"),
        (case(Expected.REFUSED), answer(2, err="usage: x [-h]\n" + SENTENCE), "before the message"),
        (case(Expected.REFUSED), answer(2, err=SENTENCE + "and more\n"), "behind the message"),
        (case(Expected.REFUSED), answer(2, err="step 1\n" + SENTENCE), "before the message"),
        (case(Expected.REFUSED), answer(2, err="lexiseg: " + "x" * 3000), "a message of 3009 letters"),
        (case(Expected.REFUSED), answer(2, err=SENTENCE, wrote=("out/a.png",)), "refused, yet wrote"),
        (case(Expected.REFUSED, says=("photo",)), answer(2, err=SENTENCE), "does not say ['photo']"),
        (case(Expected.ANSWERED), answer(2, err=SENTENCE), "expected answered, got status 2"),
        (case(Expected.ANSWERED), answer(wrote=("elsewhere",)), "wrote outside its folder"),
        (case(Expected.ANSWERED), answer(wrote=("outer",)), "wrote outside its folder"),
        (case(Expected.ANSWERED), answer(wrote=("out/.a.part",)), "left half-written files"),
        (case(Expected.ANSWERED, wrong), answer(), "areas do not add up"),
        (case(Expected.EITHER, wrong), answer(), "areas do not add up"),
        (
            case(Expected.EITHER),
            answer(1, err="Traceback (most recent call last):\n  File x\nKeyError: 'x'\n"),
            "a traceback",
        ),
        (case(Expected.EITHER), answer(1), "without a word"),
        (case(Expected.SKIPPED), answer(1, out="0 of 1 photographs segmented\n"), "skipped aloud"),
    ],
)
def test_what_the_judge_does_not_let_pass(of, came, why):
    verdict = judged(of, came)
    assert verdict.outcome == "else"
    assert why in verdict.why
