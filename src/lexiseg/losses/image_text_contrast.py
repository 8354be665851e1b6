"""CLIP's own loss, by which OVSeg adapts it to masked regions."""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(images: Tensor, texts: Tensor, logit_scale: Tensor) -> Tensor:
    """Symmetric cross-entropy of scaled cosines, picture i and text i a pair (Radford et al., 2021, fig. 3).

    ``(CE(S) + CE(S^T)) / 2`` with ``S = exp(s) x t^T`` and the diagonal for targets. Equal texts of one batch count as
    negatives of each other, as in the released code of OVSeg.

    Args:
        images: ``(B, E)`` embeddings, of any length.
        texts: ``(B, E)``, likewise.
        logit_scale: s, a scalar.
    """
    similarity = logit_scale.exp() * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    pairs = torch.arange(len(images), device=images.device)
    return (F.cross_entropy(similarity, pairs) + F.cross_entropy(similarity.T, pairs)) / 2
