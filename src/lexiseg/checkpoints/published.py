"""The checkpoint layout of the published ZegCLIP, SPT-SEG and Cascade-CLIP (mmsegmentation: ``backbone.*``, ``decode_head.*``).

Only names and shapes are translated here; nothing is unpickled and nothing of the published code is needed.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from lexiseg.errors import CheckpointError
from lexiseg.models.cascade_settings import CascadeSettings

_CLIP_PARTS = (
    "class_embedding",
    "positional_embedding",
    "proj",
    "conv1.",
    "ln_pre.",
    "ln_post.",
    "transformer.",
)
"""What of ``backbone.*`` is the frozen CLIP image tower, under OpenAI's names."""

_LAYER_NAMES = {
    "multihead_attn": "attention",
    "linear1": "linear1",
    "linear2": "linear2",
    "norm2": "norm_attention",
    "norm3": "norm_feedforward",
}
_SPLIT_NAMES = {
    "prompt": "prompt",
    "top_down_transform": "mixing",
    "h_qkv": "high_qkv",
    "l_q": "low_q",
    "l_kv": "low_kv",
    "l_proj": "low_proj",
}
_PLAIN = {
    "backbone.prompt_proj.weight": "prompts.projection.weight",
    "backbone.prompt_proj.bias": "prompts.projection.bias",
    "backbone.prompt_norm.weight": "prompt_norm.weight",
    "backbone.prompt_norm.bias": "prompt_norm.bias",
    "backbone.complex_weight": "spectral_filter.weight",
}
_PROMPTS = ("backbone.prompt_embeddings", "backbone.deep_prompt_embeddings")
_PROJECTIONS = "backbone.proj_layers"
STACKED = (*_PROMPTS, _PROJECTIONS)
"""Published tensors that we hold in other pieces."""


def clip_visual_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The frozen image tower inside a published checkpoint, under OpenAI's ``visual.*`` names."""
    prefix = "backbone."
    return {
        "visual." + name[len(prefix) :]: tensor
        for name, tensor in published.items()
        if name.startswith(prefix) and _is_clip(name[len(prefix) :])
    }


def from_published(published: Mapping[str, Tensor], settings: CascadeSettings) -> dict[str, Tensor]:
    """Our state dict from a published one.

    Args:
        published: The ``state_dict`` of the file.
        settings: The model's; without ``unused_parameters`` the tensors that the release never uses are left out.

    Returns:
        Tensors under our names, in the file's types.
    """
    ours = {}
    if settings.prompts != "none":
        ours["prompts.tokens"] = torch.cat([published[name] for name in _PROMPTS])
    for name, new_name in name_map(published, settings).items():
        ours[new_name] = published[name]
    for name, weight in zip(_projection_names(settings), published.get(_PROJECTIONS, ()), strict=True):
        ours[name] = weight.T
    return ours


def to_published(
    ours: Mapping[str, Tensor], settings: CascadeSettings, names: Iterable[str]
) -> dict[str, Tensor]:
    """The inverse of :func:`from_published`.

    Args:
        ours: Our state dict.
        settings: The model's.
        names: Every name of the published layout; those that nothing of ours stands for are left out.

    Raises:
        CheckpointError: Something of ours has no place in that layout.
    """
    renamed = name_map(dict.fromkeys(names), settings)
    published = {theirs: ours[mine] for theirs, mine in renamed.items() if mine in ours}
    used = {mine for mine in renamed.values() if mine in ours}
    if "prompts.tokens" in ours:
        published |= dict(
            zip(_PROMPTS, ours["prompts.tokens"].split((1, len(ours["prompts.tokens"]) - 1)), strict=True)
        )
        used.add("prompts.tokens")
    stacked = [name for name in _projection_names(settings) if name in ours]
    if stacked:
        published[_PROJECTIONS] = torch.stack([ours[name].T for name in stacked])
        used.update(stacked)
    homeless = sorted(ours.keys() - used)
    if homeless:
        raise CheckpointError(
            f"the published layout has no place for {', '.join(homeless[:6])}{', …' if len(homeless) > 6 else ''}; it holds "
            "models as released: stages of blocks right below the last, and the last block alone as last stage"
        )
    return published


