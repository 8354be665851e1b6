"""The attention of shadow class tokens: they look at the patches, and nothing looks at them (SAN, sec. 3.3)."""

import torch
from torch import Tensor

_CLOSED = -100.0
"""Added to the scores of what must not be seen; finite, as released."""


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
