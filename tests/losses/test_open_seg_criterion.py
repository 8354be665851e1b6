import pytest
import torch
import torch.nn.functional as F

from lexiseg.errors import ConfigError, TrainingError
from lexiseg.losses.best_proposal_dice import best_proposal_dice
from lexiseg.losses.open_seg_criterion import OpenSegCriterion, OpenSegLossSettings
from lexiseg.losses.region_word_grounding import caption_scores, grounding_loss
from lexiseg.types import SegmentPrediction, SegmentTargets

TEMPERATURE = 0.01
SETTINGS = OpenSegLossSettings(
    grounding=0.5, masks=3, attention_temperature=0.2, temperature=0.3, keep_words=1.0
)


def case():
    generator = torch.Generator().manual_seed(6)
    regions, text = (torch.randn(*shape, generator=generator) for shape in ((3, 5, 11), (7, 11)))
    cosines = F.normalize(regions, dim=-1) @ F.normalize(text, dim=-1).T
    masks = torch.randn(3, 5, 2, 3, generator=generator, requires_grad=True)
    logits = torch.cat([cosines / TEMPERATURE, torch.full((3, 5, 1), -torch.inf)], dim=-1)
    labels = torch.randint(0, 7, (3, 4, 6), generator=generator)
    labels[0] = labels[0].clamp(max=2)
    targets = [SegmentTargets(one.unique(), one == one.unique()[:, None, None]) for one in labels[:2]]
    targets.append(SegmentTargets(torch.zeros(0, dtype=torch.long), torch.zeros(0, 4, 6, dtype=torch.bool)))
    return regions, text, SegmentPrediction(logits, masks), targets


def test_words_of_an_image_are_its_classes():
    regions, text, prediction, targets = case()
    losses = OpenSegCriterion(SETTINGS, temperature=TEMPERATURE)([prediction], targets)
    longest = max(len(one) for one in targets)
    words, present = torch.zeros(2, longest, 11), torch.zeros(2, longest, dtype=torch.bool)
    for index, one in enumerate(targets[:2]):
        words[index, : len(one)], present[index, : len(one)] = text[one.classes], True
    assert not present.all(), "captions differ in length"
    scores = caption_scores(regions[:2], words, present, attention_temperature=0.2)
    of_words = 0.5 * grounding_loss(scores, temperature=0.3)
    cells = [one.masks.float().view(-1, 2, 2, 3, 2).mean((2, 4)) for one in targets[:2]]
    of_masks = 3 * best_proposal_dice(prediction.masks[:2].sigmoid(), cells)
    torch.testing.assert_close(losses["loss_grounding"], of_words)
    torch.testing.assert_close(losses["loss_masks"], of_masks.detach())
    torch.testing.assert_close(losses["loss"], of_words + of_masks)


def test_words_of_a_caption_in_the_place_of_classes():
    """An image with words alone is grounded, one with masks alone has its masks compared; a class says nothing then."""
    regions, text, prediction, targets = case()
    of_class_zero = torch.zeros_like(targets[0].classes)
    said = [torch.tensor([5, 2, 5]), torch.zeros(0, dtype=torch.long), torch.tensor([6])]
    captioned = [
        SegmentTargets(of_class_zero, targets[0].masks, said[0]),
        SegmentTargets(torch.zeros_like(targets[1].classes), targets[1].masks, said[1]),
        SegmentTargets(targets[2].classes, targets[2].masks, said[2]),
    ]
    losses = OpenSegCriterion(SETTINGS, temperature=TEMPERATURE)([prediction], captioned)
    words = torch.stack([text[[2, 5]], text[[6, 0]]])
    present = torch.tensor([[True, True], [True, False]])
    scores = caption_scores(regions[[0, 2]], words, present, attention_temperature=0.2)
    torch.testing.assert_close(losses["loss_grounding"], 0.5 * grounding_loss(scores, temperature=0.3))
    of_classes = OpenSegCriterion(SETTINGS, temperature=TEMPERATURE)([prediction], targets)
    torch.testing.assert_close(losses["loss_masks"], of_classes["loss_masks"])


def test_two_things_of_a_class_are_one_word():
    _, _, prediction, targets = case()
    first = targets[0]
    twice = SegmentTargets(first.classes.repeat(2), first.masks.repeat(2, 1, 1))
    criterion = OpenSegCriterion(SETTINGS, temperature=TEMPERATURE)
    once = criterion([prediction], targets)["loss_grounding"]
    torch.testing.assert_close(criterion([prediction], [twice, *targets[1:]])["loss_grounding"], once)


def test_a_batch_without_labels_and_numbers_that_are_none():
    _, _, prediction, targets = case()
    criterion = OpenSegCriterion(SETTINGS, temperature=TEMPERATURE)
    loss = criterion([prediction], [targets[2]] * 3)["loss"]
    loss.backward()
    assert float(loss.detach()) == 0
    broken = SegmentPrediction(prediction.class_logits, prediction.masks * torch.nan)
    with pytest.raises(TrainingError, match="not finite numbers"):
        criterion([broken], targets)


def test_impossible_settings():
    with pytest.raises(ConfigError, match="loss.keep_words: expected above 0"):
        OpenSegLossSettings(keep_words=0.0)
