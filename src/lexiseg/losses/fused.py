"""Upsampling, focal and dice loss in one exact pass over class chunks.

The direct form holds about a dozen tensors of batch × classes × height × width. But the gradient of every one of
these steps is known in closed form, and it leaves through the adjoint of a linear upsampling, which brings it back to
the patch grid. So loss and gradient are computed together for a few classes at a time, in buffers that stay in
cache, and only the patch-sized gradient is kept for the backward pass.

With ``p = sigmoid(z)``, ``s = softplus(z) = -log(1 - p)``, for one upsampled logit z:

    target 0:  L = (1-a) p^g s            dL/dz = (1-a) p^g (g (1-p) s + p)
    target 1:  L = a (1-p)^g (s - z)      dL/dz = -a (1-p)^g (g p (s - z) + (1-p))
    dice:      D = 1 - n/d, n = 2 sum(p t) + 1, d = sum p + sum t + 1;  dD/dz = p (1-p) (n/d^2 - 2 t/d)

Targets are 1 at one class per pixel only, so the first row is computed everywhere and the few positives are corrected.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lexiseg.label_codes import label_codes
from lexiseg.losses.functional import FOCAL_ALPHA, FOCAL_GAMMA
from lexiseg.ops.interpolate import bilinear_matrix
from lexiseg.plain_settings import require_plain_settings, within
from lexiseg.types import chunks

IgnoredPixels = Literal["negative", "ignored"]

_CPU_ELEMENTS = 1 << 20
"""Upsampled logits in one chunk on a CPU: four buffers of 4 MiB, small enough for the last cache level."""

_GPU_ELEMENTS = 1 << 25
"""The same on an accelerator, where launching many small kernels would cost more than memory."""


@dataclass(frozen=True)
class MaskLossWeights:
    """Weights and shape of the mask loss; defaults as published (Cascade-CLIP eq. 3 with alpha 1, beta 100).

    Attributes:
        focal: Weight of the focal loss.
        dice: Weight of the dice loss.
        ssim: Weight of the structural similarity loss, which SPT-SEG has in dice's place.
        stages: Weight of the same loss on the mask of every stage alone, averaged over the stages; released: 0, only
            their sum is supervised.
        cross_entropy: Weight of the cross-entropy of pixels over all classes, LSeg's loss; ignored pixels never take part.
        alpha: Focal weight of positive pixels.
        gamma: Focal exponent.
        ignored: What a pixel without a class is. ``negative``: of no class, trained as "none of them", as the released
            code does, in the inductive setting also for unseen objects. ``ignored``: outside every sum, as the paper says.
    """

    focal: float = within(100.0, at_least=0)
    dice: float = within(1.0, at_least=0)
    ssim: float = within(0.0, at_least=0)
    stages: float = within(0.0, at_least=0)
    cross_entropy: float = within(0.0, at_least=0)
    alpha: float = within(FOCAL_ALPHA, at_least=0, at_most=1)
    gamma: float = within(FOCAL_GAMMA, at_least=0)
    ignored: IgnoredPixels = "negative"

    def __post_init__(self) -> None:
        """Refuse settings that no loss can have."""
        require_plain_settings(self, "loss")


class _FusedMaskLoss(torch.autograd.Function):
    """Total, focal and dice loss; only the total carries a gradient."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, num_masks: Tensor, weights: MaskLossWeights
    ) -> tuple[Tensor, Tensor, Tensor]:
        needs_gradient = ctx.needs_input_grad[0]
        focal, dice, gradient = _loss_and_gradient(
            logits.detach().float(), labels, num_masks, weights, with_gradient=needs_gradient
        )
        ctx.mark_non_differentiable(focal, dice)
        if gradient is not None:
            ctx.save_for_backward(gradient.to(logits.dtype))
        return focal * weights.focal + dice * weights.dice, focal, dice

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0], None, None, None


