import pytest

from lexiseg.data.class_files import SHARED_WORDS, builtin_classes, parse_classes, read_class_file
from lexiseg.errors import DataError


def test_names_synonyms_and_comments(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("# pets\ncat; kitten\n  traffic   light \n\n", encoding="utf-8-sig")
    assert read_class_file(path) == (("cat", "kitten"), ("traffic light",))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["cat", "", "dog"], "line 2: a class name is empty"),
        (["cat;", "dog"], "line 1: a class name is empty"),
        (["cat", "dog; cat"], "line 2: 'cat' already stands on line 1"),
        ([], "0 classes; expected 1 to 65534"),
        ([f"c{i}" for i in range(65535)], "65535 classes"),
    ],
)
def test_bad_lists_are_refused(lines, message):
    with pytest.raises(DataError, match=message):
        parse_classes(lines, "classes.txt")


def test_missing_file_says_what_was_expected(tmp_path):
    with pytest.raises(DataError, match="one class a line, synonyms after semicolons") as caught:
        read_class_file(tmp_path / "none.txt")
    assert str(caught.value).startswith(f"no file at {tmp_path / 'none.txt'}; expected")


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("voc", 20, "aeroplane", "tvmonitor"),
        ("context", 59, "aeroplane", "wood"),
        ("coco_stuff", 171, "person", "wood"),
        ("camvid", 11, "sky", "bicyclist"),
        ("ade20k", 150, "wall", "flag"),
        ("cityscapes", 19, "road", "bicycle"),
    ],
)
def test_shipped_lists(name, count, first, last):
    words = builtin_classes(name)
    assert (len(words), words[0][0], words[-1][0]) == (count, first, last)
    assert all(len(group) == 1 for group in words)


BENCHMARK_WORDS = {
    "voc21": (21, 56),
    "voc20": (20, 30),
    "context60": (60, 60),
    "context59": (59, 59),
    "coco_object": (81, 113),
    "coco_stuff171": (171, 171),
    "ade20k150": (150, 150),
    "cityscapes19": (19, 19),
    "voc21_clearclip": (21, 21),
    "voc20_clearclip": (20, 20),
    "coco_object_clearclip": (81, 81),
    "voc21_groupvit": (21, 21),
    "context60_groupvit": (60, 60),
    "voc21_proxyclip": (21, 46),
    "voc20_proxyclip": (20, 20),
    "coco_object_proxyclip": (81, 97),
}


@pytest.mark.parametrize("name", BENCHMARK_WORDS)
def test_words_of_the_benchmarks(name):
    words = builtin_classes(name)
    assert (len(words), sum(map(len, words))) == BENCHMARK_WORDS[name]


@pytest.mark.parametrize(
    ("name", "names"),
    [("coco_stuff171", "coco_stuff"), ("ade20k150", "ade20k"), ("cityscapes19", "cityscapes")],
)
def test_words_stand_in_the_order_of_the_names(name, names):
    words = [group[0] for group in builtin_classes(name)]
    assert words == [group[0].replace(" ", "") for group in builtin_classes(names)]


def test_words_of_coco_object_stand_in_the_order_of_the_names():
    things = [group[0] for group in builtin_classes("coco_stuff")[:80]]
    for name in ("coco_object", "coco_object_clearclip", "coco_object_proxyclip"):
        assert [group[0] for group in builtin_classes(name)[1:]] == things


def test_only_published_lists_share_a_word():
    for name in BENCHMARK_WORDS:
        flat = [word for group in builtin_classes(name) for word in group]
        shared = {word for word in flat if flat.count(word) > 1}
        assert shared == ({"bed"} if name in SHARED_WORDS else set()), name


def test_shared_words_are_allowed_across_classes_only():
    assert parse_classes(["sky; bed", "bed"], "x", shared=True) == (("sky", "bed"), ("bed",))
    with pytest.raises(DataError, match="line 1: 'bed' already stands on line 1"):
        parse_classes(["bed; bed"], "x", shared=True)


def test_unknown_shipped_list():
    with pytest.raises(
        DataError, match=r"named 'ade' is shipped; there are ade20k, ade20k150, camvid, cityscapes"
    ):
        builtin_classes("ade")
