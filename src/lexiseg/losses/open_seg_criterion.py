"""OpenSeg's criterion: words of captions, or of class maps in their place, and masks without names."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.errors import TrainingError
from lexiseg.losses.best_proposal_dice import best_proposal_dice
from lexiseg.losses.region_word_grounding import drop_words, grounding_loss, pooled_scores
from lexiseg.plain_settings import require_plain_settings, within
from lexiseg.types import SegmentPrediction, SegmentTargets


@dataclass(frozen=True)
class OpenSegLossSettings:
    """Weights and temperatures of OpenSeg's loss.

    Attributes:
        grounding: Weight of the grounding of words in regions.
        masks: Weight of the masks, alpha; the paper's 2.
        attention_temperature: Of the regions that a word looks for. The formula is printed without one (1); cosines are then
            nearly averaged, so the default is sharper. It is ours.
        temperature: Of the soft-max over images and captions; 0.07 is ours, as the paper's is learned.
        keep_words: Probability that a word of a caption counts.
    """

    grounding: float = within(1.0, at_least=0)
    masks: float = within(2.0, at_least=0)
    attention_temperature: float = within(0.1, above=0)
    temperature: float = within(0.07, above=0)
    keep_words: float = within(0.5, above=0, at_most=1)

    def __post_init__(self) -> None:
        """Reject impossible settings; ``ConfigError`` names them."""
        require_plain_settings(self, "loss")


class OpenSegCriterion(nn.Module):
    """``L_G + alpha L_S`` (OpenSeg, eq. 5): words grounded in regions, and each label mask taken by its best region.

    The masks of an image are compared without names. Its words are those of its caption or, where it bears a class map instead,
    the names of its classes.

    Args:
        settings: Weights and temperatures.
        temperature: What the model divided its cosines by to get class logits.
    """

    def __init__(self, settings: OpenSegLossSettings | None = None, *, temperature: float) -> None:
        super().__init__()
        self.settings = settings or OpenSegLossSettings()
        self.temperature = temperature

    def forward(
        self, predictions: Sequence[SegmentPrediction], targets: Sequence[SegmentTargets]
    ) -> dict[str, Tensor]:
        """Loss of one batch.

        Args:
            predictions: The last bears the loss. Its class logits are cosines over the temperature.
            targets: One per image, all of one size; one without a mask, or without a word, takes no part in that term. A mask
                without a pixel is none.

        Returns:
            ``loss`` (weighted, differentiable), and for logging ``loss_grounding`` and ``loss_masks`` (weighted).

        Raises:
            TrainingError: Predictions that are not finite numbers.
        """
        last, own = predictions[-1], self.settings
        targets = [one.shown() for one in targets]
        cosines, masks = last.class_logits[..., :-1].float() * self.temperature, last.masks.float()
        if not (cosines.isfinite().all() and masks.isfinite().all()):
            raise TrainingError(
                "masks or class scores are not finite numbers; lower optim.lr, or train in float32"
            )
        with torch.autocast(masks.device.type, enabled=False):
            labels = [_on_grid(one.masks, (masks.shape[2], masks.shape[3])) for one in targets]
            of_masks = own.masks * best_proposal_dice(masks.sigmoid(), labels)
            of_words = own.grounding * self._grounding(cosines, targets)
        return {
            "loss": of_words + of_masks,
            "loss_grounding": of_words.detach(),
            "loss_masks": of_masks.detach(),
        }

    def _grounding(self, cosines: Tensor, targets: Sequence[SegmentTargets]) -> Tensor:
        """Of cosines ``(B, N, K)``; each word of an image counts once."""
        said = [one.words for one in targets]
        told = [index for index, words in enumerate(said) if len(words)]
        if not told:
            return cosines.sum() * 0
        words = nn.utils.rnn.pad_sequence([said[index] for index in told], batch_first=True, padding_value=-1)
        present = words >= 0
        of_words = cosines[told][..., words.clamp(min=0)]  # (b, N, b, W)
        kept = drop_words(present, self.settings.keep_words)
        scores = pooled_scores(of_words, kept, attention_temperature=self.settings.attention_temperature)
        return grounding_loss(scores, temperature=self.settings.temperature)


def _on_grid(labels: Tensor, grid: tuple[int, int]) -> Tensor:
    """Bool ``(T, H, W)`` to the share ``(T, h, w)`` of each cell that is labelled."""
    return F.adaptive_avg_pool2d(labels[None].float(), grid)[0] if len(labels) else labels
