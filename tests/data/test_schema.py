import numpy as np
import pytest

from lexiseg.data.schema import LabelSchema, format_ids, plain_schema, zero_background_schema
from lexiseg.errors import ConfigError, DataError


def ids(*values):
    return np.array([values], dtype=np.uint8)


def test_reduce_zero_label_is_a_map():
    schema = LabelSchema(2, {1: 0, 2: 1}, background_id=0)
    assert schema.apply(ids(0, 1, 2, 255), "x").tolist() == [[255, 0, 1, 255]]
    assert schema.allowed_ids == (0, 1, 2, 255)


@pytest.mark.parametrize("policy", ["class", "threshold"])
def test_background_as_class(policy):
    names, schema = zero_background_schema(["cat", "dog"], policy)
    assert names == ("background", "cat", "dog")
    assert schema.apply(ids(0, 1, 2, 255), "x").tolist() == [[0, 1, 2, 255]]
    assert schema.threshold_class == (0 if policy == "threshold" else None)


def test_background_ignored():
    names, schema = zero_background_schema(["cat", "dog"], "ignore")
    assert names == ("cat", "dog")
    assert schema.apply(ids(0, 2), "x").tolist() == [[255, 1]]


def test_masks_coded_0_and_255():
    schema = LabelSchema(2, {0: 0, 255: 1}, ignore_ids=())
    assert schema.apply(ids(0, 255), "x").tolist() == [[0, 1]]


def test_undeclared_id_names_file_found_and_allowed():
    with pytest.raises(DataError) as caught:
        plain_schema(3).apply(ids(0, 2, 7, 9, 255), "masks/a.png")
    message = str(caught.value)
    assert "masks/a.png: ids [7, 9] are not in the schema" in message
    assert "found [0, 2, 7, 9, 255], allowed 0-2, 255" in message
    assert "add them to id_map" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 2, "id_map": {0: 0, 1: 2}}, "sends raw id 1 to class 2, but class ids are 0 to 1"),
        (
            {"num_classes": 2, "id_map": {0: 0, 1: 1}, "background_id": 0},
            "raw id 0 is declared both ignored and class 0",
        ),
        ({"num_classes": 2, "id_map": {0: 0}}, r"no raw id stands for class ids \[1\]"),
        ({"num_classes": 1, "id_map": {65536: 0}}, "id_map names raw id 65536; a label map holds 0 to 65535"),
        ({"num_classes": 1, "id_map": {0: 0}, "background": "none"}, "background is 'none'; expected"),
        ({"num_classes": 1, "id_map": {0: 0}, "background": "threshold"}, "needs background_id"),
        (
            {"num_classes": 1, "id_map": {0: 0}, "background": "class", "background_id": 5},
            "id_map has no class for it",
        ),
    ],
)
def test_contradictions_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        LabelSchema(**arguments)


def test_description_lists_every_raw_id():
    schema = LabelSchema(2, {0: 0, 4: 0, 3: 1}, ignore_ids=(9, 255))
    assert schema.describe(["a", "b"]) == [("0, 4", "0 a"), ("3", "1 b"), ("9, 255", "ignored")]


def test_format_ids():
    assert format_ids([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"
