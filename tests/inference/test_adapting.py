"""Adapting to a few photographs: what it finds, what it leaves alone, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from lexiseg.checkpoints.word_adaptation import WordAdaptation
from lexiseg.errors import CheckpointError, ConfigError, DataError
from lexiseg.inference.decision import Decided, only_where
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.shots import Shot
from segmenter_fakes import ColourClip, ColourModel, RegionsOfColour

PROTOCOL = InferenceProtocol(activation="linear", logit_scale=9.0, window=12, stride=8)
HEIGHT, WIDTH = 20, 36
PAINT = {"wug": (250, 20, 30), "dax": (40, 230, 20), "blick": (20, 30, 250)}
"""Things whose names say nothing of their colours."""

BETWEEN = {**PAINT, "blick": (145, 125, 25)}
"""What is neither of two."""


def pipeline(model=None, protocol=PROTOCOL):
    return Pipeline(model or ColourModel(), ColourClip(), protocol, "plain")


def scene(seed, names=tuple(PAINT), words=tuple(PAINT), paint=PAINT):
    """Noisy stripes of each thing, and their ids among the words."""
    rng = np.random.default_rng(seed)
    image = np.zeros((HEIGHT, WIDTH, 3), np.int64)
    label = np.full((HEIGHT, WIDTH), 255, np.uint8)
    for place, name in enumerate(rng.permutation(list(names))):
        columns = slice(place * WIDTH // len(names), (place + 1) * WIDTH // len(names))
        image[:, columns] = paint[name]
        if name in words:
            label[:, columns] = words.index(name)
    image = (image + rng.integers(-20, 20, image.shape)).clip(0, 255).astype(np.uint8)
    return Shot(image, label, f"scene {seed}")


def share_right(segmenter, shots):
    return float(np.mean([(segmenter.segment(each.image).labels == each.label).mean() for each in shots]))


def test_names_that_say_nothing_are_learned_from_three_scenes():
    before = pipeline()
    after = before.adapt([scene(seed) for seed in range(3)], list(PAINT))
    others = [scene(seed) for seed in range(10, 15)]
    assert share_right(before.segmenter(list(PAINT)), others) < 0.6
    assert share_right(after.segmenter(list(PAINT)), others) > 0.9
    assert before.adaptation is None
    steps = {each["part"]: each for each in after.adaptation.account["steps"]}
    assert steps["prototypes"]["kept"]
    assert steps["prototypes"]["miou"] > steps["words as they were"]["miou"]
    error = after.adaptation.account["calibration_error"]
    assert error["after"] < error["before"]


def test_pixels_that_a_class_without_a_mask_had_won_keep_it_and_all_others_are_decided_anew():
    words = [*PAINT, "red", "glorp"]
    before = pipeline()
    after = before.adapt([scene(seed, words=("wug", "dax")) for seed in range(3)], words)
    assert after.adaptation.words == ("wug", "dax")
    assert after.adaptation.account["not_shown"] == ["blick", "red", "glorp"]
    changed = 0
    rng = np.random.default_rng(5)
    for _ in range(4):
        image = rng.integers(0, 255, (5, 7, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
        old, new = (each.segmenter(words).segment(image) for each in (before, after))
        unshown = old.labels >= 2
        assert unshown.any()
        assert (~unshown).any()
        np.testing.assert_array_equal(new.labels[unshown], old.labels[unshown])
        np.testing.assert_array_equal(new.scores[unshown], old.scores[unshown])
        changed += int((new.labels != old.labels).sum())
    assert changed


def test_masks_that_vote_keep_the_classes_that_were_not_shown():
    words = [*PAINT, "red", "glorp"]
    before = pipeline()
    after = before.adapt([scene(seed, words=("wug", "dax")) for seed in range(3)], words)
    image = np.random.default_rng(6).integers(0, 255, (5, 7, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    masks = np.zeros((35, 20, 28), bool)
    for number in range(35):
        masks[number, number // 7 * 4 : number // 7 * 4 + 4, number % 7 * 4 : number % 7 * 4 + 4] = True
    old, new = (each.segmenter(words).segment(image, masks=masks) for each in (before, after))
    unshown = old.mask_classes >= 2
    assert unshown.any()
    np.testing.assert_array_equal(new.mask_classes[unshown], old.mask_classes[unshown])
    np.testing.assert_array_equal(new.labels, (new.mask_classes[:, None, None] * masks).sum(0))


def test_every_door_of_a_segmenter_answers_alike_and_other_words_bring_it_along():
    after = pipeline().adapt([scene(seed) for seed in range(3)], list(PAINT))
    segmenter, photo = after.segmenter(["blick", "green", "wug"]), scene(11).image
    labels = segmenter.segment(photo).labels
    np.testing.assert_array_equal(segmenter.segment_batch([photo, photo])[1].labels, labels)
    np.testing.assert_array_equal(segmenter.segment_encoded(segmenter.encode(photo)).labels, labels)
    other = after.segmenter("dax").with_words(["blick", "green", "wug"])
    np.testing.assert_array_equal(other.segment(photo).labels, labels)
    with pytest.raises(ConfigError, match="the adaptation is of wug, dax, blick, and none of the words"):
        after.segmenter("green, white")


def test_probabilities_are_of_the_adapted_contest_and_refused_where_two_are_joined():
    after = pipeline().adapt([scene(seed) for seed in range(3)], list(PAINT))
    segmenter, photo = after.segmenter(list(PAINT)), scene(11).image
    found = segmenter.probabilities(segmenter.encode(photo))
    result = segmenter.segment(photo)
    np.testing.assert_array_equal(found.maps.argmax(0), result.labels)
    np.testing.assert_allclose(found.maps.max(0), result.scores, atol=1e-3)
    other = after.segmenter(["wug", "green"])
    with pytest.raises(ConfigError, match="no one contest has the probabilities of all"):
        other.probabilities(other.encode(photo))
    with pytest.raises(ConfigError, match="no one contest has the probabilities of all"):
        other.class_scores(other.encode(photo))


def test_a_synonym_that_misleads_is_left_out():
    words = [["wug", "blue"], "dax", "blick"]
    after = pipeline().adapt([scene(seed) for seed in range(3)], words)
    offset = dict(zip(after.adaptation.words, after.adaptation.offset.tolist(), strict=True))
    assert offset["blue"] < -1000 < offset["wug"]


def test_none_of_these_is_learned_where_masks_show_it():
    shots = [scene(seed, words=("wug", "dax"), paint=BETWEEN) for seed in range(3)]
    shots = [replace(each, label=np.where(each.label == 255, 254, each.label)) for each in shots]
    after = pipeline().adapt(shots, ["wug", "dax"])
    assert 0 < after.adaptation.threshold < 1
    segmenter, other = after.segmenter(["wug", "dax"]), scene(12, words=("wug", "dax"), paint=BETWEEN)
    nothing = segmenter.segment(other.image).labels == 2
    assert nothing[other.label == 255].mean() > 0.8
    assert nothing[other.label < 2].mean() < 0.3
    own = after.segmenter(["wug", "dax"], threshold=0.01)
    assert own.protocol.probability_threshold == 0.01  # a threshold that is asked for holds


def test_one_photograph_is_enough_to_begin_with():
    after = pipeline().adapt([scene(3)], list(PAINT))
    assert share_right(after.segmenter(list(PAINT)), [scene(seed) for seed in range(20, 24)]) > 0.85
    assert after.adaptation.account["held_out"] == "halves of classes"


def test_a_mask_between_the_pixels_that_searches_look_at_counts():
    shots = [scene(seed, words=("wug", "dax")) for seed in range(2)]
    large = [
        replace(each, image=each.image.repeat(5, 0).repeat(5, 1), label=each.label.repeat(5, 0).repeat(5, 1))
        for each in shots
    ]
    large[0].label[1, 1] = 2
    after = pipeline().adapt(large, list(PAINT))
    assert after.adaptation.words == tuple(PAINT)


def test_one_class_among_several_words_is_given_an_offset_and_takes_nothing_from_the_others():
    after = pipeline().adapt([scene(seed, words=("wug",)) for seed in range(2)], list(PAINT))
    assert after.adaptation.words == ("wug",)
    assert after.adaptation.offset.isfinite().all()
    photo = scene(9).image
    old, new = (each.segmenter(list(PAINT)).segment(photo).labels for each in (pipeline(), after))
    np.testing.assert_array_equal(new[old != 0], old[old != 0])


def test_a_model_without_features_is_still_given_offsets():
    model = ColourModel()
    model.offers_features = False
    after = pipeline(model).adapt([scene(seed) for seed in range(3)], list(PAINT))
    assert not after.adaptation.prototypes.any()
    assert after.segmenter(list(PAINT)).segment(scene(9).image).labels.shape == (HEIGHT, WIDTH)


def test_it_goes_through_its_file(tmp_path):
    before = pipeline()
    after = before.adapt([scene(seed) for seed in range(3)], list(PAINT))
    after.adaptation.write(tmp_path / "a.safetensors")
    again = before.adapted(WordAdaptation.read(tmp_path / "a.safetensors"))
    photo = scene(14).image
    one, two = (each.segmenter(list(PAINT)).segment(photo) for each in (after, again))
    np.testing.assert_array_equal(one.labels, two.labels)
    np.testing.assert_allclose(one.scores, two.scores, atol=1e-6)
    with pytest.raises(CheckpointError, match="adapted with method ColourModel, but the model has naclip"):
        replace(before, method={"name": "naclip"}).adapted(after.adaptation)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda shot: replace(shot, label=shot.label[:-1]), "scene 0 is 20x36 .*mask 19x36; both"),
        (lambda shot: replace(shot, label=np.full_like(shot.label, 7)), "holds id 7, but there are 3 words"),
        (
            lambda shot: replace(shot, label=np.full_like(shot.label, 255)),
            "no mask has a pixel of any of the words",
        ),
    ],
)
def test_masks_that_teach_nothing_are_refused(spoil, told):
    with pytest.raises(DataError, match=told):
        pipeline().adapt([spoil(scene(0))], list(PAINT))


def test_no_photograph_and_models_that_give_no_logits_are_refused():
    with pytest.raises(DataError, match="at least one, better five"):
        pipeline().adapt([], list(PAINT))
    scores = InferenceProtocol(activation="scores")
    with pytest.raises(ConfigError, match="RegionsOfColour names regions"):
        pipeline(RegionsOfColour(), scores).adapt([scene(0)], list(PAINT))


def test_the_sigmoid_of_a_trained_model_is_calibrated_as_well():
    protocol = InferenceProtocol(activation="sigmoid", logit_scale=9.0)
    after = pipeline(protocol=protocol).adapt([scene(seed) for seed in range(3)], list(PAINT))
    result = after.segmenter(list(PAINT)).segment(scene(8).image)
    assert (result.labels == scene(8).label).mean() > 0.9
    assert torch.from_numpy(result.scores).max() <= 1


def test_two_decisions_are_joined_where_a_shown_class_won_before():
    """Of classes 0 and 1 only 1 was shown; 2 is "no class"."""
    before = Decided(
        np.array([[0, 1, 2], [1, 2, 0]], np.uint8),
        np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], np.float32),
        np.array([0, 1, 2]),
    )
    after = Decided(
        np.array([[1, 0, 1], [2, 0, 1]], np.uint8), np.full((2, 3), 0.9, np.float32), np.array([1, 0, 1])
    )
    joined = only_where(np.array([False, True]), after, before)
    assert joined.labels.tolist() == [[0, 0, 2], [2, 2, 0]]
    assert joined.scores == pytest.approx(np.array([[0.1, 0.9, 0.3], [0.9, 0.5, 0.6]], np.float32))
    assert joined.mask_classes.tolist() == [0, 0, 2]
    assert only_where(np.array([False, True]), after._replace(scores=None), before).scores is None


def test_a_shot_is_read_from_files_and_pictures(tmp_path):
    shot = scene(3)
    Image.fromarray(shot.image).save(tmp_path / "a.png")
    Image.fromarray(shot.label).save(tmp_path / "ids.png")
    for read in (
        Shot.read(tmp_path / "a.png", str(tmp_path / "ids.png")),
        Shot.read(Image.open(tmp_path / "a.png"), Image.open(tmp_path / "ids.png")),
        Shot.read(shot.image, shot.label),
    ):
        assert (read.image == shot.image).all()
        assert (read.label == shot.label).all()
    with pytest.raises(
        DataError, match="image of a: expected an array of 3 axes, got str; Shot.read opens files"
    ):
        Shot("a.png", shot.label, "a")
    with pytest.raises(DataError, match="label of a: expected an array of 2 axes"):
        Shot(shot.image, shot.image, "a")
