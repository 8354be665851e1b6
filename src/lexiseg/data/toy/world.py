"""The toy world: scenes of coloured and patterned shapes on textured ground, named in words, masks exact.

It exists so that the whole of lexiseg runs, learns and is tested without a download. Its classes compose (an
attribute and a shape, "striped star"), so a class may be held out although both of its words are known from
others: what zero-shot segmentation asks for, in small. ``scripts/pretrain_toy_clip.py`` trains the CLIP that
belongs to it.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from lexiseg.data.toy.scene import (
    NATIVE_SIZE,
    TOY_CLASSES,
    TOY_GROUNDS,
    TOY_OBJECTS,
    TOY_UNSEEN,
    ToyScene,
    place_figures,
    render_scene,
    sample_figure,
    sample_grounds,
    sample_light,
)
from lexiseg.errors import ConfigError
from lexiseg.types import Sample

__all__ = ["TOY_CLASSES", "TOY_GROUNDS", "TOY_OBJECTS", "TOY_UNSEEN", "ToyWorld"]

Partition = Literal["train", "val"]

MOST_SCENES = 10**7
"""Of a partition: their order is a permutation that is held in memory."""

PARTITION_STREAM = {"train": 0, "val": 1}


class ToyWorld:
    """Endless labelled scenes from a seed, as a data set of ``length`` samples.

    Each scene shows one or two grounds and three to six objects of 24 to 64 pixels at the native 128: turned,
    overlapping, cut by the border, unevenly lit, with grains of clutter, noise and blur. Sample ``i`` depends
    on (seed, partition, i) alone, so any process may draw any index in any order.

    Args:
        partition: ``train`` or ``val``; they never share a scene.
        length: Number of samples, at least 1.
        image_size: (H, W) in pixels, at least 16 each. The shorter side always spans 128 world pixels; a
            longer one shows more of the world.
        seed: Seed of the whole world, 0 or more.
        exclude: Classes that never appear, for splits whose training images must not show unseen objects.
        keep: Keep every scene once it is drawn, 64 KiB each at the native size: drawing one takes longer than
            learning from a crop of it. For short lengths; each data-loading process keeps its own.

    Raises:
        ConfigError: Unknown partition, length, size, seed or class, or nothing left to draw.
    """

    def __init__(
        self,
        *,
        partition: Partition,
        length: int,
        image_size: tuple[int, int] = (NATIVE_SIZE, NATIVE_SIZE),
        seed: int = 0,
        exclude: Sequence[str] = (),
        keep: bool = False,
    ) -> None:
        if partition not in PARTITION_STREAM:
            raise ConfigError(f"toy world: partition must be 'train' or 'val', but is {partition!r}")
        if type(length) is not int or type(seed) is not int:
            raise ConfigError(
                f"toy world: length and seed must be whole numbers, but are {length!r} and {seed!r}"
            )
        if not 1 <= length <= MOST_SCENES or seed < 0:
            raise ConfigError(
                f"toy world: length must be from 1 to {MOST_SCENES} and seed at least 0, but are {length} and {seed}"
            )
        sides = isinstance(image_size, Sequence) and all(type(side) is int for side in image_size)
        if not sides or len(image_size) != 2 or min(image_size) < 16:
            raise ConfigError(
                f"toy world: image_size must be (height, width) of at least 16 each, but is {image_size}"
            )
        unknown = [name for name in exclude if name not in TOY_CLASSES]
        if unknown:
            raise ConfigError(
                f"toy world: cannot exclude {', '.join(map(repr, unknown))}; "
                f"its classes are {', '.join(TOY_CLASSES)}"
            )
        self.partition, self.length, self.seed = partition, length, seed
        self._kept: dict[int, Sample] | None = {} if keep else None
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.grounds = tuple(name for name in TOY_GROUNDS if name not in exclude)
        self.objects = tuple(name for name in TOY_OBJECTS if name not in exclude)
        if not self.grounds or not self.objects:
            raise ConfigError("toy world: exclude leaves no ground or no object; keep at least one of each")

    @property
    def stuff(self) -> tuple[str, ...]:
        """Names of the classes that are not counted: the grounds."""
        return TOY_GROUNDS

    @property
    def classes(self) -> tuple[str, ...]:
        """All 42 class names in label-id order, the excluded ones included."""
        return TOY_CLASSES

    def __len__(self) -> int:
        return self.length

    def scene(self, index: int) -> ToyScene:
        """The description that sample ``index`` is drawn from.

        Raises:
            IndexError: ``index`` is not in [0, length).
        """
        if not 0 <= index < self.length:
            raise IndexError(f"toy world has samples 0 to {self.length - 1}, asked for {index}")
        rng = np.random.default_rng([self.seed, PARTITION_STREAM[self.partition], index])
        scale = min(self.image_size) / NATIVE_SIZE
        extent = (self.image_size[0] / scale, self.image_size[1] / scale)
        grounds, horizon = sample_grounds(rng, extent, self.grounds, 0.6)
        names = [str(name) for name in rng.choice(self.objects, int(rng.integers(3, 7)))]
        radii = rng.uniform(12, 32, len(names)).tolist()
        centres = place_figures(rng, extent, radii)
        return ToyScene(
            size=self.image_size,
            scale=scale,
            grounds=grounds,
            horizon=horizon,
            figures=tuple(
                sample_figure(rng, name, centre=centre, radius=radius)
                for name, centre, radius in zip(names, centres, radii, strict=True)
            ),
            light=sample_light(rng),
            specks=int(rng.integers(6, 30)),
            seed=int(rng.integers(2**62)),
        )

    def __getitem__(self, index: int) -> Sample:
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        image, label = render_scene(self.scene(index))
        sample = Sample(image=image, label=label, name=f"toy_{self.partition}_{self.seed}_{index:06d}")
        if self._kept is not None:
            self._kept[index] = sample
        return sample
