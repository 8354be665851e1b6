"""Recipes are functions over dataclasses: no flags and no configuration framework reach them."""

import ast
from pathlib import Path

import lexiseg.recipes

FORBIDDEN = {"argparse", "hydra", "omegaconf"}


def test_no_recipe_knows_flags_or_configurations():
    wrong = []
    for path in sorted(Path(lexiseg.recipes.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            wrong += [f"{path.name} imports {name}" for name in names if name.split(".")[0] in FORBIDDEN]
    assert not wrong, "\n".join(wrong)
