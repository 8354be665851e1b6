"""The set criterion: a naive second implementation, every matching tried, guards, processes, random state."""

import itertools
import math

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F

from lexiseg.errors import ConfigError, TrainingError
from lexiseg.losses.segment_criterion import SegmentCriterion, SegmentLossSettings
from lexiseg.types import SegmentPrediction, SegmentTargets
from replayed_draws import replayed

SETTINGS = SegmentLossSettings(classes=1.5, mask=4.0, dice=3.0, nothing=0.2, points=23, uncertain=0.6)
UNCERTAIN = 13  # floor of 0.6 * 23
QUERIES, CLASSES = 5, 7


def prediction(batch=2, seed=0):
    torch.manual_seed(seed)
    logits = 2 * torch.randn(batch, QUERIES, CLASSES + 1)
    return SegmentPrediction(
        logits.requires_grad_(), (3 * torch.randn(batch, QUERIES, 3, 4)).requires_grad_()
    )


def targets(*counts, seed=1):
    torch.manual_seed(seed)
    return [
        SegmentTargets(torch.randperm(CLASSES)[:count], torch.rand(count, 11, 13) > 0.6) for count in counts
    ]


def _at(maps, points):
    """Maps ``(M, h, w)`` at points ``(P, 2)`` of x and y in [0, 1], bilinear with zeros outside, one at a time."""
    height, width = maps.shape[-2:]
    padded = F.pad(maps, (1, 1, 1, 1))
    columns = []
    for x, y in points.tolist():
        column, row = (
            x * width + 0.5,
            y * height + 0.5,
        )  # of the padded map, whose pixel centres are whole numbers
        left, top = math.floor(column), math.floor(row)
        right_share, low_share = column - left, row - top
        upper = padded[:, top, left] * (1 - right_share) + padded[:, top, left + 1] * right_share
        lower = padded[:, top + 1, left] * (1 - right_share) + padded[:, top + 1, left + 1] * right_share
        columns.append(upper * (1 - low_share) + lower * low_share)
    return torch.stack(columns, 1)


def _mask_and_dice(logits, wanted):
    probability = logits.sigmoid()
    cross = -(wanted * probability.log() + (1 - wanted) * (1 - probability).log()).mean()
    dice = 1 - (2 * (probability * wanted).sum() + 1) / (probability.sum() + wanted.sum() + 1)
    return cross, dice


def _best(cost):
    """Query of each target, by trying all."""
    queries, count = cost.shape
    tried = itertools.permutations(range(queries), count)
    return min(tried, key=lambda chosen: sum(cost[q, t].item() for t, q in enumerate(chosen)))


def naive(one, goals, draws, count):
    """Terms of one layer, unweighted, from its recorded draws."""
    draws, images = list(draws), range(len(goals))
    matched = []
    for image, goal in zip(images, goals, strict=True):
        points = draws.pop(0)[0]
        masks, wanted = _at(one.masks[image].detach(), points), _at(goal.masks.float(), points)
        cost = torch.zeros(QUERIES, len(goal))
        for q, t in itertools.product(range(QUERIES), range(len(goal))):
            cross, dice = _mask_and_dice(masks[q], wanted[t])
            share = one.class_logits[image, q].softmax(-1)[goal.classes[t]].detach()
            cost[q, t] = SETTINGS.mask * cross + SETTINGS.dice * dice - SETTINGS.classes * share
        matched += [(image, q, t) for t, q in enumerate(_best(cost))]
    candidates, fresh = draws
    matched.sort()  # draws of the loss belong to the masks by image, then by query
    mask = dice = torch.zeros(())
    for number, (image, q, t) in enumerate(matched):
        logits = one.masks[image, q][None]
        uncertain = _at(logits, candidates[number])[0].abs().argsort()[:UNCERTAIN]
        points = torch.cat([candidates[number][uncertain], fresh[number]])
        terms = _mask_and_dice(_at(logits, points)[0], _at(goals[image].masks[t][None].float(), points)[0])
        mask, dice = mask + terms[0] / count, dice + terms[1] / count
    total, weights = 0.0, 0.0
    for image, q in itertools.product(images, range(QUERIES)):
        goal = [goals[i].classes[t] for i, query, t in matched if (i, query) == (image, q)]
        weight = 1.0 if goal else SETTINGS.nothing
        column = int(goal[0]) if goal else CLASSES
        total = total - weight * one.class_logits[image, q].log_softmax(-1)[column]
        weights += weight
    return total / weights, mask, dice


def recorded(counts, seed):
    """Draws as one layer asks for them."""
    torch.manual_seed(seed)
    total, points = sum(counts), SETTINGS.points
    matching = [torch.rand(1, points, 2) for _ in counts]
    return [*matching, torch.rand(total, 3 * points, 2), torch.rand(total, points - UNCERTAIN, 2)]


@pytest.mark.parametrize("counts", [(3, 2), (0, 4), (1, 1)], ids=str)
def test_equals_a_naive_second_form(counts):
    layers, goals = [prediction(seed=2), prediction(seed=3), prediction(seed=4)], targets(*counts)
    draws = [recorded(counts, seed) for seed in (5, 6, 7)]
    with replayed([*draws[0], *draws[1], *draws[2]]):
        losses = SegmentCriterion(SETTINGS)(layers, goals)
    expected, total = {}, 0.0
    for one, given, suffix in zip((layers[2], *layers[:2]), draws, ("", "_0", "_1"), strict=True):
        terms = naive(one, goals, given, sum(counts))
        weights = (SETTINGS.classes, SETTINGS.mask, SETTINGS.dice)
        for name, term, weight in zip(("ce", "mask", "dice"), terms, weights, strict=True):
            expected[f"loss_{name}{suffix}"] = weight * term
            total = total + weight * term
    assert losses.keys() == expected.keys() | {"loss"}
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value.detach(), rtol=1e-4, atol=1e-6)
        assert not losses[name].requires_grad
    torch.testing.assert_close(losses["loss"], total, rtol=1e-4, atol=1e-6)
    leaves = [tensor for one in layers for tensor in (one.class_logits, one.masks)]
    ours, theirs = torch.autograd.grad(losses["loss"], leaves), torch.autograd.grad(total, leaves)
    for got, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5)


