"""Released checkpoints in, and out again: every tensor of the published file accounted for, in both directions."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lexiseg.checkpoints.info import CheckpointInfo
from lexiseg.checkpoints.published_account import check_published, check_tower
from lexiseg.checkpoints.published_layout import POSITIONS, PublishedLayout, published_layout, published_tower
from lexiseg.checkpoints.published_settings import detect_settings
from lexiseg.checkpoints.training_file import (
    CHECKPOINT_KEY,
    MODEL_PREFIX,
    TUNINGS,
    load_tensors_only,
    read_info,
)
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.errors import CheckpointError
from lexiseg.keys import check_keys
from lexiseg.models.cascade_settings import CascadeSettings
from lexiseg.models.registry import build_model
from lexiseg.ops.grid import resize_position_embedding

SIDECAR_SUFFIX = ".published.safetensors"
"""Beside the checkpoint: what the published file holds and we do not use."""

_EXPECTED = "a file of a released ZegCLIP, SPT-SEG, Cascade-CLIP, SAN, FC-CLIP, ZegFormer, OVSeg or LSeg: plain tensors"
_DESCRIPTION = "published"
_FORMAT = 1
_TRAINED_GRID = 32
"""The release resizes the position embedding to 32×32 patches before it trains."""


@dataclass(frozen=True)
class Imported:
    """A released checkpoint in our terms.

    Attributes:
        settings: Name and settings, for :func:`lexiseg.models.registry.build_model`.
        state_dict: Under our training checkpoint's names, float32.
        meta: Plain values of the file's own description (iteration, class names).
        rest: Published tensors that we do not use, unchanged.
        order: Every published name, in the file's order, with its type.
    """

    settings: dict[str, Any]
    state_dict: dict[str, Tensor]
    meta: dict[str, Any]
    rest: dict[str, Tensor]
    order: dict[str, str]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names that the file says it was trained for; none if it does not say."""
        names = self.meta.get("CLASSES")
        return tuple(str(name) for name in names) if isinstance(names, list) else ()

    @property
    def told(self) -> str:
        """The model, and what was read off the file, in a few words."""
        settings = self.settings
        if "stages" in settings:
            stages = " · ".join(",".join(map(str, stage)) for stage in settings["stages"])
            return f"{settings['name']}: blocks {stages}, {settings['prompts']} prompts"
        return (
            f"{settings['name']}: {settings['queries']} queries"
            if "queries" in settings
            else settings["name"]
        )

    def sidecar(self) -> bytes:
        """The side-car's content (safetensors)."""
        told = {"format": _FORMAT, "order": self.order, "meta": self.meta}
        rest = {name: tensor.contiguous().clone() for name, tensor in self.rest.items()}
        return save(rest, metadata={_DESCRIPTION: json.dumps(told)})


