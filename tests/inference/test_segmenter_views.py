"""The segmenter with several views, several photographs, refinement, masks and words that interact."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.dense.base import cosines
from lexiseg.dense.methods import build_method
from lexiseg.dense.multi_view import MultiView, multi_view_logits
from lexiseg.errors import ConfigError, DataError
from lexiseg.inference import segmenter as segmenter_module
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.models.cascade_clip import CascadeCLIP, CascadeSettings
from lexiseg.ops.pamr import color_affinity, pamr
from lexiseg.ops.resize import keep_ratio_size, resize_image
from segmenter_fakes import ColourModel, colour_embeddings, make_segmenter

LINEAR = InferenceProtocol(short_side=40, activation="linear", logit_scale=9.0)
WORDS = "red; white, green, blue; black, odd"


def make(protocol, words=WORDS, **kwargs):
    vocabulary = Vocabulary.from_text(words)
    return make_segmenter(ColourModel(), vocabulary, colour_embeddings(vocabulary), protocol, **kwargs)


def noise(height, width, seed=0):
    """Smooth noise: neighbouring pixels look alike, as in photographs."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return resize_image(torch.from_numpy(coarse), (height, width)).numpy()


def plain_maps(segmenter, image):
    """Logits ``(M, H, W)`` of all words at the photograph's size, without windows, view by view.

    A single view is right only for sizes on the patch grid: others are padded by the segmenter, resampled here.
    """
    working = keep_ratio_size(image.shape[:2], segmenter.protocol.short_side)
    resized = resize_image(torch.from_numpy(image), working).permute(2, 0, 1)[None].float()
    model, text = segmenter.model, segmenter.embeddings.vectors

    def logits_of(images):
        return model.decode(model.encode(model.normalize(images)), text).logits

    fused = multi_view_logits(
        resized, logits_of, segmenter.protocol.views, patch_size=model.patch_size,
        sharpness=segmenter.protocol.logit_scale,
    )  # fmt: skip
    return F.interpolate(fused, size=image.shape[:2], mode="bilinear", align_corners=False)[0]


def classes(segmenter, maps):
    ids = segmenter.embeddings.class_ids
    return torch.stack([maps[ids == k].amax(0) for k in range(len(segmenter.vocabulary))])


VIEWS = {
    "tg-clip": MultiView(),
    "no flip": MultiView(scales=(0.75, 1.25), flip="none"),
    "one scale": MultiView(scales=(0.6,), flip="vertical"),
    "three scales": MultiView(scales=(1.0, 0.75, 1.25)),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("size", [(31, 47), (53, 37)])
def test_views_equal_the_plain_computation(name, size):
    segmenter = make(replace(LINEAR, views=VIEWS[name]))
    image = noise(*size)
    expected = classes(segmenter, plain_maps(segmenter, image))
    result = segmenter.segment(image)
    top = expected.topk(2, dim=0).values
    clear = (top[0] - top[1] > 1e-5).numpy()
    assert clear.mean() > 0.99
    assert (result.labels == expected.argmax(0).numpy())[clear].all()
    assert len(np.unique(result.labels)) > 1
    assert result.protocol["views"]["scales"] == VIEWS[name].scales


@pytest.mark.parametrize("flip", ["horizontal", "uncertain"])
def test_fusions_that_compare_words_get_all_of_them(flip, monkeypatch):
    monkeypatch.setattr(segmenter_module, "_WORDS_PER_PASS", 2)
    fusion = "entropy" if flip == "horizontal" else "mean"
    views = MultiView(scales=(0.75,), flip=flip, fusion=fusion)
    segmenter = make(replace(LINEAR, views=views, logit_scale=1.0))
    segmenter.segment(noise(31, 47))
    assert set(segmenter.model.decoded) == {6}


def test_words_in_parts_change_nothing_with_views(monkeypatch):
    protocol, image = replace(LINEAR, views=MultiView(), window=24, stride=16), noise(31, 47)
    expected = make(protocol).segment(image)
    monkeypatch.setattr(segmenter_module, "_WORDS_PER_PASS", 2)
    parts = make(protocol)
    result = parts.segment(image)
    assert set(parts.model.decoded) == {2}
    assert (result.labels == expected.labels).all()
    np.testing.assert_allclose(result.scores, expected.scores, atol=1e-6)


def test_scale_one_without_flip_is_the_method_itself_bit_for_bit():
    base = make(replace(LINEAR, short_side=32, window=16, stride=8))
    viewed = make(replace(base.protocol, views=MultiView(scales=(1.0,), flip="none")))
    image = noise(32, 48)
    one, two = base.segment(image), viewed.segment(image)
    assert (one.labels == two.labels).all()
    assert (one.scores == two.scores).all()


@pytest.mark.parametrize("views", [MultiView(scales=(1.0,), flip="none"), MultiView()])
def test_several_photographs_share_batches_and_answer_as_alone(views):
    protocol = replace(LINEAR, views=views, window=24, stride=16, window_batch=8)
    images = [noise(31, 47, 1), noise(53, 37, 2), noise(8, 9, 3)]
    together = make(protocol)
    results = together.segment_batch(images)
    for image, result in zip(images, results, strict=True):
        alone = make(protocol).segment(image)
        assert (result.labels == alone.labels).all()
        np.testing.assert_allclose(result.scores, alone.scores, atol=1e-6)


def test_windows_of_several_photographs_fill_the_tower():
    seen = []

    class Counting(ColourModel):
        def encode(self, images):
            seen.append(len(images))
            return super().encode(images)

    vocabulary = Vocabulary.from_text("red, blue")
    protocol = replace(LINEAR, short_side=32, window=32, stride=16, window_batch=6)
    segmenter = make_segmenter(Counting(), vocabulary, colour_embeddings(vocabulary), protocol)
    segmenter.segment_batch([noise(32, 48, k) for k in range(5)])  # 2 windows each
    assert seen == [6, 4]


def test_trained_models_take_views(tiny_clip):
    settings = CascadeSettings(stages=((1, 2), (3,)), prompt_length=2, decoder_layers=1, decoder_heads=2)
    torch.manual_seed(0)
    model = CascadeCLIP(VisionTower(tiny_clip), settings).eval()
    vocabulary = Vocabulary.from_text("dog, grass, sky")
    vectors = F.normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(4)), dim=-1)
    embeddings = TextEmbeddings(vectors, torch.arange(3))
    protocol = InferenceProtocol(short_side=44, views=MultiView(flip="none"))
    segmenter = make_segmenter(model, vocabulary, embeddings, protocol, seen_ids=(0,))
    image = noise(31, 47)
    result = segmenter.segment(image)
    scores = []
    for scale in (0.75, 1.25):
        alone = make_segmenter(
            model, vocabulary, embeddings, replace(protocol, views=MultiView(scales=(scale,), flip="none"))
        )
        maps = []
        for word in range(3):
            one = make_segmenter(
                model,
                Vocabulary.from_text("x"),
                TextEmbeddings(vectors[[word]], torch.tensor([0])),
                alone.protocol,
            )
            maps.append(one.segment(image).scores)
        scores.append(np.stack(maps))
    expected = np.mean(scores, axis=0)  # sigmoids, averaged over the views
    np.testing.assert_allclose(result.scores, expected.max(0), atol=1e-5)


