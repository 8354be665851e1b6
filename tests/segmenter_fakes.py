"""The smallest things that can be segmented with: colours as features, and a random CLIP."""

import zlib
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.segmenter import Segmenter
from lexiseg.inference.words import EmbeddedWords
from lexiseg.types import MaskOutput


def make_segmenter(model, vocabulary, embeddings, protocol, seen_ids=(), **kwargs):
    """As a pipeline makes them, of parts in hand."""
    words = EmbeddedWords(vocabulary, embeddings, tuple(sorted(set(seen_ids))))
    return Segmenter(model, words, protocol, **kwargs)


class ColourModel:
    """A patch's mean colour, from -1 to 1, is its feature; counts how often the tower runs."""

    depends_on_text = False
    words_together = False
    names_regions = False
    gives_scores = False
    offers_features = True

    def __init__(self, patch_size=4):
        self.patch_size = patch_size
        self.encoded = 0
        self.decoded = []

    def normalize(self, images):
        return images.float() / 127.5 - 1

    def encode(self, images):
        assert images.shape[-1] % self.patch_size == 0
        assert images.shape[-2] % self.patch_size == 0
        self.encoded += len(images)
        return F.avg_pool2d(images, self.patch_size)

    def decode(self, state, text):
        self.decoded.append(len(text))
        return MaskOutput(torch.einsum("bchw,kc->bkhw", state, text))

    def features(self, state, text=None):
        return state

    def bind(self, state, text):
        return state


COLOURS = {
    "red": (1.0, -1.0, -1.0),
    "green": (-1.0, 1.0, -1.0),
    "blue": (-1.0, -1.0, 1.0),
    "white": (1.0, 1.0, 1.0),
    "black": (-1.0, -1.0, -1.0),
}


class ColourClip:
    """Stands for a CLIP whose text tower knows colours; every other word of a sentence shifts it a little."""

    source = fingerprint = "colours"
    known_words = None
    unit_sentences = True
    context_length = 10**6

    def __init__(self):
        self.sentences = []

    def require_text(self):
        return self

    def encode(self, sentences):
        self.sentences += sentences
        vectors = [sum(_word_vector(word) for word in sentence.split()) for sentence in sentences]
        return F.normalize(torch.stack(vectors), dim=-1)


def _word_vector(word):
    if word in COLOURS:
        return torch.tensor(COLOURS[word])
    generator = torch.Generator().manual_seed(zlib.crc32(word.encode()))
    return 0.4 * torch.randn(3, generator=generator)


def colour_pipeline(protocol, split=None, templates="plain"):
    """A pipeline of :class:`ColourModel`; with a split it counts as trained on it."""
    info = SimpleNamespace(split=split, templates=templates) if split else None
    return Pipeline(ColourModel(), ColourClip(), protocol, templates, info)


def colour_embeddings(vocabulary: Vocabulary) -> TextEmbeddings:
    """Embeddings of colour words; unknown words get a vector of their own."""
    rows, ids = [], []
    for index, group in enumerate(vocabulary.words):
        for word in group:
            generator = torch.Generator().manual_seed(zlib.crc32(word.encode()))
            rows.append(torch.tensor(COLOURS.get(word, torch.randn(3, generator=generator).tolist())))
            ids.append(index)
    return TextEmbeddings(F.normalize(torch.stack(rows), dim=-1), torch.tensor(ids))
