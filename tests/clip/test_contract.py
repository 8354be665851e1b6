"""Every tower keeps the contract, and nobody outside ``clip/`` asks of what class a tower is.

A new family of towers adds an entry to ``family_cases.CASES`` and passes the tests here, in ``test_families.py`` and in
``dense/test_families.py``.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import ViTConfig, ViTModel

import convnext_files
import family_cases
import groupvit_files
import lexiseg
import resnet_files
import tiny_sam3
from lexiseg.clip.families import FAMILIES, family_of
from lexiseg.clip.formats.open_clip import convnext_from_open_clip
from lexiseg.clip.formats.openai_resnet import resnet_from_openai
from lexiseg.clip.towers.external import ExternalVision
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.types import BlockTower, ConceptTower, GroupTower, ImageTower, StageTower
from openai_files import openai_state

SOURCE = Path(lexiseg.__file__).parent
TOWERS = {
    node.name
    for path in (SOURCE / "clip" / "towers").glob("*.py")
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.ClassDef) and node.name.endswith(("Tower", "Vision"))
}
MEMBERS = {name for name in dir(ImageTower) if not name.startswith("_")} | ImageTower.__annotations__.keys()
BLOCK_MEMBERS = {
    name for name in dir(BlockTower) if not name.startswith("_")
} | BlockTower.__annotations__.keys()
STAGE_MEMBERS = {
    name for name in dir(StageTower) if not name.startswith("_")
} | StageTower.__annotations__.keys()
GROUP_MEMBERS = {
    name for name in dir(GroupTower) if not name.startswith("_")
} | GroupTower.__annotations__.keys()
CONCEPT_MEMBERS = {
    name for name in dir(ConceptTower) if not name.startswith("_")
} | ConceptTower.__annotations__.keys()
KINDS = ("clip", *family_cases.CASES, "convnext_clip", "resnet_clip", "groupvit", "sam3", "external")


@pytest.fixture(params=KINDS)
def tower(request, tiny_clip) -> ImageTower:
    if request.param == "external":
        size = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 38}
        return ExternalVision(ViTModel(ViTConfig(**size, image_size=40, patch_size=8)).eval())
    if request.param == "clip":
        return VisionTower(tiny_clip)
    if request.param == "convnext_clip":
        state = convnext_files.convnext_state(openai_state(tiny_clip))
        model = convnext_from_open_clip(state, text_heads=2, image_size=64)
    elif request.param == "resnet_clip":
        state = resnet_files.resnet_state(openai_state(tiny_clip))
        model = resnet_from_openai(state, vision_heads=resnet_files.HEADS, text_heads=2)
    elif request.param == "groupvit":
        model = groupvit_files.groupvit()
    elif request.param == "sam3":
        model = tiny_sam3.tiny_sam3()
    else:
        model = family_cases.CASES[request.param].build()
    family = family_of(model)
    return family.image_tower(model, colors=family.colors)


def test_every_family_is_looked_at() -> None:
    unseen = FAMILIES.keys() - set(KINDS)
    assert not unseen, f"add an entry to CASES in tests/family_cases.py for {', '.join(unseen)}"
    assert set(KINDS) - {"external"} == FAMILIES.keys()


@torch.no_grad()
def test_a_tower_keeps_its_promises(tower) -> None:
    missing = [
        name for name in MEMBERS | (BLOCK_MEMBERS if tower.has_blocks else set()) if not hasattr(tower, name)
    ]
    assert not missing
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert all(
        len(color) == 3 and all(0 <= value <= 1 for value in color) for color in (tower.mean, tower.std)
    )
    fixed = tower.image_size // tower.patch_size  # of a tower that reads squares of one side
    rows, columns = (fixed, fixed) if tower.own_reading == "sam3" else (3, 5)
    batch = torch.randn(2, 3, rows * tower.patch_size, columns * tower.patch_size)
    assert tower.grid(batch) == (rows, columns)
    assert tower.dense_features(batch).shape == (2, tower.embed_dim, rows, columns)
    assert tower(batch).shape == (2, tower.embed_dim)
    *_, last = tower.block_tokens(batch)
    assert last.shape[:2] == (2, rows * columns)
    if tower.kind in ("ConvNeXt", "ResNet"):
        assert [name for name in STAGE_MEMBERS if not hasattr(tower, name)] == []
        maps = tower.stage_maps(batch)
        assert [tuple(each.shape[1:]) for each in maps] == [
            (width, 3 * 2**finer, 5 * 2**finer)
            for width, finer in zip(tower.stage_widths, (3, 2, 1, 0), strict=True)
        ]
        regions = torch.zeros(2, 7, 3, 5, dtype=torch.bool)
        assert tower.pool_regions(maps[-1], regions).isfinite().all()
        assert "logit_scale" not in tower.state_dict()
    if tower.own_reading == "groupvit":
        assert [name for name in GROUP_MEMBERS if not hasattr(tower, name)] == []
        assert tower.groups(batch).maps.shape[2:] == (3, 5)
    if tower.own_reading == "sam3":
        assert [name for name in CONCEPT_MEMBERS if not hasattr(tower, name)] == []
    if tower.takes_prompts:
        assert tower.has_blocks
        assert tower.has_class_token
        assert tower.prefix_tokens == 1
    if tower.has_blocks:
        tokens = tower.embed(batch)
        assert tokens.shape == (2, tower.prefix_tokens + 15, tower.width)
        assert len(list(tower.block_tokens(batch))) == tower.depth


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
    assert {"VisionTower", "ConvNextTower", "SiglipTower", "TipsTower", "ExternalVision"} <= TOWERS


def test_readings_name_no_colours_of_one_tower() -> None:
    for path in (SOURCE / "dense").rglob("*.py"):
        assert "CLIP_MEAN" not in path.read_text(), path


def test_transformers_is_imported_only_where_weights_are_asked_for() -> None:
    """It costs seconds, and most commands start without a tower."""
    code = "import sys, lexiseg.clip.loading, lexiseg.clip.saving, lexiseg.dense.methods; print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
