"""Bilinear interpolation as two small matrices, for code that needs its adjoint without autograd."""

import torch
import torch.nn.functional as F
from torch import Tensor


def bilinear_matrix(source: int, target: int, *, device: torch.device | None = None) -> Tensor:
    """``(target, source)`` matrix of one axis' bilinear resizing (``align_corners=False``, no antialiasing).

    Resizing a map X of h×w to H×W is ``A_H X A_W^T``, its adjoint ``A_H^T G A_W``. The matrix is read off torch's
    own interpolation, so both agree whichever way the sizes go.
    """
    if source == target:
        return torch.eye(source, device=device)
    unit = torch.eye(source, device=device)[None]  # channel i is the i-th unit vector along the axis
    return F.interpolate(unit, size=target, mode="linear", align_corners=False)[0].T.contiguous()
