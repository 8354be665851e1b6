import pytest

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import ConfigError
from lexiseg.inference.background import with_background


def test_negative_words_become_class_zero():
    vocabulary = with_background(
        Vocabulary.from_text("dog; puppy, grass", "plain"), [" sky ", "Grass", "wall", "sky"]
    )
    assert vocabulary.words == (("background", "sky", "wall"), ("dog", "puppy"), ("grass",))
    assert vocabulary.templates == "plain"


def test_a_text_of_words_and_classes_that_share_a_word():
    words = Vocabulary((("bed",), ("sofa", "bed")), shared=True)
    made = with_background(words, "sky; cloud, bed")
    assert made == Vocabulary((("background", "sky", "cloud"), ("bed",), ("sofa", "bed")), shared=True)


def test_what_cannot_be_a_background():
    with pytest.raises(ConfigError, match="no word is left for the background"):
        with_background(Vocabulary.from_text("dog, sky"), ["sky", " "])
    with pytest.raises(ConfigError, match="'background' is one of the classes already"):
        with_background(Vocabulary.from_text("dog, background"), ["sky"])
