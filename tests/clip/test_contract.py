"""Nobody outside ``clip/`` asks of what class a tower is: the contract's flags say what it offers."""

import ast
from pathlib import Path

import lexiseg

SOURCE = Path(lexiseg.__file__).parent
TOWERS = {"VisionTower", "ConvNextTower", "SiglipTower", "TipsTower", "TransformerTower", "ExternalVision"}


def asks_for_a_class(tree: ast.AST) -> list[int]:
    """Lines that ask ``isinstance``, ``issubclass`` or ``type(...) is`` of a tower's class."""
    found = []
    for node in ast.walk(tree):
        asks = isinstance(node, ast.Compare) or (
            isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass")
        )
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} if asks else set()
        if names & TOWERS:
            found.append(node.lineno)
    return found


def test_no_isinstance_on_towers_outside_clip() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)}:{line}"
        for path in SOURCE.rglob("*.py")
        if path.relative_to(SOURCE).parts[0] != "clip"
        for line in asks_for_a_class(ast.parse(path.read_text()))
    ]
    assert not wrong, ", ".join(wrong)


def test_the_search_finds_what_it_looks_for() -> None:
    code = "if isinstance(t, ConvNextTower): pass\nx = type(t) is VisionTower\ny = ExternalVision(z)"
    assert asks_for_a_class(ast.parse(code)) == [1, 2]


def test_readings_and_models_name_no_colours_of_one_tower() -> None:
    for folder in ("dense",):
        for path in (SOURCE / folder).rglob("*.py"):
            assert "CLIP_MEAN" not in path.read_text(), path
