import pytest

from lexiseg.errors import ConfigError
from lexiseg.serving.limits import Limits


def test_changed_limits_keep_the_others():
    changed = Limits().changed(["pixels=700", "seconds=2.5"])
    assert (changed.pixels, changed.seconds) == (700, 2.5)
    assert changed.bytes == Limits().bytes


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("pixel=7", "did you mean pixels"),
        ("pixels", "expected NAME=NUMBER"),
        ("pixels=many", "expected a whole number, got 'many'"),
        ("seconds=soon", "expected a number, got 'soon'"),
        ("batch=0", "above 0"),
        ("seconds=nan", "above 0"),
        ("cache_bytes=-1", "from 0"),
    ],
)
def test_what_is_no_limit(text, told):
    with pytest.raises(ConfigError, match=told):
        Limits().changed([text])


def test_nothing_need_be_kept():
    assert Limits().changed(["cache_bytes=0"]).cache_bytes == 0
