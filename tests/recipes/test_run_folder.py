"""A run lies in a folder of its own."""

import pytest

from lexiseg.errors import ConfigError, LexisegError
from lexiseg.recipes.run_folder import RunFolder, differences, require_output_dir, require_run_name


@pytest.mark.parametrize("name", ["mine", "tables/first", "a..b", "ünlü"])
def test_names_of_runs(name):
    require_run_name(name)


@pytest.mark.parametrize("name", ["", ".", "./", "..", "../../x", "a/../../b", "/tmp/x", None, 7])
def test_names_that_lead_elsewhere(name):
    with pytest.raises(
        ConfigError, match=r"name: expected the name of a run's own folder.*output_dir=FOLDER"
    ):
        require_run_name(name)


@pytest.mark.parametrize("folder", ["", "  ", None])
def test_no_folder(folder):
    with pytest.raises(ConfigError, match="output_dir: expected a folder"):
        require_output_dir(folder)


def test_a_key_of_the_users_own_that_is_gone():
    before = {"train": {"id_map": {0: 0, 7: 1}, "old_setting": 3}}
    now = {"train": {"id_map": {0: 0}}}
    assert differences(before, now, "data") == ["data.train.id_map.7: 1 there, absent now"]
    assert differences(now, before, "data")[0] == "data.train.id_map.7: absent there, 1 now"
    assert differences(before, before, "data") == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(LexisegError, match="cannot write .*out.*choose another folder"):
        RunFolder(tmp_path / "out", "auto", {}).open(None, 0)
