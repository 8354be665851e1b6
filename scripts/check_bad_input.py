"""Give every command bad input by the hundred, and judge each answer: refused in one sentence, or answered rightly.

    python scripts/check_bad_input.py                        # all 3,600 cases; a quarter of an hour on two idle cores
    python scripts/check_bad_input.py --every 10             # a tenth, as the slow tests do
    python scripts/check_bad_input.py --kind images --only "orientation 6" --show

Each case is a call of the command line in a process of its own, forked from one that has imported everything, in a fresh
folder, under limits of memory and time. It fails on another exit status than the case's, a message of more than one sentence,
a traceback, a file outside the output folder or half written, and on an answer that is wrong: sizes, class order, areas, or
other labels than the same picture in another container. The cases stand in ``tests/campaign``, one module per kind.
Linux alone has the limits. Ends with status 1 if any case came to anything else.
"""

import argparse
import os
import shutil
import sys
import warnings
from pathlib import Path

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}  # before torch and the hub's client are imported

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

from rich.console import Console  # noqa: E402

from campaign.every import KINDS, cases  # noqa: E402
from campaign.made import SHARED  # noqa: E402
from campaign.running import Outcome, run_cases, warm_up  # noqa: E402
from campaign.table import drawn, rows  # noqa: E402
from lexiseg.storage import write_json  # noqa: E402

_TOLD = 50
"""Cases between two words on how far the campaign has come."""


def main() -> int:
    """Run, tell, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--every", type=int, default=1, help="only every so many-th case of each kind (default: all)"
    )
    parser.add_argument(
        "--kind",
        action="append",
        choices=[kind.KIND for kind in KINDS],
        help="only this kind; may be repeated",
    )
    parser.add_argument("--only", default="", help="only cases with this in their names")
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time")
    parser.add_argument("--json", type=Path, help="write rows and failures here")
    parser.add_argument("--show", action="store_true", help="print what every case said")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 180)
    chosen = [
        case
        for case in cases(args.every)
        if (not args.kind or case.kind in args.kind) and args.only in case.name
    ]
    warm_up()
    outcomes: list[Outcome] = []
    try:
        for outcome in run_cases(chosen, args.jobs):
            outcomes.append(outcome)
            if not len(outcomes) % _TOLD:
                print(f"{len(outcomes)} of {len(chosen)}", file=sys.stderr, flush=True)
            if args.show or outcome.verdict.outcome == "else":
                tell(console, outcome)
    finally:
        shutil.rmtree(SHARED, ignore_errors=True)
    told = rows(outcomes)
    console.print(drawn(told))
    if args.json:
        failures = [
            {"kind": o.case.kind, "name": o.case.name, "why": o.verdict.why}
            for o in outcomes
            if o.verdict.outcome == "else"
        ]
        write_json({"rows": told, "failures": failures}, args.json)
    return 1 if any(row["else"] for row in told) or not outcomes else 0


def tell(console: Console, outcome: Outcome) -> None:
    """One case in a few lines."""
    case, answer = outcome.case, outcome.answer
    took = "" if answer is None else f" ({answer.seconds:.2f} s, {answer.peak:.0f} MiB)"
    told = [f"{case.kind}: {case.name}: {outcome.verdict.outcome}{took} {outcome.verdict.why}"]
    if answer is not None and outcome.verdict.outcome != "else":
        told.append(f"    {(answer.err or answer.out)[-500:]}")
    console.print("\n".join(told), markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
