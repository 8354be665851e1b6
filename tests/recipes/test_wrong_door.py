"""Flags where a command takes key=value, and the other way round."""

import pytest

from lexiseg.cli.main import main
from lexiseg.errors import ConfigError
from lexiseg.recipes.wrong_door import require_flags, require_overrides


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("train", ["--experiment", "toy"], "--experiment: `lexiseg train` takes key=value and no flags; say experiment=toy"),
        ("train", ["seed=1", "--experiment=toy"], "say experiment=toy, and see `lexiseg train --help`"),
        ("train", ["--output-dir", "seed=1"], "say output_dir=…"),
        ("eval", ["--checkpoint", "a.ckpt"], "say checkpoint=a.ckpt"),
        ("sweep", ["-m"], "say m=…"),
    ],
)  # fmt: skip
def test_flags_given_to_a_command_of_overrides(command, arguments, said, capsys):
    with pytest.raises(ConfigError) as caught:
        require_overrides(command, arguments)
    assert said in str(caught.value)
    assert main([command, *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["photo.jpg", "checkpoint=runs/a/best.ckpt"], "say --checkpoint runs/a/best.ckpt, and see"),
        (["classes=dog, grass"], "`lexiseg predict` takes flags and no key=value; say --classes dog, grass"),
        (["no_overlay="], "say --no-overlay …"),
    ],
)
def test_overrides_given_to_a_command_of_flags(arguments, said, capsys):
    with pytest.raises(ConfigError) as caught:
        require_flags("predict", arguments)
    assert said in str(caught.value)
    assert main(["predict", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_what_is_right_passes(tmp_path, monkeypatch):
    require_overrides("train", ["--config", "experiment=toy", "a.b=-1", "~a"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b").mkdir()
    require_flags("predict", ["a=b", "x=1.png", "--classes", "a=b", "photos/y=3/*.jpg"])