@pytest.mark.parametrize("name", ["clip-surgery", "resclip", "tg-clip"])
def test_words_that_interact_are_bound_before_they_come_in_parts(name, tiny_clip, monkeypatch):
    tower = VisionTower(tiny_clip).eval()
    extra = {"feedback_threshold": 0.0} if name == "resclip" else {}
    extra |= {"outlier_share": 0.2} if name == "tg-clip" else {}
    method = build_method(name, tower, **extra)
    words = 23
    vectors = F.normalize(torch.randn(words, 16, generator=torch.Generator().manual_seed(4)), dim=-1)
    vocabulary = Vocabulary.from_names([f"word {k}" for k in range(words)])
    embeddings = TextEmbeddings(vectors, torch.arange(words))
    protocol = replace(LINEAR, short_side=48, window=48, stride=24, views=method.views)
    segmenter = make_segmenter(method.model, vocabulary, embeddings, protocol)
    image = noise(48, 61)
    expected = segmenter.segment(image)
    monkeypatch.setattr(segmenter_module, "_WORDS_PER_PASS", 5)
    result = segmenter.segment(image)
    assert (result.labels == expected.labels).mean() > 0.999
    np.testing.assert_allclose(result.scores, expected.scores, atol=1e-4)


def test_refinement_is_published_pamr_on_the_logits():
    segmenter, image = make(replace(LINEAR, pamr_steps=3)), noise(30, 48)
    working = keep_ratio_size(image.shape[:2], 40)
    resized = resize_image(torch.from_numpy(image), working).permute(2, 0, 1)[None].float()
    colors = F.interpolate(resized, size=image.shape[:2], mode="bilinear", align_corners=False)
    maps = pamr(plain_maps(make(LINEAR), image)[None], color_affinity(colors), steps=3)[0]
    result = segmenter.segment(image)
    expected = classes(segmenter, maps)
    assert (result.labels == expected.argmax(0).numpy()).mean() > 0.999
    probability = (maps * 9.0).softmax(0).amax(0).numpy()
    np.testing.assert_allclose(result.scores, probability, atol=1e-5)
    assert (result.labels != make(LINEAR).segment(image).labels).any()


def test_refinement_of_a_huge_photograph_is_refused():
    image = np.zeros((4100, 4100, 3), dtype=np.uint8)
    with pytest.raises(DataError, match="4100x4100 pixels .* set pamr_steps=0"):
        make(replace(LINEAR, pamr_steps=1)).segment(image, scores=False)


