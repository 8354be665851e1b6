"""Help answers from text alone: no library is imported for it, whatever the command."""

import json
import subprocess
import sys
from typing import get_args

import pytest
from PIL import Image

from lexiseg.cli.main import FLAG_COMMANDS, HYDRA_COMMANDS
from lexiseg.cli.parsers.analyze import ESTIMATORS
from lexiseg.cli.parsers.masks import MASKS_SUFFIX
from lexiseg.data.datasets.catalogue import CATALOGUE
from lexiseg.data.datasets.files import LabelledFiles
from lexiseg.dense.base import DenseReading
from lexiseg.dense.names import DENSE_ENCODERS
from lexiseg.lazy import LazyRegistry
from lexiseg.masks.store import SUFFIX
from lexiseg.ops.centered_kernel_alignment import Estimator
from mask_cases import photograph

HEAVY = (
    "torch",
    "transformers",
    "pytorch_lightning",
    "numpy",
    "PIL",
    "hydra",
    "omegaconf",
    "rich",
    "scipy",
    "skimage",
)
NESTED = (
    *(("data", name) for name in ("prepare", "check")),
    *(("masks", name) for name in ("build", "pairs", "show")),
    ("bank", "build"),
    *(("analyze", name) for name in ("cka", "patches", "attention")),
)
COMMANDS = ((), *((name,) for name in (*HYDRA_COMMANDS, *FLAG_COMMANDS)), *NESTED)

PROBE = """
import io, json, sys
from contextlib import redirect_stdout
from lexiseg.cli.main import main
found = {}
for command in json.loads(sys.argv[1]):
    told = io.StringIO()
    with redirect_stdout(told):
        try:
            main([*command, "--help"])
        except SystemExit as end:
            assert not end.code
    loaded = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
    found[" ".join(command)] = [len(told.getvalue().splitlines()), loaded]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    """Lines of every help, and which heavy libraries had been imported by then; all in one fresh process."""
    command = [sys.executable, "-c", PROBE, json.dumps(COMMANDS), json.dumps(HEAVY)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("command", [" ".join(words) for words in COMMANDS])
def test_help_imports_no_library(found, command):
    lines, loaded = found[command]
    assert loaded == []
    assert lines > 8


def test_superpixels_are_made_without_torch(tmp_path):
    Image.fromarray(photograph(23, 31, 0)).save(tmp_path / "a.png")
    program = (
        "import sys; from lexiseg.cli.main import main; "
        f"assert main(['masks', 'build', {str(tmp_path)!r}, '--workers', '1']) == 0; "
        "print(','.join(name for name in ('torch', 'transformers', 'hydra') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    assert (tmp_path / f"a.png{SUFFIX}").is_file()


def test_what_the_parsers_say_is_what_is_there():
    assert get_args(Estimator) == ESTIMATORS
    assert MASKS_SUFFIX == SUFFIX
    for method in DENSE_ENCODERS.values():
        assert issubclass(method, DenseReading)
    for name, entry in CATALOGUE.items():
        assert issubclass(entry.kind, LabelledFiles), name
        assert set(entry.counts) <= set(entry.partitions)


def test_names_of_a_registry_need_no_module():
    registry = LazyRegistry({"there": "json:loads", "absent": "no_such_module:Thing"})
    assert list(registry) == ["there", "absent"]
    assert "absent" in registry
    assert "other" not in registry
    assert registry["there"] is json.loads
    with pytest.raises(ModuleNotFoundError):
        registry["absent"]
