"""Figures, borders, clutter and light of the toy world. Knows pictures, not classes or data sets.

Lengths are in world pixels: one world pixel is one image pixel at the world's native 128, and ``scale`` image
pixels elsewhere. Colours are in [0, 255].
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lexiseg.data.toy.textures import Array, colour, mix

PLAIN_COLOURS = {
    "red": (205, 42, 40),
    "green": (40, 145, 66),
    "blue": (48, 78, 196),
    "yellow": (238, 204, 48),
}
PATTERN_INKS = ((44, 40, 48), (96, 44, 112), (60, 52, 96))
"""Dark inks of stripes and dots, on ivory: no hue that is the name of a plain colour."""
IVORY = (238, 232, 218)
SPECKS = ((40, 36, 32), (230, 226, 214), (150, 120, 86), (98, 104, 92), (190, 92, 120))


@dataclass(frozen=True)
class Figure:
    """One object as it is drawn; all randomness already drawn.

    Attributes:
        attribute: A plain colour, ``striped`` or ``dotted``.
        shape: Key of ``SHAPES``.
        centre: (y, x) in world pixels.
        radius: World pixels from the centre to the outermost point, about.
        angle: Rotation in radians.
        tint: Added to the body colour, per RGB channel.
        pitch: World pixels from stripe to stripe or dot to dot.
        ink: Index into ``PATTERN_INKS``.
    """

    attribute: str
    shape: str
    centre: tuple[float, float]
    radius: float
    angle: float
    tint: tuple[float, float, float]
    pitch: float = 8.0
    ink: int = 0


@dataclass(frozen=True)
class Horizon:
    """Wavy border between two grounds: ``offset`` world pixels from the picture's centre along ``angle``."""

    angle: float
    offset: float
    height: float
    length: float
    phase: float


@dataclass(frozen=True)
class Light:
    """Brightness at the picture's centre, its change per world pixel (y, x), colour cast, noise and blur.

    ``noise`` is a standard deviation in grey levels; ``blur`` the weight of each of the two neighbours.
    """

    brightness: float
    slope: tuple[float, float]
    cast: tuple[float, float, float]
    noise: float
    blur: float


def polygon(v: Array, u: Array, corners: int, inner: float) -> Array:
    """Signed distance, negative inside, to a regular polygon whose sides lie ``inner`` away."""
    sector = 2 * np.pi / corners
    angle = np.abs((np.arctan2(u, -v) + sector / 2) % sector - sector / 2)
    return np.hypot(v, u) * np.cos(sector / 2 - angle) - np.float32(inner)


def box(v: Array, u: Array, half_v: float, half_u: float) -> Array:
    """Signed distance (outside corners: largest coordinate) to an axis-parallel rectangle."""
    return np.maximum(np.abs(v) - half_v, np.abs(u) - half_u)


def star(v: Array, u: Array) -> Array:
    """Five points; the edge runs from a tip at distance 1.06 to a notch at distance 0.46."""
    sector = 2 * np.pi / 5
    angle = np.abs((np.arctan2(u, -v) + sector / 2) % sector - sector / 2)
    radius = np.hypot(v, u)
    tip, notch_x, notch_y = 1.06, 0.46 * np.cos(sector / 2), 0.46 * np.sin(sector / 2)
    length = np.hypot(tip - notch_x, notch_y)
    normal_x, normal_y = notch_y / length, (tip - notch_x) / length
    return (radius * np.cos(angle) - tip) * normal_x + radius * np.sin(angle) * normal_y


SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "circle": lambda v, u: np.hypot(v, u) - np.float32(0.9),
    "square": lambda v, u: box(v, u, 0.76, 0.76),
    "triangle": lambda v, u: polygon(v - 0.12, u, 3, 0.53),
    "star": star,
    "ring": lambda v, u: np.abs(np.hypot(v, u) - np.float32(0.74)) - np.float32(0.24),
    "cross": lambda v, u: np.minimum(box(v, u, 0.95, 0.31), box(v, u, 0.31, 0.95)),
}
"""Signed distances for figures of radius 1 about the origin, v down, u right; negative inside."""


def figure_body(figure: Figure, v: Array, u: Array) -> Array:
    """Colour of the figure at figure coordinates in world pixels: plain, striped or dotted."""
    tint = colour(figure.tint)
    if figure.attribute in PLAIN_COLOURS:
        return np.broadcast_to(colour(PLAIN_COLOURS[figure.attribute]) + tint, (*v.shape, 3))
    if figure.attribute == "striped":
        ink = np.abs(u / figure.pitch % 1 - 0.5) * 4 - 1
        weight = np.clip(0.5 + ink * figure.pitch / 4, 0, 1)
    else:
        row = np.floor(v / figure.pitch)
        du = (u / figure.pitch + 0.5 * (row % 2)) % 1 - 0.5
        dot = 0.29 - np.hypot(v / figure.pitch - row - 0.5, du)
        weight = np.clip(0.5 + dot * figure.pitch, 0, 1)
    return mix(colour(IVORY) + tint, colour(PATTERN_INKS[figure.ink]) + tint, weight)