def read_published(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and description of a published file; nothing in it is run.

    Raises:
        CheckpointError: Missing, damaged, asking to run code, no such file, or a checkpoint of lexiseg's own.
    """
    loaded = load_tensors_only(path, expected=_EXPECTED)
    if {CHECKPOINT_KEY, *TUNINGS} & loaded.keys():
        read_info(loaded, path)  # says it where it is one that nobody can use
        raise CheckpointError(
            f"{path}: a checkpoint of lexiseg already, so there is nothing to import; give it as it is, for example to "
            f"`lexiseg predict … --checkpoint {path}` or `lexiseg eval {path}`"
        )
    state = loaded.get("state_dict", loaded.get("model", loaded))
    wrong = (
        [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
        if isinstance(state, dict)
        else []
    )
    if not isinstance(state, dict) or not state or wrong:
        told = f"{wrong[0]} is no tensor" if wrong else "no state_dict in it"
        raise CheckpointError(f"{path}: {told}; expected {_EXPECTED}")
    return {str(name): tensor for name, tensor in state.items()}, _plain_values(loaded.get("meta"))


def import_published(path: Path | str, tower: VisionTower, *, decoder_heads: int = 8) -> Imported:
    """Read a released checkpoint, check every key of it, and translate it.

    Args:
        path: The ``.pth`` file.
        tower: The CLIP it was trained on.
        decoder_heads: Attention heads of its decoders, which no file stores.

    Raises:
        CheckpointError: Unsafe, damaged, none of these models, or of another CLIP; the message names the keys.
    """
    published, meta = read_published(path)
    try:
        settings = detect_settings(published, tower.depth, decoder_heads=decoder_heads)
        model = build_model(settings, tower)
        check_published(published, model.settings, tower)
        check_tower(published, tower)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    layout = published_layout(model.settings, tower)
    model.load_state_dict(layout.from_published(published))
    return Imported(
        settings,
        {MODEL_PREFIX + name: tensor.clone() for name, tensor in model.state_dict().items()},
        meta,
        {name: tensor for name, tensor in published.items() if name not in layout.live},
        {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in published.items()},
    )


def export_published(
    checkpoint: Mapping[str, Any], info: CheckpointInfo, tower: VisionTower, sidecar: Path | None
) -> dict[str, Any]:
    """A checkpoint of ours in the published layout.

    Args:
        checkpoint: As loaded.
        info: Its description.
        tower: Its CLIP.
        sidecar: What an import left beside it. Without one, the CLIP's tensors come from ``tower``, and those that the
            release allocates and never reads are zero, so that the file is complete.

    Returns:
        ``meta`` and ``state_dict``.

    Raises:
        CheckpointError: The model has no place in that layout, or the side-car is of another model.
    """
    model = build_model(info.model, tower)
    ours = {
        name.removeprefix(MODEL_PREFIX): tensor
        for name, tensor in checkpoint["state_dict"].items()
        if name.startswith(MODEL_PREFIX)
    }
    if not isinstance(model.settings, CascadeSettings):
        raise CheckpointError(
            f"the published layout holds ZegCLIP, SPT-SEG and Cascade-CLIP, not '{info.model['name']}'; export it --to folder"
        )
    layout = published_layout(model.settings, tower)
    live = layout.to_published(ours)
    _check_expressible(published_tower(tower) | live, model.settings, tower.depth)
    check_keys(
        {name: shape for name, shape in layout.shapes.items() if name in layout.live},
        {name: tuple(tensor.shape) for name, tensor in live.items()},
        what="model of the published layout",
    )
    if sidecar is None:
        meta = {"CLASSES": list(info.split.classes)}
        return {"meta": meta, "state_dict": _complete(live, layout, tower)}
    state, meta = with_sidecar(live, sidecar)
    return {"meta": meta, "state_dict": state}


def with_sidecar(live: Mapping[str, Tensor], sidecar: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A published file's tensors, in its order and types, and its description: ours, and what an import left aside.

    Raises:
        CheckpointError: The side-car is of another model.
    """
    rest, order, meta = read_sidecar(sidecar)
    missing = sorted(order.keys() - rest.keys() - live.keys())
    extra = sorted(live.keys() - order.keys())
    if missing or extra:
        raise CheckpointError(
            f"{sidecar}: made by the import of another model than this checkpoint ({', '.join([*missing, *extra][:4])}, …); "
            "give the side-car that was written with it"
        )
    tensors = {**live, **rest}
    kinds = {kind: getattr(torch, str(kind), None) for kind in order.values()}
    wrong = [kind for kind, found in kinds.items() if not isinstance(found, torch.dtype)]
    if wrong:
        raise CheckpointError(
            f"{sidecar}: damaged, it tells of tensors of type {wrong[0]!r}; import the file again"
        )
    return {name: own_memory(tensors[name]).to(kinds[kind]) for name, kind in order.items()}, meta


def _complete(live: dict[str, Tensor], layout: PublishedLayout, tower: VisionTower) -> dict[str, Tensor]:
    """Every tensor of the layout: the CLIP's from ``tower``, and zeros for what is neither its nor ours."""
    frozen = published_tower(tower)
    grid = (_TRAINED_GRID, _TRAINED_GRID)
    known = frozen | {POSITIONS: resize_position_embedding(frozen[POSITIONS], grid, "bilinear")} | live
    unread = {name: torch.zeros(shape) for name, shape in layout.shapes.items() if name not in known}
    return {name: own_memory(tensor) for name, tensor in (known | unread).items()}


def _check_expressible(published: Mapping[str, Tensor], settings: CascadeSettings, depth: int) -> None:
    """Refuse what the layout has no word for: whoever reads the file would build another model."""
    read = tuple(tuple(stage) for stage in detect_settings(published, depth)["stages"])
    if read != settings.stages:
        raise CheckpointError(
            f"the published layout cannot say model.stages={settings.stages}: a reader would take {read}. It holds stages of "
            "blocks right below the last, shallow to deep, and the last block alone as last stage"
        )
    if settings.normalization != "imagenet":
        raise CheckpointError(
            f"the published layout cannot say model.normalization={settings.normalization}; the released code takes imagenet"
        )


def own_memory(tensor: Tensor) -> Tensor:
    """A tensor with memory of its own: slices of one would be saved whole, each time."""
    return tensor.detach().contiguous().clone()


def read_sidecar(path: Path) -> tuple[dict[str, Tensor], dict[str, str], dict[str, Any]]:
    """What an import left beside a checkpoint: unused tensors, every name with its type in order, the description.

    Raises:
        CheckpointError: It is none.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {})[_DESCRIPTION])
            return {name: file.get_tensor(name) for name in file.keys()}, told["order"], told["meta"]  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path}: no side-car of an import ({error}); import the published file again"
        ) from error


def _plain_values(meta: Any) -> dict[str, Any]:
    """What of a file's description is text, numbers and lists of them."""
    if not isinstance(meta, Mapping):
        return {}
    kept = {}
    for name, value in meta.items():
        try:
            kept[str(name)] = json.loads(json.dumps(value))
        except (TypeError, ValueError):  # an array, a date: nothing that a model needs
            continue
    return kept
