"""Online clustering of masks: each goes to a cluster, and the masks of a cluster become one target (PixelCLIP)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.ops.sinkhorn import sinkhorn


@dataclass(frozen=True)
class MaskAssignment:
    """Which cluster each of N masks went to.

    Attributes:
        similarity: ``(N, K)`` cosines of pooled masks and cluster centres.
        shares: ``(N, K)`` balanced assignment, rows sum to one.
        clusters: ``(N,)`` int64, the largest share of each row.
    """

    similarity: Tensor
    shares: Tensor
    clusters: Tensor


@torch.no_grad()
def assign_masks(pooled: Tensor, centres: Tensor, *, scale: float, iterations: int) -> MaskAssignment:
    """Balanced assignment of masks to clusters, over the masks of all processes.

    Args:
        pooled: ``(N, E)`` mean features of masks, any length; N may be 0 and below K.
        centres: ``(K, E)`` cluster embeddings, any length.
        scale: Factor on cosines before the soft-max.
        iterations: Of :func:`~lexiseg.ops.sinkhorn.sinkhorn`.
    """
    similarity = F.normalize(pooled.float(), dim=1) @ F.normalize(centres.float(), dim=1).T
    shares = sinkhorn(similarity * scale, iterations=iterations)
    return MaskAssignment(similarity, shares, shares.argmax(dim=1))


def merge_by_cluster(
    masks: Tensor, clusters: Tensor, image_of_mask: Tensor, *, images: int, count: int
) -> Tensor:
    """Union of the masks of each image that share a cluster.

    Args:
        masks: ``(N, H, W)`` bool.
        clusters: ``(N,)`` int64 below ``count``.
        image_of_mask: ``(N,)`` int64 below ``images``.
        images: B.
        count: K.

    Returns:
        ``(B, K, H, W)`` bool; clusters without a mask in an image are empty there.
    """
    targets = torch.zeros(images * count, *masks.shape[1:], dtype=torch.uint8, device=masks.device)
    slots = image_of_mask * count + clusters
    index = slots[:, None, None].expand_as(masks)
    targets.scatter_reduce_(0, index, masks.to(torch.uint8), reduce="amax")
    return targets.unflatten(0, (images, count)).bool()
