"""What a run is: typed functions that train, tune, judge and tabulate, with no command line in them."""

import importlib
from typing import TYPE_CHECKING, Any

# No module may bear the name of a function here: importing it would put the module in the function's place.
# Loaded when first asked for: a recipe needs torch and Lightning, the name of one does not.
_HOME = {
    "TrainRun": "training",
    "train": "training",
    "TuneRun": "pixelclip",
    "tune": "pixelclip",
    "CheckpointSettings": "settings",
    "ClipSource": "settings",
    "SplitSettings": "settings",
    "TrainerSettings": "settings",
    "TrainingData": "settings",
    "ValidationSettings": "settings",
}

if TYPE_CHECKING:
    from lexiseg.recipes.pixelclip import TuneRun, tune
    from lexiseg.recipes.settings import (
        CheckpointSettings,
        ClipSource,
        SplitSettings,
        TrainerSettings,
        TrainingData,
        ValidationSettings,
    )
    from lexiseg.recipes.training import TrainRun, train

__all__ = [
    "CheckpointSettings",
    "ClipSource",
    "SplitSettings",
    "TrainRun",
    "TrainerSettings",
    "TrainingData",
    "TuneRun",
    "ValidationSettings",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"lexiseg.recipes.{_HOME[name]}"), name)
    raise AttributeError(f"module 'lexiseg.recipes' has no attribute '{name}'")
