"""MaskFormer's criterion: a naive second form, every matching tried, images without a target."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from lexiseg.losses.dense_masks import DenseMasks
from lexiseg.losses.segment_criterion import MASKFORMER, SegmentCriterion, SegmentLossSettings
from lexiseg.types import SegmentPrediction, SegmentTargets

QUERIES, CLASSES = 5, 7
SETTINGS = SegmentLossSettings(classes=1.5, mask=9.0, dice=2.0, nothing=0.2, compared="pixels")


def prediction(seed=0, batch=2):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch, QUERIES, CLASSES + 1, generator=generator)
    masks = 3 * torch.randn(batch, QUERIES, 3, 5, generator=generator)
    return SegmentPrediction(logits.requires_grad_(), masks.requires_grad_())


def targets(*counts, seed=1):
    torch.manual_seed(seed)
    return [
        SegmentTargets(torch.randperm(CLASSES)[:count], torch.rand(count, 11, 13) > 0.6) for count in counts
    ]


def focal_and_dice(logits, wanted):
    p = logits.sigmoid()
    focal = torch.where(wanted > 0, -0.25 * (1 - p) ** 2 * p.log(), -0.75 * p**2 * (1 - p).log()).mean()
    dice = 1 - (2 * (p * wanted).sum() + 1) / (p.sum() + wanted.sum() + 1)
    return focal, dice


def naive(one, goals):
    total_ce, total_weight, mask, dice = 0.0, 0.0, torch.zeros(()), torch.zeros(())
    count = max(sum(map(len, goals)), 1)
    for image, goal in enumerate(goals):
        small = [
            # Nearest: row i of the target's three shows its row floor(i * 11 / 3).
            wanted[[i * 11 // 3 for i in range(3)]][:, [j * 13 // 5 for j in range(5)]].float()
            for wanted in goal.masks
        ]

        def cost(chosen, image=image, goal=goal, small=small):
            total = 0.0
            for t, q in enumerate(chosen):
                focal, overlap = focal_and_dice(one.masks[image, q].detach(), small[t])
                share = one.class_logits[image, q].softmax(-1)[goal.classes[t]].detach()
                total = total + SETTINGS.mask * focal + SETTINGS.dice * overlap - SETTINGS.classes * share
            return float(total)

        chosen = min(itertools.permutations(range(QUERIES), len(goal)), key=cost) if len(goal) else ()
        for t, q in enumerate(chosen):
            large = F.interpolate(one.masks[image, q][None, None], size=(11, 13), mode="bilinear")[0, 0]
            terms = focal_and_dice(large, goal.masks[t].float())
            mask, dice = mask + terms[0] / count, dice + terms[1] / count
        for q in range(QUERIES):
            column = int(goal.classes[chosen.index(q)]) if q in chosen else CLASSES
            weight = 1.0 if q in chosen else SETTINGS.nothing
            total_ce = total_ce - weight * one.class_logits[image, q].log_softmax(-1)[column]
            total_weight += weight
    return total_ce / total_weight, mask, dice


@pytest.mark.parametrize("counts", [(3, 2), (0, 4), (1, 1)], ids=str)
def test_equals_a_naive_second_form(counts):
    layers, goals = [prediction(2), prediction(3), prediction(4)], targets(*counts)
    losses = SegmentCriterion(SETTINGS)(layers, goals)
    total = 0.0
    for one, suffix in zip((layers[2], *layers[:2]), ("", "_0", "_1"), strict=True):
        weights = (SETTINGS.classes, SETTINGS.mask, SETTINGS.dice)
        for name, term, weight in zip(("ce", "mask", "dice"), naive(one, goals), weights, strict=True):
            torch.testing.assert_close(
                losses[f"loss_{name}{suffix}"], weight * term.detach(), rtol=1e-4, atol=1e-6
            )
            total = total + weight * term
    assert len(losses) == 10
    leaves = [tensor for one in layers for tensor in (one.class_logits, one.masks)]
    ours, theirs = torch.autograd.grad(losses["loss"], leaves), torch.autograd.grad(total, leaves)
    for got, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5)


def test_a_batch_without_any_target_teaches_nothing():
    one = prediction()
    losses = SegmentCriterion(MASKFORMER)([one], targets(0, 0))
    nothing = -one.class_logits.log_softmax(-1)[..., -1].mean()
    torch.testing.assert_close(losses["loss"], nothing)
    losses["loss"].backward()
    assert one.masks.grad.abs().max() == 0  # and not None: several processes wait for every gradient


def test_masks_alone_find_their_queries():
    goals = targets(3, 2)
    masks, places = torch.full((2, QUERIES, 11, 13), -20.0), []
    for image, goal in enumerate(goals):
        places.append(torch.randperm(QUERIES)[: len(goal)])
        masks[image, places[image]] = 40 * goal.masks - 20.0
    one = SegmentPrediction(torch.zeros(2, QUERIES, CLASSES + 1), masks)
    floats = [SegmentTargets(goal.classes, goal.masks.float()) for goal in goals]
    matching = DenseMasks((1.0, 20.0, 1.0)).match(one, floats)
    for place, (queries, chosen) in zip(places, matching, strict=True):
        assert place[chosen].tolist() == queries.tolist()


def test_published_weights():
    assert (MASKFORMER.classes, MASKFORMER.mask, MASKFORMER.dice, MASKFORMER.nothing) == (1, 20, 1, 0.1)
