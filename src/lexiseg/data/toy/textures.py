"""Ground textures of the toy world, and the noise and blending that all its drawing uses.

Every texture is a function of world coordinates (v down, u right, in world pixels) and of two noise maps, all
``(H, W)``; it returns ``(H, W, 3)`` colours in [0, 255].
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]

NOISE_SIZE = 256


@lru_cache(maxsize=1)
def noise_tiles() -> tuple[Array, Array]:
    """Cloudy and fine noise ``(256, 256)``, zero mean, unit deviation, the first one seamless."""
    rng = np.random.default_rng(7)
    frequency = np.fft.fftfreq(NOISE_SIZE)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    radius[0, 0] = np.inf
    spectrum = np.fft.fft2(rng.standard_normal((NOISE_SIZE, NOISE_SIZE))) / radius**1.2
    cloud = np.fft.ifft2(spectrum).real
    fine = rng.standard_normal((NOISE_SIZE, NOISE_SIZE))
    return (cloud / cloud.std()).astype(np.float32), fine.astype(np.float32)


def colour(values: npt.ArrayLike) -> Array:
    """One or several RGB triples as an array."""
    return np.asarray(values, dtype=np.float32)


def sample_tile(tile: Array, v: Array, u: Array) -> Array:
    """Read a periodic tile at whole world pixels (nearest); ``v`` down, ``u`` right, same shape."""
    return tile[v.astype(np.int64) % len(tile), u.astype(np.int64) % len(tile)]


def mix(first: npt.ArrayLike, second: npt.ArrayLike, weight: Array) -> Array:
    """Blend two colours or pictures: ``weight`` 0 gives ``first``, 1 gives ``second``."""
    low = np.asarray(first, dtype=np.float32)
    blend = (np.asarray(second, dtype=np.float32) - low) * weight[..., None]
    blend += low
    return blend


def blocks(v: Array, u: Array, *, height: float, width: float, tones: Array) -> tuple[Array, Array, Array]:
    """Rows of blocks, every other row half a block along: v and u in [-1, 1] of the block, and its tone."""
    row = np.floor(v / height)
    along = u / width + 0.5 * (row % 2)
    column = np.floor(along)
    tone = sample_tile(tones, row, column)
    return (v / height - row) * 2 - 1, (along - column) * 2 - 1, tone


def bricks(v: Array, u: Array, cloud: Array, fine: Array) -> Array:
    """Orange-brown bricks in pale mortar."""
    dv, du, tone = blocks(v, u, height=8, width=17, tones=fine)
    joint = np.minimum((1 - np.abs(dv)) * 4, (1 - np.abs(du)) * 8.5)  # world pixels to the nearest edge
    body = colour([172, 96, 62]) * (1 + 0.09 * tone + 0.05 * cloud)[..., None]
    return mix((196, 186, 172), body, np.clip(joint - 0.35, 0, 1))


def planks(v: Array, u: Array, cloud: Array, fine: Array) -> Array:
    """Brown boards with grain along them and dark seams."""
    dv, du, tone = blocks(v, u, height=15, width=83, tones=fine)
    grain = sample_tile(noise_tiles()[0], v * 3, u / 5 + tone * 40)
    body = colour([158, 112, 70]) * (1 + 0.12 * tone + 0.13 * grain)[..., None]
    seam = np.minimum((1 - np.abs(dv)) * 7.5, (1 - np.abs(du)) * 41)
    return mix((66, 42, 26), body, np.clip(seam * 0.9, 0, 1))


def cobblestones(v: Array, u: Array, cloud: Array, fine: Array) -> Array:
    """Grey rounded setts with dark gaps, lit from above."""
    dv, du, tone = blocks(v + 1.2 * cloud, u + 1.2 * fine * 0.2, height=11, width=13, tones=fine)
    round_edge = 1 - (np.abs(dv) ** 2.6 + np.abs(du) ** 2.6)
    body = colour([146, 146, 150]) * (1 + 0.13 * tone - 0.14 * dv - 0.06 * du)[..., None]
    return mix((58, 56, 54), body, np.clip(round_edge * 2.2 + 0.15, 0, 1))


def grass(v: Array, u: Array, cloud: Array, fine: Array) -> Array:
    """Upright blades, dark to light, in patches."""
    blade = sample_tile(noise_tiles()[1], v / 5 + 0.7 * np.sin(u), u)
    return mix((58, 96, 34), (142, 178, 76), np.clip(0.45 + 0.26 * blade + 0.14 * cloud, 0, 1))


def sand(v: Array, u: Array, cloud: Array, fine: Array) -> Array:
    """Beige grains with soft ripples."""
    ripple = np.sin(v * 0.62 + 1.6 * cloud + 0.05 * u)
    return mix((186, 158, 112), (232, 212, 168), np.clip(0.5 + 0.19 * ripple + 0.13 * fine, 0, 1))


def water(v: Array, u: Array, cloud: Array, fine: Array) -> Array:
    """Blue-green waves with bright crests."""
    wave = np.sin(v * 0.78 + 1.5 * np.sin(u * 0.13 + 0.6 * cloud) + 0.5 * cloud)
    body = mix((44, 104, 136), (96, 164, 186), np.clip(0.5 + 0.42 * wave, 0, 1))
    return mix(body, np.full_like(body, 236), np.clip((wave - 0.86) * 5, 0, 0.75))


GROUNDS: dict[str, Callable[[Array, Array, Array, Array], Array]] = {
    "bricks": bricks,
    "grass": grass,
    "sand": sand,
    "water": water,
    "planks": planks,
    "cobblestones": cobblestones,
}


def draw_ground(name: str, size: tuple[int, int], scale: float, rng: np.random.Generator) -> Array:
    """Fill ``size`` (H, W) with one texture at a random place, slight turn and zoom; ``(H, W, 3)``."""
    height, width = size
    turn, zoom = rng.normal(0, 0.12), scale * np.exp(rng.normal(0, 0.1))
    shift_v, shift_u = rng.uniform(0, 4096, 2)
    y = (np.arange(height, dtype=np.float32) / zoom)[:, None]
    x = (np.arange(width, dtype=np.float32) / zoom)[None, :]
    sine, cosine = np.float32(np.sin(turn)), np.float32(np.cos(turn))
    v, u = y * cosine + x * sine + np.float32(shift_v), x * cosine - y * sine + np.float32(shift_u)
    rows = (np.arange(height) / zoom + rng.integers(NOISE_SIZE)).astype(np.int64) % NOISE_SIZE
    columns = (np.arange(width) / zoom + rng.integers(NOISE_SIZE)).astype(np.int64) % NOISE_SIZE
    cloud, fine = (tile[np.ix_(rows, columns)] for tile in noise_tiles())
    return GROUNDS[name](v, u, cloud, fine)
