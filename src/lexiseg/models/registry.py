"""Models by name: how configurations and checkpoints say which model they mean.

A name and plain settings, never an import path: a checkpoint cannot make its reader call anything. A new model is a file
with its network and settings, a line in :data:`MODELS`, and its choice in ``conf/train/model``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from lexiseg.errors import ConfigError
from lexiseg.models.cascade_clip import CascadeCLIP
from lexiseg.models.fc_clip import FCClip, FCClipSettings
from lexiseg.models.lseg import LSeg
from lexiseg.models.lseg_settings import LSegSettings
from lexiseg.models.open_seg import OpenSeg, OpenSegSettings
from lexiseg.models.ovseg import OVSeg, OVSegSettings
from lexiseg.models.presets import CASCADE_CLIP, FROZEN_CLIP, SPT_SEG, ZEGCLIP
from lexiseg.models.san import SAN
from lexiseg.models.san_settings import SAN_L14, SANSettings
from lexiseg.models.two_stage import TwoStage
from lexiseg.models.two_stage_settings import TwoStageSettings
from lexiseg.models.zegformer import ZegFormer, ZegFormerSettings
from lexiseg.plain_settings import plain_fields
from lexiseg.types import Activation, ImageTower, MaskModel


@dataclass(frozen=True)
class Registered:
    """How a model is built.

    Attributes:
        network: Frozen tower and settings to the model; refuses a tower that it cannot stand on.
        settings: Its published choices, a frozen dataclass of plain values; ``name`` is the model's.
    """

    network: Callable[[Any, Any], MaskModel]
    settings: Any


MODELS: dict[str, Registered] = {
    entry.settings.name: entry
    for entry in (
        Registered(CascadeCLIP, CASCADE_CLIP),
        Registered(CascadeCLIP, ZEGCLIP),
        Registered(CascadeCLIP, FROZEN_CLIP),
        Registered(CascadeCLIP, SPT_SEG),
        Registered(LSeg, LSegSettings()),
        Registered(OpenSeg, OpenSegSettings()),
        Registered(ZegFormer, ZegFormerSettings()),
        Registered(OVSeg, OVSegSettings()),
        Registered(FCClip, FCClipSettings()),
        Registered(SAN, SANSettings()),
        Registered(SAN, SAN_L14),
        Registered(TwoStage, TwoStageSettings()),
    )
}
"""Every trainable model."""


def build_model(settings: Mapping[str, Any], tower: ImageTower) -> MaskModel:
    """Build a mask model on a frozen tower.

    Args:
        settings: ``name`` and the settings of that model, as in ``conf/train/model``.
        tower: The frozen image tower.

    Raises:
        ConfigError: No such model, a setting that it does not have, or a tower that it cannot stand on.
    """
    chosen = _choose(settings)
    return MODELS[chosen.name].network(tower, chosen)


def activation_of(settings: Mapping[str, Any]) -> Activation:
    """What the answers of a model of these settings are read as, known before it is built.

    Raises:
        ConfigError: No such model, or a setting that it does not have.
    """
    chosen = _choose(settings)
    by_settings: Activation | None = getattr(chosen, "answers", None)
    by_network: Activation = MODELS[chosen.name].network.activation  # type: ignore[attr-defined]
    return by_settings or by_network


def complete_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` with every one that it does not name at its default: checkpoints may be older than a setting.

    Raises:
        ConfigError: No such model, or a setting that it does not have.
    """
    return plain_fields(_choose(settings))


def model_settings(model: MaskModel) -> dict[str, Any]:
    """What :func:`build_model` needs to build this model again: plain values only."""
    return plain_fields(model.settings)


def _choose(settings: Mapping[str, Any]) -> Any:
    if not isinstance(settings, Mapping):
        raise ConfigError(f"model: expected settings by name, got {settings!r}")
    name = settings.get("name")
    if not isinstance(name, str) or name not in MODELS:
        raise ConfigError(f"model.name: expected one of {', '.join(MODELS)}, got '{name}'")
    published = MODELS[name].settings
    known = {field.name for field in fields(published)}
    unknown = sorted(settings.keys() - known)
    if unknown:
        raise ConfigError(
            f"model '{name}' has no setting {', '.join(unknown)}; it has {', '.join(sorted(known - {'name'}))}"
        )
    return replace(published, **settings)
