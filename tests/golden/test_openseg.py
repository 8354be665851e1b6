"""OpenSeg's formulas equal an evaluation by loops: masks, regions, both losses, their gradients, and both ways of reading.

Runs on every folder ``openseg…`` below the ``two-stage`` folders that LEXISEG_GOLDEN names. No code of OpenSeg is public.
"""

import json
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from published_cases import assert_close

from lexiseg.losses.best_proposal_dice import best_proposal_dice, best_proposals
from lexiseg.losses.region_word_grounding import caption_scores, grounding_loss
from lexiseg.models.region_classifiers.soft_pooling import SoftPooling
from lexiseg.ops.soft_regions import soft_region_means
from lexiseg.types import ClassifiedMasks
from support import golden_folders

FOLDERS = [
    path.parent for root in golden_folders("two-stage") for path in sorted(root.glob("openseg*/outputs.npz"))
]

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not FOLDERS, reason="LEXISEG_GOLDEN names no two-stage folder with openseg"),
    pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name),
]


@cache
def arrays(path):
    with np.load(path) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


def case(folder):
    told = json.loads((folder / "config.json").read_text())
    return told, arrays(folder / "inputs.npz"), arrays(folder / "outputs.npz")


def regions(numbers):
    logits = torch.einsum("bnd,bdhw->bnhw", numbers["q"], numbers["F_s"].movedim(-1, 1))
    return logits, soft_region_means(logits.sigmoid(), numbers["F_z"].movedim(-1, 1))


def labels(told, numbers):
    return [numbers[f"labels/img{index}"] for index in range(told["B"])]


def test_masks_and_regions(folder):
    _, numbers, expected = case(folder)
    logits, embeddings = regions(numbers)
    assert_close(logits.sigmoid(), expected["masks"], "masks")
    found = [embeddings, F.normalize(embeddings, dim=-1)]
    assert_close(min(found, key=lambda z: (z - expected["z"]).abs().max()), expected["z"], "regions")


def test_loss_of_masks(folder):
    told, numbers, expected = case(folder)
    masks, given = regions(numbers)[0].sigmoid(), labels(told, numbers)
    assert_close(best_proposal_dice(masks, given), expected["L_S"], "L_S")
    for index, label in enumerate(given):
        alone = best_proposal_dice(masks[index : index + 1], [label])
        assert_close(alone, expected["L_S_per_image"][index], f"L_S of image {index}")
        taken = best_proposals(masks[index], label)
        assert torch.equal(taken, expected[f"best_proposal_per_label/img{index}"].long())


def test_grounding_and_gradients(folder):
    told, numbers, expected = case(folder)
    assert told["variants"]
    for name, variant in told["variants"].items():
        leaves = {key: numbers[key].clone().requires_grad_() for key in ("q", "F_s", "F_z")}
        logits, embeddings = regions(leaves)
        present = numbers["word_mask"].bool()
        if "words" in variant:
            present = present & numbers[variant["words"]].bool()
        scores = caption_scores(
            embeddings, numbers["words"], present, attention_temperature=variant["attention_temperature"]
        )
        assert_close(scores.detach(), expected[f"{name}/G"], f"{name}: G")
        loss = grounding_loss(scores, temperature=variant["loss_temperature"])
        assert_close(loss.detach(), expected[f"{name}/L_G"], f"{name}: L_G")
        total = loss + told["alpha"] * best_proposal_dice(logits.sigmoid(), labels(told, numbers))
        assert_close(total.detach(), expected[f"{name}/total_alpha{told['alpha']:g}"], f"{name}: total")
        total.backward()
        for key, leaf in leaves.items():
            assert_close(leaf.grad, expected[f"{name}/grad_{key}"], f"{name}: gradient of {key}")


def test_reading_regions_and_pixels(folder):
    told, numbers, expected = case(folder)
    logits, embeddings = regions(numbers)
    text = F.normalize(numbers["class_text"], dim=-1)
    classifier = SoftPooling(told["tau_inference"])
    scores = classifier.scores(embeddings, text)
    assert_close(scores, expected["region_probs"], "scores of regions")
    maps = ClassifiedMasks(logits, scores).maps
    assert_close(maps, expected["seg_map"], "map")
    assert torch.equal(maps.argmax(1), expected["seg_argmax"])
    pixels = classifier.logits(numbers["F_z"], text).movedim(-1, 1) * told["tau_inference"]
    assert_close(pixels, expected["pixel_scores"], "pixels")
    assert torch.equal(pixels.argmax(1), expected["pixel_argmax"])
