"""Words to classes to unit vectors."""

import gzip

import pytest
import torch
import torch.nn.functional as F

from lexiseg.clip.loading import FrozenCLIP
from lexiseg.clip.templates import TEMPLATE_SETS, resolve_templates
from lexiseg.clip.tokenizer import openai_tokenizer
from lexiseg.clip.towers.text import without_padding
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


@pytest.mark.parametrize("pad", [0, 96])
def test_padding_is_left_out_and_changes_nothing(tiny_clip, pad):
    ids = torch.full((3, 13), pad)
    for row, length in enumerate((4, 7, 2)):
        ids[row, :length] = torch.tensor([95, *range(10, 8 + length), 96])
    short = without_padding(ids)
    assert short.shape[1] in (7, 8)
    assert torch.equal(short, ids[:, : short.shape[1]])
    tower = FrozenCLIP(tiny_clip, LetterTokenizer(), source="test").text_tower
    torch.testing.assert_close(tower(short), tower(ids))
    full = torch.arange(13)[None].clone()
    full[0, -1] = 96
    assert torch.equal(without_padding(full), full)


def test_words_in_parts_are_the_words_together(clip, monkeypatch):
    vocabulary = Vocabulary.from_text("cat, dog, sofa, wall, sky", ("a {}", "the {}."))
    together = vocabulary.embed(clip)
    monkeypatch.setattr("lexiseg.clip.vocabulary._SENTENCES", 4)
    torch.testing.assert_close(vocabulary.embed(clip).vectors, together.vectors)


@pytest.fixture
def openai_words(tmp_path):
    """OpenAI's vocabulary file in form: as many merges, of two letters each."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    letters = [chr(code) for code in printable] + [chr(256 + extra) for extra in range(256 - len(printable))]
    merges = [f"{a} {b}" for a in letters for b in letters][: 49152 - 256 - 2]
    with gzip.open(tmp_path / "bpe_simple_vocab_16e6.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(["version", *merges, ""]))
    return openai_tokenizer(tmp_path / "bpe_simple_vocab_16e6.txt.gz")


def test_a_word_of_500_characters_for_the_openai_tokenizer(tiny_clip, openai_words, monkeypatch):
    clip = FrozenCLIP(tiny_clip, openai_words, source="test")
    clip.text_tower.context_length = 77
    encoded = []
    monkeypatch.setattr(clip.text_tower, "encode", lambda texts: encoded.extend(texts))
    word = "wing " * 99 + "wings"
    vocabulary = Vocabulary((("dog",), (word,)), "imagenet80")
    message = rf"the class name '{word[:40]}…' \(500 characters\) makes a sentence of \d+ tokens, and CLIP reads at most 77"
    with pytest.raises(ConfigError, match=message):
        vocabulary.embed(clip)
    assert not encoded, "long words are tried before any is encoded"


def test_a_word_too_long_in_another_template_than_was_tried(tiny_clip, openai_words, monkeypatch):
    clip = FrozenCLIP(tiny_clip, openai_words, source="test")
    monkeypatch.setattr("lexiseg.clip.vocabulary._try_long_words", lambda *_: None)
    with pytest.raises(ConfigError, match=r"the class name 'dog' \(3 characters\) .* at most 13"):
        Vocabulary.from_text("dog", ("{}", "a {}" + " a" * 12)).embed(clip)


def test_templates_are_somebodys_decision(clip):
    open_words = Vocabulary.from_text("dog, cat")
    assert open_words.templates is None
    with pytest.raises(ConfigError, match="says no templates to put its words in"):
        open_words.embed(clip)
    assert open_words.spoken_in("a {}") == Vocabulary.from_text("dog, cat", "a {}")
    given = Vocabulary.from_text("dog, cat", "single")
    assert given.spoken_in("a {}") is given


def test_braces_in_words_and_templates_are_letters(clip):
    braced = Vocabulary((("a {x}",),), "{} {y}").embed(clip)
    torch.testing.assert_close(braced.vectors, clip.text_tower.encode(["a {x} {y}"]))


def test_many_repeats_are_summed_up():
    with pytest.raises(ConfigError, match=r"named twice: w0, .* and 2 more; every class"):
        Vocabulary.from_names([f"w{i}" for i in range(10)] * 2)