@pytest.mark.parametrize("words_per_pass", [512, 2])
def test_each_mask_takes_its_best_mean_logit(words_per_pass, monkeypatch):
    monkeypatch.setattr(segmenter_module, "_WORDS_PER_PASS", words_per_pass)
    segmenter, image = make(LINEAR), noise(30, 48)
    masks = np.zeros((2, 30, 48), dtype=bool)
    masks[0, 3:23, 5:41] = True
    masks[1, 7:13, 11:19] = True
    result, before = segmenter.segment(image, masks=masks), segmenter.segment(image)
    maps = plain_maps(segmenter, image)
    ids = segmenter.embeddings.class_ids
    outer, inner = (int(ids[maps[:, torch.from_numpy(mask)].mean(1).argmax()]) for mask in masks)
    assert (result.labels[masks[1]] == inner).all()
    assert (result.labels[masks[0] & ~masks[1]] == outer).all()
    outside = ~masks.any(0)
    assert (result.labels[outside] == before.labels[outside]).all()
    assert len(np.unique(before.labels[masks[0]])) > 1


def test_masks_must_fit_the_photograph():
    with pytest.raises(DataError, match=r"\(count, 31, 47\) boolean array.*got bool \(1, 31, 46\)"):
        make(LINEAR).segment(noise(31, 47), masks=np.zeros((1, 31, 46), dtype=bool))


def test_features_ignore_the_views():
    segmenter = make(replace(LINEAR, short_side=40, views=MultiView()))
    single = make(replace(LINEAR, short_side=40))
    image = noise(40, 64)
    torch.testing.assert_close(segmenter.encode_dense(image), single.encode_dense(image))
    logits = cosines(single.encode_dense(image)[None], single.embeddings.vectors)
    assert logits.shape == (1, 6, 10, 16)


def test_views_travel_with_the_protocol():
    protocol = replace(LINEAR, views=MultiView(scales=(0.5,), flip="vertical"))
    assert InferenceProtocol.from_dict(protocol.to_dict()) == protocol
    with pytest.raises(ConfigError, match="views: no setting scale; there are scales, flip"):
        InferenceProtocol.from_dict({"views": {"scale": [1.0]}})
    with pytest.raises(ConfigError, match="protocol: views is 'mcr'"):
        InferenceProtocol(views="mcr")
    with pytest.raises(ConfigError, match="views.scales: expected a list of numbers, got 0.75"):
        MultiView(scales=0.75)


SIGMOID = InferenceProtocol(short_side=40, logit_scale=4.0, seen_penalty=0.15)


def plain_sigmoids(segmenter, image):
    """Of one window: ``(M, H, W)`` at the photograph's size, before any penalty, and what each word pays."""
    working = keep_ratio_size(image.shape[:2], segmenter.protocol.short_side)
    resized = resize_image(torch.from_numpy(image), working).permute(2, 0, 1)[None].float()
    state = segmenter.model.encode(segmenter.model.normalize(resized))
    logits = segmenter.model.decode(state, segmenter.embeddings.vectors).logits * 4.0
    scores = F.interpolate(logits, size=working, mode="bilinear", align_corners=False).sigmoid()
    maps = F.interpolate(scores, size=image.shape[:2], mode="bilinear", align_corners=False)[0]
    seen = torch.tensor([int(i) in segmenter.seen_ids for i in segmenter.embeddings.class_ids])
    return maps, 0.15 * seen[:, None, None]


def test_seen_classes_pay_after_refinement():
    segmenter, image = make(replace(SIGMOID, pamr_steps=3), seen_ids=(1, 2)), noise(30, 48)
    maps, penalty = plain_sigmoids(segmenter, image)
    working = segmenter._encoder.working(image, segmenter._layout(image))[None].float()
    colors = F.interpolate(working, size=image.shape[:2], mode="bilinear", align_corners=False)
    refined = pamr(maps[None], color_affinity(colors), steps=3)[0]
    free, paying = (classes(segmenter, each).argmax(0).numpy() for each in (refined, refined - penalty))
    assert (free != paying).mean() > 0.05
    assert (segmenter.segment(image).labels == paying).mean() > 0.999


def test_seen_classes_pay_in_a_vote():
    segmenter, image = make(SIGMOID, seen_ids=(1, 2)), noise(30, 48)
    maps, penalty = plain_sigmoids(segmenter, image)
    masks = np.zeros((15, 30, 48), dtype=bool)
    for index in range(15):
        top, left = divmod(index, 5)
        masks[index, 10 * top : 10 * top + 10, 9 * left : 9 * left + 9] = True
    ids, labels = segmenter.embeddings.class_ids, segmenter.segment(image, masks=masks).labels
    means = torch.stack([maps[:, torch.from_numpy(mask)].mean(1) for mask in masks], dim=1)
    free, paying = (ids[each.argmax(0)].tolist() for each in (means, means - penalty[..., 0]))
    assert free != paying
    assert [int(labels[mask][0]) for mask in masks] == paying
