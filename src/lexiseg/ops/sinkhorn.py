"""Balanced assignment of samples to clusters (Sinkhorn-Knopp), over one process or many."""

import torch
import torch.distributed as dist
from torch import Tensor


@torch.no_grad()
def sinkhorn(logits: Tensor, *, iterations: int = 3) -> Tensor:
    """Give every sample one unit of cluster, and every cluster about the same share of all samples.

    Starts from the soft-max of each row; one iteration scales the columns to N/K, then the rows to 1, N being the
    samples of all processes (Cuturi 2013; PixelCLIP as released, where three iterations are run).

    All the matrices on this way are ``softmax(logits + v)`` for some v that has one entry per cluster, so only v
    is kept: one iteration is ``v -= logsumexp_n log_softmax_k(logits + v)``. Hence rows always sum to one and
    nothing underflows. The published code scales the probabilities themselves: a cluster that no sample gives a
    float32's worth of mass is divided by zero there, and every sample ends in cluster 0.

    Where torch.distributed is initialised, every process must call this together, with samples of its own or
    with none; each gets the rows of its own samples, equal to those of one process that holds them all.

    Args:
        logits: ``(N, K)``, any scale; N may be 0 and below K.
        iterations: 0 gives the plain soft-max.

    Returns:
        ``(N, K)`` in the type of ``logits``, without gradient.
    """
    scores = logits.double()
    balance = scores.new_zeros(scores.shape[1])
    for _ in range(iterations):
        balance = balance - _column_logsumexp((scores + balance).log_softmax(dim=1))
    return (scores + balance).softmax(dim=1).to(logits.dtype)


def _column_logsumexp(values: Tensor) -> Tensor:
    """``(N, K)`` to ``(K,)``, summed over the samples of all processes."""
    distributed = dist.is_available() and dist.is_initialized()
    top = values.amax(dim=0) if len(values) else values.new_full((values.shape[1],), -torch.inf)
    if distributed:
        dist.all_reduce(top, op=dist.ReduceOp.MAX)
    total = (values - top).exp().sum(dim=0)
    if distributed:
        dist.all_reduce(total)
    return total.log() + top
