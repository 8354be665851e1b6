"""What torchvision, timm and transformers call the weights of a ResNet, a Swin and a ViT, as our encoders call them.

Our names are transformers' own. A rule is a pattern of a whole name there and what it is here; three names joined by ``|``
are queries, keys and values that stand there as one tensor. What belongs to the head over whole images has no rule.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from torch import Tensor

EncoderLayout = Literal["ResNet", "Swin", "ViT"]

_Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]

_PREFIXES: dict[EncoderLayout, str] = {"ResNet": "resnet.", "Swin": "swin.", "ViT": "vit."}
"""Before transformers' names in a file of a whole classifier."""

_LEFT_OUT: dict[EncoderLayout, str] = {
    "ResNet": r"(fc|classifier)\..*|.*\.num_batches_tracked",
    "Swin": (r"(norm|head|layernorm|classifier|pooler)\..*|.*\.(attn_mask|relative_position_index)"),
    "ViT": r"(norm|fc_norm|head|heads|layernorm|classifier|pooler|encoder\.ln)\..*",
}
"""Heads, the last norm before them, and what follows from sizes or counts batches."""

_UNTRAINED: dict[EncoderLayout, str] = {
    "ResNet": r".*\.num_batches_tracked",
    "Swin": r"hidden_states_norms\..*",
    "ViT": r"(?!)",
}
"""What of ours no such file holds: counters, and the norms that a Swin has on each of its maps."""


def to_encoder(layout: EncoderLayout, published: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """An encoder's weights under our names.

    Args:
        layout: Of which kind it is.
        published: As in a file.

    Returns:
        The tensors, and the names that belong to no such encoder.
    """
    rules, left_out, uniform = _RULES[layout], re.compile(_LEFT_OUT[layout]), _uniform(layout, published)
    found: dict[str, Tensor] = {}
    unknown = []
    for full, tensor in published.items():
        name = full.removeprefix("module.").removeprefix(_PREFIXES[layout])
        if left_out.fullmatch(name):
            continue
        name = uniform(name)
        ours = next((make(match) for pattern, make in rules if (match := pattern.fullmatch(name))), "").split(
            "|"
        )
        parts = [tensor] if len(ours) == 1 else tensor.reshape(-1, *tensor.shape[1:]).chunk(len(ours))
        if ours == [""] or len(parts) != len(ours):
            unknown.append(full)
            continue
        found |= dict(zip(ours, parts, strict=True))
    return found, unknown


def untrained(layout: EncoderLayout, name: str) -> bool:
    """Whether something of ours stands in no file of whole-image classification and stays as it starts."""
    return re.fullmatch(_UNTRAINED[layout], name) is not None


def _uniform(layout: EncoderLayout, published: Mapping[str, Tensor]) -> Callable[[str], str]:
    """Names whose meaning hangs on others in the file, put as the rules read them.

    Swin of timm halves its grid where a stage begins; here it is where the one before ends. Behind a deep stem, ``bn1`` is the
    norm of its third convolution.
    """
    if layout == "Swin" and any(name.startswith("layers.3.downsample.") for name in published):
        return lambda name: re.sub(
            r"^layers\.(\d+)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", name
        )
    if layout == "ResNet" and any(name.endswith("conv1.0.weight") for name in published):
        return lambda name: re.sub(r"^bn1\.", "conv1.7.", name)
    return lambda name: name


def _rules(table: Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]) -> tuple[_Rule, ...]:
    """Patterns and what they become: a text with references to groups, or a function where a number is counted otherwise."""

    def rule(pattern: str, ours: str | Callable[[re.Match[str]], str]) -> _Rule:
        return re.compile(pattern), (lambda found: found.expand(ours)) if isinstance(ours, str) else ours

    return tuple(rule(*entry) for entry in table)


def _resnet(found: re.Match[str]) -> str:
    """``layer1.0.conv1.weight``, ``layer1.0.bn1.bias`` and the shortcut of torchvision and timm."""
    stage, block, kind, number, what = found.groups()
    if kind == "downsample.":
        part = f"shortcut.{'normalization' if int(number) else 'convolution'}"
    else:
        part = f"layer.{int(number) - 1}.{'normalization' if kind == 'bn' else 'convolution'}"
    return f"encoder.stages.{int(stage) - 1}.layers.{block}.{part}.{what}"


def _deep_stem(found: re.Match[str]) -> str:
    """Of timm, ``conv1.0`` to ``conv1.6``: convolution, norm and ReLU in turn."""
    layer, norm = divmod(int(found[1]), 3)
    return f"embedder.layers.{layer}.{'normalization' if norm else 'convolution'}.{found[2]}"


