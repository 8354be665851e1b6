"""The best of all keys at once, against the best of parts."""

import pytest
import torch

from lexiseg.ops.top_matches import top_matches


def numbers() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 7, generator=generator), torch.randn(31, 7, generator=generator)


@pytest.mark.parametrize("step", [1, 3, 30, 31, 40])
@pytest.mark.parametrize("count", [1, 11, 31])
def test_equals_sorting_all_products(step, count) -> None:
    queries, keys = numbers()
    products, places = top_matches(queries, keys.split(step), count)
    expected = (queries @ keys.T).sort(dim=1, descending=True)
    torch.testing.assert_close(products, expected.values[:, :count])
    assert torch.equal(places, expected.indices[:, :count])


def test_keys_may_be_of_half_precision_and_fewer_than_wanted() -> None:
    queries, keys = numbers()
    products, places = top_matches(queries, keys[:3].half().split(2), 11)
    assert products.dtype == torch.float32
    assert torch.equal(places, (queries @ keys[:3].half().float().T).argsort(dim=1, descending=True))


def test_a_part_is_asked_for_once_the_one_before_is_done() -> None:
    queries, keys = numbers()
    alive: list[int] = []

    def parts():
        for index, part in enumerate(keys.split(3)):
            alive.append(index)
            yield part

    lazily = parts()
    next(lazily)
    assert alive == [0]
    assert torch.equal(top_matches(queries, lazily, 2)[1], top_matches(queries, keys[3:].split(5), 2)[1])
