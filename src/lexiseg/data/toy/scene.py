"""Scenes of the toy world: which classes there are, how a picture is drawn by lot, and how it is rendered."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lexiseg.data.toy.render import (
    PATTERN_INKS,
    PLAIN_COLOURS,
    SHAPES,
    Figure,
    Horizon,
    Light,
    apply_light,
    draw_figure,
    horizon_side,
    scatter_specks,
)
from lexiseg.data.toy.textures import GROUNDS, draw_ground

TOY_GROUNDS = tuple(GROUNDS)
TOY_ATTRIBUTES = (*PLAIN_COLOURS, "striped", "dotted")
TOY_SHAPES = tuple(SHAPES)
TOY_OBJECTS = tuple(f"{attribute} {shape}" for attribute in TOY_ATTRIBUTES for shape in TOY_SHAPES)
TOY_CLASSES = (*TOY_GROUNDS, *TOY_OBJECTS)
"""All 42 class names in label-id order: 6 grounds, then 36 objects (attribute-major)."""

TOY_UNSEEN = (
    "red triangle",
    "red ring",
    "green square",
    "blue circle",
    "blue star",
    "yellow cross",
    "striped circle",
    "striped star",
    "dotted square",
)
"""Unseen classes of the default split.

Nine compositions, a quarter of the objects, chosen so that every attribute and every shape lacks one or two
of its six classes and is still seen in at least four. So no unseen class is known by one word alone: its
colour is seen on other shapes and its shape in other colours. Plain colours (six) and patterns (three) are
held out in the proportion in which they occur. Grounds all stay seen, for they do not compose.
"""

NATIVE_SIZE = 128


@dataclass(frozen=True)
class ToyScene:
    """Everything a picture is drawn from; drawing it twice gives the same bytes.

    Attributes:
        size: (H, W) in pixels.
        scale: Pixels per world pixel.
        grounds: One name, or two divided by ``horizon``.
        horizon: The border; unused with one ground.
        figures: Objects, back to front.
        light: Lighting of the whole picture.
        specks: Number of clutter grains. They have no class: beneath them the label stays.
        seed: Seed of textures, specks and noise, which therefore do not depend on the objects.
    """

    size: tuple[int, int]
    scale: float
    grounds: tuple[str, ...]
    horizon: Horizon
    figures: tuple[Figure, ...]
    light: Light
    specks: int
    seed: int

    @property
    def objects(self) -> tuple[str, ...]:
        """Class names of the objects, back to front."""
        return tuple(f"{figure.attribute} {figure.shape}" for figure in self.figures)


def render_scene(scene: ToyScene) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw a scene.

    Returns:
        ``(H, W, 3)`` uint8 RGB and ``(H, W)`` uint8 ids into ``TOY_CLASSES``: the topmost thing at the centre
        of each pixel.
    """
    rng = np.random.default_rng(scene.seed)
    layers = [draw_ground(name, scene.size, scene.scale, rng) for name in scene.grounds]
    image, label = layers[0], np.full(scene.size, TOY_CLASSES.index(scene.grounds[0]), dtype=np.uint8)
    if len(layers) == 2:
        side = horizon_side(scene.size, scene.scale, scene.horizon)
        weight = np.clip(0.5 + side * np.float32(scene.scale), 0, 1)[..., None]
        image = image + (layers[1] - image) * weight
        label[side > 0] = TOY_CLASSES.index(scene.grounds[1])
    for figure, name in zip(scene.figures, scene.objects, strict=True):
        rows, columns, covered = draw_figure(image, figure, scene.scale)
        label[rows, columns][covered] = TOY_CLASSES.index(name)
    scatter_specks(image, scene.specks, scene.scale, rng)
    return apply_light(image, scene.scale, scene.light, rng), label


def sample_light(rng: np.random.Generator) -> Light:
    """Draw a lighting: half-dark to bright, sloping, slightly coloured, slightly noisy and blurred."""
    red, green, blue = rng.normal(1, 0.035, 3)
    slope_y, slope_x = rng.normal(0, 0.0016, 2)
    return Light(
        brightness=rng.uniform(0.68, 1.12),
        slope=(slope_y, slope_x),
        cast=(red, green, blue),
        noise=rng.uniform(1.5, 8),
        blur=rng.uniform(0, 0.2),
    )


