"""What a method costs: parameters, operations, seconds (TG-CLIP's tables 2 and 4)."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lexiseg.clip.loading import FrozenCLIP
from lexiseg.inference.segmenter import Segmenter


@dataclass(frozen=True)
class Efficiency:
    """What a method costs.

    Attributes:
        parameters: Of all towers, text included.
        operations: Floating-point operations for the benchmark's first image, words encoded before.
        seconds: Per image, reading and scoring apart; NaN where only the first was measured.
    """

    parameters: int
    operations: int
    seconds: float


def count_parameters(segmenter: Segmenter, clip: FrozenCLIP) -> int:
    """Numbers of all towers that take part: CLIP's two, and a method's own; those of an exported program are not seen."""
    parts: tuple[object, ...] = (clip, segmenter.model)
    towers = [part for part in parts if isinstance(part, nn.Module)]
    unique = {id(parameter): parameter.numel() for tower in towers for parameter in tower.parameters()}
    return sum(unique.values())


def count_operations(
    segmenter: Segmenter, image: npt.NDArray[np.uint8], masks: npt.NDArray[np.bool_] | None = None
) -> int:
    """Floating-point operations of matrix products and convolutions for one image, from pixels and masks to labels."""
    # The counter does not know the fused attention of every device; as plain products all of it counts.
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mm: _product_operations})
    with sdpa_kernel(SDPBackend.MATH), counter:
        segmenter.segment(image, scores=False, masks=masks)
    return int(counter.get_total_flops())


def _product_operations(a: Tensor, b: Tensor, *_: object, **__: object) -> int:
    """Two per stored number of ``a`` and column of ``b``; refinement multiplies by a sparse matrix."""
    stored = a.numel() if a.layout == torch.strided else a._nnz()
    return 2 * stored * b.shape[1]


_product_operations._get_raw = True  # type: ignore[attr-defined]  # tensors instead of their shapes


def tg_clip_score(miou: float, seconds: float, operations: float) -> float:
    """TG-CLIP's table 4: ``mIoU + ln(1 + FPS + 1 / FLOPs)``, mIoU in percent, FLOPs in 10⁹."""
    return 100 * miou + math.log(1 + 1 / seconds + 1e9 / operations)
