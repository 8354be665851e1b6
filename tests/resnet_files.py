"""A random CLIP with OpenAI's ResNet in its key layout, and its forward pass written out in plain functions."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

WIDTH, DEPTHS, SIDE, HEADS = 6, (1, 2, 1, 2), 3, 8


def resnet_state(
    text: dict[str, Tensor], *, width: int = WIDTH, depths: Sequence[int] = DEPTHS, side: int = SIDE
) -> dict[str, Tensor]:
    """OpenAI's state dict: ``text`` is the text half; its projection tells the joint space's width."""
    generator = torch.Generator().manual_seed(5)
    state = {name: tensor for name, tensor in text.items() if not name.startswith("visual.")}

    def matrix(name: str, *shape: int) -> None:
        fan_in = math.prod(shape[1:])
        state[f"visual.{name}"] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5

    def norm(name: str, channels: int) -> None:
        for kind, start, spread in (
            ("weight", 0.5, 1.0),
            ("bias", -0.2, 0.4),
            ("running_mean", -0.2, 0.4),
            ("running_var", 0.5, 1.0),
        ):
            state[f"visual.{name}.{kind}"] = start + spread * torch.rand(channels, generator=generator)
        state[f"visual.{name}.num_batches_tracked"] = torch.tensor(11)

    half = width // 2
    for number, (inputs, outputs) in enumerate(((3, half), (half, half), (half, width)), start=1):
        matrix(f"conv{number}.weight", outputs, inputs, 3, 3)
        norm(f"bn{number}", outputs)
    inputs = width
    for stage, depth in enumerate(depths):
        inner = width * 2**stage
        for block in range(depth):
            name = f"layer{stage + 1}.{block}"
            for number, shape in enumerate(
                ((inner, inputs, 1, 1), (inner, inner, 3, 3), (4 * inner, inner, 1, 1)), start=1
            ):
                matrix(f"{name}.conv{number}.weight", *shape)
                norm(f"{name}.bn{number}", shape[0])
            if block == 0:
                matrix(f"{name}.downsample.0.weight", 4 * inner, inputs, 1, 1)
                norm(f"{name}.downsample.1", 4 * inner)
            inputs = 4 * inner
    embed_dim = text["text_projection"].shape[1]
    state["visual.attnpool.positional_embedding"] = torch.randn(side**2 + 1, inputs, generator=generator)
    for letter, outputs in (("q", inputs), ("k", inputs), ("v", inputs), ("c", embed_dim)):
        matrix(f"attnpool.{letter}_proj.weight", outputs, inputs)
        state[f"visual.attnpool.{letter}_proj.bias"] = 0.3 * torch.randn(outputs, generator=generator)
    state["visual.attnpool.q_proj.weight"] *= 0.01  # else the attention looks at one position alone
    return state


def naive_maps(state: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """Maps after the four stages."""
    state = {name.removeprefix("visual."): tensor for name, tensor in state.items()}

    def normed(x: Tensor, name: str) -> Tensor:
        get = {
            kind: state[f"{name}.{kind}"].view(-1, 1, 1)
            for kind in ("weight", "bias", "running_mean", "running_var")
        }
        return (x - get["running_mean"]) / (get["running_var"] + 1e-5).sqrt() * get["weight"] + get["bias"]

    def halved(x: Tensor) -> Tensor:
        return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4

    x = F.conv2d(images, state["conv1.weight"], stride=2, padding=1)
    x = normed(x, "bn1").clamp(min=0)
    for number in (2, 3):
        x = normed(F.conv2d(x, state[f"conv{number}.weight"], padding=1), f"bn{number}").clamp(min=0)
    x, maps = halved(x), []
    for stage in range(1, 5):
        depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith(f"layer{stage}."))
        for block in range(depth):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = normed(
                torch.einsum("bchw,dc->bdhw", x, state[f"{name}.conv1.weight"][..., 0, 0]), f"{name}.bn1"
            )
            y = normed(
                F.conv2d(y.clamp(min=0), state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2"
            ).clamp(min=0)
            y = halved(y) if stride == 2 else y
            y = normed(
                torch.einsum("bchw,dc->bdhw", y, state[f"{name}.conv3.weight"][..., 0, 0]), f"{name}.bn3"
            )
            if block == 0:
                x = halved(x) if stride == 2 else x
                x = torch.einsum("bchw,dc->bdhw", x, state[f"{name}.downsample.0.weight"][..., 0, 0])
                x = normed(x, f"{name}.downsample.1")
            x = (x + y).clamp(min=0)
        maps.append(x)
    return maps


def naive_pool(
    state: dict[str, Tensor], last: Tensor, *, heads: int = HEADS, keep: Tensor | None = None
) -> Tensor:
    """The attention pool of one map ``(D, h, w)``: over mean and positions, or over the positions in ``keep (h, w)``."""

    def linear(x: Tensor, letter: str) -> Tensor:
        return (
            x @ state[f"visual.attnpool.{letter}_proj.weight"].T
            + state[f"visual.attnpool.{letter}_proj.bias"]
        )

    positions = state["visual.attnpool.positional_embedding"]
    side = math.isqrt(len(positions) - 1)
    square = positions[1:].T.reshape(1, -1, side, side)
    resized = F.interpolate(square, size=last.shape[-2:], mode="bilinear")[0].flatten(1).T
    places = last.flatten(1).T  # (h * w, D)
    query = places.mean(0) + positions[0]
    tokens = places + resized
    tokens = torch.cat([query[None], tokens]) if keep is None else tokens[keep.flatten()]
    parts = []
    for q, k, v in zip(
        linear(query, "q").chunk(heads),
        linear(tokens, "k").chunk(heads, 1),
        linear(tokens, "v").chunk(heads, 1),
        strict=True,
    ):
        parts.append(((k @ q) / len(q) ** 0.5).softmax(0) @ v)
    return linear(torch.cat(parts), "c")


def naive_embedding(state: dict[str, Tensor], images: Tensor, *, heads: int = HEADS) -> Tensor:
    """Image embeddings ``(B, E)``."""
    return torch.stack([naive_pool(state, last, heads=heads) for last in naive_maps(state, images)[-1]])
