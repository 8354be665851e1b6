"""The segmenter drives real towers: a training-free reading and a trained form, on a tiny random CLIP."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.dense.maskclip import MaskCLIP
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.words import EmbeddedWords
from lexiseg.models.cascade_clip import CascadeCLIP, CascadeSettings
from segmenter_fakes import make_segmenter

PROTOCOLS = {
    "sigmoid": InferenceProtocol(short_side=44, window=36, stride=20, seen_penalty=0.1, window_batch=2),
    "linear": InferenceProtocol(short_side=44, window=36, stride=20, activation="linear", logit_scale=20.0),
}


@pytest.fixture(params=["training-free", "cascade"])
def segmenter(request, tiny_clip):
    tower = VisionTower(tiny_clip)
    vocabulary = Vocabulary.from_text("dog; puppy, grass, sky, wall", "plain")
    vectors = F.normalize(torch.randn(5, 16, generator=torch.Generator().manual_seed(4)), dim=-1)
    embeddings = TextEmbeddings(vectors, torch.tensor([0, 0, 1, 2, 3]))
    if request.param == "cascade":
        settings = CascadeSettings(stages=((1, 2), (3,)), prompt_length=2, decoder_layers=1, decoder_heads=2)
        model = CascadeCLIP(tower, settings).eval()
        return make_segmenter(
            model, vocabulary, embeddings, PROTOCOLS["sigmoid"], seen_ids=(0, 1), embed=two_words
        )
    return make_segmenter(MaskCLIP(tower), vocabulary, embeddings, PROTOCOLS["linear"], embed=two_words)


def two_words(words, templates):
    vectors = F.normalize(torch.randn(2, 16, generator=torch.Generator().manual_seed(5)), dim=-1)
    embeddings = TextEmbeddings(vectors, torch.tensor([0, 1]))
    return EmbeddedWords(Vocabulary.from_text(words, templates), embeddings)


def image(height, width):
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(31, 47), (8, 8), (97, 53)])
def test_labels_at_source_size_the_same_each_time(segmenter, size):
    first, second = segmenter.segment(image(*size)), segmenter.segment(image(*size))
    assert first.size == size
    assert (first.labels == second.labels).all()
    assert (first.scores == second.scores).all()
    assert 0 <= first.scores.min() <= first.scores.max() <= 1


def test_window_batches_only_move_rounding(segmenter):
    whole = segmenter.segment(image(61, 83))
    settings = {**segmenter.protocol.to_dict(), "window_batch": 1}
    segmenter.protocol = InferenceProtocol.from_dict(settings)
    single = segmenter.segment(image(61, 83))
    np.testing.assert_allclose(single.scores, whole.scores, atol=1e-5)
    assert (single.labels == whole.labels).mean() > 0.999


def test_encoded_once_for_any_words(segmenter):
    encoded = segmenter.encode(image(31, 47))
    direct = segmenter.segment(image(31, 47))
    assert (segmenter.segment_encoded(encoded).labels == direct.labels).all()
    other = segmenter.segment_encoded(encoded, "cat, car")
    assert set(other.areas) <= {"cat", "car"}
    assert (other.labels == segmenter.with_words("cat, car").segment(image(31, 47)).labels).all()