def _block_of_swin(stage: str | int, block: str, part: str) -> str:
    """Part of a block as timm and torchvision call it."""
    parts = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.o_proj",
        "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2",
    }
    start, (name, kind) = f"encoder.layers.{stage}.blocks.{block}.", part.rsplit(".", 1)
    if name == "attn.qkv":
        return "|".join(f"swin.{start}attention.{letter}_proj.{kind}" for letter in "qkv")
    if part == f"attn.{_BIAS}":
        return f"swin.{start}attention.relative_position_bias.{_BIAS}"
    return f"swin.{start}{parts.get(name, name)}.{kind}"


_BIAS = "relative_position_bias_table"
_SWIN_PART = rf"(?:norm[12]|attn\.(?:qkv|proj)|mlp\.(?:fc1|fc2|0|3))\.(?:weight|bias)|attn\.{_BIAS}"
_OLDER_SWIN = {
    "attention.self.query": "attention.q_proj",
    "attention.self.key": "attention.k_proj",
    "attention.self.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
"""What transformers called the parts of a Swin's block in the files on its hub."""


def _older_swin(found: re.Match[str]) -> str:
    return f"swin.{found[1]}{_OLDER_SWIN[found[2]]}.{found[3]}"


_OF_VIT = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "ln_1": "layernorm_before",
    "ln_2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "self_attention.out_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "mlp.0": "intermediate.dense",
    "mlp.3": "output.dense",
    "mlp.linear_1": "intermediate.dense",
    "mlp.linear_2": "output.dense",
}


def _vit(found: re.Match[str]) -> str:
    """Part of a block as timm and torchvision call it."""
    start, kind = f"encoder.layer.{found[1]}.", found[3]
    if found[2] in ("attn.qkv.", "self_attention.in_proj_"):
        return "|".join(f"{start}attention.attention.{part}.{kind}" for part in ("query", "key", "value"))
    return f"{start}{_OF_VIT[found[2].removesuffix('.')]}.{kind}"


_KIND = r"\.(weight|bias|running_mean|running_var)"
_VIT_PART = "|".join(re.escape(f"{name}.") for name in _OF_VIT)
_RULES: dict[EncoderLayout, tuple[_Rule, ...]] = {
    "ResNet": _rules(
        [
            (r"(?:embedder|encoder)\..*", r"\g<0>"),
            (r"conv1\.weight", "embedder.embedder.convolution.weight"),
            (rf"bn1{_KIND}", r"embedder.embedder.normalization.\1"),
            (rf"conv1\.([013467]){_KIND}", _deep_stem),
            (rf"layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d){_KIND}", _resnet),
        ]
    ),
    "Swin": _rules(
        [
            (
                rf"(encoder\.layers\.\d+\.blocks\.\d+\.)({'|'.join(map(re.escape, _OLDER_SWIN))}){_KIND}",
                _older_swin,
            ),
            (
                rf"(encoder\.layers\.\d+\.blocks\.\d+\.)attention\.self\.{_BIAS}",
                rf"swin.\1attention.relative_position_bias.{_BIAS}",
            ),
            (r"hidden_states_norms\..*", r"\g<0>"),
            (r"(?:embeddings|encoder)\..*", r"swin.\g<0>"),
            (
                rf"(?:patch_embed\.proj|features\.0\.0){_KIND}",
                r"swin.embeddings.patch_embeddings.projection.\1",
            ),
            (rf"(?:patch_embed\.norm|features\.0\.2){_KIND}", r"swin.embeddings.norm.\1"),
            (rf"layers\.(\d+)\.blocks\.(\d+)\.({_SWIN_PART})", lambda found: _block_of_swin(*found.groups())),
            (r"layers\.(\d+)\.(downsample\..*)", r"swin.encoder.layers.\1.\2"),
            (
                rf"features\.([1357])\.(\d+)\.({_SWIN_PART})",
                lambda found: _block_of_swin(int(found[1]) // 2, found[2], found[3]),
            ),
            (
                r"features\.([246])\.((?:reduction|norm)\..*)",
                lambda found: f"swin.encoder.layers.{int(found[1]) // 2 - 1}.downsample.{found[2]}",
            ),
        ]
    ),
    "ViT": _rules(
        [
            (r"cls_token|class_token", "embeddings.cls_token"),
            (r"pos_embed|encoder\.pos_embedding", "embeddings.position_embeddings"),
            (rf"(?:patch_embed\.proj|conv_proj){_KIND}", r"embeddings.patch_embeddings.projection.\1"),
            (
                rf"(?:blocks\.|encoder\.layers\.encoder_layer_)(\d+)\.({_VIT_PART}|attn\.qkv\.|self_attention\.in_proj_)(weight|bias)",
                _vit,
            ),
            (r"(?:embeddings|encoder\.layer)\..*", r"\g<0>"),
        ]
    ),
}
