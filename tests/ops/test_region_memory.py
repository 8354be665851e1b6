"""Regions described, remembered and mixed, against loops."""

import torch
import torch.nn.functional as F

from lexiseg.ops.region_memory import describe_regions, mix_memory, remember

IDS = torch.tensor([0, 4, 4, 2, 0, 2, 2, 4, 4, 4, 0])


def test_keys_and_values_of_every_region_the_unsegmented_one_included() -> None:
    generator = torch.Generator().manual_seed(0)
    comparing, speaking = (torch.randn(11, width, generator=generator) for width in (5, 3))
    found = describe_regions(comparing, speaking, IDS)
    assert found.ids.tolist() == [0, 2, 4]
    assert torch.equal(found.ids[found.places], IDS)
    for row, number in enumerate([0, 2, 4]):
        inside = number == IDS
        torch.testing.assert_close(found.keys[row], F.normalize(comparing[inside].mean(dim=0), dim=0))
        torch.testing.assert_close(found.values[row], speaking[inside].mean(dim=0))


def test_what_is_remembered_has_unit_length_and_counts_each_alike() -> None:
    values = torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[0.0, -2.0], [0.0, 0.5]]])
    torch.testing.assert_close(remember(values), torch.tensor([[0.6, 0.8], [0.0, -1.0]]))


def test_every_patch_mixes_with_what_its_region_remembers() -> None:
    own = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    said = torch.tensor([[10.0, 20.0], [-4.0, 0.0]])
    mixed = mix_memory(own, said, torch.tensor([1, 0, 1]), share=0.25)
    torch.testing.assert_close(mixed, torch.tensor([[-0.25, 0.0], [2.5, 5.75], [0.5, 1.5]]))
