"""Imports point down only: a folder may use those below it, never its neighbours or what stands above."""

import ast
import re
from pathlib import Path

import lexiseg

SOURCE = Path(lexiseg.__file__).parent
LEVELS = {
    "types": 0,
    "plain_settings": 0,
    "constants": 0,
    "label_codes": 0,
    "segments": 0,
    "errors": 0,
    "storage": 0,
    "keys": 0,
    "hub": 0,
    "interruption": 0,
    "progress": 0,
    "lazy": 0,
    "command_parser": 0,
    "ops": 1,
    "drawing": 1,
    "clip": 2,
    "masks": 2,
    "losses": 2,
    "metrics": 2,
    "data": 2,
    "models": 3,
    "dense": 3,
    "checkpoints": 4,
    "inference": 5,
    "training": 6,
    "evaluation": 6,
    "analysis": 6,
    "export": 6,
    "serving": 6,
    "recipes": 7,
    "webpage": 8,
    "cli": 9,
}


def _imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lexiseg."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.ImportFrom) and node.module == "lexiseg":
            yield from (alias.name for alias in node.names if alias.name in LEVELS)
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("lexiseg."))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # imported when it is used
            yield from re.findall(r"^lexiseg\.(\w+)[\w.]*:\w+$", node.value)


def test_every_folder_has_a_level():
    found = {path.name for path in SOURCE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert found <= LEVELS.keys()


def test_imports_point_down():
    wrong = []
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).parts
        here = parts[0].removesuffix(".py")
        if here in ("__init__", "__main__"):
            continue
        for there in _imports(path):
            same = there == here and len(parts) > 1
            bottom = LEVELS[here] == LEVELS[there] == 0
            if not (same or bottom or LEVELS[there] < LEVELS[here]):
                wrong.append(f"{'/'.join(parts)} imports {there}")
    assert not wrong, "\n".join(wrong)


def test_the_root_has_no_logic():
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.ClassDef, ast.For, ast.While))]
