import pytest
import torch
import torch.nn.functional as F

from lexiseg.models.region_classifiers.mask_pooling import MaskPooling
from lexiseg.types import ClassWords, Proposals
from stage_towers import KINDS, stage_tower


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_mask_over_the_whole_image_is_the_towers_own_reading(kind, tiny_clip) -> None:
    tower = stage_tower(kind, tiny_clip)
    images = torch.randn(2, 3, 96, 160, generator=torch.Generator().manual_seed(1))
    features = tower.stage_maps(images)[-1]
    masks = torch.ones(2, 3, 24, 40)
    masks[:, 1, :, 20:] = -3.0
    masks[1, 2] = -1.0
    found, visible = MaskPooling(tower).embed(Proposals(masks), features)
    assert visible.tolist() == [[True] * 3, [True, True, kind == "ConvNeXt"]]
    if kind == "ConvNeXt":
        torch.testing.assert_close(found[:, 0], tower(images), rtol=1e-4, atol=1e-5)
        half = features[..., :2].mean(
            dim=(2, 3)
        )  # at the third column the border lies, and -1 between 1 and -3
        torch.testing.assert_close(found[:, 1], tower.project(half), rtol=1e-4, atol=1e-5)
    else:
        assert not torch.allclose(found[:, 0], found[:, 1], atol=1e-3)
        torch.testing.assert_close(found[0, 0], found[0, 2])


@torch.no_grad()
def test_words_are_compared_by_clips_own_scale(tiny_clip) -> None:
    tower = stage_tower("ConvNeXt", tiny_clip)
    generator = torch.Generator().manual_seed(2)
    vectors = torch.randn(2, 3, 16, generator=generator)
    text = F.normalize(torch.randn(4, 16, generator=generator), dim=-1)
    found = MaskPooling(tower).logits(
        vectors, ClassWords(text, torch.tensor([0, 0, 1, 2]), torch.zeros(3, dtype=torch.bool))
    )
    cosines = F.cosine_similarity(vectors[:, :, None], text, dim=-1)
    expected = torch.stack([cosines[..., :2].amax(-1), cosines[..., 2], cosines[..., 3]], dim=-1)
    torch.testing.assert_close(found, expected * tiny_clip.logit_scale.exp())
