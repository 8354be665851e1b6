"""CLIP's own loss, by which OVSeg adapts it to masked regions."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(images: Tensor, texts: Tensor, logit_scale: Tensor) -> Tensor:
    """Symmetric cross-entropy of scaled cosines, picture i and text i a pair (Radford et al., 2021, fig. 3).

    ``(CE(S) + CE(S^T)) / 2`` with ``S = exp(s) x t^T`` over the pairs of all processes, and the diagonal for targets. Equal
    texts count as negatives of each other, and no gradient crosses processes, as in the released code of OVSeg.

    Args:
        images: ``(B, E)`` embeddings, of any length; B the same in every process.
        texts: ``(B, E)``, likewise.
        logit_scale: s, a scalar.
    """
    pictures, words = (_of_all_processes(F.normalize(each, dim=-1)) for each in (images, texts))
    similarity = logit_scale.exp() * pictures @ words.T
    pairs = torch.arange(len(pictures), device=pictures.device)
    return (F.cross_entropy(similarity, pairs) + F.cross_entropy(similarity.T, pairs)) / 2


def _of_all_processes(rows: Tensor) -> Tensor:
    """Rows of every process in the order of ranks; only this one's carry a gradient."""
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows.detach().contiguous())
    parts[dist.get_rank()] = rows
    return torch.cat(parts)
