"""A run's own account of itself is plain, whatever numbers it was given."""

import numpy as np
import yaml

from lexiseg.recipes.record import plain_record
from lexiseg.recipes.settings import CheckpointSettings, TrainerSettings


class Recipe:
    def __init__(self):
        self.share = np.float64(0.25)
        self.steps = (np.int64(3), np.bool_(True))
        self._own = 5


def test_numbers_of_numpy_become_pythons():
    record = plain_record(
        {"sizes": [np.int64(7), np.float32(0.5)], "on": np.bool_(False), "name": np.str_("a")}
    )
    assert record == {"sizes": [7, 0.5], "on": False, "name": "a"}
    assert [type(value) for value in (*record["sizes"], record["on"], record["name"])] == [
        int,
        float,
        bool,
        str,
    ]
    assert yaml.safe_load(yaml.safe_dump(record)) == record


def test_settings_and_objects():
    record = plain_record((CheckpointSettings(every_steps=11), TrainerSettings(max_steps=13), Recipe()))
    assert record[0] == {"every_steps": 11, "monitor": "val/harmonic"}
    assert record[1]["max_steps"] == 13
    assert record[2]["_target_"].endswith("Recipe")
    assert record[2]["share"] == 0.25
    assert record[2]["steps"] == [3, True]
    assert "_own" not in record[2]
    yaml.safe_dump(record)
