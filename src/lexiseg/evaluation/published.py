"""What papers print for training-free methods, to stand beside what was measured."""

import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import yaml

from lexiseg.dense.registry import OWN_READINGS
from lexiseg.types import ImageTower

_SIZE = {"patch_size": 16, "image_size": 224, "embed_dim": 512, "depth": 12, "width": 768, "num_heads": 12}
"""Of the tower that the numbers are of, OpenAI's CLIP ViT-B/16."""


@dataclass(frozen=True)
class Published:
    """A number of a paper.

    Attributes:
        miou: Mean IoU as a fraction.
        source: Where it is printed.
    """

    miou: float
    source: str


def published_miou(method: str, benchmark: str, tower: ImageTower) -> Published | None:
    """What is printed of a method on a benchmark; None where nothing is, or for another kind or size of tower.

    Weights are not compared: a MetaCLIP of this size reads the same column, any GroupViT that of its own.

    Args:
        method: A name of :data:`~lexiseg.dense.names.METHODS`.
        benchmark: A name of ``conf/benchmark``.
        tower: That the method is measured on.
    """
    own = tower.own_reading == method if method in OWN_READINGS else is_published_tower(tower)
    return _table().get((method, benchmark)) if own else None


def is_published_tower(tower: ImageTower) -> bool:
    """Whether a tower is a CLIP's ViT-B/16, the one that the numbers were measured on."""
    plain = (
        tower.own_reading is None
        and tower.has_blocks
        and tower.has_class_token
        and not tower.aligned_patches
        and tower.takes_prompts
    )
    return plain and all(getattr(tower, name, None) == size for name, size in _SIZE.items())


@cache
def _table() -> Mapping[tuple[str, str], Published]:
    place = importlib.resources.files("lexiseg") / "assets" / "published" / "training_free.yaml"
    told = yaml.safe_load(place.read_text(encoding="utf-8"))
    table: dict[tuple[str, str], Published] = {}
    for row in told["rows"]:
        for benchmark, percent in row["miou"].items():
            found = Published(percent / 100, told["sources"][row["source"]])
            table.setdefault((row["method"], benchmark), found)
    return table
