"""Segments of a photograph through the segmenter, against the published order of operations written out plainly."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.dense.multi_view import MultiView
from lexiseg.errors import ConfigError
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.segment_finding import require_kind, stuff_names
from lexiseg.inference.segmenter import Segmenter
from lexiseg.inference.words import EmbeddedWords
from lexiseg.ops.class_chunks import HeldMaps
from lexiseg.ops.mask_classification import instances, panoptic_map
from lexiseg.types import ClassifiedMasks
from segmenter_fakes import REGION_STRIDE, ColourModel, RegionsOfColour, colour_embeddings

WORDS = Vocabulary.from_text("red; white, green, blue, black", "plain")
EMBEDDED = EmbeddedWords(WORDS, colour_embeddings(WORDS), seen_ids=(1, 2, 3))
PROTOCOL = InferenceProtocol(activation="scores")
STUFF = "green, white"
THINGS = torch.tensor([False, False, True, True])


class WithNothing(RegionsOfColour):
    """Every second region is rather nothing."""

    def classify(self, state, words):
        found = super().classify(state, words)
        nothing = (torch.arange(8) % 2 * 0.9)[None]
        return ClassifiedMasks(found.masks, found.scores, nothing)


def picture(height=37, width=54):
    blocks = np.random.default_rng(7).integers(0, 2, (4, 5, 3)) * 255
    return np.kron(blocks, np.ones((11, 13, 1))).astype(np.uint8)[:height, :width]


def regions(model, image, words=EMBEDDED):
    """Masks at the photograph's size and scores: padded, up, cropped."""
    height, width = image.shape[:2]
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    full = [-(-side // REGION_STRIDE) * REGION_STRIDE for side in (height, width)]
    padded = F.pad(model.normalize(pixels), (0, full[1] - width, 0, full[0] - height))
    found = model.classify(model.encode(padded), words.class_words(torch.device("cpu")))
    masks = F.interpolate(found.masks, size=full, mode="bilinear")[0, :, :height, :width]
    return masks, found.scores[0], None if found.nothing is None else found.nothing[0]


@pytest.mark.parametrize("kind", [RegionsOfColour, WithNothing])
def test_panoptic_as_published(kind):
    image = picture()
    found = Segmenter(kind(), EMBEDDED, PROTOCOL).panoptic(image, stuff=STUFF)
    expected = panoptic_map(
        HeldMaps(regions(kind(), image)[0]), *regions(kind(), image)[1:], THINGS, size=(37, 54)
    )
    assert len(found.segments) > 2
    assert [(s.class_id, s.thing) for s in found.segments] == [
        (s.class_id, s.thing) for s in expected.segments
    ]
    assert (found.ids != expected.ids.numpy()).mean() < 0.002  # ties within rounding
    assert [s.area for s in found.segments] == [(found.ids == s.id).sum() for s in found.segments]
    assert found.stuff == {"red", "green"}, "white is a word of red"
    assert found.unseen == ("red",)
    assert found.protocol == PROTOCOL.to_dict()


def test_instances_as_published():
    image = picture()
    found = Segmenter(RegionsOfColour(), EMBEDDED, PROTOCOL).instances(image, stuff=STUFF)
    masks, scores, _ = regions(RegionsOfColour(), image)
    expected = instances(HeldMaps(masks), scores, THINGS, size=(37, 54))
    wanted = [
        (c, s) for c, s in zip(expected.class_ids.tolist(), expected.scores.tolist(), strict=True) if s > 0
    ]
    assert len(wanted) > 3
    assert [thing.class_id for thing in found.things] == [class_id for class_id, _ in wanted]
    assert [thing.score for thing in found.things] == pytest.approx([score for _, score in wanted], rel=1e-4)
    for index, thing in enumerate(found.things):
        assert found.mask(index).sum() == thing.area > 0


def test_thresholds_of_the_protocol():
    image, model = picture(), RegionsOfColour()
    everything = Segmenter(model, EMBEDDED, PROTOCOL).panoptic(image)
    best = max(segment.score for segment in everything.segments)
    sure = Segmenter(model, EMBEDDED, replace(PROTOCOL, object_threshold=best - 1e-3))
    assert 0 < len(sure.panoptic(image).segments) < len(everything.segments)
    assert all(segment.score > best - 1e-3 for segment in sure.panoptic(image).segments)
    assert all(thing.score > best - 1e-3 for thing in sure.instances(image).things)
    few = Segmenter(model, EMBEDDED, replace(PROTOCOL, most_instances=2)).instances(image)
    assert len(few.things) <= 2 < len(Segmenter(model, EMBEDDED, PROTOCOL).instances(image).things)
    loose = Segmenter(model, EMBEDDED, replace(PROTOCOL, overlap_threshold=0.0)).panoptic(image)
    assert len(loose.segments) >= len(everything.segments)


def test_the_background_is_no_segment():
    image, protocol = picture(), replace(PROTOCOL, background="class")
    segmenter = Segmenter(RegionsOfColour(), EMBEDDED, protocol)
    plain = Segmenter(RegionsOfColour(), EMBEDDED, PROTOCOL)
    assert 0 in {segment.class_id for segment in plain.panoptic(image).segments}
    assert {segment.class_id for segment in segmenter.panoptic(image).segments} == (
        {segment.class_id for segment in plain.panoptic(image).segments} - {0}
    )
    assert 0 not in {thing.class_id for thing in segmenter.instances(image).things}
    with_nothing = Segmenter(WithNothing(), EMBEDDED, protocol).panoptic(image)
    assert 0 not in {segment.class_id for segment in with_nothing.segments}


@pytest.mark.parametrize("find", ["panoptic", "instances"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 24, "stride": 16}, r"protocol\.window=null"),
        ({"views": MultiView(scales=(0.75, 1.0))}, r"protocol\.views"),
        ({"seen_penalty": 0.1}, r"protocol\.seen_penalty is 0\.1"),
        ({"area_threshold": 0.1}, r"protocol\.area_threshold is 0\.1"),
        ({"pamr_steps": 3}, r"protocol\.pamr_steps is 3"),
    ],
)
def test_what_has_no_segments_is_refused(find, changes, message):
    segmenter = Segmenter(RegionsOfColour(), EMBEDDED, replace(PROTOCOL, **changes))
    with pytest.raises(ConfigError, match=message):
        getattr(segmenter, find)(picture())
    with pytest.raises(ConfigError, match=message):
        segmenter.require_segments()


