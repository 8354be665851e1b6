"""The smallest things that can be segmented with: colours as features, and a random CLIP."""

import zlib
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.segmenter import Segmenter
from lexiseg.inference.words import EmbeddedWords
from lexiseg.ops.class_vectors import best_word
from lexiseg.types import NO_NEEDS, ClassifiedMasks, MaskOutput


def make_segmenter(model, vocabulary, embeddings, protocol, seen_ids=(), **kwargs):
    """As a pipeline makes them, of parts in hand."""
    words = EmbeddedWords(vocabulary, embeddings, tuple(sorted(set(seen_ids))))
    return Segmenter(model, words, protocol, **kwargs)


class ColourModel:
    """A patch's mean colour, from -1 to 1, is its feature; counts how often the tower runs."""

    depends_on_text = False
    words_together = False
    names_regions = False
    needs = NO_NEEDS
    activation = "linear"
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


REGION_STRIDE = 8


class RegionsOfColour:
    """A region for each corner of the colour cube, at half the stride, named by its mean colour."""

    names_regions = depends_on_text = words_together = True
    needs = NO_NEEDS
    activation = "scores"
    offers_features = False
    crop_templates = None
    patch_size = REGION_STRIDE

    def __init__(self):
        self.contents, self.words = [], []
        self.corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)

    def normalize(self, images):
        return images.float() / 127.5 - 1

    def encode(self, images, content=None):
        assert images.shape[-1] % REGION_STRIDE == 0
        assert images.shape[-2] % REGION_STRIDE == 0
        self.contents.append(content)
        return F.avg_pool2d(images, REGION_STRIDE // 2)

    def classify(self, state, words):
        self.words.append(words)
        masks = 4 * torch.einsum("bchw,nc->bnhw", state, self.corners) - 7
        inside = (masks > 0).float()
        means = torch.einsum("bnhw,bchw->bnc", inside, state) / (inside.sum((-2, -1))[..., None] + 1e-6)
        logits = best_word(means @ words.text.T, words.class_ids)
        return ClassifiedMasks(masks, (9 * logits).softmax(-1))


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
    pools = True
    context_length = 10**6

    def __init__(self):
        self.sentences = []

    def require_text(self):
        return self

    def unknown_words(self, names):
        return []

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
    info = SimpleNamespace(split=split, templates=templates, synonyms={}) if split else None
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