def sample_figure(
    rng: np.random.Generator, name: str, *, centre: tuple[float, float], radius: float
) -> Figure:
    """Draw one object of the class ``name`` ("red circle") at a place and size in world pixels."""
    attribute, shape = name.split()
    red, green, blue = rng.normal(0, 9, 3)
    return Figure(
        attribute=attribute,
        shape=shape,
        centre=centre,
        radius=radius,
        angle=rng.uniform(-0.5, 0.5),
        tint=(red, green, blue),
        pitch=rng.uniform(6.5, 8.5),
        ink=int(rng.integers(len(PATTERN_INKS))),
    )


def sample_grounds(
    rng: np.random.Generator, extent: tuple[float, float], names: Sequence[str], second: float
) -> tuple[tuple[str, ...], Horizon]:
    """Draw one ground, or two with probability ``second``; ``extent`` is (H, W) in world pixels."""
    count = 1 + int(len(names) > 1 and rng.random() < second)
    chosen = tuple(str(name) for name in rng.choice(names, count, replace=False))
    horizon = Horizon(
        angle=rng.uniform(-np.pi, np.pi),
        offset=rng.uniform(-0.22, 0.22) * min(extent),
        height=rng.uniform(1, 5),
        length=rng.uniform(30, 80),
        phase=rng.uniform(-np.pi, np.pi),
    )
    return chosen, horizon


def place_figures(
    rng: np.random.Generator, extent: tuple[float, float], radii: Sequence[float]
) -> list[tuple[float, float]]:
    """Draw centres in ``extent`` (H, W, world pixels): overlaps are welcome, burials are not.

    Of eight places the first is taken that leaves 0.8 of the summed radii to every earlier figure, else the
    roomiest.
    """
    centres: list[tuple[float, float]] = []
    for index, radius in enumerate(radii):
        places = rng.uniform(
            0.55 * radius, np.maximum(np.array(extent) - 0.55 * radius, 0.6 * radius), (8, 2)
        )
        room = np.full(8, np.inf)
        for (y, x), other in zip(centres, radii[:index], strict=True):
            room = np.minimum(room, np.hypot(places[:, 0] - y, places[:, 1] - x) / (radius + other))
        free = np.flatnonzero(room >= 0.8)
        y, x = places[free[0] if len(free) else int(room.argmax())]
        centres.append((float(y), float(x)))
    return centres


def sample_crop(
    rng: np.random.Generator, *, objects: Sequence[str] = (), size: int = 48, scale: float = 1.0
) -> ToyScene:
    """Draw a small picture of the named objects, for captions instead of masks.

    One figure fills much of the crop, two share it, whatever the scale.

    Args:
        rng: Source of all randomness.
        objects: Class names of 0 to 2 objects, back to front.
        size: Height and width in pixels.
        scale: Pixels per world pixel: at 1, textures are as large as in scenes at their native size.
    """
    world = size / scale
    extent = (world, world)
    grounds, horizon = sample_grounds(rng, extent, TOY_GROUNDS, 0.15 if objects else 0.0)
    high = 0.48 if len(objects) == 1 else 0.34
    radii = rng.uniform(0.22, high, len(objects)) * world
    if len(objects) == 1:
        y, x = rng.uniform(0.85 * radii[0], world - 0.85 * radii[0], 2)
        centres = [(float(y), float(x))]
    else:
        centres = place_figures(rng, extent, radii.tolist())
    figures = tuple(
        sample_figure(rng, name, centre=centre, radius=float(radius))
        for name, centre, radius in zip(objects, centres, radii, strict=True)
    )
    return ToyScene(
        size=(size, size),
        scale=scale,
        grounds=grounds,
        horizon=horizon,
        figures=figures,
        light=sample_light(rng),
        specks=int(rng.integers(0, 5)),
        seed=int(rng.integers(2**62)),
    )
