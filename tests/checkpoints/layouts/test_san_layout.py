"""SAN's published layout: there and back, sizes, and the CLIP inside."""

import pytest
import torch

import side_cases
from lexiseg.checkpoints.layouts.san import clip_in_san, clip_of_san, detect_san, optional_shapes, san_layout
from lexiseg.clip.formats.openai import vision_to_openai
from lexiseg.errors import CheckpointError


def published():
    """A whole file: what trains, CLIP's image tower, and one tensor of its text tower."""
    made = side_cases.san()
    state = {
        name.replace("vision.", "vision_model.", 1): tensor
        for name, tensor in made.tower.state_dict().items()
    }
    contained = {**vision_to_openai(state), "logit_scale": torch.tensor(20.0).log()}
    trained = san_layout(made.settings, made.tower).to_published(made.state_dict())
    return made, clip_in_san(contained, made.settings.early_blocks) | trained, contained


def test_there_and_back():
    made, file, _ = published()
    layout = san_layout(made.settings, made.tower)
    assert {
        name: tuple(tensor.shape) for name, tensor in file.items() if name in layout.shapes
    } == layout.shapes
    ours = layout.from_published(file)
    assert ours.keys() == made.state_dict().keys()
    assert all(torch.equal(tensor, made.state_dict()[name]) for name, tensor in ours.items())


def test_the_clip_inside_has_the_trained_positions():
    made, file, contained = published()
    found = clip_of_san(file)
    assert found.keys() == contained.keys()
    assert torch.equal(found.pop("visual.positional_embedding"), made.early.positions)
    assert not torch.equal(made.early.positions, contained["visual.positional_embedding"])
    assert all(torch.equal(tensor, contained[name]) for name, tensor in found.items())


def test_blocks_count_from_0_again():
    _, file, _ = published()
    assert "clip_visual_extractor.resblocks.1.ln_1.weight" in file
    assert "clip_rec_head.resblocks.0.ln_1.weight" in file
    assert not [
        name
        for name in file
        if name.startswith(("clip_visual_extractor.resblocks.2", "clip_rec_head.resblocks.1"))
    ]


def test_sizes():
    made, file, _ = published()
    known = {"heads": 2, "fusion": [[0, 0], [2, 1]], "resolution": 0.7}
    found = detect_san(file, **known)
    assert found.scale == pytest.approx(20)
    assert found == type(found)(**(vars(made.settings) | {"scale": found.scale}))
    assert detect_san(file).heads == 1  # of 40 channels, and the width is 14


def test_even_distances_are_the_releases():
    file = published()[1]
    assert detect_san(file).fusion == ((0, 0), (2, 1))


def test_another_file():
    with pytest.raises(CheckpointError, match="expected the published layout of SAN"):
        detect_san({"backbone.conv1.weight": torch.zeros(1)})


def test_what_a_file_may_hold_besides():
    found = {
        "criterion.empty_weight": (172,),
        "ov_classifier.attn_mask": (77, 77),
        "side_adapter_network.x": (1,),
    }
    assert optional_shapes(found).keys() == {"criterion.empty_weight", "ov_classifier.attn_mask"}
