"""PixelCLIP on the released second tower: a ConvNeXt, tuned whole."""

import pytest
import torch

import convnext_files as files
from lexiseg.clip.formats.open_clip import convnext_from_open_clip, convnext_to_open_clip
from lexiseg.clip.towers.convnext import ConvNextClip, ConvNextTower
from lexiseg.errors import ConfigError
from lexiseg.models.pixel_clip import PixelCLIP
from lexiseg.models.pixel_clip_settings import PixelCLIPSettings
from lexiseg.types import MaskBatch
from openai_files import openai_state


@pytest.fixture
def clip(tiny_clip) -> ConvNextClip:
    return convnext_from_open_clip(files.convnext_state(openai_state(tiny_clip)), text_heads=2, image_size=64)


def settings(tuned: str) -> PixelCLIPSettings:
    return PixelCLIPSettings(
        global_clustering=False, image_size=96, mask_size=32, decoder_channels=32, tuned=tuned
    )


def test_one_step_reaches_every_weight_and_can_be_written_back(clip) -> None:
    tower = ConvNextTower(clip).eval()
    before = convnext_to_open_clip(tower)
    model = PixelCLIP(tower, None, settings("all"))
    generator = torch.Generator().manual_seed(0)
    weak, strong = (torch.randint(0, 256, (2, 3, 64, 96), generator=generator) for _ in range(2))
    masks = torch.zeros(3, 32, 48, dtype=torch.bool)
    masks[0, :16], masks[1, 16:], masks[2, 5:20, 3:29] = True, True, True
    batch = MaskBatch(weak, strong, masks, torch.tensor([0, 0, 1]))
    optimiser = torch.optim.SGD(model.student.parameters(), lr=0.1)
    model(batch)["loss"].backward()
    optimiser.step()
    after = convnext_to_open_clip(model.tuned_tower())
    assert after.keys() == before.keys()
    assert all(not torch.equal(after[name], before[name]) for name in before)


def test_there_is_no_attention_to_tune(clip) -> None:
    with pytest.raises(ConfigError, match="no attention to tune; set model.tuned=all"):
        PixelCLIP(ConvNextTower(clip), None, settings("attention"))
