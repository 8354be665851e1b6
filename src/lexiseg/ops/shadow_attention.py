"""The attention of shadow class tokens: they look at the patches, and nothing looks at them (SAN, sec. 3.3)."""

import torch
from torch import Tensor

from lexiseg.ops.window_max import window_max

_CLOSED = -100.0
"""Added to the scores of what must not be seen; finite, as released."""


def touched_patches(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Biases of regions that come as bare masks: 0 at a patch that the region touches, and everything else is closed.

    SAN predicts its biases; without a side adapter the mask itself is the best that there is.

    Args:
        masks: ``(B, N, H, W)`` mask logits.
        grid: ``(h, w)`` of the patches.

    Returns:
        ``(B, N, h, w)``, without a gradient.
    """
    touched = window_max(masks.detach(), grid) > 0
    return torch.zeros_like(touched, dtype=masks.dtype).masked_fill(~touched, _CLOSED)


def shadow_mask(bias: Tensor) -> Tensor:
    """What is added to the attention scores of ``[N shadow tokens, class token, P patches]``.

    A shadow token sees itself and the patches, the latter through its bias; class token and patches see each other and
    no shadow token, so they run on as without them.

    Args:
        bias: ``(B, M, N, P)`` of each image, head, shadow token and patch.

    Returns:
        ``(B, M, T, T)``, T = N + 1 + P; rows look at columns.
    """
    images, heads, shadows, patches = bias.shape
    itself = _CLOSED * (1 - torch.eye(shadows, dtype=bias.dtype, device=bias.device))
    classes = bias.new_full((shadows, 1), _CLOSED)
    seen = torch.cat([itself, classes], dim=1).expand(images, heads, -1, -1)
    upper = torch.cat([seen, bias], dim=-1)  # (B, M, N, T)
    plain = 1 + patches
    lower = torch.cat([bias.new_full((plain, shadows), _CLOSED), bias.new_zeros(plain, plain)], dim=1)
    return torch.cat([upper, lower.expand(images, heads, -1, -1)], dim=2)