def test_a_batch_without_any_target_teaches_nothing():
    one = prediction()
    losses = SegmentCriterion(SETTINGS)([one], targets(0, 0))
    nothing = -one.class_logits.log_softmax(-1)[..., -1].mean()
    torch.testing.assert_close(losses["loss"], SETTINGS.classes * nothing)
    assert losses["loss_mask"] == losses["loss_dice"] == 0
    losses["loss"].backward()
    assert one.masks.grad.abs().max() == 0  # and not None: several processes wait for every gradient


def test_masks_alone_find_their_queries():
    """Scores that say the same of every query leave the matching to the masks."""
    goals = targets(3, 2)
    masks, places = torch.full((2, QUERIES, 11, 13), -20.0), []
    for image, goal in enumerate(goals):
        places.append(torch.randperm(QUERIES)[: len(goal)])
        masks[image, places[image]] = 40 * goal.masks - 20.0
    one = SegmentPrediction(torch.zeros(2, QUERIES, CLASSES + 1), masks)
    criterion = SegmentCriterion(SETTINGS)
    for place, (queries, chosen) in zip(places, criterion.masks.match(one, goals), strict=True):
        assert place[chosen].tolist() == queries.tolist()


def test_settings_decide():
    one, goals = prediction(), targets(3, 2)

    def loss(**changed):
        torch.manual_seed(8)
        return SegmentCriterion(SegmentLossSettings(points=23, **changed))([one], goals)

    for name in ("classes", "mask", "dice"):
        key = "loss_ce" if name == "classes" else f"loss_{name}"
        assert loss(**{name: 0.0})[key] == 0
    assert loss(nothing=1.0)["loss_ce"] != loss()["loss_ce"]
    assert loss(uncertain=0.0)["loss_mask"] != loss(uncertain=1.0)["loss_mask"]


def test_draws_come_from_the_generator_that_checkpoints_keep():
    one, goals, criterion = prediction(), targets(3, 2), SegmentCriterion(SETTINGS)
    state = torch.get_rng_state()
    first, second = criterion([one], goals), criterion([one], goals)
    torch.set_rng_state(state)
    again = criterion([one], goals)
    assert first["loss"] == again["loss"]
    assert first["loss"] != second["loss"]


def test_half_precision_is_compared_in_float32():
    one, goals = prediction(), targets(3, 2)
    half = SegmentPrediction(one.class_logits.bfloat16(), one.masks.bfloat16())
    whole = SegmentPrediction(half.class_logits.float(), half.masks.float())
    torch.manual_seed(9)
    expected = SegmentCriterion(SETTINGS)([whole], goals)["loss"]
    torch.manual_seed(9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = SegmentCriterion(SETTINGS)([half], goals)
    assert losses["loss"] == expected


def test_nothing_of_it_enters_a_checkpoint():
    assert not SegmentCriterion(SETTINGS).state_dict()


@pytest.mark.parametrize("broken", ["class_logits", "masks"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_predictions_that_are_not_numbers(broken, value):
    one = prediction()
    tensors = {name: getattr(one, name).detach().clone() for name in ("class_logits", "masks")}
    tensors[broken][1, 2] = value
    with pytest.raises(TrainingError, match="not finite numbers"):
        SegmentCriterion(SETTINGS)([SegmentPrediction(**tensors), one], targets(3, 2))


def test_more_targets_than_queries():
    with pytest.raises(TrainingError, match="holds 6 segments but the model only 5 queries"):
        SegmentCriterion(SETTINGS)([prediction()], targets(2, 6))


def test_a_class_without_a_column():
    goals = targets(3, 2)
    goals[1].classes[0] = CLASSES
    with pytest.raises(TrainingError, match="class 7 reached a loss over 7 classes"):
        SegmentCriterion(SETTINGS)([prediction()], goals)


def test_weights_that_ask_for_nothing():
    with pytest.raises(ConfigError, match="all weigh 0"):
        SegmentLossSettings(classes=0, mask=0, dice=0)


def _process(rank, store, folder):
    """One of two processes, with a batch of its own: 5 targets here, 1 there."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    goals = targets(3, 2) if rank == 0 else targets(1, 0)
    torch.manual_seed(10)
    torch.save(SegmentCriterion(SETTINGS)([prediction()], goals), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_divide_by_their_mean(tmp_path):
    mp.start_processes(_process, args=(tmp_path / "store", tmp_path), nprocs=2, start_method="spawn")
    for rank, goals in enumerate((targets(3, 2), targets(1, 0))):
        torch.manual_seed(10)
        alone = SegmentCriterion(SETTINGS)([prediction()], goals)
        shared = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        ratio = sum(map(len, goals)) / 3  # 5 and 1 targets, 3 on average
        torch.testing.assert_close(shared["loss_mask"], alone["loss_mask"] * ratio)
        torch.testing.assert_close(shared["loss_dice"], alone["loss_dice"] * ratio)
        torch.testing.assert_close(shared["loss_ce"], alone["loss_ce"])
