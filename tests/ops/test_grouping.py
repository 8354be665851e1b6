"""Groups of patches: by hand, and by naive second implementations."""

import math

import pytest
import torch
import torch.nn.functional as F

from lexiseg.ops.grouping import (
    background_groups,
    composed_assignment,
    gumbel_assignment,
    gumbel_noise,
    hard_assignment,
    name_groups,
    owners,
    paint_groups,
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_every_token_goes_to_one_group_with_the_gradient_of_the_soft_max() -> None:
    scores = torch.tensor([[1.0, -2.0], [0.5, 3.0], [0.0, 0.0]], requires_grad=True)
    hard = hard_assignment(scores)
    assert hard.tolist() == [[1, 0], [0, 1], [0, 0]]
    weights = random(3, 2)
    (hard * weights).sum().backward()
    soft = scores.detach().clone().requires_grad_()
    (soft.softmax(dim=0) * weights).sum().backward()
    torch.testing.assert_close(scores.grad, soft.grad)


def test_noise_may_change_the_group() -> None:
    scores, noise = torch.tensor([[1.0], [0.5]]), torch.tensor([[0.0], [0.7]])
    assert gumbel_assignment(scores, 0 * noise).flatten().tolist() == [1, 0]
    assert gumbel_assignment(scores, noise, temperature=0.3).flatten().tolist() == [0, 1]


def test_noise_is_gumbels() -> None:
    drawn = gumbel_noise(torch.empty(7, 20011), torch.Generator().manual_seed(1))
    assert drawn.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert drawn.std().item() == pytest.approx(math.pi / math.sqrt(6), abs=0.02)
    assert (drawn < 0).double().mean().item() == pytest.approx(math.exp(-1), abs=0.01)


def test_stages_compose_token_by_token() -> None:
    first, second = random(2, 5, 7).softmax(dim=1), random(2, 3, 5, seed=1).softmax(dim=1)
    found = composed_assignment([first, second])
    for batch in range(2):
        for patch in range(7):
            for group in range(3):
                expected = sum(first[batch, k, patch] * second[batch, group, k] for k in range(5))
                assert found[batch, group, patch].item() == pytest.approx(expected.item(), abs=1e-6)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 7))
    assert composed_assignment([first]) is first


def test_pixels_belong_to_the_highest_resized_map() -> None:
    maps = random(2, 3, 3, 5).softmax(dim=1)
    resized = F.interpolate(maps, size=(11, 13), mode="bilinear", align_corners=False)
    owner = owners(maps, (11, 13))
    assert owner.shape == (2, 11, 13)
    assert torch.equal(resized.gather(1, owner[:, None])[:, 0], resized.amax(dim=1))
    values = random(2, 3, 7, seed=3)
    painted = paint_groups(values, owner)
    for batch, row, column in ((0, 0, 12), (1, 10, 4), (1, 3, 7)):
        assert torch.equal(painted[batch, :, row, column], values[batch, owner[batch, row, column]])


def naive_names(groups, image, text, scale, top):
    found = torch.zeros(*groups.shape[:2], len(text))
    for batch in range(len(groups)):
        fit = [float(torch.cosine_similarity(image[batch], word, dim=0)) for word in text]
        best = sorted(range(len(text)), key=lambda k: -fit[k])[:top]
        for group, vector in enumerate(groups[batch]):
            weights = [math.exp(scale * float(torch.cosine_similarity(vector, word, dim=0))) for word in text]
            for k in best:
                found[batch, group, k] = (
                    weights[k] / sum(weights) * weights[k] / sum(weights[b] for b in best)
                )
    return found


@pytest.mark.parametrize("top", [1, 2, 5, 11])
def test_names_of_groups(top: int) -> None:
    groups, image, text = random(2, 3, 11), random(2, 11, seed=1), F.normalize(random(7, 11, seed=2), dim=1)
    found = name_groups(groups, image, text, scale=3.0, top=top)
    torch.testing.assert_close(found, naive_names(groups, image, text, 3.0, top), rtol=1e-4, atol=1e-6)
    assert ((found > 0).sum(dim=2) == min(top, 7)).all()
    assert (found.sum(dim=2) < 1.0001).all()


def test_the_best_group_of_an_image_is_never_background() -> None:
    values = torch.tensor([[[0.2, 0.1], [0.05, 0.6], [0.5, 0.3]], [[0.9, 0.1], [0.4, 0.96], [0.97, 0.0]]])
    assert background_groups(values, 0.95).tolist() == [[True, False, True], [True, False, False]]
    assert background_groups(values, 0.35).tolist() == [[True, False, False], [False, False, False]]
