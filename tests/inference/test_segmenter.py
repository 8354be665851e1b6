from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.errors import ConfigError, DataError
from lexiseg.inference import segmenter as segmenter_module
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.ops.resize import resize_image
from segmenter_fakes import ColourModel, colour_embeddings, colour_pipeline, make_segmenter

WINDOWS = InferenceProtocol(short_side=22, window=13, stride=7, logit_scale=5.0)


def make(words="red, green, blue", protocol=WINDOWS, **kwargs):
    vocabulary = Vocabulary.from_text(words)
    return make_segmenter(ColourModel(), vocabulary, colour_embeddings(vocabulary), protocol, **kwargs)


def halves(height=31, width=47):
    """Red on the left, blue on the right."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[:, : width // 2, 0] = 255
    image[:, width // 2 :, 2] = 255
    return image


def noise(height=31, width=47, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def plain(segmenter, image):
    """Every step for every word at full size; the segmenter must agree with it."""
    protocol, layout = segmenter.protocol, segmenter._layout(image).windows[0]
    resized = resize_image(torch.from_numpy(image), layout.working).permute(2, 0, 1)
    text, ids = segmenter.embeddings.vectors, segmenter.embeddings.class_ids
    total, count = torch.zeros(len(text), *layout.working), torch.zeros(layout.working)
    for top, left, bottom, right in layout.windows.boxes:
        window = segmenter.model.normalize(resized[None, :, top:bottom, left:right])
        full = F.pad(window, (0, layout.padded[1] - (right - left), 0, layout.padded[0] - (bottom - top)))
        logits = segmenter.model.decode(segmenter.model.encode(full), text).logits * protocol.logit_scale
        maps = F.interpolate(logits, size=layout.padded, mode="bilinear", align_corners=False)[0]
        maps = maps[:, : bottom - top, : right - left]
        if protocol.activation == "sigmoid":
            seen = torch.tensor([int(i) in segmenter.seen_ids for i in ids])
            maps = maps.sigmoid() - protocol.seen_penalty * seen[:, None, None]
        total[:, top:bottom, left:right] += maps
        count[top:bottom, left:right] += 1
    maps = F.interpolate((total / count)[None], size=layout.source, mode="bilinear", align_corners=False)[0]
    maps = maps.softmax(0) if protocol.activation == "linear" else maps
    classes = [maps[ids == k].amax(0) for k in range(len(segmenter.vocabulary))]
    return torch.stack(classes)


PROTOCOLS = {
    "mask model": InferenceProtocol(short_side=22, window=13, stride=7, logit_scale=5.0, seen_penalty=0.1),
    "training-free": InferenceProtocol(
        short_side=22, window=12, stride=8, activation="linear", logit_scale=9.0
    ),
    "whole image": InferenceProtocol(seen_penalty=0.2, logit_scale=3.0),
    "larger": InferenceProtocol(short_side=60, window=32, stride=20, activation="linear", logit_scale=9.0),
}


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("size", [(31, 47), (8, 8), (3, 29)])
def test_equals_the_plain_computation(name, size):
    segmenter = make("red; white, green, blue; black; teal, odd", PROTOCOLS[name], seen_ids=(0, 3))
    image = noise(*size)
    result, maps = segmenter.segment(image), plain(segmenter, image)
    top = maps.topk(2, dim=0).values
    clear = (top[0] - top[1] > 1e-5).numpy()
    assert clear.mean() > 0.99
    assert (result.labels == maps.argmax(0).numpy())[clear].all()
    penalty = segmenter.protocol.seen_penalty * np.isin(result.labels, segmenter.seen_ids)
    np.testing.assert_allclose(result.scores, top[0].numpy() + penalty, atol=2e-6)


def test_finds_the_halves_at_source_size():
    result = make().segment(halves())
    assert result.labels.shape == (31, 47)
    assert result.labels.dtype == np.uint8
    assert (result.labels[:, :20] == 0).all()
    assert (result.labels[:, 27:] == 2).all()
    assert list(result.areas) == ["blue", "red"]
    assert 0.5 < result.mean_scores["red"] <= 1.0


def test_words_per_pass_and_windows_per_batch_change_nothing(monkeypatch):
    words = ", ".join(f"word{i}" for i in range(23))
    image = noise()
    expected = make(words).segment(image)
    monkeypatch.setattr(segmenter_module, "_WORDS_PER_PASS", 5)
    small = make(words, InferenceProtocol.from_dict({**WINDOWS.to_dict(), "window_batch": 2}))
    result = small.segment(image)
    assert max(small.model.decoded) == 5
    assert (result.labels == expected.labels).all()
    np.testing.assert_allclose(result.scores, expected.scores, atol=1e-6)


def test_a_model_whose_words_interact_gets_all_of_them_at_once(monkeypatch):
    monkeypatch.setattr(segmenter_module, "_WORDS_PER_PASS", 2)
    segmenter = make("red, green, blue, white, black")
    segmenter.model.words_together = True
    segmenter.segment(noise())
    assert set(segmenter.model.decoded) == {5}


def test_new_words_do_not_run_the_tower_again(monkeypatch, tmp_path):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path))
    segmenter = colour_pipeline(WINDOWS).segmenter("red, green, blue")
    encoded = segmenter.encode(halves())
    runs = segmenter.model.encoded
    direct = segmenter.segment_encoded(encoded)
    other = segmenter.segment_encoded(encoded, "white, blue")
    assert segmenter.model.encoded == runs
    assert (direct.labels == segmenter.segment(halves()).labels).all()
    assert other.id2label == {0: "white", 1: "blue"}
    assert (other.labels[:, 27:] == 1).all()
    assert segmenter.vocabulary.names == ("red", "green", "blue")
    segmenter.set_classes(["blue", "red"])
    assert segmenter.segment(halves()).labels[0, 0] == 1


def test_new_words_need_the_rules_of_a_pipeline():
    with pytest.raises(ConfigError, match=r"make it by Pipeline.segmenter"):
        make().set_classes("white, blue")


def test_labels_alone_are_the_same_labels():
    for protocol in PROTOCOLS.values():
        segmenter = make(protocol=protocol)
        image = noise(seed=2)
        alone = segmenter.segment(image, scores=False)
        assert alone.scores is None
        assert (alone.labels == segmenter.segment(image).labels).all()


def test_penalty_moves_pixels_from_seen_to_unseen():
    protocol = InferenceProtocol(seen_penalty=0.3)
    free, bound = make(protocol=protocol), make(protocol=protocol, seen_ids=(0, 1))
    image = noise(seed=3)
    assert bound.segment(image).areas["blue"] > free.segment(image).areas["blue"]
    assert bound.segment(image).unseen == ("blue",)
    assert free.segment(image).unseen == ()


def test_threshold_without_background_gives_an_id_of_its_own():
    protocol = InferenceProtocol(activation="linear", logit_scale=8.0, probability_threshold=0.9)
    grey = np.full((16, 24, 3), 128, dtype=np.uint8)
    grey[:, :12] = (255, 0, 0)
    result = make(protocol=protocol).segment(grey)
    assert result.id2label[3] == "(no class)"
    assert (result.labels[:, :8] == 0).all()
    assert (result.labels[:, 16:] == 3).all()


def test_threshold_with_background_falls_to_it():
    protocol = InferenceProtocol(
        activation="linear", logit_scale=8.0, probability_threshold=0.9, background="class"
    )
    grey = np.full((16, 24, 3), 128, dtype=np.uint8)
    grey[:, :12] = (255, 0, 0)
    result = make("black; white, green, red", protocol).segment(grey)
    assert (result.labels[:, 16:] == 0).all()
    assert (result.labels[:, :8] == 2).all()
    assert set(result.id2label) == {0, 1, 2}


def test_small_areas_go_to_the_next_best():
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    image[..., 0] = 255
    image[:4, :8] = (0, 120, 255)  # 2 % of the picture: blue, then green
    protocol = InferenceProtocol(activation="linear", logit_scale=5.0)
    before = make(protocol=protocol).segment(image)
    assert before.labels[0, 0] == 2
    after = make(protocol=InferenceProtocol.from_dict({**protocol.to_dict(), "area_threshold": 0.1})).segment(
        image
    )
    assert set(np.unique(after.labels)) == {0}
    assert after.scores[0, 0] < before.scores[0, 0]
    np.testing.assert_allclose(after.scores[20, 20], before.scores[20, 20], rtol=1e-6)


def test_dropped_classes_do_not_shift_the_id_of_no_class():
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    image[..., 0] = 255
    image[:4, :8, 2] = 255  # between red and blue: nobody is sure
    protocol = InferenceProtocol(
        activation="linear", logit_scale=4.0, area_threshold=0.1, probability_threshold=0.9
    )
    result = make(protocol=protocol).segment(image)
    assert result.id2label[result.labels[0, 0]] == "(no class)"
    assert result.labels[0, 0] == 3
    assert result.id2label[result.labels[30, 30]] == "red"


def test_one_class_takes_everything():
    result = make("red", InferenceProtocol(activation="linear")).segment(halves())
    assert result.areas == {"red": 1.0}
    assert (result.scores == 1).all()


def test_ten_thousand_words_in_little_memory():
    count = 10_000
    vectors = F.normalize(torch.randn(count, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    vocabulary = Vocabulary.from_names([f"word {i}" for i in range(count)])
    embeddings = TextEmbeddings(vectors, torch.arange(count))
    segmenter = make_segmenter(ColourModel(), vocabulary, embeddings, PROTOCOLS["training-free"])
    result = segmenter.segment(noise(19, 23))
    assert result.labels.dtype == np.uint16
    assert result.labels.max() > 255
    assert max(segmenter.model.decoded) <= 512
    expected = plain(segmenter, noise(19, 23))
    chosen = np.take_along_axis(expected.numpy(), result.labels[None].astype(int), 0)[0]
    np.testing.assert_allclose(chosen, expected.amax(0).numpy(), rtol=1e-4)


def test_class_255_is_a_class():
    vocabulary = Vocabulary.from_names([f"word {i}" for i in range(255)] + ["red"])
    segmenter = make_segmenter(ColourModel(), vocabulary, colour_embeddings(vocabulary), WINDOWS)
    embeddings = segmenter.embeddings.vectors
    embeddings[:255] = embeddings[:255] * 0 + torch.tensor([-1.0, 0, 0])
    result = segmenter.segment(halves())
    assert result.labels[0, 0] == 255
    assert result.areas["red"] > 0.3


def test_a_huge_photograph_keeps_to_its_tiles():
    image = np.zeros((4200, 3600, 3), dtype=np.uint8)
    image[:, 1800:, 2] = 255
    image[:, :1800, 0] = 255
    result = make(protocol=InferenceProtocol(short_side=24, window=16, stride=12)).segment(image)
    assert result.labels.shape == (4200, 3600)
    assert (result.labels[:, 100] == 0).all()
    assert (result.labels[:, -100] == 2).all()


def test_an_absurd_aspect_ratio_is_refused():
    with pytest.raises(DataError, match=r"2x1000000 pixels .* would need 38.2 GiB .*; crop it"):
        make(protocol=InferenceProtocol(short_side=512)).segment(np.zeros((2, 1_000_000, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((5, 7), dtype=np.uint8), r"uint8 \(5, 7\)"),
        (np.zeros((5, 7, 4), dtype=np.uint8), r"uint8 \(5, 7, 4\)"),
        (np.zeros((5, 7, 3)), r"float64 \(5, 7, 3\)"),
        ("gone.jpg", r"no file at gone.jpg"),
        (7, "got int"),
    ],
)
def test_only_rgb_bytes_are_images(image, found):
    with pytest.raises(DataError, match=found):
        make().segment(image)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(DataError, match="no pixels"):
        make().segment(np.zeros((0, 7, 3), dtype=np.uint8))


def test_embeddings_must_be_of_these_words():
    two, three = Vocabulary.from_text("red, blue"), Vocabulary.from_text("red, blue; white, green")
    with pytest.raises(ConfigError, match="3 classes with 4 words, the embeddings 2 with 2"):
        make_segmenter(ColourModel(), three, colour_embeddings(two), WINDOWS)
    with pytest.raises(ConfigError, match="seen_ids names 2, but there are classes 0 to 1"):
        make_segmenter(ColourModel(), two, colour_embeddings(two), WINDOWS, seen_ids=(0, 2))


def test_dense_features_lie_on_the_patch_grid():
    segmenter = make(protocol=InferenceProtocol(window=12, stride=8))
    features = segmenter.encode_dense(halves(20, 28))
    expected = segmenter.model.encode(
        segmenter.model.normalize(torch.from_numpy(halves(20, 28)).permute(2, 0, 1)[None])
    )
    assert features.shape == (3, 5, 7)
    torch.testing.assert_close(features, expected[0], atol=1e-6, rtol=0)


def test_a_mask_model_has_no_dense_features():
    segmenter = make()
    segmenter.model = type("Masks", (), {"patch_size": 4, "offers_features": False})()
    with pytest.raises(ConfigError, match="Masks gives masks, not features"):
        segmenter.encode_dense(halves())


def test_bfloat16_is_close_and_deterministic():
    exact = make().segment(noise())
    rounded = make(protocol=InferenceProtocol.from_dict({**WINDOWS.to_dict(), "precision": "bfloat16"}))
    one, two = rounded.segment(noise()), rounded.segment(noise())
    assert (one.labels == two.labels).all()
    assert (one.labels == exact.labels).mean() > 0.9
    assert not np.array_equal(one.scores, exact.scores), "and it is bfloat16"
    np.testing.assert_allclose(one.scores, exact.scores, atol=0.03)


def test_areas_are_shares_of_what_is_not_background():
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    image[:24] = 128  # nothing in particular: background
    image[24:, :, 0] = 255
    image[36:, :16] = (0, 0, 255)  # 4 % of the picture, 10 % of what is no background
    settings = {"activation": "linear", "logit_scale": 8.0, "background": "class"}
    protocol = InferenceProtocol(**settings, probability_threshold=0.6, area_threshold=0.07)
    result = make("black; white, blue, red", protocol).segment(image)
    assert result.labels[38, 4] == 1
    assert result.labels[30, 30] == 2
    assert result.labels[8, 8] == 0
    strict = InferenceProtocol(**settings, probability_threshold=0.6, area_threshold=0.13)
    assert make("black; white, blue, red", strict).segment(image).labels[38, 4] != 1


@pytest.mark.parametrize("name", PROTOCOLS)
def test_scores_of_every_class_are_the_plain_ones(name):
    segmenter = make("red; white, green, blue", PROTOCOLS[name], seen_ids=(1,))
    image = noise(31, 47, seed=5)
    encoded = segmenter.encode(image)
    expected = plain(segmenter, image)
    seen = torch.tensor([k in segmenter.seen_ids for k in range(3)])[:, None, None]
    expected = expected + segmenter.protocol.seen_penalty * seen  # a score is what it is before the penalty
    np.testing.assert_allclose(segmenter.class_scores(encoded), expected.numpy(), atol=2e-6)
    window = (slice(11, 14), slice(29, 36))
    part = segmenter.class_scores(encoded, [2, 0], window=window)
    np.testing.assert_allclose(part, expected.numpy()[[2, 0], *window], atol=2e-6)


def test_refined_scores_in_a_window_are_those_of_the_whole_and_of_the_winner():
    segmenter = make(protocol=replace(PROTOCOLS["training-free"], pamr_steps=2))
    encoded = segmenter.encode(noise(31, 47, seed=2))
    result, whole = segmenter.segment_encoded(encoded), segmenter.class_scores(encoded)
    winner = np.take_along_axis(whole, result.labels[None].astype(int), 0)[0]
    np.testing.assert_allclose(winner, result.scores, atol=2e-6)
    window = (slice(3, 8), slice(17, 30))
    np.testing.assert_array_equal(segmenter.class_scores(encoded, window=window), whole[:, *window])
