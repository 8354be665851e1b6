"""PixelCLIP's binary mask loss through its decoder: the direct form, and an exact one that keeps no map.

Every image has one similarity map per cluster; each passes the decoder alone and is compared with its target at the
pixels where any cluster of its image is positive. Letters: M maps of all images together, h w their grid, H W the
target's.

The loss is a sum over maps whose divisor the targets alone decide. So a few maps at a time go through the decoder,
their loss and its gradient are computed at once, that gradient goes back through the decoder at once, and what stays
is the gradient by the maps and by the decoder's weights: no activation, no upsampled map, and nothing is computed
twice. With z an upsampled logit, t its target and n the number of counted pixels,

    L = softplus(z) - t z        dL/dz = (sigmoid(z) - t) / n

and the gradient returns to the decoder's own grid through the transposed interpolation.

Counted at M = 256 maps of 20×20 and 256×256 targets (batch 4, 64 clusters; 64 decoder channels): the direct form keeps
1.56 million activations per map for the backward pass (1.6 GB in float32) and 16.8 million pixels of logits, targets
and their gradients (67 MB each); this one keeps 256×20×20 + 118,145 numbers (0.9 MB) and works on the activations of
a few maps at a time. The arithmetic is the same: 0.52 GFLOP per map forward and twice that backward, 0.4 TFLOP in all.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lexiseg.ops.interpolate import bilinear_matrix
from lexiseg.types import chunks

_CPU_MAPS = 8
"""Maps in one chunk on a CPU: their activations are 50 MB at the published sizes."""

_GPU_MAPS = 64
"""The same on an accelerator, where small kernels would cost more than memory."""


def direct_cluster_mask_loss(
    maps: Tensor,
    targets: Tensor,
    image_of_map: Tensor,
    decoder: Callable[[Tensor], Tensor],
) -> Tensor:
    """The loss as the released code computes it: all maps at once, full-size logits, under autograd.

    Tests and benchmarks compare :func:`cluster_mask_loss` with it.

    Args:
        maps: ``(M, h, w)`` similarity maps.
        targets: ``(M, H, W)`` bool.
        image_of_map: ``(M,)`` int64, which image each map belongs to.
        decoder: ``(M, 1, h, w)`` to logits ``(M, 1, h', w')``.

    Returns:
        Scalar; 0, and differentiable, where no target has a pixel.
    """
    logits = F.interpolate(
        decoder(maps[:, None]).float(), size=targets.shape[-2:], mode="bilinear", align_corners=False
    )[:, 0]
    counted = counted_pixels(targets, image_of_map)[image_of_map]
    if not bool(counted.any()):
        return logits.sum() * 0
    return F.binary_cross_entropy_with_logits(logits[counted], targets[counted].float())


def cluster_mask_loss(maps: Tensor, targets: Tensor, image_of_map: Tensor, decoder: nn.Module) -> Tensor:
    """Equal to :func:`direct_cluster_mask_loss` up to rounding, in a small part of the memory.

    The gradient is computed in the forward pass, for whatever of ``maps`` and the decoder's parameters needs one.
    The decoder must treat every map alone (no batch norm).

    Args:
        maps: ``(M, h, w)`` similarity maps, any float type; M may be 0.
        targets: ``(M, H, W)`` bool.
        image_of_map: ``(M,)`` int64, which image each map belongs to.
        decoder: ``(M, 1, h, w)`` to logits ``(M, 1, h', w')``.

    Returns:
        Float32 scalar; 0, and differentiable, where no target has a pixel.
    """
    return _ClusterMaskLoss.apply(maps, targets, image_of_map, decoder, *decoder.parameters())


def counted_pixels(targets: Tensor, image_of_map: Tensor) -> Tensor:
    """``(B, H, W)`` bool, the pixels of each image at which any of its ``(M, H, W)`` targets is positive."""
    images = int(image_of_map.max()) + 1 if len(image_of_map) else 0
    counted = torch.zeros(images, *targets.shape[1:], dtype=torch.bool, device=targets.device)
    for image in range(images):
        counted[image] = targets[image_of_map == image].any(dim=0)
    return counted


class _ClusterMaskLoss(torch.autograd.Function):
    """Loss and, at once, its gradient by the maps and by each parameter of the decoder."""

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, targets: Tensor, image_of_map: Tensor, decoder: nn.Module, *parameters: Tensor
    ) -> Tensor:
        needed = [ctx.needs_input_grad[0], *ctx.needs_input_grad[4:]]
        wanted = [p for p, need in zip(parameters, needed[1:], strict=True) if need]
        run = _ChunkedLoss(maps, targets, image_of_map, decoder, wanted)
        loss, by_maps, by_parameters = run(with_gradient=any(needed))
        left = iter(by_parameters)
        gradients = [by_maps, *(next(left) if need else None for need in needed[1:])]
        ctx.needed = needed
        ctx.save_for_backward(*(g for g, need in zip(gradients, needed, strict=True) if need))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        by_maps, *by_parameters = (next(saved) * grad_outputs[0] if need else None for need in ctx.needed)
        return by_maps, None, None, None, *by_parameters


class _ChunkedLoss:
    """Walks over the maps in chunks; see the module's docstring."""

    def __init__(
        self, maps: Tensor, targets: Tensor, image_of_map: Tensor, decoder: nn.Module, wanted: list[Tensor]
    ) -> None:
        self.maps, self.targets, self.image_of_map = maps.detach(), targets, image_of_map
        self.decoder, self.wanted = decoder, wanted
        self.counted = counted_pixels(targets, image_of_map)
        self.count = self.counted.flatten(1).sum(dim=1)[image_of_map].sum().clamp(min=1)

    def __call__(self, *, with_gradient: bool) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Loss, its gradient by the maps, and by the wanted parameters (zeros without gradient)."""
        total = torch.zeros((), dtype=torch.float64, device=self.maps.device)
        by_maps, by_parameters = (
            torch.zeros_like(self.maps),
            [torch.zeros_like(p) for p in self.wanted],
        )
        size = _CPU_MAPS if self.maps.device.type == "cpu" else _GPU_MAPS
        for part in chunks(len(self.maps), size):
            with torch.set_grad_enabled(with_gradient):
                maps = self.maps[part].requires_grad_(with_gradient)
                logits = self.decoder(maps[:, None])
            loss, slope = self._compare(logits.detach()[:, 0], part)
            total += loss
            if with_gradient:
                own, *others = torch.autograd.grad(
                    logits, [maps, *self.wanted], slope[:, None].to(logits.dtype)
                )
                by_maps[part] = own
                for sum_, gradient in zip(by_parameters, others, strict=True):
                    sum_ += gradient
        return (total / self.count).float(), by_maps, by_parameters

    def _compare(self, logits: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """Summed loss of ``(m, h', w')`` logits, and the gradient of the mean loss by them."""
        target, counted = self.targets[part], self.counted[self.image_of_map[part]]
        rows, columns = (
            bilinear_matrix(source, goal, device=logits.device)
            for source, goal in zip(logits.shape[-2:], target.shape[-2:], strict=True)
        )
        with torch.autocast(logits.device.type, enabled=False):
            z = rows @ logits.float() @ columns.T  # (m, H, W)
            loss = (F.softplus(z) - z * target).mul_(counted).sum(dtype=torch.float64)
            slope = z.sigmoid_().sub_(target.float()).mul_(counted).div_(self.count)
            return loss, rows.T @ (slope @ columns)
