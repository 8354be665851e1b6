"""Trident on a photograph: windows joined once, spread by SAM, labels drawn anew."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import dense_cases as cases
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.dense import build_dense
from lexiseg.dense.multi_view import MultiView
from lexiseg.dense.recalibration import Recalibrated
from lexiseg.errors import ConfigError
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.masks.segment_anything_model import PromptableModel
from lexiseg.ops.affinity import cosine_affinity
from lexiseg.ops.resize import resize_image
from segmenter_fakes import make_segmenter
from tiny_sams import tiny_sam

PROTOCOL = InferenceProtocol(
    activation="linear", short_side=37, window=24, stride=16, logit_scale=40.0, background="none"
)


@pytest.fixture
def tower(tiny_clip) -> VisionTower:
    return VisionTower(tiny_clip).eval()


@pytest.fixture
def words(tower) -> tuple[Vocabulary, TextEmbeddings]:
    """A class of two words and three of one: where cells of the photograph differ from their mean, as all are much alike."""
    names = ("sky", "wall", "dog", "cat", "sea")
    vocabulary = Vocabulary((names[:2], *((name,) for name in names[2:])))
    some = TextEmbeddings(cases.some_words()[:5], torch.tensor([0, 0, 1, 2, 3]))
    features = segmenter(tower, (vocabulary, some)).encode_dense(photograph()).flatten(1).T
    mean = F.normalize(features.mean(dim=0), dim=0)
    chosen = F.normalize(features - (features @ mean)[:, None] * mean, dim=1)[[0, 6, 17, 23, 34]]
    return vocabulary, replace(some, vectors=chosen)


def photograph(height: int = 43, width: int = 61, seed: int = 7) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 4, 5, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear")[0].permute(1, 2, 0)
    return (255 * smooth).to(torch.uint8).numpy()


def segmenter(tower, words, protocol=PROTOCOL, **settings):
    model = cases.make_encoder("trident", tower, **settings)
    return make_segmenter(model, *words, protocol)


def plain(tower, words, picture, *, factor=1.2) -> torch.Tensor:
    """Logits ``(K, H, W)`` step by step, one window and one head at a time."""
    patch, crop, stride = 8, 24, 16
    small = resize_image(torch.from_numpy(picture), (37, 52)).permute(2, 0, 1)[None].float()
    small = F.interpolate(small, size=(40, 56), mode="bilinear")
    encoder = cases.make_encoder("trident", tower)
    windows = [(top, left) for top in (0, stride) for left in (0, stride, 2 * stride)]
    parts = [encoder.encode(encoder.normalize(small[..., y : y + crop, x : x + crop])) for y, x in windows]
    affinities = [cosine_affinity(part.external.flatten(2).mT)[0] for part in parts]
    mean = torch.stack(affinities).mean()
    grid = 2 * 40 // patch, 2 * 56 // patch  # the stand-in for DINO has patches of 4
    total, count = torch.zeros(tower.width, *grid), torch.zeros(grid)
    for (y, x), part, affinity in zip(windows, parts, affinities, strict=True):
        scores = 3 * (affinity - 1.2 * mean)
        weights = scores.masked_fill(scores < 0, -torch.inf).softmax(dim=-1)
        spliced = tower.attention_output(tower.depth - 1, weights @ part.value)[0].T.unflatten(1, (6, 6))
        rows, columns = slice(y // 4, y // 4 + 6), slice(x // 4, x // 4 + 6)
        total[:, rows, columns] += spliced
        count[rows, columns] += 1
    size = (48, 64)
    guide = cases.pooled_attention(resize_image(torch.from_numpy(picture), size).numpy())
    units = F.normalize(guide.values, dim=-1)
    pairs = units @ units.mT
    threshold = (factor * pairs.mean(dim=(0, 2))).clamp(max=0.9)[:, None]
    weights = torch.stack(
        [torch.where(p > threshold, a, 0.0) for p, a in zip(pairs, guide.heads, strict=True)]
    ).mean(0)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    map_ = F.interpolate((total / count)[None], size=guide.grid, mode="bilinear")[0].flatten(1)
    features = F.normalize(tower.project((weights @ map_.T)[None]), dim=-1)[0]
    logits = (features @ words[1].vectors.T).T.unflatten(1, guide.grid)
    return F.interpolate(logits[None], size=picture.shape[:2], mode="bilinear")[0]


@torch.no_grad()
def test_against_one_window_and_one_head_at_a_time(tower, words) -> None:
    picture = photograph()
    expected = (40 * plain(tower, words, picture)).softmax(dim=0)
    classes = torch.stack([expected[:2].amax(0), *expected[2:]])
    assert (torch.bincount(classes.argmax(0).flatten(), minlength=4) > 0).sum() >= 2
    for batch in (1, 4, 99):
        found = segmenter(tower, words, replace(PROTOCOL, window_batch=batch)).segment(picture)
        np.testing.assert_allclose(found.scores, expected.amax(0).numpy(), rtol=1e-4, atol=1e-5)
        assert (found.labels != classes.argmax(0).numpy()).mean() < 2e-3


def test_photographs_of_a_batch_do_not_know_of_each_other(tower, words) -> None:
    pictures = [photograph(), photograph(71, 37, seed=8)]
    made = segmenter(tower, words)
    for together, picture in zip(made.segment_batch(pictures), pictures, strict=True):
        alone = made.segment(picture)
        assert np.array_equal(together.labels, alone.labels)
        np.testing.assert_allclose(together.scores, alone.scores, rtol=1e-4)
        again = made.segment_encoded(made.encode(picture))
        assert np.array_equal(again.labels, alone.labels)


def test_features_of_the_whole_photograph(tower, words) -> None:
    features = segmenter(tower, words).encode_dense(photograph())
    assert features.shape == (tower.embed_dim, 5, 7)
    halved = segmenter(tower, words, halves=True).encode_dense(photograph())
    assert halved.shape == (tower.embed_dim, 5, 14)


def test_settings_change_what_is_read(tower, words) -> None:
    base = segmenter(tower, words).encode_dense(photograph())
    for settings in ({"likeness": 0.0}, {"sharpness": 9.0}, {"likeness": -2.0, "keep_negative": False}):
        assert not torch.allclose(
            segmenter(tower, words, **settings).encode_dense(photograph()), base, atol=1e-4
        )


@torch.no_grad()
def test_windows_without_a_photograph_are_read_as_proxyclip_reads_them(tower) -> None:
    images, text = cases.some_images(), cases.some_words()
    torch.testing.assert_close(
        cases.make_encoder("trident", tower)(images, text),
        cases.make_encoder("proxyclip", tower)(images, text),
    )


def test_recalibration_goes_around_it(tower, words) -> None:
    model = Recalibrated(cases.make_encoder("trident", tower), strength=5.0, temperature=0.1)
    pulled = make_segmenter(model, *words, PROTOCOL).segment(photograph())
    assert not np.allclose(pulled.scores, segmenter(tower, words).segment(photograph()).scores, atol=1e-3)


def test_several_views_are_refused(tower, words) -> None:
    with pytest.raises(
        ConfigError, match="Trident joins the windows of a photograph into one map .* leave views out"
    ):
        segmenter(tower, words, replace(PROTOCOL, views=MultiView()))


def with_sam(tower, **settings):
    return build_dense("trident", tower, proxy=cases.pooled_colors, sam=tiny_sam(), **settings)


def test_a_sam_reads_and_redraws(tower, words, monkeypatch) -> None:
    model = with_sam(tower, sam_refine=True, refine_threshold=0.0)
    model.refinement = replace(model.refinement, min_area=5, min_quality=-9.0)
    picture = photograph()
    plainly = make_segmenter(with_sam(tower), *words, PROTOCOL).segment(picture)
    drawn = make_segmenter(model, *words, PROTOCOL).segment(picture)
    assert not np.array_equal(drawn.labels, plainly.labels)
    asked = []
    original = model.sam.answer_prompts
    monkeypatch.setattr(model.sam, "answer_prompts", lambda e, p: asked.append(p) or original(e, p))
    model.refinement = replace(model.refinement, min_quality=9.0)  # no answer counts
    untouched = make_segmenter(model, *words, PROTOCOL).segment(picture)
    assert np.array_equal(untouched.labels, plainly.labels)
    np.testing.assert_allclose(untouched.scores, plainly.scores, rtol=1e-5)
    half = {each: int((plainly.labels == each).sum()) for each in range(4)}
    assert len(asked) <= sum(count > 0 for count in half.values())
    assert all(prompts.boxes.max() <= model.sam.side for prompts in asked)


@pytest.mark.parametrize("after", [False, True])
def test_a_sam_redraws_what_recalibration_labelled(tower, words, after) -> None:
    inner = with_sam(tower, sam_refine=True, refine_threshold=0.0)
    inner.refinement = replace(inner.refinement, min_area=5, min_quality=-9.0)
    around = {"strength": 5.0, "temperature": 0.1, "after_upsampling": after}
    drawn, plainly = (
        make_segmenter(Recalibrated(each, **around), *words, PROTOCOL).segment(photograph())
        for each in (inner, with_sam(tower))
    )
    assert not np.array_equal(drawn.labels, plainly.labels)


def test_answers_become_labels(tower, words, monkeypatch) -> None:
    """A SAM whose only answer that counts is a rectangle for the class of the largest region."""
    model = with_sam(tower, sam_refine=True, refine_threshold=0.0, halves=True)
    model.refinement = replace(model.refinement, min_area=5)
    picture = photograph()
    before = make_segmenter(with_sam(tower, halves=True), *words, PROTOCOL).segment(picture)
    calls = []

    def answer(encoded, prompts):
        assert encoded.size == (48, 64)  # the whole photograph, though SAM looked at halves for its attention
        calls.append(len(prompts.boxes))
        logits = torch.full((len(prompts.boxes), 16, 16), -9.0)
        logits[:, :6] = 9.0
        return logits, torch.full((len(prompts.boxes),), 0.9 if len(calls) == 1 else 0.1)

    monkeypatch.setattr(model.sam, "answer_prompts", answer)
    model.refinement = replace(model.refinement, restore_failed=False)
    after = make_segmenter(model, *words, PROTOCOL).segment(picture)
    first = int(np.unique(before.labels)[0])
    assert len(np.unique(before.labels[:10])) > 1
    rows = (after.labels == first).all(axis=1)
    assert rows[:10].all()
    assert np.array_equal(after.labels[-9:], before.labels[-9:])


def test_what_it_cannot_work_with(tower, words) -> None:
    with pytest.raises(ConfigError, match="sam_refine needs a SAM that answers prompts, got a function"):
        cases.make_encoder("trident", tower, sam_refine=True)
    with pytest.raises(ConfigError, match="refine_threshold from 0 to below 1, got 1.5"):
        cases.make_encoder("trident", tower, refine_threshold=1.5)
    for wrong in (PromptableModel(tiny_sam("sam2")), tiny_sam("sam2")):
        with pytest.raises(ConfigError, match="SAM of the first kind"):
            build_dense("trident", tower, proxy=cases.pooled_colors, sam=wrong)
    with pytest.raises(ConfigError, match="set protocol.activation=linear"):
        make_segmenter(
            with_sam(tower, sam_refine=True), *words, replace(PROTOCOL, activation="sigmoid", logit_scale=1.0)
        )
