"""Words of captions: of a list, longest first, singular or plural; or nouns by a tagger."""

import sys
from types import SimpleNamespace

import pytest

from lexiseg.data.caption_words import ListedWords, TaggedNouns, singular
from lexiseg.data.word_lists import word_groups
from lexiseg.errors import ConfigError, DataError

GROUPS = (("circle",), ("red circle", "scarlet disc"), ("person",), ("T-shirt",), ("berry",))


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("Two RED circles, and a circle.", ("red circle", "circle")),
        ("a red, round circle", ("circle",)),
        ("scarlet discs on a shelf", ("red circle",)),
        ("people in t-shirts, a person", ("person", "T-shirt")),
        ("berries; berry", ("berry",)),
        ("encircled", ()),
        ("", ()),
    ],
)
def test_listed_words(caption, words):
    assert ListedWords(GROUPS)(caption) == words


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("two buses and a tree and tomatoes", ("bus", "trees", "tomato")),
        ("a bus, trees; gases", ("bus", "trees", "gas")),
        ("cookies in a movie, a cookie, movies", ("cookie", "movie")),
        ("houses, horses and vases", ("house", "horse", "vase")),
        ("one man, women", ("men", "woman")),
        ("glass over glasses", ("glass", "glasses")),
        ("a pair of scissors, the sky, skies", ("scissors", "sky")),
    ],
)
def test_plurals_of_listed_words(caption, words):
    listed = [
        "bus",
        "trees",
        "tomato",
        "gas",
        "cookie",
        "movie",
        "house",
        "horse",
        "vase",
        "men",
        "woman",
        "glass",
        "glasses",
        "scissors",
        "sky",
    ]
    assert ListedWords([(word,) for word in listed])(caption) == words


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("dogs", "dog"),
        ("boxes", "box"),
        ("grass", "grass"),
        ("dishes", "dish"),
        ("men", "man"),
        ("bus", "bus"),
        ("cities", "city"),
        ("ties", "tie"),
        ("sky", "sky"),
        ("as", "as"),
    ],
)
def test_singular_by_the_ending(plural, one):
    assert singular(plural) == one


@pytest.fixture
def nltk(monkeypatch):
    """Stands for the library: its tagger knows four words."""
    tags = {"dogs": "NNS", "Grass": "NN", "run": "VBP", "Rome": "NNP"}
    module = SimpleNamespace(
        word_tokenize=str.split, pos_tag=lambda tokens: [(each, tags.get(each, "DT")) for each in tokens]
    )
    monkeypatch.setitem(sys.modules, "nltk", module)
    return module


def test_nouns_of_the_tagger(nltk):
    assert TaggedNouns()("The dogs run over Grass of Rome dogs") == ("dog", "grass")


def test_nouns_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk", None)
    with pytest.raises(ConfigError, match=r"pip install 'lexiseg\[captions\]', or name a word list"):
        TaggedNouns()


def test_nouns_without_the_taggers_data(nltk):
    def missing(_):
        raise LookupError("Resource punkt_tab not found")

    nltk.word_tokenize = missing
    with pytest.raises(ConfigError, match="python -m nltk.downloader"):
        TaggedNouns()("a dog")


def test_word_lists_by_name(tmp_path):
    (tmp_path / "mine.txt").write_text("cat; kitten\nsofa\n")
    assert word_groups(tmp_path / "mine.txt") == (("cat", "kitten"), ("sofa",))
    assert word_groups(["cat", "sofa"]) == (("cat",), ("sofa",))
    assert ("red circle",) in word_groups("toy")
    assert len(word_groups("coco_stuff")) == 171
    with pytest.raises(DataError, match="no class list named 'nothing'"):
        word_groups("nothing")
    with pytest.raises(ConfigError, match="pictures.words: expected"):
        word_groups([], "pictures.words")
