"""The names that checkpoints hold are transformers' own for the parts that are its modules: pinned, so that a version that
calls them otherwise shows here, and not when somebody's checkpoint does not load."""

import pytest
import torch

import stage_towers
from lexiseg.models.fc_clip import FCClip, FCClipSettings
from lexiseg.models.zegformer import ZegFormer, ZegFormerSettings
from region_model_cases import SIZES, tiny_tower

ATTENTION = [f"self_attn.{part}_proj" for part in "kvq"]
NORMS = ["self_attn_layer_norm", "final_layer_norm"]
CASES = {
    "mask2former, pixels": (
        "proposer.pixel_decoder.encoder.layers.0.",
        {*(f"self_attn.{part}" for part in ("sampling_offsets", "attention_weights", "value_proj", "output_proj"))}
        | {*NORMS, "fc1", "fc2"},
    ),
    "mask2former, queries": (
        "proposer.transformer.decoder.layers.0.",
        {*ATTENTION, *NORMS, "self_attn.out_proj", "cross_attn_layer_norm", "fc1", "fc2"}
        | {"cross_attn.in_proj_weight", "cross_attn.in_proj_bias", "cross_attn.out_proj"},
    ),
    "maskformer": (
        "proposer.transformer.decoder.layers.0.",
        {*ATTENTION, *NORMS, "self_attn.o_proj", "encoder_attn_layer_norm", "mlp.fc1", "mlp.fc2"}
        | {f"encoder_attn.{part}_proj" for part in "kvqo"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_names_of_a_layer(case):
    with torch.device("meta"):
        if case == "maskformer":
            model = ZegFormer(tiny_tower(), ZegFormerSettings(**SIZES))
        else:
            model = FCClip(tiny_tower(), FCClipSettings(**stage_towers.SMALL))
    start, expected = CASES[case]
    names = (name.removeprefix(start) for name in model.state_dict() if name.startswith(start))
    assert {name.removesuffix(".weight").removesuffix(".bias") for name in names} == expected
