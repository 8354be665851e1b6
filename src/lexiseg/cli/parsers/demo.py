"""Flags of ``lexiseg demo``."""

from pathlib import Path

from lexiseg.cli.parsers.shared import Command, Flag

_EXAMPLES = """
Everything runs offline on the processor: scenes are rendered, the CLIP ships with the package. The toy world proves that
the machine works; it says nothing about photographs.

examples:
  lexiseg demo
  lexiseg demo --seeds 5 --out runs/demo5     the figures of the README
"""

COMMAND = Command(
    "demo",
    "train on the toy world and find unseen classes, offline, in minutes",
    "lexiseg.cli.demo:run",
    "On the toy world: what a frozen CLIP can do alone, and what Cascade-CLIP makes of it.",
    _EXAMPLES,
    (
        Flag("--out", "DIR", "folder for runs, table and pictures", default=Path("runs/demo"), kind=Path),
        Flag("--seeds", "N", "trainings with different seeds; the table gives mean ± spread", 1, int),
        Flag("--steps", "N", "training steps (default: the toy experiment's)", kind=int),
        Flag("--scenes", "N", "validation scenes (default: the toy experiment's)", kind=int),
    ),
)
