"""Flags of ``lexiseg demo``."""

from pathlib import Path

from lexiseg.cli.parsers.shared import Commands, add_command

_EPILOG = """
Everything runs offline on the processor: scenes are rendered, the CLIP ships with the package. The toy world proves that
the machine works; it says nothing about photographs.

examples:
  lexiseg demo
  lexiseg demo --seeds 3 --out runs/demo3     the figures of the README
"""


def add_parser(commands: Commands) -> None:
    """Add ``demo`` to the command line."""
    parser = add_command(
        commands,
        "demo",
        "lexiseg.cli.demo:run",
        told="train on the toy world and find unseen classes, offline, in minutes",
        description="On the toy world: what a frozen CLIP can do alone, and what Cascade-CLIP makes of it.",
        examples=_EPILOG,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="folder for runs, table and pictures"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, help="trainings with different seeds; the table gives mean ± spread"
    )
    parser.add_argument("--steps", type=int, help="training steps (default: the toy experiment's)")
    parser.add_argument("--scenes", type=int, help="validation scenes (default: the toy experiment's)")