def test_a_model_of_pixels_is_refused_and_told_of_others():
    segmenter = Segmenter(ColourModel(), EMBEDDED, InferenceProtocol())
    with pytest.raises(ConfigError, match=r"ColourModel names pixels.* fc_clip"):
        segmenter.panoptic(picture())


def test_masks_of_a_provider_are_refused():
    segmenter = Segmenter(RegionsOfColour(), EMBEDDED, PROTOCOL, masks=lambda _: None)
    with pytest.raises(ConfigError, match="without masks"):
        segmenter.instances(picture())


def test_stuff_by_any_word_of_a_class():
    assert stuff_names("White ,green", WORDS) == {"red", "green"}
    assert stuff_names(["BLUE"], WORDS) == {"blue"}
    assert stuff_names((), WORDS) == frozenset()
    with pytest.raises(ConfigError, match=r"'sky' is none of the classes \(red, green, blue, black\)"):
        stuff_names("red, sky", WORDS)
    with pytest.raises(ConfigError, match="'' is none"):
        stuff_names("red,,green", WORDS)


@pytest.mark.parametrize(
    ("kind", "stuff", "message"),
    [
        ("boxes", None, "panoptic or instances, or null"),
        (3, None, "panoptic or instances"),
        ("panoptic", "sky", "a list of class names"),
        ("panoptic", [1], "a list of class names"),
        (None, ["sky"], "segments=panoptic"),
    ],
)
def test_choices_that_are_none(kind, stuff, message):
    with pytest.raises(ConfigError, match=message):
        require_kind(kind, stuff)


def test_segments_are_at_the_photographs_own_size():
    image = picture(37, 54).repeat(33, 0).repeat(30, 1)
    segmenter = Segmenter(RegionsOfColour(), EMBEDDED, replace(PROTOCOL, short_side=48))
    found = segmenter.panoptic(image, stuff=STUFF)
    assert found.size == image.shape[:2]
    assert sum(segment.area for segment in found.segments) == (found.ids > 0).sum()
    assert found.describe()
