"""The contract of a dense reading: a frozen image tower whose every patch speaks the language of the words.

No reading has weights of its own. ``encode`` runs the tower once and knows no words; ``features`` and
``decode`` answer for any vocabulary from the state it leaves.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.errors import ConfigError
from lexiseg.ops.grid import PositionMode, tokens_to_map
from lexiseg.types import NO_NEEDS, Activation, BlockTower, ImageTower, MaskOutput, Needs

Idle = tuple[Callable[[Mapping[str, Any]], bool], str]
"""Whether a setting changes nothing, by all settings of the method; and beside or without what, in words."""

BlockPosition = int | float
"""A block: an index (negative from the end), or a fraction of the depth, which scales to other towers."""


@dataclass(frozen=True)
class DenseState:
    """What encoders whose features do not depend on words leave behind.

    Attributes:
        features: ``(B, E, h, w)`` patch features in the joint image-text space, not normalised.
    """

    features: Tensor


@dataclass(frozen=True)
class BoundState(DenseState):
    """Features that already know all words of a vocabulary, so that words may be decoded in parts."""


class DenseReading(nn.Module, ABC):
    """A frozen tower of any kind, read densely.

    Attributes:
        depends_on_text: Whether ``features`` or ``decode`` change a word's answer with the other words; such
            an encoder must be given the whole vocabulary at once, or be bound to it (:meth:`bind`).
        words_together: False: a bound state may be decoded a few words at a time.
        offers_features: True: ``features`` is what a reading is for.
        whole_picture: Whether it is a :class:`~lexiseg.types.PictureReader`, whose windows become one state.
        reads_square: Whether a photograph is stretched to a square of the tower's native side and read whole.
        cosine_logits: Whether ``decode`` gives cosines of unit patch features and unit words.
        needs: What it must be given beside a photograph.
        templates: Template set that the method was published with.
        idle: By setting, when it changes nothing; of those that another one switches on or off.
        settled: Settings whose values the reading chose itself, whatever was given.
        patch_size: Height and width of images must be multiples of it.

    Args:
        tower: The frozen image tower.
    """

    depends_on_text: bool = False
    words_together: bool = False
    names_regions: bool = False
    needs: Needs = NO_NEEDS
    activation: Activation = "linear"
    offers_features: bool = True
    whole_picture: bool = False
    reads_square: bool = False
    cosine_logits: bool = True
    templates: ClassVar[str] = "imagenet80"
    idle: ClassVar[Mapping[str, Idle]] = {}
    settled: Mapping[str, Any] = {}

    def __init__(self, tower: ImageTower) -> None:
        super().__init__()
        self.patch_size = tower.patch_size
        self._colors = (tower.mean, tower.std)

    def normalize(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` uint8 RGB to floats as the tower's own preprocessing normalises them."""
        mean, std = (torch.tensor(each, device=images.device).view(3, 1, 1) for each in self._colors)
        return (images.float() / 255 - mean) / std

    @abstractmethod
    def encode(self, images: Tensor) -> Any:
        """Run the tower once on normalised ``(B, 3, H, W)``; H and W multiples of the patch size."""

    def features(self, state: Any, text: Tensor | None = None) -> Tensor:
        """Text-aligned patch features ``(B, E, h, w)``, not normalised.

        Args:
            state: What ``encode`` returned.
            text: Unit text embeddings ``(K, E)``; only the encoders with ``depends_on_text`` look at them.
        """
        del text
        return state.features

    def decode(self, state: Any, text: Tensor) -> MaskOutput:
        """Cosines of patch features and words, ``(B, K, h, w)``; ``text`` is ``(K, E)``, unit length."""
        return MaskOutput(cosines(self.features(state, text), text))

    def bind(self, state: Any, text: Tensor) -> Any:
        """State for which ``decode`` may be called with parts of ``text``, for vocabularies of any size.

        Only encoders with ``depends_on_text`` have anything to do; the others return the state itself.
        """
        del text
        return state

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        """Normalised images ``(B, 3, H, W)`` and words ``(K, E)`` to logits ``(B, K, h, w)``."""
        return self.decode(self.encode(images), text).logits


