"""Words to classes to unit vectors."""

import pytest
import torch
import torch.nn.functional as F

from lexiseg.clip.loading import FrozenCLIP
from lexiseg.clip.templates import TEMPLATE_SETS, resolve_templates
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import ConfigError


class LetterTokenizer:
    """One token per letter: enough to tell sentences apart."""

    def __call__(self, texts, context_length):
        ids = torch.zeros(len(texts), context_length, dtype=torch.long)
        for row, text in enumerate(texts):
            letters = [95, *(ord(c) % 90 for c in text[-(context_length - 2) :]), 96]
            ids[row, : len(letters)] = torch.tensor(letters)
        return ids


@pytest.fixture
def clip(tiny_clip):
    return FrozenCLIP(tiny_clip, LetterTokenizer(), source="test")


def test_reading_words():
    assert Vocabulary.from_text("cat; kitten, sofa ,wall").words == (("cat", "kitten"), ("sofa",), ("wall",))
    assert Vocabulary.from_text("cat\nsofa, old\n").names == ("cat", "sofa, old")
    assert Vocabulary.from_text("dog").id2label == {0: "dog"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("cat,,dog", "two commas"),
        ("cat, Cat", "named twice: cat"),
        ("cat; dog, dog", "named twice: dog"),
    ],
)
def test_words_that_cannot_be_a_vocabulary(text, message):
    with pytest.raises(ConfigError, match=message):
        Vocabulary.from_text(text)


def test_ensemble_is_the_normalised_mean_of_normalised_sentences(clip):
    templates = ("a {}", "the {}.")
    vocabulary = Vocabulary((("cat", "kitten"), ("wall",)), templates)
    embeddings = vocabulary.embed(clip)
    assert embeddings.class_ids.tolist() == [0, 0, 1]
    assert embeddings.num_classes == 2
    for row, word in enumerate(("cat", "kitten", "wall")):
        ids = clip.text_tower.tokenizer([t.format(word) for t in templates], 13)
        sentences = F.normalize(clip.text_tower(ids), dim=-1)
        torch.testing.assert_close(embeddings.vectors[row], F.normalize(sentences.mean(0), dim=0))


def test_cache_is_keyed_by_weights_templates_and_words(clip, tmp_path):
    first = Vocabulary.from_text("cat, dog", "a {}").embed(clip, tmp_path)
    again = Vocabulary.from_text("cat, dog", "a {}").embed(clip, tmp_path)
    assert torch.equal(first.vectors, again.vectors)
    assert len(list(tmp_path.iterdir())) == 1
    Vocabulary.from_text("cat, dog", "one {}").embed(clip, tmp_path)
    Vocabulary.from_text("cat, cow", "a {}").embed(clip, tmp_path)
    clip.fingerprint = "other"
    Vocabulary.from_text("cat, dog", "a {}").embed(clip, tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_template_sets():
    sizes = {"single": 1, "multi15": 15, "imagenet80": 80, "surgery85": 85}
    assert {name: len(TEMPLATE_SETS[name]) for name in sizes} == sizes
    assert resolve_templates("a {} here") == ("a {} here",)
    with pytest.raises(ConfigError, match="no template set 'imagenet'"):
        resolve_templates("imagenet")
    with pytest.raises(ConfigError, match="exactly one"):
        resolve_templates(("no place",))


def test_unknown_words(tiny_clip):
    clip = FrozenCLIP(tiny_clip, None, source="test", known_words=frozenset({"red", "circle"}))
    assert clip.unknown_words(["red circle", "Red car"]) == ["Red car"]
    assert FrozenCLIP(tiny_clip, None, source="test").unknown_words(["anything"]) == []


def test_class_file_that_is_no_text(tmp_path):
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        Vocabulary.from_file(tmp_path / "c.txt")
