"""Late matching, pixel by pixel."""

import torch
import torch.nn.functional as F

from lexiseg.ops.late_matching import first_region, match_late, silence_foreground
from lexiseg.ops.mask_pooling import pool_by_masks


def some_masks() -> torch.Tensor:
    """``(2, 3, 5, 7)``: overlapping, one empty, and pixels in none."""
    masks = torch.zeros(2, 3, 5, 7, dtype=torch.bool)
    masks[0, 0, :3, :4] = True
    masks[0, 1, 2:, 2:] = True
    masks[1, 1, :, 5:] = True
    masks[1, 2] = True
    masks[1, 2, 0, 0] = False
    return masks


def test_the_first_mask_decides() -> None:
    masks, owners = some_masks(), first_region(some_masks())
    for image in range(2):
        for row in range(5):
            for column in range(7):
                held = masks[image, :, row, column].nonzero().flatten().tolist()
                assert owners[image, row, column] == (held[0] if held else -1)
    assert first_region(masks[:, :0]).tolist() == [[[-1] * 7] * 5] * 2


def test_equals_writing_means_from_the_last_mask_to_the_first() -> None:
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(2, 11, 2, 3, generator=generator), dim=1)
    text = F.normalize(torch.randn(4, 11, generator=generator), dim=1)
    masks = some_masks()
    up = F.interpolate(features, size=(5, 7), mode="bilinear", align_corners=False)
    expected = torch.einsum("behw,ke->bkhw", up, text)
    for image in range(2):
        for mask in masks[image].flip(0):
            if mask.any():
                mean = up[image][:, mask].mean(dim=1)
                expected[image][:, mask] = (text @ mean)[:, None]
    means = pool_by_masks(features, masks.flatten(0, 1), torch.arange(2).repeat_interleave(3))
    logits = torch.einsum("behw,ke->bkhw", features, text)
    ours = match_late(logits, means.unflatten(0, (2, 3)) @ text.T, first_region(masks))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_foreground_is_silent_on_the_background() -> None:
    logits = torch.arange(2 * 3 * 5 * 7).view(2, 3, 5, 7).float().roll(17)
    background = torch.zeros(2, 5, 7, dtype=torch.bool)
    background[0, 1, 2] = background[1, 4] = True
    silent = silence_foreground(logits, background, first=1)
    assert (silent[:, 0] == logits[:, 0]).all()
    assert silent[0, 1:, 1, 2].tolist() == [logits[0].min()] * 2
    assert (silent[1, 1:, 4] == logits[1].min()).all()
    changed = silent != logits
    assert not (changed & ~background[:, None]).any()
