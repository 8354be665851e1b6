import json

import numpy as np
import pytest
from PIL import Image

from lexiseg.errors import ConfigError
from lexiseg.webpage.desk import Desk, Question, Sitting
from lexiseg.webpage.examples import draw_examples
from lexiseg.webpage.files import write_answer
from webpage_cases import Colours, halves


def test_the_files_are_of_the_answer_at_the_photographs_size(tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    desk, sitting = Desk(Colours()), Sitting()
    sitting.show(halves(), "halves")
    with pytest.raises(ConfigError, match="there is no answer yet"):
        write_answer(sitting, tmp_path / "out")
    desk.ask(sitting, [Question("red, green", "one")])
    write_answer(sitting, tmp_path / "out")
    answer = desk.ask(sitting, [Question("red, blue", "one")])[0]
    labels, overlay, numbers, coco = write_answer(sitting, tmp_path / "out")
    with Image.open(labels) as ids, Image.open(overlay) as drawn:
        np.testing.assert_array_equal(np.asarray(ids), answer.result.labels)
        assert drawn.height >= 31
    assert [found["name"] for found in json.loads(numbers.read_text())["found"]] == ["blue", "red"]
    told = json.loads(coco.read_text())
    assert [category["name"] for category in told["categories"]] == ["red", "blue"]
    assert {one["area"] for one in told["annotations"]} == set(answer.result.counts.values())
    assert (told["images"][0]["height"], told["images"][0]["width"]) == (31, 47)
    assert coco.name == "halves_coco.json"
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_examples_are_scenes_with_the_words_of_what_they_show(tmp_path):
    examples = draw_examples(tmp_path)
    assert len({example.path for example in examples}) == len(examples) > 2
    for example in examples:
        with Image.open(example.path) as scene:
            assert scene.size == (256, 192)
        assert len(example.words.split(", ")) >= 3
