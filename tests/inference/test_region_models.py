"""A model of regions through the segmenter, against the published order of operations written out plainly."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.errors import ConfigError
from lexiseg.inference.protocol import InferenceProtocol, suited
from lexiseg.inference.segmenter import Segmenter
from lexiseg.inference.words import EmbeddedWords, known_class_ids
from lexiseg.ops.class_vectors import best_word
from lexiseg.types import ClassifiedMasks, ClassSplit
from segmenter_fakes import REGION_STRIDE, ColourModel, RegionsOfColour, colour_embeddings

WORDS = Vocabulary.from_text("red; white, green, blue, black", "plain")
EMBEDDED = EmbeddedWords(WORDS, colour_embeddings(WORDS), seen_ids=(1,), known_ids=(0, 3))


def picture(height=37, width=54):
    """Blocks of pure colours."""
    blocks = np.random.default_rng(7).integers(0, 2, (8, 8, 3)) * 255
    return np.kron(blocks, np.ones((11, 13, 1))).astype(np.uint8)[:height, :width]


def published(image, protocol, *, combine):
    """Resize, pad, masks up, crop, on to the photograph, sigmoid, sum over regions: or sum first."""
    model = RegionsOfColour()
    height, width = image.shape[:2]
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    if protocol.short_side:
        factor = protocol.short_side / min(height, width)
        size = int(width * factor + 0.5), int(height * factor + 0.5)
        resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        pixels = torch.from_numpy(resized.copy()).permute(2, 0, 1)[None]
    working = pixels.shape[-2:]
    full = [-(-side // REGION_STRIDE) * REGION_STRIDE for side in working]
    padded = F.pad(model.normalize(pixels), (0, full[1] - working[1], 0, full[0] - working[0]))
    found = model.classify(model.encode(padded, working), EMBEDDED.class_words(torch.device("cpu")))

    def on(maps):
        return F.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)

    masks = F.interpolate(found.masks, size=full, mode="bilinear", align_corners=False)
    masks = masks[..., : working[0], : working[1]]
    if combine == "masks":
        maps = torch.einsum("bnk,bnhw->bkhw", found.scores, on(masks).sigmoid())[0]
    else:
        maps = on(torch.einsum("bnk,bnhw->bkhw", found.scores, masks.sigmoid()))[0]
    maps[1] -= protocol.seen_penalty
    best, labels = maps.max(0)
    return labels.numpy(), (best + protocol.seen_penalty * (labels == 1)).numpy()


@pytest.mark.parametrize("combine", ["masks", "scores"])
@pytest.mark.parametrize("short_side", [None, 29, 61])
@pytest.mark.parametrize("penalty", [0.0, 0.2])
def test_as_published(combine, short_side, penalty):
    protocol = InferenceProtocol(
        short_side=short_side, activation="scores", resize="pillow", combine=combine, seen_penalty=penalty
    )
    result = Segmenter(RegionsOfColour(), EMBEDDED, protocol).segment(picture())
    labels, scores = published(picture(), protocol, combine=combine)
    assert len(np.unique(labels)) > 2
    assert (result.labels != labels).mean() < 0.002  # ties within rounding
    np.testing.assert_allclose(result.scores, scores, rtol=2e-5, atol=2e-5)


def test_the_two_orders_differ():
    results = [
        Segmenter(
            RegionsOfColour(),
            EMBEDDED,
            InferenceProtocol(short_side=61, activation="scores", combine=combine),
        ).segment(picture())
        for combine in ("masks", "scores")
    ]
    assert np.abs(results[0].scores - results[1].scores).max() > 1e-3


def test_windows_are_averaged_as_scores():
    protocol = InferenceProtocol(activation="scores", window=24, stride=16)
    image = picture(40, 56)
    result = Segmenter(RegionsOfColour(), EMBEDDED, protocol).segment(image)
    model, total, count = RegionsOfColour(), torch.zeros(4, 40, 56), torch.zeros(40, 56)
    words = EMBEDDED.class_words(torch.device("cpu"))
    for top in (0, 16):
        for left in (0, 16, 32):
            window = torch.from_numpy(image[top : top + 24, left : left + 24]).permute(2, 0, 1)[None]
            maps = model.classify(model.encode(model.normalize(window)), words).maps
            total[:, top : top + 24, left : left + 24] += F.interpolate(maps, size=(24, 24), mode="bilinear")[
                0
            ]
            count[top : top + 24, left : left + 24] += 1
    best, labels = (total / count).max(0)
    assert (result.labels != labels.numpy()).mean() < 0.002
    np.testing.assert_allclose(result.scores, best.numpy(), rtol=2e-5, atol=2e-5)


def test_the_model_is_told_of_padding_synonyms_and_training():
    model = RegionsOfColour()
    Segmenter(model, EMBEDDED, InferenceProtocol(activation="scores")).segment(picture())
    assert model.contents == [(37, 54)]
    (words,) = model.words
    assert words.class_ids.tolist() == [0, 0, 1, 2, 3]
    assert words.seen.tolist() == [True, False, False, True]


def test_a_batch_of_two_is_two_of_one_and_an_encoded_one_the_same():
    segmenter = Segmenter(RegionsOfColour(), EMBEDDED, InferenceProtocol(activation="scores"))
    images = [picture(), picture(29, 31)]
    together = segmenter.segment_batch(images)
    for image, result in zip(images, together, strict=True):
        for other in (segmenter.segment(image), segmenter.segment_encoded(segmenter.encode(image))):
            np.testing.assert_array_equal(result.labels, other.labels)
            np.testing.assert_array_equal(result.scores, other.scores)


def test_many_classes_a_few_at_a_time_are_the_same():
    names = [f"class {index}" for index in range(300)]
    vectors = F.normalize(torch.randn(300, 3, generator=torch.Generator().manual_seed(3)), dim=-1)
    words = EmbeddedWords(Vocabulary.from_names(names), TextEmbeddings(vectors, torch.arange(300)))
    protocol = InferenceProtocol(activation="scores")
    result = Segmenter(RegionsOfColour(), words, protocol).segment(picture(61, 83))
    model, pixels = RegionsOfColour(), torch.from_numpy(picture(61, 83)).permute(2, 0, 1)[None]
    padded = F.pad(model.normalize(pixels), (0, 5, 0, 3))
    found = model.classify(model.encode(padded), words.class_words(torch.device("cpu")))
    masks = F.interpolate(found.masks, size=(64, 88), mode="bilinear")[..., :61, :83].sigmoid()
    maps = torch.einsum("nk,nhw->khw", found.scores[0], masks[0])
    assert (result.labels != maps.argmax(0).numpy()).mean() < 0.002
    np.testing.assert_allclose(result.scores, maps.max(0).values.numpy(), rtol=2e-5, atol=2e-5)


def test_the_area_rule_drops_a_class_of_regions_too():
    plain = Segmenter(RegionsOfColour(), EMBEDDED, InferenceProtocol(activation="scores")).segment(picture())
    counts = np.bincount(plain.labels.ravel(), minlength=4)
    rare = counts[counts > 0].min() / counts.sum()
    protocol = InferenceProtocol(activation="scores", area_threshold=float(rare) + 1e-4)
    kept = Segmenter(RegionsOfColour(), EMBEDDED, protocol).segment(picture())
    assert set(np.unique(kept.labels)) < set(np.unique(plain.labels))


def test_scores_are_read_as_scores_and_logits_are_not():
    with pytest.raises(ConfigError, match=r"protocol\.activation=scores"):
        Segmenter(RegionsOfColour(), EMBEDDED, InferenceProtocol())
    with pytest.raises(ConfigError, match="gives logits"):
        Segmenter(ColourModel(), EMBEDDED, InferenceProtocol(activation="scores"))


def test_a_protocol_for_training_takes_the_models_activation():
    sigmoid = InferenceProtocol(seen_penalty=0.1)
    assert suited(sigmoid, "sigmoid") is sigmoid
    assert suited(sigmoid, "scores") == InferenceProtocol(activation="scores")
    assert suited(sigmoid, "linear") == InferenceProtocol(activation="linear")
    calibrated = InferenceProtocol(activation="scores", seen_penalty=0.1)
    assert suited(calibrated, "scores") is calibrated
    assert suited(calibrated, "sigmoid") == InferenceProtocol(seen_penalty=0.1)
    assert suited(calibrated, "linear") == InferenceProtocol(activation="linear")


def test_known_classes_are_those_with_a_word_of_training():
    split = ClassSplit("s", ("Red", "grass", "sky"), unseen=("sky",))
    assert known_class_ids(Vocabulary.from_text("white; red, sky, Grass"), split) == (0, 2)
    assert known_class_ids(Vocabulary.from_text("red"), None) == ()
    supervised = ClassSplit("s", ("red", "sky"), unseen=("sky",), setting="supervised")
    assert known_class_ids(Vocabulary.from_text("sky, sea"), supervised) == (0,)
    all_seen = ClassSplit("s", ("red", "sky"))
    assert known_class_ids(Vocabulary.from_text("sky, sea"), all_seen) == (0,)


@pytest.mark.parametrize("combine", ["masks", "scores"])
@pytest.mark.parametrize("window", [None, 24])
def test_half_precision_comes_to_the_same(combine, window):
    def answer(precision):
        protocol = InferenceProtocol(
            activation="scores", combine=combine, window=window, stride=window and 16, precision=precision
        )
        model = RegionsOfColour()
        if precision == "bfloat16":  # as of a model whose last product is one of autocast's
            named = model.classify
            model.classify = lambda *given: ClassifiedMasks(
                named(*given).masks.bfloat16(), named(*given).scores
            )
        return Segmenter(model, EMBEDDED, protocol).segment(picture(40, 56))

    exact, rough = answer("float32"), answer("bfloat16")
    np.testing.assert_allclose(rough.scores, exact.scores, atol=0.03)
    assert (rough.labels != exact.labels).mean() < 0.02


def test_a_model_of_regions_needs_its_padding_at_the_end():
    with pytest.raises(ConfigError, match=r"protocol\.padding=bottom_right"):
        Segmenter(RegionsOfColour(), EMBEDDED, InferenceProtocol(activation="scores", padding="centre"))


class NamesUnderMasks(RegionsOfColour):
    """Names given masks by the mean colour under them, and remembers what it was shown."""

    def name_masks(self, images, masks, words, content=None):
        self.shown = images, masks, content
        colours = torch.stack([images[0][:, mask].mean(dim=1) for mask in masks])
        return 0.5 * best_word(colours @ words.text.T, words.class_ids)


def two_masks(height=37, width=54):
    masks = np.zeros((2, height, width), dtype=bool)
    masks[0, :11, 39:50] = True  # blue; the smaller one first
    masks[1, 9:22, 26:52] = True  # mostly white
    return masks


@pytest.mark.parametrize("short_side", [None, 61])
def test_a_model_that_looks_under_masks_is_asked(short_side):
    model, masks = NamesUnderMasks(), two_masks()
    protocol = InferenceProtocol(short_side=short_side, activation="scores", resize="pillow")
    result = Segmenter(model, EMBEDDED, protocol).segment(picture(), masks=masks)
    images, shown, content = model.shown
    assert shown.shape == (2, *images.shape[-2:])
    assert content == ((37, 54) if short_side is None else (61, 89))
    assert not shown[:, content[0] :].any()
    assert not shown[:, :, content[1] :].any()
    nearest = F.interpolate(torch.from_numpy(masks)[:, None].float(), size=content, mode="nearest")[:, 0] > 0
    assert torch.equal(shown[:, : content[0], : content[1]], nearest[[1, 0]])  # the largest first
    colours = np.stack([picture()[mask].mean(axis=0) / 127.5 - 1 for mask in masks])
    scores = best_word(
        torch.from_numpy(colours).float() @ EMBEDDED.embeddings.vectors.T, EMBEDDED.embeddings.class_ids
    )
    assert result.mask_classes.tolist() == scores.argmax(-1).tolist()
    assert len(set(result.mask_classes.tolist())) == 2, "or their order would not matter"
    assert (result.labels[masks[0]] == result.mask_classes[0]).all()
    assert (result.labels[masks[1] & ~masks[0]] == result.mask_classes[1]).all()


def test_a_model_that_looks_under_masks_pays_the_penalty_and_drops_small_classes():
    protocol = InferenceProtocol(short_side=None, activation="scores", resize="pillow")
    masks, names = (
        two_masks(),
        Segmenter(NamesUnderMasks(), EMBEDDED, protocol).segment(picture(), masks=two_masks()),
    )
    seen = EmbeddedWords(WORDS, colour_embeddings(WORDS), seen_ids=(int(names.mask_classes[0]),))
    paying = InferenceProtocol(short_side=None, activation="scores", resize="pillow", seen_penalty=0.9)
    changed = Segmenter(NamesUnderMasks(), seen, paying).segment(picture(), masks=masks)
    assert changed.mask_classes[0] != names.mask_classes[0]
    one_left = InferenceProtocol(short_side=None, activation="scores", resize="pillow", area_threshold=0.99)
    ruled = Segmenter(NamesUnderMasks(), EMBEDDED, one_left).segment(picture(), masks=masks)
    assert len(set(ruled.mask_classes.tolist())) == 1


def test_masks_under_windows_take_the_mean_of_the_maps():
    model, masks = NamesUnderMasks(), two_masks()
    windows = InferenceProtocol(short_side=None, activation="scores", window=32, stride=16, resize="pillow")
    result = Segmenter(model, EMBEDDED, windows).segment(picture(), masks=masks)
    plain = Segmenter(RegionsOfColour(), EMBEDDED, windows).segment(picture(), masks=masks)
    assert not hasattr(model, "shown")
    assert result.mask_classes.tolist() == plain.mask_classes.tolist()


def test_no_mask_is_no_question():
    model = NamesUnderMasks()
    protocol = InferenceProtocol(short_side=None, activation="scores", resize="pillow")
    result = Segmenter(model, EMBEDDED, protocol).segment(picture(), masks=two_masks()[:0])
    assert not hasattr(model, "shown")
    assert result.mask_classes.shape == (0,)
