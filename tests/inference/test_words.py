"""One rule for who bears the seen penalty, whoever asks and in whatever words."""

import pytest

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.inference.words import known_class_ids, known_words, seen_class_ids, tell_unknown
from lexiseg.types import ClassSplit

TRAINED = ClassSplit("own", ("dog", "grass", "red sofa", "sky", "lamp"), ("sky", "lamp"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("dog, sky, grass", (0, 2)),
        ("puppy; dog, sky; heaven, zebra", (0,)),
        ("DOG, Red Sofa , Sky", (0, 1)),
        ("zebra, sky", ()),
        ("background; wall; grass, dog", (0, 1)),
    ],
    ids=["names", "synonyms", "any case", "none of them", "a background of trained words"],
)
def test_words_that_training_had_labels_for(words, expected):
    assert seen_class_ids(Vocabulary.from_text(words), TRAINED) == expected


@pytest.mark.parametrize(
    "trained",
    [None, ClassSplit("all", TRAINED.classes), ClassSplit("all", TRAINED.classes, (), "supervised")],
)
def test_nobody_where_nothing_is_unseen(trained):
    assert seen_class_ids(Vocabulary.from_text("dog, sky"), trained) == ()


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        (TRAINED, (0, 1, 2)),
        (ClassSplit("all", TRAINED.classes, (), "supervised"), ()),
        (ClassSplit("other", ("dog", "zebra"), ("zebra",)), ()),
        (ClassSplit("other order", tuple(reversed(TRAINED.classes)), TRAINED.unseen), ()),
        (ClassSplit("other group", TRAINED.classes, ("dog",)), (0, 1, 2)),
    ],
    ids=["its own", "no unseen group", "other classes", "other order", "another unseen group"],
)
def test_a_data_set_judged_as_a_whole(judged, expected):
    assert seen_class_ids(Vocabulary.from_names(judged.classes), TRAINED, judged) == expected


class KnowsColours:
    source = "small"
    known_words = frozenset({"red", "blue", "photo", "scene"})
    """Those of prompts are no names."""

    def unknown_words(self, names):
        return [name for name in names if name not in self.known_words]


def test_what_a_small_clip_has_never_read():
    clip = KnowsColours()
    assert tell_unknown(clip, Vocabulary.from_text("red; blue")) == ""
    assert tell_unknown(clip, Vocabulary.from_text("red; zebra, [gnu]")) == (
        "the CLIP 'small' has never read zebra, [gnu]; its answer for that means nothing. Ask for names made of what it knows "
        "(blue, red), or take a CLIP that has read more, such as openai/clip-vit-base-patch16"
    )
    many = tell_unknown(clip, Vocabulary.from_text(", ".join(["z" * 50, *map(str, range(20))])))
    assert "never read blue Gnu (gnu);" in tell_unknown(clip, Vocabulary.from_text("blue Gnu"))
    assert f"{'z' * 40}…, 0, 1" in many
    assert "10, and 9 more;" in many


def test_synonyms_of_training_are_known_words():
    synonyms = {"grass": ("lawn", "Meadow"), "sky": ("heaven",)}
    asked = Vocabulary.from_text("turf; meadow, heaven, Dog, lamp")
    assert known_words(asked, TRAINED, synonyms) == ("meadow", "Dog")
    assert known_class_ids(asked, TRAINED, synonyms) == (0, 2)
    assert seen_class_ids(asked, TRAINED, synonyms=synonyms) == (0, 2)
    assert known_words(asked, TRAINED) == ("Dog",)
    assert known_words(asked, None) == ()
