"""The list of known slips fits the code that it is about; ``scripts/check_mutants.py`` tries them."""

import ast
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SLIPS = runpy.run_path(str(ROOT / "scripts" / "mutants.py"))["SLIPS"]


def test_there_are_many_and_no_two_of_one_name():
    names = [slip.name for slip in SLIPS]
    assert len(names) == len(set(names)) >= 25
    assert len({(slip.file, slip.before, slip.after) for slip in SLIPS}) == len(names)


@pytest.mark.parametrize("slip", SLIPS, ids=lambda slip: slip.name)
def test_a_slip_fits_the_code(slip):
    """Its text stands there once, the slipped file is still Python and says something else, and its tests exist."""
    text = (ROOT / slip.file).read_text(encoding="utf-8")
    assert ast.dump(ast.parse(slip.applied(text))) != ast.dump(ast.parse(text))
    assert slip.tests
    for test in slip.tests:
        file, *names = test.split("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        names = [name.partition("[")[0] for name in names]
        assert set(names) <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test


def test_text_that_is_not_there_once_is_refused():
    slip = SLIPS[0]
    for text in ("", slip.before * 2):
        with pytest.raises(ValueError, match=r"expected once in src/.*, found [02] times"):
            slip.applied(text)
