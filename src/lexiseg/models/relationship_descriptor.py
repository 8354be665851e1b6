"""Relationship descriptor: text queries that know the image (ZegCLIP, sec. 3; Cascade-CLIP, sec. 3.1)."""

import torch
from torch import Tensor


def relationship_descriptor(text: Tensor, cls: Tensor) -> Tensor:
    """``concat(t * g, t)`` for every class and image.

    Args:
        text: ``(K, D)`` text embeddings t.
        cls: ``(B, D)`` unit class token g of the image.

    Returns:
        ``(B, K, 2 D)``, product first, as in the released code.
    """
    product = torch.einsum("bd,kd->bkd", cls, text)
    return torch.cat([product, text.expand_as(product)], dim=-1)
