"""What the last block of a SAM's image tower attends to: which pieces of a photograph belong together."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import SamModel

from lexiseg.errors import ConfigError
from lexiseg.masks.provider import Picture
from lexiseg.masks.segment_anything_model import EncodedImage, PromptableModel


@dataclass(frozen=True)
class LastAttention:
    """The last block's attention over some part ``(h, w)`` of its grid, N = h * w positions, row by row.

    Attributes:
        heads: ``(N, N)`` of each head, after the soft-max over the whole grid with its relative positions; made when asked
            for, once, as all together are large.
        values: ``(M, N, d)`` of each of the M heads.
        grid: h and w.
    """

    heads: Iterator[Tensor]
    values: Tensor
    grid: tuple[int, int]


def require_attention(model: Any) -> None:
    """Refuse a model of ``transformers`` whose last block does not attend to the whole photograph.

    Raises:
        ConfigError: Another model than a SAM of the first kind, or one whose last block looks through windows.
    """
    if not isinstance(model, SamModel) or int(model.vision_encoder.layers[-1].window_size) > 0:  # type: ignore[arg-type]
        raise ConfigError(
            f"expected a SAM of the first kind, whose last block attends to the whole photograph, got {type(model).__name__}; "
            "choose one such as facebook/sam-vit-base"
        )


def attend(model: PromptableModel, image: Picture) -> tuple[EncodedImage, LastAttention]:
    """Encode an ``(H, W, 3)`` uint8 RGB photograph, and what its tower's last block attended to where the photograph lies."""
    tower: Any = model.model.vision_encoder
    seen: list[Tensor] = []
    hook = tower.layers[-1].attn.register_forward_pre_hook(
        lambda module, given, named: seen.append(given[0] if given else named["hidden_states"]),
        with_kwargs=True,
    )
    try:
        encoded = model.encode(image)
    finally:
        hook.remove()
    patch = tower.patch_embed.patch_size[0]
    height, width = (max(side // patch, 1) for side in encoded.input_size)
    return encoded, attention_of(tower.layers[-1].attn, seen[0], (height, width))


def attention_of(module: Any, tokens: Tensor, part: tuple[int, int]) -> LastAttention:
    """Attention and values of one of SAM's attention modules.

    Args:
        module: A ``SamVisionAttention`` over the whole grid.
        tokens: ``(1, H, W, D)`` that enter it, normed.
        part: Height and width of the upper left part of the grid that is wanted.
    """
    height, width = tokens.shape[1:3]
    rows, columns = part
    heads = module.num_attention_heads
    query, key, value = module.qkv(tokens).reshape(height * width, 3, heads, -1).permute(1, 2, 0, 3)

    def maps() -> Iterator[Tensor]:
        for one, other in zip(query, key, strict=True):
            scores = (one * module.scale) @ other.T
            if module.use_rel_pos:
                near = module.get_decomposed_rel_pos(
                    one[None], module.rel_pos_h, module.rel_pos_w, (height, width), (height, width)
                )
                scores = scores + near.reshape_as(scores)
            attention = scores.softmax(dim=-1, dtype=torch.float32).view(height, width, height, width)
            yield attention[:rows, :columns, :rows, :columns].reshape(rows * columns, rows * columns)

    kept = value.unflatten(1, (height, width))[:, :rows, :columns].flatten(1, 2)
    return LastAttention(maps(), kept, part)
