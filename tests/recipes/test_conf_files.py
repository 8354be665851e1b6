"""What may be chosen is read off the files, and whatever else is asked for is answered with it."""

import pytest

from lexiseg.errors import ConfigError
from lexiseg.recipes.conf_files import (
    benchmark_names,
    checked_choices,
    choices,
    groups,
    read_conf,
    read_root,
    require_benchmarks,
)


def test_a_command_has_its_own_groups_and_those_that_are_shared():
    assert "data" in groups("train")
    assert "mask_data" not in groups("train")
    assert "toy" in choices("train", "experiment")
    assert choices("pixelclip", "experiment") != choices("train", "experiment")
    assert read_root("benchmark/toy") == {}


def test_a_command_s_name_may_stand_before_a_choice():
    typed = ["experiment=pixelclip/toy", "model.clusters=3", "logger=null"]
    assert checked_choices("pixelclip", typed) == ["experiment=toy", *typed[1:]]


def test_a_clip_may_be_a_place(tmp_path, monkeypatch):
    place = ["clip=file", "clip.source='/it\\'s/ViT-B-16.pt'"]
    assert checked_choices("train", ["clip=/it's/ViT-B-16.pt"]) == place
    assert checked_choices("benchmark", ["clip='org/name'"]) == ["clip=file", "clip.source='org/name'"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pt").touch()
    assert checked_choices("pixelclip", ["clip=weights.pt"]) == ["clip=file", "clip.source='weights.pt'"]
    assert checked_choices("train", ["clip=toy"]) == ["clip=toy"]
    with pytest.raises(
        ConfigError, match="clip=toyy: .* choose from .* vit_l14, or give a path or a hub name"
    ):
        checked_choices("train", ["clip=toyy"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("nonsense=1", "has neither a group nor a key of that name; it has clip"),
        (
            "data=cocostuff",
            r"`lexiseg train` has no such data; choose from ade20k.*; did you mean coco_stuff\?$",
        ),
        ("model=sann", r"no such model; choose from .*; did you mean san\?$"),
        ("experiment=toyy", r"; did you mean toy\?$"),
        ("data=fodler", r"; did you mean folder\?$"),
        ("clip=ViT-B-61", r", or give a path or a hub name; did you mean vit_b16\?$"),
        ("modle=san", r"it has clip, .*; did you mean model\?$"),
        ("data=zzzzz", "toy_mixed, voc$"),
    ],
)
def test_mistakes_are_answered_with_what_there_is(override, message):
    with pytest.raises(ConfigError, match=message):
        checked_choices("train", [override])


def test_benchmarks_by_name():
    assert require_benchmarks("toy") == ["toy"]
    assert require_benchmarks(["voc21", "toy"]) == ["voc21", "toy"]
    assert "toy" in benchmark_names()
    for names in ("toyy", ["toy", "toyy"], []):
        with pytest.raises(ConfigError, match="no benchmark '(toyy)?'; choose from ade20k") as refused:
            require_benchmarks(names)
        assert str(refused.value).endswith("; did you mean toy?") == bool(names)


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "torn.yaml").write_text("a: [1")
    (tmp_path / "list.yaml").write_text("- a")
    with pytest.raises(ConfigError, match=r"torn.yaml is no YAML \(.*\); mend that line"):
        read_conf(tmp_path / "torn.yaml")
    with pytest.raises(ConfigError, match="expected keys with values"):
        read_conf(tmp_path / "list.yaml")
