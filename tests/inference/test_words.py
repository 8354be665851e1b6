"""One rule for who bears the seen penalty, whoever asks and in whatever words."""

import pytest

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.inference.words import seen_class_ids
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
