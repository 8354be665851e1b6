import pytest
import torch
import torch.nn.functional as F

from lexiseg.models.region_classifiers.pooled_queries import PooledQueries
from lexiseg.types import ClassWords, Proposals


@torch.no_grad()
def test_a_query_and_the_mean_under_its_mask() -> None:
    torch.manual_seed(1)
    head = PooledQueries(11, 5)
    masks, pixels, queries = torch.randn(2, 3, 6, 10), torch.randn(2, 11, 6, 10), torch.randn(2, 3, 11)
    masks[1, 2] = -1.0
    found = head.embed(Proposals(masks, queries, pixels))
    for image in range(2):
        for region in range(3):
            inside = masks[image, region] > 0
            mean = pixels[image][:, inside].mean(1) if inside.any() else torch.zeros(11)
            expected = head.embedding(head.pooling(mean) + queries[image, region])
            torch.testing.assert_close(found[image, region], expected)


@torch.no_grad()
def test_the_best_word_of_each_class_and_nothing_last() -> None:
    torch.manual_seed(2)
    head = PooledQueries(11, 5)
    vectors, text = torch.randn(2, 3, 5), F.normalize(torch.randn(4, 5), dim=-1)
    found = head.logits(
        vectors, ClassWords(text, torch.tensor([0, 1, 1, 2]), torch.zeros(3, dtype=torch.bool))
    )
    cosines = F.cosine_similarity(vectors[:, :, None], text, dim=-1) / 0.07
    expected = [cosines[..., 0], cosines[..., 1:3].amax(-1), cosines[..., 3]]
    expected.append(F.cosine_similarity(vectors, head.nothing.weight, dim=-1) / 0.07)
    torch.testing.assert_close(found, torch.stack(expected, dim=-1))


def test_proposals_without_their_map_are_refused() -> None:
    with pytest.raises(ValueError, match="need proposals with embeddings and the map"):
        PooledQueries(11, 5).embed(Proposals(torch.zeros(1, 2, 3, 5), torch.zeros(1, 2, 11)))
