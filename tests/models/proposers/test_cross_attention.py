"""The merged pyramid by a second way of writing it."""

import torch
import torch.nn.functional as F

from lexiseg.models.proposers.cross_attention import MergedPyramid


@torch.no_grad()
def test_levels_are_carried_down_and_summed():
    torch.manual_seed(5)
    pyramid = MergedPyramid((3, 5, 7), 11)
    maps = [torch.randn(2, 3, 8, 12), torch.randn(2, 5, 4, 6), torch.randn(2, 7, 2, 3)]
    fine, middle, coarse = (lateral(level) for lateral, level in zip(pyramid.laterals, maps, strict=True))
    middle = middle + coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    fine = fine + middle.repeat_interleave(2, 2).repeat_interleave(2, 3)
    # Outputs are stored fine to coarse, as the maps are.
    sums = pyramid.outputs[0](fine)
    for output, level in ((pyramid.outputs[1], middle), (pyramid.outputs[2], coarse)):
        sums = sums + F.interpolate(output(level), size=(8, 12), mode="bilinear")
    torch.testing.assert_close(pyramid(maps), sums)