def fused_mask_loss(
    logits: Tensor, labels: Tensor, num_masks: Tensor | float, weights: MaskLossWeights | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted mask loss of patch-sized logits against full-size labels, without full-size tensors per class.

    Exact: equal to :func:`lexiseg.losses.functional.direct_mask_loss` up to rounding.

    Args:
        logits: ``(B, K, h, w)``; any float type, computed in float32.
        labels: ``(B, H, W)`` int64 class indices below K, or ``label_codes(K).ignore``.
        num_masks: Divides both losses: pairs of image and present class, averaged over processes, at least 1.
        weights: See :class:`MaskLossWeights`.

    Returns:
        Total (differentiable), focal and dice (unweighted, for logging).
    """
    count = torch.as_tensor(num_masks, dtype=torch.float32, device=logits.device)
    with torch.autocast(logits.device.type, enabled=False):  # sums over a whole image need float32
        return _FusedMaskLoss.apply(logits, labels, count, weights or MaskLossWeights())


def count_masks(labels: Tensor, classes: int) -> Tensor:
    """Pairs of image and class present in it: ``(B, H, W)`` labels to a float scalar."""
    return _present(labels, classes).sum().float()


def _present(labels: Tensor, classes: int) -> Tensor:
    """``(B, K)`` pixel counts above zero."""
    return _class_pixels(labels, classes) > 0


def _class_pixels(labels: Tensor, classes: int) -> Tensor:
    """``(B, K)`` pixels of each class in each image; codes outside the classes are dropped."""
    inside = labels.where((labels >= 0) & (labels < classes), classes).flatten(1)
    counts = torch.zeros(len(labels), classes + 1, dtype=torch.long, device=labels.device)
    return counts.scatter_add_(1, inside, torch.ones_like(inside))[:, :classes]


def _loss_and_gradient(
    logits: Tensor, labels: Tensor, num_masks: Tensor, weights: MaskLossWeights, *, with_gradient: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Focal and dice loss and, if asked, the gradient of their weighted sum on the patch grid."""
    batch, classes, *grid = logits.shape
    size = labels.shape[-2:]
    rows, columns = (bilinear_matrix(s, t, device=logits.device) for s, t in zip(grid, size, strict=True))
    pixels = _class_pixels(labels, classes)
    gradient = torch.empty_like(logits) if with_gradient else None
    focal = torch.zeros((), dtype=torch.float64, device=logits.device)
    dice = torch.zeros((), dtype=torch.float64, device=logits.device)
    for image in range(batch):
        chunk = _Chunk(labels[image].flatten(), weights, num_masks, label_codes(classes).ignore)
        for part in _class_slices(pixels[image], size[0] * size[1], logits.device):
            upsampled = rows @ logits[image, part] @ columns.T  # (c, H, W)
            chunk.compute(upsampled.flatten(1), part.start, pixels[image, part])
            focal += chunk.focal
            dice += chunk.dice
            if gradient is not None:
                full = chunk.gradient().view(-1, *size)
                gradient[image, part] = rows.T @ (full @ columns)
    return (focal / num_masks).float(), (dice / num_masks).float(), gradient


def _class_slices(pixels: Tensor, area: int, device: torch.device) -> Iterator[slice]:
    """Cut the classes into chunks whose upsampled logits fit the device's budget."""
    budget = _CPU_ELEMENTS if device.type == "cpu" else _GPU_ELEMENTS
    yield from chunks(len(pixels), max(budget // area, 1))


class _Chunk:
    """Loss and gradient of a few classes of one image, in place where it can be."""

    def __init__(self, labels: Tensor, weights: MaskLossWeights, num_masks: Tensor, ignore: int) -> None:
        self.labels, self.weights, self.num_masks = labels, weights, num_masks
        self.area = len(labels)
        self.ignored = None
        if weights.ignored == "ignored":
            self.ignored = labels == ignore
            self.area = max(int((~self.ignored).sum()), 1)

    def compute(self, z: Tensor, first: int, pixels: Tensor) -> None:
        """Losses of upsampled logits ``(c, P)`` of classes ``first …``; ``pixels (c,)`` counts their positives."""
        w = self.weights
        self.pixels = pixels
        self.positives = self._positives(first, len(z), z.shape[1])
        z_pos = z.view(-1)[self.positives]
        p = torch.sigmoid(z)
        s = F.softplus(z)
        if self.ignored is not None:  # zero probability and zero loss: outside every sum and every gradient
            p.masked_fill_(self.ignored, 0)
            s.masked_fill_(self.ignored, 0)
        self.z, self.p, self.s, self.power = z, p, s, p.pow(w.gamma)
        self.p_pos, s_pos = p.view(-1)[self.positives], s.view(-1)[self.positives]
        self.miss = s_pos - z_pos  # -log p
        q_pos = 1 - self.p_pos
        negative = torch.dot(self.power.view(-1), s.view(-1)) - (self.p_pos.pow(w.gamma) * s_pos).sum()
        positive = (q_pos.pow(w.gamma) * self.miss).sum()
        self.focal = ((1 - w.alpha) * negative.double() + w.alpha * positive.double()) / self.area
        self._dice()

    def gradient(self) -> Tensor:
        """Gradient of the weighted loss by the logits given to :meth:`compute`; reuses their memory."""
        w = self.weights
        p, s = self.p, self.s
        q = torch.sub(1, p, out=self.z)
        present = self.pixels.nonzero().flatten().tolist()
        slopes = {c: p[c] * q[c] * self.dice_slope[c] for c in present} if w.dice else {}
        full = s.mul_(q).mul_(w.gamma).add_(p).mul_(self.power)  # p^g (g (1-p) s + p)
        full.mul_((1 - w.alpha) * w.focal / self.area / self.num_masks)
        for c, slope in slopes.items():
            full[c] += slope
        full.view(-1)[self.positives] = self._positive_gradient()
        return full

    def _positive_gradient(self) -> Tensor:
        w, p = self.weights, self.p_pos
        q = 1 - p
        focal = (
            -w.alpha * q.pow(w.gamma) * (w.gamma * p * self.miss + q) * (w.focal / self.area / self.num_masks)
        )
        return focal + p * q * (self.dice_slope[self.classes] - self.dice_hit[self.classes])

    def _dice(self) -> None:
        """Dice loss of the present classes, and the factors of its gradient per class."""
        present = self.pixels > 0
        hits = torch.zeros(len(self.pixels), device=self.p.device).index_add_(0, self.classes, self.p_pos)
        total = torch.zeros_like(hits)
        total[present] = self.p[present].sum(1)
        numerator, denominator = 2 * hits + 1, total + self.pixels + 1
        self.dice = (1 - numerator / denominator)[present].double().sum()
        scale = self.weights.dice / self.num_masks * present
        self.dice_slope = scale * numerator / denominator**2
        self.dice_hit = scale * 2 / denominator

    def _positives(self, first: int, count: int, area: int) -> Tensor:
        """Flat positions in the ``(c, P)`` chunk where the target is 1; also notes each one's class in the chunk."""
        where = ((self.labels >= first) & (self.labels < first + count)).nonzero().flatten()
        self.classes = self.labels[where] - first
        return self.classes * area + where
