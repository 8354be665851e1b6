"""A random ConvNeXt CLIP in open_clip's key layout, and its forward pass written out in plain functions."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

WIDTHS, DEPTHS = (5, 7, 11, 13), (1, 2, 3, 1)


def convnext_state(
    text: dict[str, Tensor],
    *,
    widths: Sequence[int] = WIDTHS,
    depths: Sequence[int] = DEPTHS,
    hidden: int | None = None,
    patch: int = 4,
) -> dict[str, Tensor]:
    """open_clip's state dict: ``text`` is the text half; its projection tells the joint space's width."""
    generator = torch.Generator().manual_seed(3)
    state = {name: tensor for name, tensor in text.items() if not name.startswith("visual.")}

    def add(name: str, *shape: int, bias: bool = True) -> None:
        fan_in = math.prod(shape[1:])
        state[f"visual.{name}.weight"] = torch.randn(shape, generator=generator) / fan_in**0.5
        if bias:
            state[f"visual.{name}.bias"] = 0.3 * torch.randn(shape[0], generator=generator)

    add("trunk.stem.0", widths[0], 3, patch, patch)
    add("trunk.stem.1", widths[0])
    for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        if i:
            add(f"trunk.stages.{i}.downsample.0", widths[i - 1])
            add(f"trunk.stages.{i}.downsample.1", width, widths[i - 1], 2, 2)
        for j in range(depth):
            block = f"trunk.stages.{i}.blocks.{j}"
            state[f"visual.{block}.gamma"] = 0.5 + torch.rand(width, generator=generator)
            add(f"{block}.conv_dw", width, 1, 7, 7)
            add(f"{block}.norm", width)
            add(f"{block}.mlp.fc1", 4 * width, width)
            add(f"{block}.mlp.fc2", width, 4 * width)
    add("trunk.head.norm", widths[-1])
    embed_dim = text["text_projection"].shape[1]
    if hidden is None:
        add("head.proj", embed_dim, widths[-1], bias=False)
    else:
        add("head.mlp.fc1", hidden, widths[-1])
        add("head.mlp.fc2", embed_dim, hidden, bias=False)
    return state


def naive_map(state: dict[str, Tensor], images: Tensor, *, eps: float = 1e-6) -> Tensor:
    """The last stage's map ``(B, D, h, w)``, channels first throughout."""

    def get(name: str) -> tuple[Tensor, Tensor]:
        return state[f"visual.trunk.{name}.weight"], state[f"visual.trunk.{name}.bias"]

    def pointwise(x: Tensor, name: str) -> Tensor:
        weight, bias = get(name)
        return torch.einsum("bchw,dc->bdhw", x, weight) + bias[:, None, None]

    x = naive_norm(F.conv2d(images, *get("stem.0"), stride=4), *get("stem.1"), eps)
    for i in range(1 + max(int(n.split(".")[3]) for n in state if n.startswith("visual.trunk.stages."))):
        if i:
            x = naive_norm(x, *get(f"stages.{i}.downsample.0"), eps)
            x = F.conv2d(x, *get(f"stages.{i}.downsample.1"), stride=2)
        for j in range(sum(n.startswith(f"visual.trunk.stages.{i}.blocks.") for n in state) // 9):
            block = f"stages.{i}.blocks.{j}"
            y = F.conv2d(x, *get(f"{block}.conv_dw"), padding=3, groups=x.shape[1])
            y = pointwise(naive_norm(y, *get(f"{block}.norm"), eps), f"{block}.mlp.fc1")
            y = pointwise(naive_gelu(y), f"{block}.mlp.fc2")
            x = x + state[f"visual.trunk.{block}.gamma"][:, None, None] * y
    return x


def naive_head(state: dict[str, Tensor], features: Tensor, *, eps: float = 1e-6) -> Tensor:
    """Norm and projection at every position: ``(B, D, h, w)`` to ``(B, E, h, w)``."""
    norm = state["visual.trunk.head.norm.weight"], state["visual.trunk.head.norm.bias"]
    x = naive_norm(features, *norm, eps)
    if "visual.head.proj.weight" in state:
        return torch.einsum("bchw,ec->behw", x, state["visual.head.proj.weight"])
    x = torch.einsum("bchw,mc->bmhw", x, state["visual.head.mlp.fc1.weight"])
    x = naive_gelu(x + state["visual.head.mlp.fc1.bias"][:, None, None])
    return torch.einsum("bmhw,em->behw", x, state["visual.head.mlp.fc2.weight"])


def naive_embedding(state: dict[str, Tensor], images: Tensor, *, eps: float = 1e-6) -> Tensor:
    """open_clip's image embedding ``(B, E)``: average over the image first, norm and projection after it."""
    pooled = naive_map(state, images, eps=eps).mean(dim=(2, 3), keepdim=True)
    return naive_head(state, pooled, eps=eps)[:, :, 0, 0]


def naive_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Layer norm over the channels of ``(B, C, H, W)``."""
    variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
    return (x - mean) / (variance + eps).sqrt() * weight[:, None, None] + bias[:, None, None]


def naive_gelu(x: Tensor) -> Tensor:
    """The exact GELU, ``x Φ(x)``."""
    return x * (1 + torch.erf(x / 2**0.5)) / 2
