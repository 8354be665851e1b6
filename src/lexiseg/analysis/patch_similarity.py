"""Which patches a patch resembles, block by block: cosines between patch tokens (Cascade-CLIP, figures 1 and 6)."""

import torch.nn.functional as F
from torch import Tensor

from lexiseg.errors import DataError
from lexiseg.ops.grid import tokens_to_map


def patch_at(point: tuple[int, int], size: tuple[int, int], grid: tuple[int, int]) -> tuple[int, int]:
    """Row and column of the patch that shows a pixel.

    Args:
        point: x (to the right) and y (down) in pixels of the photograph, from 0.
        size: Its height and width.
        grid: Patches h and w.

    Raises:
        DataError: The point is outside the photograph.
    """
    (x, y), (height, width) = point, size
    if not (0 <= x < width and 0 <= y < height):
        raise DataError(
            f"the point {x},{y} is outside the photograph of {width} by {height} pixels; give x from 0 to {width - 1} "
            f"and y from 0 to {height - 1}"
        )
    return y * grid[0] // height, x * grid[1] // width


def patch_similarity(
    tokens: Tensor, grid: tuple[int, int], patch: tuple[int, int], *, centred: bool = False
) -> Tensor:
    """Cosine of every patch token with one of them.

    Args:
        tokens: ``(h*w, D)`` row-major.
        grid: h and w.
        patch: Row and column of the one.
        centred: Take the photograph's mean token from all first, which shows differences where a large common part
            makes all tokens alike.

    Returns:
        ``(h, w)``, 1 at the patch itself.
    """
    if centred:
        tokens = tokens - tokens.mean(0)
    unit = F.normalize(tokens, dim=-1)
    chosen = unit[patch[0] * grid[1] + patch[1]]
    return tokens_to_map((unit @ chosen)[None, :, None], grid)[0, 0].clamp(-1, 1)
