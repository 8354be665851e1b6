"""A key that a configuration lacks is told with the nearest that it has."""

import pytest

from lexiseg.cli.composing import compose_config
from lexiseg.errors import ConfigError
from lexiseg.recipes.conf_errors import lacking_key, tell_near_key, told_of_hydra

CONFIG = {"trainer": {"max_steps": 3, "devices": 1}, "seed": 0, "empty": {}}


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("trainer.max_step", "trainer.max_step: no such key; did you mean trainer.max_steps?"),
        ("trainer.zzz", "trainer.zzz: no such key; trainer has max_steps, devices"),
        ("trainr.max_steps", "trainr: no such key; did you mean trainer?"),
        ("zzz", "zzz: no such key; this command has trainer, seed, empty"),
        ("seed.x", "seed.x: no such key, seed is a value"),
    ],
)
def test_near_keys(key, told):
    assert tell_near_key(key, CONFIG) == told


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("trainer.max_step=3", "did you mean trainer.max_steps?"),
        ("optim.lrr=3", "did you mean optim.lr?"),
        ("data.val.lenght=3", "did you mean data.val.length?"),
    ],
)
def test_no_advice_to_add_a_key_that_nothing_reads(override, told):
    with pytest.raises(ConfigError) as caught:
        compose_config("train", ["experiment=toy", override])
    assert told in str(caught.value)
    assert "+" not in str(caught.value)
    assert "See `lexiseg train --help`" in str(caught.value)


def test_other_words_of_hydra():
    assert lacking_key("mismatched input '='") == ""
    assert told_of_hydra("One.\n  full_key: a\n Two.\n") == "One. Two"
