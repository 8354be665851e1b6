"""Which checkpoint of a run is meant where its folder is named, and what tables and pictures call it."""

from pathlib import Path

CHECKPOINTS = ("best.ckpt", "last.ckpt")
"""What a run keeps; the first that is there is taken."""

_STAGES = ("", "transductive", "inductive")
"""A run with self-training has a folder for each of its stages; the last one is the run's own."""


def checkpoint_of(path: Path | str) -> Path | str:
    """The best checkpoint of a run's folder, or the last where there is no best; any other path stays what it is."""
    if not Path(path).is_dir():
        return path
    places = (Path(path) / stage / name for stage in _STAGES for name in CHECKPOINTS)
    return next((place for place in places if place.is_file()), path)


def trained_title(checkpoint: Path | str) -> str:
    """What a trained model is called beside methods: after the folder that is named, or that the file lies in."""
    path = Path(checkpoint)
    name = path.resolve().name if path.is_dir() else path.parent.name
    return f"trained: {name or checkpoint}"