def draw_figure(image: Array, figure: Figure, scale: float) -> tuple[slice, slice, npt.NDArray[np.bool_]]:
    """Paint the figure and its soft shadow into ``image`` in place.

    Returns:
        Window (rows, columns) and, inside it, which pixel centres the figure covers.
    """
    height, width = image.shape[:2]
    reach = (figure.radius * 1.12 + 3) * scale
    (cy, cx), margin = (c * scale for c in figure.centre), 2 * scale
    top, bottom = (int(np.clip(edge, 0, height)) for edge in (cy - reach, cy + reach + 1))
    left, right = (int(np.clip(edge, 0, width)) for edge in (cx - reach, cx + reach + 1))
    window = slice(top, bottom), slice(left, right)
    y = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - cy))[:, None] / np.float32(scale)
    x = (np.arange(left, right, dtype=np.float32) + np.float32(0.5 - cx))[None, :] / np.float32(scale)
    sine, cosine = np.float32(np.sin(figure.angle)), np.float32(np.cos(figure.angle))

    def distance(dy: float, dx: float) -> tuple[Array, Array, Array]:
        v, u = (y - dy) * cosine - (x - dx) * sine, (x - dx) * cosine + (y - dy) * sine
        return SHAPES[figure.shape](v / figure.radius, u / figure.radius) * figure.radius, v, u

    patch = image[window]
    shadow, _, _ = distance(margin / scale, 0.8 * margin / scale)
    patch *= (1 - 0.42 * np.clip(0.5 - shadow / 4, 0, 1))[..., None]
    depth, v, u = distance(0, 0)
    body = figure_body(figure, v, u)
    shade = 1.05 - 0.16 * (y + x) / figure.radius * 0.7 - 0.28 * np.clip(1 + depth / 1.8, 0, 1)
    patch[...] = mix(patch, body * shade[..., None], np.clip(0.5 - depth * np.float32(scale), 0, 1))
    return (*window, depth < 0)


def horizon_side(size: tuple[int, int], scale: float, horizon: Horizon) -> Array:
    """Signed world-pixel distance ``(H, W)`` of each pixel centre to the border; positive: second ground."""
    height, width = size
    y = ((np.arange(height, dtype=np.float32) + np.float32(0.5 - height / 2)) / np.float32(scale))[:, None]
    x = ((np.arange(width, dtype=np.float32) + np.float32(0.5 - width / 2)) / np.float32(scale))[None, :]
    sine, cosine = np.float32(np.sin(horizon.angle)), np.float32(np.cos(horizon.angle))
    along, across = x * cosine - y * sine, y * cosine + x * sine
    wave = np.sin(along * np.float32(2 * np.pi / horizon.length) + np.float32(horizon.phase))
    return across - np.float32(horizon.offset) - np.float32(horizon.height) * wave


def scatter_specks(image: Array, count: int, scale: float, rng: np.random.Generator) -> None:
    """Strew ``count`` grains of about two world pixels over ``image`` in place: clutter that has no class."""
    height, width = image.shape[:2]
    reach = max(1, round(2 * scale))
    offset = np.arange(-reach, reach + 1)
    angle, length = rng.uniform(0, np.pi, (count, 1, 1)), rng.uniform(1.0, 2.4, (count, 1, 1)) * scale
    v = offset[:, None] * np.cos(angle) - offset[None, :] * np.sin(angle)
    u = offset[None, :] * np.cos(angle) + offset[:, None] * np.sin(angle)
    inside = (v / length) ** 2 + (u / (1.05 * scale)) ** 2 < 1
    rows = rng.integers(0, height, (count, 1, 1)) + offset[:, None]
    columns = rng.integers(0, width, (count, 1, 1)) + offset[None, :]
    inside &= (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    colours = colour(SPECKS)[rng.integers(len(SPECKS), size=count)]
    which, y, x = np.nonzero(inside)
    image[rows[which, y, 0], columns[which, 0, x]] = colours[which]


def apply_light(image: Array, scale: float, light: Light, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Light, blur and noise; ``(H, W, 3)`` uint8."""
    height, width = image.shape[:2]
    y = ((np.arange(height, dtype=np.float32) - height / 2) / scale * light.slope[0])[:, None]
    x = ((np.arange(width, dtype=np.float32) - width / 2) / scale * light.slope[1])[None, :]
    lit = image * (light.brightness + y + x).astype(np.float32)[..., None]
    lit *= colour(light.cast)
    for axis in (0, 1):
        edge = np.take(lit, [0, *range(lit.shape[axis]), -1], axis=axis)
        near = edge[:-2] + edge[2:] if axis == 0 else edge[:, :-2] + edge[:, 2:]
        near *= np.float32(light.blur)
        lit *= np.float32(1 - 2 * light.blur)
        lit += near
    grain = rng.standard_normal(lit.shape, dtype=np.float32)
    grain *= np.float32(light.noise)
    lit += grain
    lit += np.float32(0.5)
    return np.clip(lit, 0, 255, out=lit).astype(np.uint8)
