"""Settings of methods as a command line says them."""

import re

import pytest

from lexiseg.cli.composing import read_value
from lexiseg.errors import ConfigError
from lexiseg.recipes.method_settings import assigned, own_settings


def test_values_are_read_as_a_configuration_reads_them():
    texts = [
        "sam_refine=true", "projections=[key, query]", "sigma=1e-3", "feature_side=null", "sam=a/b=c",
        "tg-clip.strength=0.5", "scales=[1]",
    ]  # fmt: skip
    assert assigned(texts, {"flip": "none"}, read_value) == {
        "flip": "none",
        "sam_refine": True,
        "projections": ["key", "query"],
        "sigma": 0.001,
        "feature_side": None,
        "sam": "a/b=c",
        "tg-clip": {"strength": 0.5},
        "scales": [1],
    }


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["halves"], "--set halves: expected KEY=VALUE or METHOD.KEY=VALUE, such as sam_refine=true"),
        (["=3"], "--set =3: expected KEY=VALUE"),
        (["tgclip.strength=3"], "--set tgclip.strength=3: no method 'tgclip'; did you mean tg-clip?"),
        (["flip=none"], "--set flip=none: flip is said twice; leave one out"),
        (["halves=true", "halves=true"], "halves is said twice"),
        (["halves=[1"], "--set halves=[1: the value cannot be read; while parsing a flow sequence"),
    ],
)
def test_what_cannot_be_read(texts, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        assigned(texts, {"flip": "horizontal"}, read_value)


def test_the_one_method_takes_what_is_for_all_and_its_own():
    given = {"strength": 0.2, "trident": {"halves": True}, "proxy": "folder"}
    assert own_settings(given, "trident") == {"strength": 0.2, "halves": True, "proxy": "folder"}
    assert own_settings({"strength": 0.2}, None) == {"strength": 0.2}
    with pytest.raises(
        ConfigError, match=r"--set trident.KEY=VALUE: the method is sclip; say --method trident"
    ):
        own_settings({"trident": {"halves": True}}, "sclip")
    with pytest.raises(
        ConfigError, match="--proxy is for .*, and --method names sclip; name one of these by --method"
    ):
        own_settings({"proxy": "folder"}, "sclip")
    with pytest.raises(
        ConfigError, match="--sam is for trident, and no method is named; name trident by --method"
    ):
        own_settings({"sam": "folder"}, None)
