"""Recalibration after upsampling, the order of TG-CLIP's text, against its equations on whole maps of features."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.dense.methods import build_method
from lexiseg.dense.multi_view import SINGLE_VIEW, MultiView, mirror, render_view
from lexiseg.errors import ConfigError
from lexiseg.inference import decision
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.ops import pixel_tiles
from lexiseg.ops.resize import keep_ratio_size, resize_image
from lexiseg.ops.sliding_window import window_grid
from segmenter_fakes import make_segmenter

LINEAR = InferenceProtocol(short_side=40, window=24, stride=16, activation="linear", logit_scale=9.0)
VIEWS = MultiView(scales=(0.75, 1.25), flip="horizontal")
WORDS = 7


@pytest.fixture
def tower(tiny_clip):
    return VisionTower(tiny_clip).eval()


def noise(height, width):
    coarse = np.random.default_rng(5).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return resize_image(torch.from_numpy(coarse), (height, width)).numpy()


def make(tower, protocol, *, words=WORDS, **settings):
    method = build_method("sclip", tower, strength=2.0, temperature=0.1, **settings)
    vectors = F.normalize(torch.randn(words, 16, generator=torch.Generator().manual_seed(4)), dim=-1)
    vocabulary = Vocabulary.from_names([f"word {k}" for k in range(words)])
    embeddings = TextEmbeddings(vectors, torch.arange(words))
    return make_segmenter(method.model, vocabulary, embeddings, protocol)


def upsampled(segmenter, image, view, working):
    """Features ``(E, H, W)`` of one view at the unscaled image's size: windows upsampled, summed, divided by their count."""
    model, protocol = segmenter.model, segmenter.protocol
    resized = resize_image(torch.from_numpy(image), working).permute(2, 0, 1)[None].float()
    pixels = render_view(resized, view)
    grid = window_grid(view.size, protocol.window, protocol.stride)
    total, count = 0, torch.zeros(view.size)
    total = torch.zeros(16, *view.size)
    for top in grid.tops:
        for left in grid.lefts:
            part = (..., slice(top, top + grid.height), slice(left, left + grid.width))
            features = model.encoder.features(model.encode(model.normalize(pixels[part])))
            total[part] += F.interpolate(features, size=(grid.height, grid.width), mode="bilinear")[0]
            count[part[1:]] += 1
    maps = F.interpolate((total / count)[None], size=working, mode="bilinear")
    return F.interpolate(maps, size=image.shape[:2], mode="bilinear")[0]


def recalibrated(features, text, *, unit):
    """Eq. 9 to 13 of ``(E, H, W)``, pixel by pixel: ``(K, H, W)``."""
    rows = features.permute(1, 2, 0)
    normal = rows / rows.norm(dim=-1, keepdim=True)
    attention = torch.softmax(normal @ text.T / 0.1, dim=-1)
    moved = (normal if unit else rows) + 2.0 * attention @ text
    return (moved / moved.norm(dim=-1, keepdim=True) @ text.T).permute(2, 0, 1)


def by_the_equations(segmenter, image, *, unit):
    """Cosines ``(K, H, W)``: each view recalibrated at the photograph's pixels (eq. 5), views mapped back and averaged."""
    working = keep_ratio_size(image.shape[:2], segmenter.protocol.short_side)
    text = segmenter.embeddings.vectors
    views = segmenter.protocol.views.plan(working, segmenter.model.patch_size)
    maps = [
        mirror(recalibrated(upsampled(segmenter, image, view, working), text, unit=unit), view.flip)
        for view in views
    ]
    return torch.stack(maps).mean(0)


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("views", [SINGLE_VIEW, VIEWS])
@torch.no_grad()
def test_equals_the_equations_on_the_upsampled_features(tower, views, unit, monkeypatch):
    protocol = replace(LINEAR, views=views)
    segmenter = make(tower, protocol, unit_features=unit, after_upsampling=True)
    image = noise(40, 64)
    logits = by_the_equations(segmenter, image, unit=unit)
    probability = (logits * 9.0).softmax(0)
    found = segmenter.segment(image)
    np.testing.assert_allclose(found.scores, probability.amax(0).numpy(), atol=2e-5)
    assert (found.labels == probability.argmax(0).numpy()).mean() > 0.998
    before = make(tower, protocol, unit_features=unit).segment(image)
    assert np.abs(before.scores - found.scores).max() > 1e-4
    monkeypatch.setattr(pixel_tiles, "_TILES", 0)  # one row of features at a time
    np.testing.assert_allclose(segmenter.segment(image).scores, found.scores, atol=1e-6)


@torch.no_grad()
def test_the_length_of_features_matters_at_pixels_too(tower):
    image = noise(37, 53)
    unit = make(tower, LINEAR, after_upsampling=True).segment(image)
    own = make(tower, LINEAR, after_upsampling=True, unit_features=False).segment(image)
    assert np.abs(unit.scores - own.scores).max() > 1e-4


@torch.no_grad()
def test_a_batch_an_encoded_photograph_and_whole_maps_say_the_same(tower, monkeypatch):
    segmenter = make(tower, replace(LINEAR, views=VIEWS), after_upsampling=True)
    first, second = noise(40, 64), noise(31, 47)
    alone = segmenter.segment(second)
    together = segmenter.segment_batch([first, second])[1]
    np.testing.assert_array_equal(together.labels, alone.labels)
    np.testing.assert_array_equal(together.scores, alone.scores)
    encoded = segmenter.segment_encoded(segmenter.encode(second))
    np.testing.assert_array_equal(encoded.scores, alone.scores)
    refined = make(tower, replace(LINEAR, views=VIEWS, pamr_steps=1), after_upsampling=True)
    whole = refined.segment(second)
    monkeypatch.setattr(decision, "_MAP_BYTES", 4 * 31 * 47 * 2)  # two words at a time
    np.testing.assert_allclose(refined.segment(second).scores, whole.scores, atol=1e-6)


@torch.no_grad()
def test_the_area_rule_drops_words_that_still_pull(tower):
    protocol = replace(LINEAR, area_threshold=0.2)
    segmenter = make(tower, protocol, after_upsampling=True)
    image = noise(40, 64)
    logits = by_the_equations(segmenter, image, unit=True)
    shares = torch.bincount(logits.argmax(0).flatten(), minlength=WORDS) / logits[0].numel()
    assert (shares[shares > 0] <= 0.2).any()
    logits[shares <= 0.2] = -torch.inf
    assert (segmenter.segment(image).labels == logits.argmax(0).numpy()).mean() > 0.998


@torch.no_grad()
def test_uncertain_pixels_and_entropies_see_recalibrated_scores(tower):
    views = MultiView(scales=(1.0,), flip="horizontal", fusion="entropy")
    image = noise(40, 64)
    segmenter = make(tower, replace(LINEAR, views=views), after_upsampling=True)
    mean = make(tower, replace(LINEAR, views=replace(views, fusion="mean")), after_upsampling=True)
    assert np.abs(segmenter.segment(image).scores - mean.segment(image).scores).max() > 1e-6


def test_sigmoids_have_no_pixels_to_compare(tower):
    with pytest.raises(
        ConfigError, match=r"protocol\.activation is sigmoid; set .*=linear, or after_upsampling=false"
    ):
        make(tower, replace(LINEAR, activation="sigmoid"), after_upsampling=True)
