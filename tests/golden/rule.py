"""Weights and inputs by a rule of name and seed, so that only outputs have to be stored.

Every tensor is drawn from Philox, keyed by the SHA-256 of its name and seed. Only the generator's raw bits are used,
which numpy never changes, and only exact arithmetic: the same numbers on every machine.
"""

import hashlib
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.clip.formats.openai import config_from_openai, model_from_openai

SEED = 0


def drawn(name: str, *shape: int, seed: int = SEED) -> Tensor:
    """Uniform in ±√3, so of unit variance, in steps of 2⁻²³; float32."""
    key = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16], "little")
    raw = np.random.Philox(key=key).random_raw(math.prod(shape))
    whole = (raw >> np.uint64(40)).astype(np.float64) / 2**23 - 1
    return torch.from_numpy((whole * math.sqrt(3)).astype(np.float32).reshape(shape))


def drawn_bytes(name: str, *shape: int) -> Tensor:
    """Uniform in 0-255, uint8."""
    return ((drawn(name, *shape).double() / math.sqrt(3) + 1) * 128).floor().clamp(0, 255).to(torch.uint8)


def weight(name: str, shape: tuple[int, ...], *, seed: int = SEED) -> Tensor:
    """Unit-variance products for matrices, near one for the scales of norms, small for everything else of one axis."""
    values = drawn(name, *shape, seed=seed)
    if len(shape) >= 2:
        return values / math.sqrt(math.prod(shape[1:]))
    return 1 + 0.2 * values if name.endswith("weight") else 0.2 * values


@torch.no_grad()
def fill(module: nn.Module, *, seed: int = SEED) -> None:
    """Give every parameter and stored buffer its values."""
    for name, tensor in module.state_dict().items():
        assert tensor.is_floating_point(), f"{name}: the rule knows no {tensor.dtype}"
        tensor.copy_(weight(name, tuple(tensor.shape), seed=seed))


def tiny_clip(
    *, depth: int = 4, width: int = 32, heads: int = 4, patch: int = 8, grid: int = 5, embed: int = 16
):
    """A CLIP in OpenAI's layout, whose names no library changes."""
    text_width, context, vocabulary = 24, 16, 97
    shapes: dict[str, tuple[int, ...]] = {
        "visual.class_embedding": (width,),
        "visual.positional_embedding": (grid**2 + 1, width),
        "visual.proj": (width, embed),
        "visual.conv1.weight": (width, 3, patch, patch),
        "token_embedding.weight": (vocabulary, text_width),
        "positional_embedding": (context, text_width),
        "text_projection": (text_width, embed),
        "logit_scale": (),
    }
    for norm, channels in (("visual.ln_pre", width), ("visual.ln_post", width), ("ln_final", text_width)):
        shapes |= {f"{norm}.{kind}": (channels,) for kind in ("weight", "bias")}
    for prefix, channels, blocks in (("visual.", width, depth), ("", text_width, 2)):
        for index in range(blocks):
            shapes |= _block(f"{prefix}transformer.resblocks.{index}.", channels)
    state = {name: weight(name, shape) for name, shape in shapes.items()}
    config = config_from_openai(state, activation="quick_gelu", vision_heads=heads, text_heads=3)
    return model_from_openai(state, config).eval()


def _block(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, outputs, inputs in (
        ("attn.in_proj_", 3 * width, width),
        ("attn.out_proj.", width, width),
        ("mlp.c_fc.", 4 * width, width),
        ("mlp.c_proj.", width, 4 * width),
    ):
        shapes |= {f"{prefix}{name}weight": (outputs, inputs), f"{prefix}{name}bias": (outputs,)}
    return shapes | {f"{prefix}ln_{n}.{kind}": (width,) for n in (1, 2) for kind in ("weight", "bias")}


def image(name: str, height: int, width: int, count: int = 1) -> Tensor:
    """Normalised images with large and small structure, ``(count, 3, height, width)``."""
    coarse = F.interpolate(drawn(f"{name} coarse", count, 3, 4, 5), size=(height, width), mode="bilinear")
    return coarse + 0.3 * drawn(f"{name} fine", count, 3, height, width)


def words(count: int, embed: int = 16) -> Tensor:
    """Unit text embeddings."""
    return F.normalize(drawn("words", count, embed), dim=1)