class DenseEncoder(DenseReading):
    """A frozen tower of attention blocks read densely; one subclass per method.

    Args:
        tower: The frozen image tower.
        position_mode: How the position embedding reaches other grids; None takes the tower's own way, which for CLIP
            is SCLIP's and its followers'.
    """

    def __init__(self, tower: BlockTower, *, position_mode: PositionMode | None = None) -> None:
        super().__init__(tower)
        self.tower = tower
        self.position_mode = position_mode or tower.position_mode or "bicubic_offset"

    @property
    def prefix(self) -> int:
        """How many tokens come before the patches: class token and registers."""
        return self.tower.prefix_tokens

    def embed(self, images: Tensor) -> Tensor:
        """Tokens ``(B, prefix + P, D)`` that enter the first block."""
        return self.tower.embed(images, position_mode=self.position_mode)

    def run_to_last(self, images: Tensor) -> Tensor:
        """Tokens ``(B, prefix + P, D)`` that enter the last block, which every method reads in its own way."""
        tokens = self.embed(images)
        for index in range(self.tower.depth - 1):
            tokens = self.tower.block(index, tokens)
        return tokens

    def to_state(self, patches: Tensor, grid: tuple[int, int]) -> DenseState:
        """Final norm, projection and grid arrangement of patch tokens ``(B, P, D)``."""
        return DenseState(tokens_to_map(self.tower.project(patches), grid))


def finish_block(
    tower: BlockTower,
    attended: Tensor,
    tokens: Tensor,
    *,
    residual: bool = True,
    feed_forward: bool = True,
    index: int = -1,
) -> Tensor:
    """What follows a block's attention: output projection, then residual and feed-forward part if wanted.

    Args:
        tower: The frozen tower.
        attended: ``(B, M, N, d)`` attended values.
        tokens: ``(B, N, D)`` the same tokens before the block.
        residual: Add ``tokens`` to the attention's output.
        feed_forward: Run the MLP, with its own residual.
        index: Which block, from the end if negative.
    """
    block = index % tower.depth
    mixed = tower.attention_output(block, attended)
    if residual:
        mixed = tokens + mixed
    return mixed + tower.mlp(block, mixed) if feed_forward else mixed


def require_class_token(tower: BlockTower, use: str, instead: str) -> None:
    """Refuse a setting that reads the class token of a tower that has none.

    Args:
        tower: The image tower.
        use: Who reads it and for what, the beginning of the message.
        instead: The setting that does without.

    Raises:
        ConfigError: The tower has none.
    """
    if not tower.has_class_token:
        raise ConfigError(
            f"{use}, and the image tower ({tower.kind}) has none; {instead}, or choose another method"
        )


def cosines(features: Tensor, text: Tensor) -> Tensor:
    """Cosines ``(B, K, h, w)`` of ``(B, E, h, w)`` features of any length and words ``(K, E)``, float32."""
    unit = F.normalize(features.float(), dim=1)
    return (text.float() @ unit.flatten(2)).unflatten(2, features.shape[-2:])


def block_index(position: BlockPosition, depth: int, *, what: str) -> int:
    """Index from 0 of a block named by its number or by its place in the depth.

    Args:
        position: An int counts blocks, from the end if negative. A float from 0 to below 1 is a fraction of
            the depth: 0.25 is block 3 of 12 and block 6 of 24; halves round up.
        depth: Blocks of the tower.
        what: Name of the setting, for the message.

    Raises:
        ConfigError: No such block.
    """
    index = int(position * depth + 0.5) if isinstance(position, float) else position
    if isinstance(position, float) and not 0 <= position < 1:
        raise ConfigError(f"{what}: expected a fraction of the depth from 0 to below 1, got {position}")
    if not -depth <= index < depth:
        raise ConfigError(f"{what}: the tower has {depth} blocks (0 to {depth - 1}), got {position}")
    return index % depth


def inner_block(position: BlockPosition, depth: int, *, what: str) -> int:
    """:func:`block_index` of a block before the last; fractions that fall on the last take the one before it.

    Raises:
        ConfigError: No such block, or the last one by its number.
    """
    index = block_index(position, depth, what=what)
    if index == depth - 1 and not isinstance(position, float):
        raise ConfigError(f"{what}: expected a block before the last of {depth}, got {position}")
    return max(min(index, depth - 2), 0)


def block_count(count: BlockPosition, depth: int, *, what: str) -> int:
    """How many of the last blocks a method changes; an int counts them, a float is a fraction of the depth.

    Raises:
        ConfigError: Below 1 block or more than the tower has.
    """
    blocks = int(count * depth + 0.5) if isinstance(count, float) else count
    if not 1 <= blocks <= depth:
        raise ConfigError(f"{what}: expected 1 to {depth} blocks (or a fraction of the depth), got {count}")
    return blocks
