"""What methods want, by their names."""

import pytest

from lexiseg.dense.wants import left_wanting, require_taken, wants_masks, wants_sam, wants_second_model
from lexiseg.errors import ConfigError


def test_by_name():
    assert wants_masks("corrclip")
    assert not any(map(wants_masks, ("proxyclip", "sclip", "tg-clip")))
    assert wants_second_model("corrclip")
    assert wants_second_model("proxyclip")
    assert not any(map(wants_second_model, ("sclip", "tg-clip")))
    assert wants_sam("trident")
    assert not any(map(wants_sam, ("proxyclip", "corrclip", "tg-clip")))


def test_told_in_one_sentence():
    told = {
        (False, False): "it needs a second vision model and masks; name them by --proxy and --masks",
        (False, True): "it needs a second vision model; name one by --proxy",
        (True, False): "it needs masks; name them by --masks",
        (True, True): "",
    }
    for (proxy, masks), expected in told.items():
        assert left_wanting("corrclip", proxy=proxy, masks=masks) == expected
    assert left_wanting("sclip", proxy=False, masks=False) == ""
    assert left_wanting("trident", proxy=True, masks=False) == "it needs a SAM; name one by --sam"
    assert left_wanting("trident", proxy=True, masks=False, sam=True) == ""


def test_what_no_method_takes_is_refused():
    require_taken({"proxy": "folder", "sam": None, "masks": None}, ("sclip", "trident"), "--methods")
    with pytest.raises(
        ConfigError, match=r"--sam is for trident, and --methods names sclip, proxyclip; name trident"
    ):
        require_taken({"proxy": "folder", "sam": "folder"}, ("sclip", "proxyclip"), "--methods")
    with pytest.raises(
        ConfigError,
        match=r"--masks is for lavg or corrclip, and no method is named; name one of these by --method",
    ):
        require_taken({"masks": "folder"}, (), "--method")
    with pytest.raises(
        ConfigError, match=r"--proxy is for proxyclip, corrclip or trident, and --method names sclip"
    ):
        require_taken({"proxy": "folder"}, ("sclip",), "--method")
