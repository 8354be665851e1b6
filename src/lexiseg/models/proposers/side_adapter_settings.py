"""The sizes of a side adapter."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lexiseg.errors import ConfigError
from lexiseg.plain_settings import require_plain_settings, within


@dataclass(frozen=True)
class SideAdapterSettings:
    """A small ViT beside a frozen CLIP; defaults are SAN's with CLIP ViT-B/16.

    Attributes:
        queries: Regions that it proposes.
        width: Channels of its tokens.
        depth: Its blocks.
        heads: Of each.
        hidden: Channels inside the MLP of each.
        patch: Side of its patches in pixels.
        grid: Side in patches of its stored position embedding.
        fusion: Pairs of a CLIP block and the side block after which its tokens enter; 0 is what enters the first block.
        decoded: Side blocks that give regions, counted from 1, ascending: the last is the answer, the others bear a loss.
        decoder_hidden: Channels inside the decoder's perceptrons.
        decoder_width: Common width of queries and patches, whose dot products are the masks.
    """

    queries: int = within(100, at_least=1)
    width: int = within(240, at_least=1)
    depth: int = within(8, at_least=1)
    heads: int = within(6, at_least=1)
    hidden: int = within(960, at_least=1)
    patch: int = within(16, at_least=1)
    grid: int = within(40, at_least=1)
    fusion: tuple[tuple[int, int], ...] = ((0, 0), (3, 1), (6, 2), (9, 3))
    decoded: tuple[int, ...] = (7, 8)
    decoder_hidden: int = within(256, at_least=1)
    decoder_width: int = within(256, at_least=1)

    def __post_init__(self) -> None:
        """Bring lists from a configuration file to tuples and reject impossible settings; ``ConfigError`` names them."""
        require_plain_settings(self, "model")
        if self.width % self.heads:
            raise ConfigError(f"model.heads: {self.heads} heads do not divide a width of {self.width}")
        object.__setattr__(self, "fusion", _checked_fusion(self.fusion, self.depth))
        object.__setattr__(self, "decoded", _checked_decoded(self.decoded, self.depth))


@dataclass(frozen=True)
class SideAdapterOnClipSettings(SideAdapterSettings):
    """A side adapter, and the first blocks of the CLIP that it reads.

    Attributes:
        resolution: Side of CLIP's image as a share of the side adapter's.
        early_blocks: CLIP blocks that run before shadow tokens join.
        others: See :class:`SideAdapterSettings`.
    """

    resolution: float = within(0.5, above=0, at_most=1)
    early_blocks: int = within(9, at_least=1)

    def __post_init__(self) -> None:
        """Reject impossible settings; ``ConfigError`` names them."""
        super().__post_init__()
        latest = max((block for block, _ in self.fusion), default=0)
        if latest > self.early_blocks:
            raise ConfigError(
                f"model.fusion: CLIP block {latest} runs after the shadow tokens join; expected blocks up to "
                f"model.early_blocks={self.early_blocks}"
            )


def _checked_fusion(given: Sequence[Sequence[int]], depth: int) -> tuple[tuple[int, int], ...]:
    pairs = [(block, side) for block, side in given]
    if any(min(pair) < 0 for pair in pairs):
        raise ConfigError(
            f"model.fusion: expected pairs of a CLIP block and a side block such as [[0,0],[3,1]], got {given!r}"
        )
    sides = [side for _, side in pairs]
    if max(sides, default=0) > depth:
        raise ConfigError(f"model.fusion: there is no side block {max(sides)}, only {depth}")
    if len(set(sides)) != len(sides):
        raise ConfigError(f"model.fusion: only one CLIP block may enter after a side block, got {given!r}")
    return tuple(pairs)


def _checked_decoded(given: Sequence[int], depth: int) -> tuple[int, ...]:
    blocks = tuple(given)
    if (
        not blocks
        or blocks[0] < 1
        or blocks[-1] > depth
        or any(later <= one for one, later in pairwise(blocks))
    ):
        raise ConfigError(f"model.decoded: expected ascending side blocks from 1 to {depth}, got {given!r}")
    return blocks