def name_map(published: Mapping[str, object], settings: CascadeSettings) -> dict[str, str]:
    """Published name to our name, for every tensor that is merely renamed."""
    tapped = _tapped(settings)
    renamed = {name: new for name, new in _PLAIN.items() if name in published}
    for name in published:
        parts = name.split(".")
        if name.startswith("backbone.ln_layers."):
            stage, block = tapped[int(parts[2])]
            renamed[name] = f"stages.{stage}.projections.{block}.norm.{parts[3]}"
        elif name.startswith("decode_head."):
            new = _head_name(parts[1:], settings)
            if new is not None:
                renamed[name] = new
    return renamed


def _tapped(settings: CascadeSettings) -> list[tuple[int, int]]:
    """Stage and number of every block below the last, in the release's order."""
    last = max(block for stage in settings.stages for block in stage)
    return [(s, block) for s, blocks in enumerate(settings.stages) for block in blocks if block != last]


def _projection_names(settings: CascadeSettings) -> list[str]:
    return [f"stages.{stage}.projections.{block}.projection.weight" for stage, block in _tapped(settings)]


def _is_clip(name: str) -> bool:
    return any(name == part or (part.endswith(".") and name.startswith(part)) for part in _CLIP_PARTS)


def _head_name(parts: list[str], settings: CascadeSettings) -> str | None:
    """Our name of ``decode_head.*``; None for what we leave out."""
    if parts[0].startswith("weights_s"):
        return f"stages.{int(parts[0].removeprefix('weights_s')) - 1}.aggregation.weights"
    if parts[0] == "q_projs":
        return f"stages.{parts[1]}.query_projection.{parts[2]}"
    if parts[0] == "q_proj":
        return f"stages.0.query_projection.{parts[1]}"
    if parts[0] == "cascade_decoders":
        return _decoder_name(int(parts[1]), parts[2:], settings)
    if parts[0].startswith("decoder_"):
        return _decoder_name(int(parts[0].removeprefix("decoder_")) - 1, parts[1:], settings)
    return None


def _decoder_name(stage: int, parts: list[str], settings: CascadeSettings) -> str | None:
    """``["layers", layer, module, …]`` of a stage's decoder to our name; None for what we leave out."""
    layer, module, rest = int(parts[1]), parts[2], parts[3:]
    name = _spectral_name if settings.decoder == "spectral" else _attention_name
    inner = name(layer, module, rest, settings)
    return None if inner is None else f"stages.{stage}.decoder.{inner}"


def _attention_name(layer: int, module: str, rest: list[str], settings: CascadeSettings) -> str | None:
    leaf, layers, unused = ".".join(rest), settings.decoder_layers, settings.unused_parameters
    if module == "multihead_attn" and layer == layers - 1:
        return f"last.{leaf}" if unused or rest[0] in ("q", "k") else None
    if module in _LAYER_NAMES and layer < layers - 1:
        return f"layers.{layer}.{_LAYER_NAMES[module]}.{leaf}"
    if not unused:
        return None
    if module == "self_attn":
        return f"unused.{layer}.{leaf}"
    if module == "norm1":
        return f"unused.{layers + layer}.{leaf}"
    return f"unused.{2 * layers}.{_LAYER_NAMES[module]}.{leaf}"


def _spectral_name(layer: int, module: str, rest: list[str], settings: CascadeSettings) -> str | None:
    leaf, layers = ".".join(rest), settings.decoder_layers
    if module == "hlfs" and rest[0] in _SPLIT_NAMES:
        leaf = ".".join([_SPLIT_NAMES[rest[0]], *rest[1:]])
        return f"layers.{layer}.split.{leaf}" if layer < layers - 1 else f"last.{leaf}"
    if module in ("self_attn", "norm1", "multihead_attn") or rest[0] == "h_proj":
        kept = leaf if module == "hlfs" else f"{module}.{leaf}"
        return f"unused.{layer}.{kept}" if settings.unused_parameters else None
    kept = leaf if module == "hlfs" else f"{_LAYER_NAMES[module]}.{leaf}"
    if layer < layers - 1:
        return f"layers.{layer}.{kept}"
    return f"unused.{layers}.{kept}" if settings.unused_parameters else None
