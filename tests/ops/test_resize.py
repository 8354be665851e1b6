import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexiseg.ops.resize import keep_ratio_size, resize_image
from support import golden_folders


def test_the_size_itself_changes_nothing():
    image = torch.randint(0, 256, (5, 7, 3), dtype=torch.uint8)
    assert resize_image(image, (5, 7)) is image


@pytest.mark.parametrize("size", [(11, 29), (3, 5), (13, 7), (1, 1), (64, 2)])
def test_equals_float_interpolation_to_one_level(size):
    image = torch.randint(0, 256, (7, 13, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected = F.interpolate(image.permute(2, 0, 1)[None].float(), size=size, mode="bilinear")[0]
    difference = resize_image(image, size).float() - expected.permute(1, 2, 0)
    assert difference.abs().max() <= 1.0


def test_hand_computed_doubling():
    # Pixel centres at -0.25, 0.25, 0.75, 1.25: the outer two repeat the border.
    image = torch.tensor([[0, 200]], dtype=torch.uint8)[..., None]
    assert resize_image(image, (1, 4))[0, :, 0].tolist() == [0, 50, 150, 200]


def test_one_pixel_becomes_a_flat_image():
    assert (resize_image(torch.full((1, 1, 3), 77, dtype=torch.uint8), (9, 4)) == 77).all()


@pytest.mark.golden
@pytest.mark.skipif(
    not golden_folders("training-free"), reason="LEXISEG_GOLDEN names no training-free folder"
)
def test_equals_opencv_bit_for_bit():
    for folder in golden_folders("training-free"):
        archive = np.load(folder / "preprocess.npz")
        source = torch.from_numpy(archive["orig"])
        for key in (key for key in archive if key.endswith("/resized_u8_bgr")):
            side = int(key.split("/")[0].removeprefix("short"))
            ours = resize_image(source, keep_ratio_size((source.shape[0], source.shape[1]), side))
            assert torch.equal(ours, torch.from_numpy(archive[key])), key
