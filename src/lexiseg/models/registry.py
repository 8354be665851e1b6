"""Models by name: how configurations and checkpoints say which model they mean.

A name and plain settings, never an import path: a checkpoint cannot make its reader call anything.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.errors import ConfigError
from lexiseg.models.cascade_clip import CascadeCLIP, CascadeSettings
from lexiseg.models.frozen_clip import FrozenClipModel, FrozenClipSettings
from lexiseg.models.spt_seg import SptSeg, SptSegSettings
from lexiseg.models.zegclip import ZegCLIP, ZegCLIPSettings

MODELS: dict[str, tuple[type[CascadeCLIP], type[CascadeSettings]]] = {
    "cascade_clip": (CascadeCLIP, CascadeSettings),
    "zegclip": (ZegCLIP, ZegCLIPSettings),
    "frozen_clip": (FrozenClipModel, FrozenClipSettings),
    "spt_seg": (SptSeg, SptSegSettings),
}
"""Model name to its class and the dataclass of its settings."""


def build_model(settings: Mapping[str, Any], tower: VisionTower) -> CascadeCLIP:
    """Build a mask model on a frozen tower.

    Args:
        settings: ``name`` and the settings of that model, as in ``conf/model``.
        tower: The frozen image tower.

    Raises:
        ConfigError: No such model, or a setting that it does not have.
    """
    model_class, chosen = _resolve(settings)
    return model_class(tower, chosen)


def complete_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` with every one that it does not name at its default: checkpoints may be older than a setting.

    Raises:
        ConfigError: No such model, or a setting that it does not have.
    """
    _, chosen = _resolve(settings)
    return {"name": settings["name"], **{key: _plain(value) for key, value in asdict(chosen).items()}}


def model_settings(model: CascadeCLIP) -> dict[str, Any]:
    """What :func:`build_model` needs to build this model again: plain values only."""
    name = next(name for name, (model_class, _) in MODELS.items() if type(model) is model_class)
    values = {key: _plain(value) for key, value in asdict(model.settings).items()}
    return {"name": name, **values}


def _resolve(settings: Mapping[str, Any]) -> tuple[type[CascadeCLIP], CascadeSettings]:
    values = dict(settings)
    name = values.pop("name", None)
    if name not in MODELS:
        raise ConfigError(f"model.name: expected one of {', '.join(MODELS)}, got '{name}'")
    model_class, settings_class = MODELS[name]
    known = {field.name for field in fields(settings_class)}
    unknown = sorted(values.keys() - known)
    if unknown:
        raise ConfigError(
            f"model '{name}' has no setting {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )
    return model_class, settings_class(**values)


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
