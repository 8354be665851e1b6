"""A run lies in a folder of its own."""

import pytest

from lexiseg.errors import ConfigError
from lexiseg.recipes.run_folder import require_output_dir, require_run_name


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
