"""The checkpoint layout of the published Cascade-CLIP (mmsegmentation: ``backbone.*``, ``decode_head.*``).

Only names and shapes are translated here; nothing is unpickled and nothing of the published code is needed.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lexiseg.models.cascade_clip import CascadeSettings

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
_PLAIN = {
    "backbone.prompt_proj.weight": "prompts.projection.weight",
    "backbone.prompt_proj.bias": "prompts.projection.bias",
    "backbone.prompt_norm.weight": "prompt_norm.weight",
    "backbone.prompt_norm.bias": "prompt_norm.bias",
}


def clip_visual_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The frozen image tower inside a published checkpoint, under OpenAI's ``visual.*`` names."""
    prefix = "backbone."
    return {
        "visual." + name[len(prefix) :]: tensor
        for name, tensor in published.items()
        if name.startswith(prefix) and _is_clip(name[len(prefix) :])
    }


def from_published(published: Mapping[str, Tensor], settings: CascadeSettings) -> dict[str, Tensor]:
    """Our state dict from a published Cascade-CLIP's.

    Args:
        published: The ``state_dict`` of the file.
        settings: Stages and number of decoder layers; without ``unused_parameters`` the tensors that the release
            never uses are left out.

    Returns:
        Tensors under our names, in the file's types.
    """
    prompts = torch.cat(
        [published["backbone.prompt_embeddings"], published["backbone.deep_prompt_embeddings"]]
    )
    ours = {"prompts.tokens": prompts}
    for name, new_name in name_map(published, settings).items():
        ours[new_name] = published[name]
    tapped = [(stage, block) for stage, blocks in enumerate(settings.stages) for block in blocks]
    for row, weight in enumerate(published["backbone.proj_layers"]):
        stage, block = tapped[row]
        ours[f"stages.{stage}.projections.{block}.projection.weight"] = weight.T
    return ours


def name_map(published: Mapping[str, object], settings: CascadeSettings) -> dict[str, str]:
    """Published name to our name, for every tensor that is merely renamed."""
    tapped = [(stage, block) for stage, blocks in enumerate(settings.stages) for block in blocks]
    renamed = {name: new for name, new in _PLAIN.items() if name in published}
    for name in published:
        parts = name.split(".")
        if name.startswith("backbone.ln_layers."):
            stage, block = tapped[int(parts[2])]
            renamed[name] = f"stages.{stage}.projections.{block}.norm.{parts[3]}"
        elif name.startswith("decode_head.weights_s"):
            renamed[name] = (
                f"stages.{int(name.removeprefix('decode_head.weights_s')) - 1}.aggregation.weights"
            )
        elif name.startswith("decode_head.q_projs."):
            renamed[name] = f"stages.{parts[2]}.query_projection.{parts[3]}"
        elif name.startswith("decode_head.cascade_decoders."):
            new = _decoder_name(parts[2:], settings)
            if new is not None:
                renamed[name] = new
    return renamed


def _is_clip(name: str) -> bool:
    return any(name == part or (part.endswith(".") and name.startswith(part)) for part in _CLIP_PARTS)


def _decoder_name(parts: list[str], settings: CascadeSettings) -> str | None:
    """``[stage, "layers", layer, module, …]`` of the release to our name; None for what we leave out."""
    stage, layer, module, rest = parts[0], int(parts[2]), parts[3], parts[4:]
    base, last = f"stages.{stage}.decoder", layer == settings.decoder_layers - 1
    leaf = ".".join(rest)
    if module == "multihead_attn" and last:
        return f"{base}.last.{leaf}" if settings.unused_parameters or rest[0] in ("q", "k") else None
    if module in _LAYER_NAMES and not last:
        return f"{base}.layers.{layer}.{_LAYER_NAMES[module]}.{leaf}"
    if not settings.unused_parameters:
        return None
    if module == "self_attn":
        return f"{base}.unused.{layer}.{leaf}"
    if module == "norm1":
        return f"{base}.unused.{settings.decoder_layers + layer}.{leaf}"
    return f"{base}.unused.{2 * settings.decoder_layers}.{_LAYER_NAMES[module]}.{leaf}"
