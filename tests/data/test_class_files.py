import pytest

from lexiseg.data.class_files import builtin_classes, parse_classes, read_class_file
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
        ([], "0 classes; expected 1 to 255"),
        ([f"c{i}" for i in range(256)], "256 classes"),
    ],
)
def test_bad_lists_are_refused(lines, message):
    with pytest.raises(DataError, match=message):
        parse_classes(lines, "classes.txt")


def test_missing_file_says_what_was_expected(tmp_path):
    with pytest.raises(DataError, match="one class a line, synonyms after semicolons"):
        read_class_file(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("voc", 20, "aeroplane", "tvmonitor"),
        ("context", 59, "aeroplane", "wood"),
        ("coco_stuff", 171, "person", "wood"),
        ("camvid", 11, "sky", "bicyclist"),
    ],
)
def test_shipped_lists(name, count, first, last):
    words = builtin_classes(name)
    assert (len(words), words[0][0], words[-1][0]) == (count, first, last)


def test_unknown_shipped_list():
    with pytest.raises(DataError, match="there are camvid, coco_stuff, context, voc"):
        builtin_classes("ade")
