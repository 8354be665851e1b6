"""LaVG in a segmenter: windows, masks of several photographs, and the rule for the background."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import dense_cases as cases
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.dense import build_dense
from lexiseg.dense.methods import build_method
from lexiseg.errors import ConfigError
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.ops.sliding_window import window_grid
from segmenter_fakes import make_segmenter

NAMES = ("ant", "bee", "cow", "dog", "elk", "fox", "gnu")
PROTOCOL = InferenceProtocol(short_side=None, window=24, stride=16, activation="linear", logit_scale=40)


@pytest.fixture
def tower(tiny_clip) -> VisionTower:
    return VisionTower(tiny_clip).eval()


def photograph(seed: int, height: int, width: int) -> np.ndarray:
    coarse = torch.rand(1, 3, 3, 5, generator=torch.Generator().manual_seed(seed))
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear")
    return (255 * smooth[0].permute(1, 2, 0)).byte().numpy()


def overlapping(height: int, width: int) -> np.ndarray:
    masks = np.zeros((3, height, width), dtype=bool)
    masks[0, :19, 5:29] = True
    masks[1, 11:, 23:] = True
    masks[2, 2, 3] = True
    return masks


def segmenter(tower: VisionTower, **settings):
    vocabulary = Vocabulary(tuple((name,) for name in NAMES))
    embeddings = TextEmbeddings(cases.some_words(), torch.arange(7))
    return make_segmenter(build_dense("lavg", tower, **settings), vocabulary, embeddings, PROTOCOL)


def naive_logits(tower: VisionTower, image: np.ndarray, masks: np.ndarray, *, background: int = 0) -> Tensor:
    """``(K, H, W)`` by the release's steps: features at every pixel, masks written from the last to the first."""
    sclip, text = build_dense("sclip", tower), cases.some_words()
    size = image.shape[:2]
    rest = ~masks.any(axis=0)
    total, count = torch.zeros(7, *size), torch.zeros(size)
    pixels = sclip.normalize(torch.from_numpy(image).permute(2, 0, 1)[None])
    for top, left, bottom, right in window_grid(size, 24, 16).boxes:
        box = (slice(top, bottom), slice(left, right))
        unit = F.normalize(sclip.encode(pixels[(..., *box)]).features, dim=1)
        features = F.interpolate(unit, size=(24, 24), mode="bilinear", align_corners=False)[0]
        logits = torch.einsum("ehw,ke->khw", features, text)
        for mask in reversed([*masks, rest]):
            inside = torch.from_numpy(mask[box].copy())
            if inside.any():
                logits[:, inside] = (text @ features[:, inside].mean(dim=1))[:, None]
        if background:
            least = logits.min()
            logits[background:, torch.from_numpy(rest[box].copy())] = least
        total[(slice(None), *box)] += logits
        count[box] += 1
    return total / count


@pytest.mark.parametrize("background", [0, 2])
@torch.no_grad()
def test_equals_writing_means_mask_by_mask(tower, background: int) -> None:
    image, masks = photograph(0, 29, 43), overlapping(29, 43)
    found = segmenter(tower, background_words=background).segment(image, masks=masks)
    expected = naive_logits(tower, image, masks, background=background)
    probabilities = (40 * expected).softmax(dim=0)
    np.testing.assert_allclose(found.scores, probabilities.max(dim=0).values.numpy(), rtol=1e-3, atol=1e-5)
    sure = probabilities.topk(2, dim=0).values.diff(dim=0)[0].abs() > 1e-4
    same = torch.from_numpy(found.labels.astype(np.int64)) == probabilities.argmax(dim=0)
    assert sure.float().mean() > 0.9
    assert same[sure].all()


@torch.no_grad()
def test_photographs_of_more_and_fewer_masks_share_a_batch(tower) -> None:
    images = [photograph(0, 29, 43), photograph(1, 29, 43)]
    masks = [overlapping(29, 43), overlapping(29, 43)[:1, ::-1].copy()]
    reader = segmenter(tower)
    together = reader.segment_batch(images, masks=masks)
    for image, own, found in zip(images, masks, together, strict=True):
        alone = reader.segment(image, masks=own)
        np.testing.assert_allclose(found.scores, alone.scores, rtol=1e-4)
        assert (found.labels == alone.labels).mean() > 0.999


@torch.no_grad()
def test_a_photograph_smaller_than_a_window_is_padded_without_a_trace(tower) -> None:
    image, masks = photograph(2, 13, 19), overlapping(29, 43)[:, :13, :19]
    state = segmenter(tower).encode(image, masks=masks).batches[0].state
    assert state.owners.shape == (1, 16, 24)
    assert (state.owners[0, 13:] == -1).all()
    assert (state.owners[0, :, 19:] == -1).all()
    assert (state.owners[0, :13, :19] >= 0).all()


@torch.no_grad()
def test_no_mask_leaves_one_region(tower) -> None:
    found = segmenter(tower).segment(photograph(0, 24, 24), masks=np.zeros((0, 24, 24), dtype=bool))
    assert len(np.unique(found.labels)) == 1


def test_masks_are_asked_for_before_any_work(tower, monkeypatch) -> None:
    reader = segmenter(tower)
    monkeypatch.setattr(tower, "embed", lambda *_, **__: pytest.fail("the tower ran"))
    with pytest.raises(ConfigError, match="--masks"):
        reader.segment(photograph(0, 29, 43))


@torch.no_grad()
def test_the_rule_for_the_background_needs_all_words(tower) -> None:
    images, text = cases.some_images(), cases.some_words()
    for words in (0, 1):
        encoder = cases.make_encoder("lavg", tower, background_words=words)
        assert encoder.depends_on_text == encoder.words_together == bool(words)
        state = encoder.encode(images)
        few = encoder.decode(state, text[[0, 2, 3]]).logits
        same = torch.allclose(encoder.decode(state, text).logits[:, [0, 2, 3]], few, atol=1e-5)
        assert same != bool(words)
    with pytest.raises(ConfigError, match="lavg: background_words compares all words at once"):
        encoder.bind(state, text)


def test_what_cannot_be_is_refused(tower) -> None:
    with pytest.raises(ConfigError, match="lavg: expected background_words of at least 0, got -1"):
        build_dense("lavg", tower, background_words=-1)
    with pytest.raises(ConfigError, match="needs logits that are cosines"):
        build_method("lavg", tower, strength=0.1)
