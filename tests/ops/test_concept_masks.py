"""How much of a word a pixel shows, by hand."""

import torch

from lexiseg.ops.concept_masks import concept_map, stuff_map


def logit(*values: float) -> torch.Tensor:
    return torch.tensor(values).logit()


def test_the_best_query_times_its_presence() -> None:
    masks = torch.stack([logit(0.5, 0.9, 0.1), logit(1.0, 0.25, 0.2)])[None, :, None]
    found = concept_map(masks, logit(0.8, 0.4)[None], logit(0.5)[None])
    torch.testing.assert_close(found, torch.tensor([[[0.2, 0.36, 0.04]]]))


def test_pictures_of_a_batch_do_not_mix() -> None:
    generator = torch.Generator().manual_seed(0)
    masks, queries, presence, semantic = (
        torch.randn(2, *size, generator=generator) for size in ((3, 5, 7), (3,), (1,), (1, 5, 7))
    )
    both = concept_map(masks, queries, presence)
    assert both.shape == (2, 5, 7)
    for index in range(2):
        torch.testing.assert_close(
            both[index], concept_map(masks[index][None], queries[index][None], presence[index][None])[0]
        )
        expected = semantic[index, 0].sigmoid() * presence[index].sigmoid()
        torch.testing.assert_close(stuff_map(semantic, presence)[index], expected)
