"""What the sums of a mask loss are divided by, the same in every process."""

import torch
import torch.distributed as dist
from torch import Tensor


def shared_count(count: Tensor) -> Tensor:
    """A number of masks averaged over the processes of a run, at least 1 (as DETR and all that followed it do).

    Args:
        count: Scalar float, of this process; several processes add into it.
    """
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(count)
        count = count / dist.get_world_size()
    return torch.clamp(count, min=1)
