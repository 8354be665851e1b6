"""Run the toy commands of docs/papers.md one after the other, and write the seconds of each row into the page.

Usage: python scripts/try_papers.py [WORD ...]     only rows whose line holds one of the words

All run in one process, so that the seconds are without start-up. Run it in a folder with runs/toy/best.ckpt and the
scenes that the page tells how to make.
"""

import re
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from lexiseg.cli.main import main as lexiseg

PAGE = Path(__file__).resolve().parents[1] / "docs" / "papers.md"
_COMMAND = re.compile(r"`(lexiseg [^`]*)`")
_VARIABLE = re.compile(r'^([A-Z0-9_]+)="(.*?)"', re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """One row of the page.

    Attributes:
        line: As it stands there.
        name: Table or figure.
        published: Commands on published data, split into words, without the program's name.
        toy: The same on the toy world.
        seconds: What the page says; empty where nothing is run.
    """

    line: str
    name: str
    published: tuple[tuple[str, ...], ...]
    toy: tuple[tuple[str, ...], ...]
    seconds: str


def read_rows(text: str) -> list[Row]:
    """The rows of the page's tables, variables put in."""
    variables = dict(_VARIABLE.findall(text))

    def commands(cell: str) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(shlex.split(expand(found))[1:]) for found in _COMMAND.findall(cell))

    def expand(command: str) -> str:
        while "$" in command:
            command = re.sub(r"\$([A-Z0-9_]+)", lambda name: variables[name[1]], command)
        return command

    rows = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 5 and cells[0] not in ("", "---"):
            rows.append(Row(line, cells[0], commands(cells[2]), commands(cells[3]), cells[4]))
    return rows


def main(words: list[str]) -> int:
    """Run, time and write; the status of the first command that failed."""
    for row in read_rows(PAGE.read_text(encoding="utf-8")):
        if not row.toy or (words and not any(word in row.line for word in words)):
            continue
        started = time.monotonic()
        for command in row.toy:
            print(f"\n$ lexiseg {shlex.join(command)}", flush=True)
            status = lexiseg(command)
            if status != 0:
                return status
        told = "|".join([*row.line.split("|")[:-2], f" {time.monotonic() - started:.0f} |"])
        PAGE.write_text(
            PAGE.read_text(encoding="utf-8").replace(f"{row.line}\n", f"{told}\n"), encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
