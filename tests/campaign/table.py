"""The campaign as a table: what came of the cases of each kind, and what the worst accepted one took."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from campaign.running import Outcome

OUTCOMES = ("refused", "answered", "else")


def rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One row per kind, in the order of the first case of each, as plain values."""
    kinds = list(dict.fromkeys(outcome.case.kind for outcome in outcomes))
    return [_row(kind, [outcome for outcome in outcomes if outcome.case.kind == kind]) for kind in kinds]


def _row(kind: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    counts = {told: sum(outcome.verdict.outcome == told for outcome in outcomes) for told in OUTCOMES}
    accepted = [outcome for outcome in outcomes if outcome.verdict.outcome == "answered" and outcome.answer]
    heaviest = max(accepted, key=lambda outcome: outcome.answer.peak, default=None)  # type: ignore[union-attr]
    slowest = max(accepted, key=lambda outcome: outcome.answer.seconds, default=None)  # type: ignore[union-attr]
    return {
        "kind": kind,
        "cases": len(outcomes),
        **counts,
        "peak": None if heaviest is None else round(heaviest.answer.peak),  # type: ignore[union-attr]
        "peak_of": None if heaviest is None else heaviest.case.name,
        "seconds": None if slowest is None else round(slowest.answer.seconds, 1),  # type: ignore[union-attr]
        "seconds_of": None if slowest is None else slowest.case.name,
    }


def drawn(told: Sequence[dict[str, Any]]) -> Table:
    """The rows for a console, with their sums."""
    table = Table()
    for column in (
        "kind",
        "cases",
        "refused clearly",
        "answered rightly",
        "anything else",
        "peak MiB",
        "of",
        "CPU s",
        "of",
    ):
        table.add_column(column, justify="left" if column in ("kind", "of") else "right")
    for row in told:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    sums = [str(sum(row[key] for row in told)) for key in ("cases", *OUTCOMES)]
    table.add_section()
    table.add_row("all", *sums)
    return table
