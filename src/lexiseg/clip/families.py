"""Every kind of CLIP by the ``model_type`` of its ``config.json``. A new one adds a file of towers and a line here."""

from typing import Any

from lexiseg.clip.formats.open_clip import CONVNEXT
from lexiseg.clip.formats.openai_resnet import RESNET
from lexiseg.clip.towers.family import Family
from lexiseg.clip.towers.groupvit import GROUPVIT
from lexiseg.clip.towers.sam3 import SAM_3
from lexiseg.clip.towers.siglip import SIGLIP
from lexiseg.clip.towers.tips import TIPS
from lexiseg.clip.towers.vit import CLIP, META_CLIP_2
from lexiseg.errors import ConfigError

FAMILIES: dict[str, Family] = {
    "clip": CLIP,
    "metaclip_2": META_CLIP_2,
    "siglip": SIGLIP,
    "tipsv2": TIPS,
    "groupvit": GROUPVIT,
    "sam3": SAM_3,
    "convnext_clip": CONVNEXT,
    "resnet_clip": RESNET,
}

_INSIDE = {"sam3_video": "sam3"}
"""Kinds of which we read a part, with that part's kind: SAM 3 is released in one folder with a tracker for films."""

_REFUSED = {
    "siglip2": "the NaFlex form of SigLIP 2 takes lists of patches, not images; take a SigLIP 2 of fixed resolution, such "
    "as google/siglip2-base-patch16-224"
}
"""Kinds that look like one of ours and are not, with what to take instead."""


def family_called(model_type: str, *, source: str) -> Family:
    """The family that a folder's ``model_type`` names.

    Args:
        model_type: As ``config.json`` has it.
        source: Folder or hub name, for the message.

    Raises:
        ConfigError: No such family, or one that no Hugging Face folder holds.
    """
    if model_type in _REFUSED:
        raise ConfigError(f"clip.source={source}: {_REFUSED[model_type]}")
    family = FAMILIES.get(_INSIDE.get(model_type, model_type))
    if family is None or family.model_class is None:
        known = ", ".join(name for name, each in FAMILIES.items() if each.model_class)
        raise ConfigError(
            f"clip.source={source}: expected a CLIP of model_type {known}, got '{model_type}' in its config.json"
        )
    return family


def family_of(model: Any) -> Family:
    """The family that these weights of both towers belong to."""
    return FAMILIES[getattr(model, "model_type", None) or model.config.model_type]
