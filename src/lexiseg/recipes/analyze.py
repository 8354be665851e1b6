"""Figures of what the blocks of a tower hold: CKA between blocks, similarity of patches; as pictures and plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lexiseg.analysis.block_tokens import normalized, whole_image
from lexiseg.analysis.layer_similarity import LayerSimilarity, LayerSimilarityResult
from lexiseg.analysis.patch_similarity import patch_at, patch_similarity
from lexiseg.analysis.point_attention import point_attention
from lexiseg.drawing.heatmap import matrices, patch_maps, point_maps
from lexiseg.errors import ConfigError
from lexiseg.inference.encoding import Picture
from lexiseg.ops.centered_kernel_alignment import Estimator
from lexiseg.recipes.towers import Towers
from lexiseg.storage import write_json, write_png


@dataclass(frozen=True)
class Figure:
    """A picture and the numbers in it.

    Attributes:
        picture: To be looked at.
        values: Plain values, with every setting.
    """

    picture: Image.Image
    values: Mapping[str, Any]

    def write(self, folder: Path, stem: str) -> None:
        """Write ``STEM.png`` and ``STEM.json``; the folder is made if it is not there."""
        write_png(self.picture, folder / f"{stem}.png")
        write_json(self.values, folder / f"{stem}.json")


class BlockAlignment:
    """CKA between the blocks of one tower, or of two side by side, gathered photograph by photograph.

    Args:
        towers: What is looked into.
        blocks: Numbers from 1, two or more.
        estimator: Of HSIC.
    """

    def __init__(self, towers: Towers, blocks: Sequence[int], estimator: Estimator) -> None:
        self._towers, self._blocks, self._estimator = towers, blocks, estimator
        self._gathered = {title: LayerSimilarity(estimator) for title in towers.readings}
        self._used: list[str] = []

    def add(self, path: Path, image: Picture) -> None:
        """Count the patches of one more photograph, ``(H, W, 3)`` uint8 RGB."""
        for title, tokens in self._towers.read(image).items():
            self._gathered[title].update([tokens.blocks[block - 1] for block in self._blocks])
        self._used.append(str(path))

    def compute(self) -> Mapping[str, LayerSimilarityResult]:
        """What has been gathered, by title.

        Raises:
            DataError: Too few patches for the estimator.
        """
        return {title: similarity.compute() for title, similarity in self._gathered.items()}

    def figure(self, results: Mapping[str, LayerSimilarityResult]) -> Figure:
        """One matrix per tower."""
        values = {title: result.matrix.numpy() for title, result in results.items()}
        lowest = min((float(np.nanmin(matrix)) for matrix in values.values()), default=0.0)
        captions = [
            f"block {self._blocks[-1]} and the others {result.last_to_others:.2f}, neighbours {result.neighbours:.2f}"
            for result in results.values()
        ]
        picture = matrices(
            values,
            [str(block) for block in self._blocks],
            captions=captions,
            low=min(np.floor(10 * lowest) / 10, 0.9),
        )
        told = {
            "figure": "cka",
            **self._towers.about,
            "estimator": self._estimator,
            "blocks": list(self._blocks),
            "photographs": self._used,
            "patches": next(iter(results.values())).patches,
            "cka": {title: result.to_dict() for title, result in results.items()},
        }
        return Figure(picture, told)


def patch_figure(
    towers: Towers,
    path: Path,
    image: Picture,
    point: tuple[int, int],
    *,
    blocks: Sequence[int],
    centred: bool,
) -> Figure:
    """Cosines of the patch at a point with every patch, one map per tower and block.

    Args:
        towers: What is looked into.
        path: Of the photograph, for the record.
        image: ``(H, W, 3)`` uint8 RGB.
        point: Pixel of the photograph: x from its left, y from its top.
        blocks: Numbers from 1.
        centred: Take the photograph's mean token away before comparing.

    Raises:
        DataError: The point lies outside.
    """
    read = towers.read(image)
    grid = next(iter(read.values())).grid
    patch = patch_at(point, (image.shape[0], image.shape[1]), grid)
    maps = {
        title: {
            block: patch_similarity(tokens.blocks[block - 1], grid, patch, centred=centred).numpy()
            for block in blocks
        }
        for title, tokens in read.items()
    }
    told = {
        "figure": "patches",
        **towers.about,
        "photograph": str(path),
        "point": list(point),
        "patch": list(patch),
        "grid": list(grid),
        "centred": centred,
        "cosines": {
            title: {str(block): values.tolist() for block, values in of_tower.items()}
            for title, of_tower in maps.items()
        },
    }
    return Figure(patch_maps(image, maps, patch), told)


def attention_figure(towers: Towers, path: Path, image: Picture, points: Sequence[tuple[int, int]]) -> Figure:
    """What the frozen tower's last block attends to from each point, under CLIP's attention and under SCLIP's.

    Args:
        towers: Of which the frozen one is looked into.
        path: Of the photograph, for the record.
        image: ``(H, W, 3)`` uint8 RGB.
        points: Pixels of the photograph: x from its left, y from its top.

    Raises:
        DataError: A point lies outside.
    """
    whole = whole_image(
        image, short_side=towers.short_side, patch_size=towers.patch_size, device=towers.device
    )
    images = normalized(towers.tower, whole)
    grid = towers.tower.grid(images)
    patches = [patch_at(point, (image.shape[0], image.shape[1]), grid) for point in points]
    found = point_attention(towers.tower, images, patches)
    rows = [
        (patch, {title: maps[index].numpy() for title, maps in found.items()})
        for index, patch in enumerate(patches)
    ]
    told = {
        "figure": "attention",
        **towers.about,
        "photograph": str(path),
        "points": [list(point) for point in points],
        "patches": [list(patch) for patch in patches],
        "grid": list(grid),
        "attention": {title: maps.tolist() for title, maps in found.items()},
    }
    caption = "attention from the framed patch, mean over heads of the last block: dark 0, light the highest of each map"
    return Figure(point_maps(image, rows, caption), told)


def read_point(text: str) -> tuple[int, int]:
    """The two numbers of a point.

    Raises:
        ConfigError: Not two whole numbers.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--at {text}: expected two whole numbers, x and y in pixels, such as --at 320,200")
    return int(parts[0]), int(parts[1])
