"""Where the windows of a sliding-window pass lie."""

from dataclasses import dataclass

from lexiseg.errors import ConfigError

Extent = int | tuple[int, int]
"""A length in pixels for both axes, or ``(height, width)``."""


@dataclass(frozen=True)
class WindowGrid:
    """Windows of one size that cover an image: every pair of a top and a left edge.

    Attributes:
        tops: Upper edges, ascending.
        lefts: Left edges, ascending.
        height: Rows of a window.
        width: Columns of a window.
    """

    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    @property
    def boxes(self) -> tuple[tuple[int, int, int, int], ...]:
        """``(top, left, bottom, right)`` of each window, row by row; bottom and right are exclusive."""
        return tuple((y, x, y + self.height, x + self.width) for y in self.tops for x in self.lefts)


def window_starts(size: int, window: int, stride: int) -> tuple[int, ...]:
    """Starts of the windows along one axis: ``ceil((size - window) / stride) + 1`` of them.

    The last window is shifted back until it ends flush with the border, as every published implementation
    does; a window longer than the axis is clipped to it.

    Args:
        size: Pixels of the axis.
        window: Pixels of a window.
        stride: Pixels from one window to the next.

    Raises:
        ConfigError: A size that is not positive, or a stride that would leave gaps between windows.
    """
    if min(size, window, stride) < 1:
        raise ConfigError(
            f"expected image, window and stride of at least 1 pixel, got {size}, {window} and {stride}"
        )
    if stride > window:
        raise ConfigError(
            f"a stride of {stride} leaves gaps between windows of {window}; use at most {window}"
        )
    count = -(-max(size - window, 0) // stride) + 1
    return tuple(max(min(index * stride, size - window), 0) for index in range(count))


def window_grid(size: tuple[int, int], window: Extent | None, stride: Extent | None = None) -> WindowGrid:
    """Windows that cover an image of ``(height, width)``.

    Args:
        size: Height and width in pixels.
        window: Side, or ``(height, width)``, of a window; None for one window over everything.
        stride: Step, or ``(vertical, horizontal)``; None for windows side by side.

    Raises:
        ConfigError: See :func:`window_starts`.
    """
    windows = size if window is None else _pair(window)
    strides = windows if stride is None else _pair(stride)
    tops, lefts = (window_starts(*axis) for axis in zip(size, windows, strides, strict=True))
    return WindowGrid(tops, lefts, min(windows[0], size[0]), min(windows[1], size[1]))


def _pair(extent: Extent) -> tuple[int, int]:
    return (extent, extent) if isinstance(extent, int) else (extent[0], extent[1])
