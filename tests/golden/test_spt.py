"""SPT-SEG equals the published implementation on its own random weights; runs on every folder that LEXISEG_GOLDEN names."""

import pytest
import torch
from published_cases import (
    assert_close,
    case,
    check_every_grid,
    check_features,
    check_five_steps,
    check_masks_and_scores,
    check_parameter_groups,
    check_sliding_windows,
    check_tower,
    check_training,
    load,
)

from lexiseg.losses.criterion import MaskCriterion
from lexiseg.losses.fused import MaskLossWeights
from support import golden_folders

FOLDERS = golden_folders("spt")
SETTINGS = ["inductive", "transductive"]
CRITERION = MaskCriterion(MaskLossWeights(dice=0.0, ssim=1.0))
LOSSES = {"loss_focal": "decode.loss_mask", "loss_ssim": "decode.loss_ssim"}

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not FOLDERS, reason="LEXISEG_GOLDEN names no spt folder"),
    pytest.mark.parametrize("folder", FOLDERS, ids=str),
]


def test_tower(folder):
    check_tower(folder)


def test_features(folder):
    check_features(folder, square_only=True)


@pytest.mark.parametrize("setting", SETTINGS)
def test_masks_and_scores(folder, setting):
    check_masks_and_scores(folder, setting)


@pytest.mark.parametrize(("setting", "penalty"), [("inductive", 0.1), ("transductive", 0.0)])
def test_sliding_windows(folder, setting, penalty):
    check_sliding_windows(folder, setting, penalty)


def test_every_grid(folder):
    check_every_grid(folder)


def test_decoder_layers(folder):
    model, _, _ = case(folder)
    expected = load(folder, "eval_inductive.pt")
    stage = model.stages[0]
    with torch.no_grad():
        queries = stage.query_projection(expected["q_in"][0])
        assert_close(queries, expected["q"][0], "queries")
        memory = expected["features"][0]
        for depth, layer in enumerate(stage.decoder.layers):
            attention = queries @ layer.split(memory).transpose(1, 2)
            assert_close(attention, expected["decoder_attn_BCN"][0][depth], f"map {depth}")
            queries = layer(queries, memory)
            theirs = expected["decoder_layer_out_CBD"][0][depth].transpose(0, 1)
            assert_close(queries, theirs, f"decoder layer {depth}")


@pytest.mark.parametrize("setting", SETTINGS)
def test_training_losses_and_gradients(folder, setting):
    check_training(folder, setting, CRITERION, LOSSES)


@pytest.mark.parametrize("setting", SETTINGS)
def test_five_optimiser_steps(folder, setting):
    check_five_steps(folder, setting, CRITERION)


def test_parameter_groups(folder):
    check_parameter_groups(folder)
