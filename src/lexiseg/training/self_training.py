"""Self-training: pixels of unseen classes take their labels from the model itself (Cascade-CLIP section 3.1, +ST)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.label_codes import label_codes
from lexiseg.plain_settings import require_plain_settings, within


@dataclass(frozen=True)
class SelfTrainingSettings:
    """How a transductive run labels what nobody labelled.

    The published recipe takes every pseudo-label, whatever its score, from the very masks that are being
    trained: threshold and teacher are off.

    Attributes:
        enabled: Train inductively first and go on transductively, in one command.
        inductive_share: Share of ``trainer.max_steps`` that is trained inductively, on a schedule laid out for all
            of them (the published checkpoint is taken half-way, not after a shorter schedule); the rest is
            trained transductively with a schedule and optimiser of its own.
        confidence: Pseudo-labels whose sigmoid is below this stay without label; 0 keeps all.
        teacher_decay: Per-step decay of an exponential moving average of the weights that gives the pseudo-labels;
            0 for none.

    Raises:
        ConfigError: A value out of range.
    """

    enabled: bool = False
    inductive_share: float = within(0.5, above=0, below=1)
    confidence: float = within(0.0, at_least=0, below=1)
    teacher_decay: float = within(0.0, at_least=0, below=1)

    def __post_init__(self) -> None:
        """Refuse settings that would label nothing or never learn."""
        require_plain_settings(self, "self_training")


def pseudo_labels(
    logits: Tensor, labels: Tensor, unseen_queries: Sequence[int], *, confidence: float = 0.0
) -> Tensor:
    """Fill unlabelled pixels with the best unseen class of the present masks.

    Args:
        logits: ``(B, K, h, w)`` mask logits; only unseen classes are looked at, and no gradient flows.
        labels: ``(B, H, W)`` query indices, or a code of K classes (`lexiseg.label_codes`).
        unseen_queries: Query indices of unseen classes.
        confidence: Pixels whose best sigmoid is lower become ignored.

    Returns:
        ``(B, H, W)`` labels, none of them the code ``unlabelled``; all others are as they were.
    """
    codes = label_codes(logits.shape[1])
    unlabelled = labels == codes.unlabelled
    if not bool(unlabelled.any()):
        return labels
    queries = torch.tensor(list(unseen_queries), device=logits.device)
    maps = logits.detach().index_select(1, queries).float()
    maps = F.interpolate(maps, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    best, chosen = maps.max(dim=1)
    filled = queries[chosen]
    if confidence > 0:
        filled = filled.where(best.sigmoid() >= confidence, codes.ignore)
    return torch.where(unlabelled, filled, labels)
