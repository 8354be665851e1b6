"""A frozen image tower of transformer blocks, stepped one by one: what all families share.

``transformers`` holds the weights; we run its layers ourselves because prompts, intermediate stages and the last
block's attention must be reachable, and because a frozen tower can be read with far less memory than a trained one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.errors import ConfigError
from lexiseg.ops.activation import quick_gelu
from lexiseg.ops.grid import tokens_to_map
from lexiseg.types import Color, PositionMode


def _tanh_gelu(inputs: Tensor) -> Tensor:
    return F.gelu(inputs, approximate="tanh")


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
}


class TransformerTower(nn.Module, ABC):
    """Steps the blocks of a frozen ViT; a family says how it embeds, projects and pools.

    Letters: B images, M heads, N tokens, prefix included, D channels of a token, d = D / M, E of the joint space.

    Args:
        config: transformers' description of the image tower.
        embed_dim: E.
        colors: Mean and standard deviation of RGB in [0, 1] that it was trained with.

    Attributes:
        depth: Number of blocks.
        width: D.
        num_heads: M, of every block.
        patch_size: Side of a patch in pixels.
        image_size: Native square input side in pixels.
        others: See :class:`~lexiseg.types.ImageTower`.

    Raises:
        ConfigError: An activation that is not known here, or patches or images that are not square.
    """

    kind = "ViT"
    prefix_tokens = 1
    has_class_token = True
    has_blocks = True
    takes_prompts = False
    aligned_patches = False
    own_reading: str | None = None
    position_mode: PositionMode | None = None

    def __init__(self, config: Any, *, embed_dim: int, colors: tuple[Color, Color]) -> None:
        super().__init__()
        self.mean, self.std = colors
        self.depth: int = config.num_hidden_layers
        self.width: int = config.hidden_size
        self.num_heads: int = config.num_attention_heads
        self.patch_size: int = square_side(config, "patch_size")
        self.image_size: int = square_side(config, "image_size")
        self.embed_dim = embed_dim
        if config.hidden_act not in _ACTIVATIONS:
            raise ConfigError(
                f"CLIP activation '{config.hidden_act}' is not supported; expected one of {', '.join(_ACTIVATIONS)}"
            )
        self._activation = _ACTIVATIONS[config.hidden_act]

    @abstractmethod
    def embed(self, images: Tensor, *, position_mode: PositionMode = "bicubic") -> Tensor:
        """Normalised ``(B, 3, H, W)`` to the tokens ``(B, N, D)`` that enter the first block."""

    @abstractmethod
    def projections(self, index: int) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """Query, key and value projection of block ``index``."""

    @abstractmethod
    def attention_output(self, index: int, heads: Tensor) -> Tensor:
        """Merge attended heads ``(B, M, N, d)`` to what block ``index``'s attention adds, ``(B, N, D)``."""

    @abstractmethod
    def norm1(self, index: int, tokens: Tensor) -> Tensor:
        """The layer norm before block ``index``'s attention."""

    @abstractmethod
    def mlp(self, index: int, tokens: Tensor) -> Tensor:
        """What the second half of block ``index`` adds: ``MLP(LN(x))``, without the residual."""

    @abstractmethod
    def project(self, tokens: Tensor) -> Tensor:
        """Tokens after the last block, each on its own: ``(…, D)`` to ``(…, E)``, not normalised."""

    @property
    @abstractmethod
    def unread_parameters(self) -> tuple[str, ...]:
        """Beginnings of the names of parameters that :meth:`dense_features` never reads."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """All weights under the names that transformers' model of both towers gives them."""

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Patch grid ``(h, w)`` of ``(B, 3, H, W)`` images.

        Raises:
            ConfigError: H or W is not a multiple of the patch size.
        """
        return patch_grid(images, self.patch_size)

    def qkv(self, index: int, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of block ``index``, each ``(B, M, N, d)``, from normed tokens."""
        return self.query(index, normed), self.key(index, normed), self.value(index, normed)

    def query(self, index: int, normed: Tensor) -> Tensor:
        """Queries alone, ``(B, M, N, d)``."""
        return self.split_heads(self.projections(index)[0](normed))

    def key(self, index: int, normed: Tensor) -> Tensor:
        """Keys alone, ``(B, M, N, d)``."""
        return self.split_heads(self.projections(index)[1](normed))

    def value(self, index: int, normed: Tensor) -> Tensor:
        """Values alone, ``(B, M, N, d)``."""
        return self.split_heads(self.projections(index)[2](normed))

    def split_heads(self, tokens: Tensor) -> Tensor:
        """Cut the channels of ``(B, N, D)`` into ``(B, M, N, d)``."""
        return tokens.unflatten(-1, (self.num_heads, self.width // self.num_heads)).transpose(1, 2)

    def block(self, index: int, tokens: Tensor) -> Tensor:
        """Run block ``index`` (from 0) on ``(B, N, D)`` tokens, any N."""
        query, key, value = self.qkv(index, self.norm1(index, tokens))
        attended = F.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.attention_output(index, attended)
        return tokens + self.mlp(index, tokens)

    def run(self, images: Tensor, *, position_mode: PositionMode | None = None) -> Tensor:
        """Tokens ``(B, N, D)`` after the last block, before any norm."""
        tokens = self.embed(images, position_mode=position_mode or self.position_mode or "bicubic")
        for index in range(self.depth):
            tokens = self.block(index, tokens)
        return tokens

    def dense_features(self, images: Tensor, *, position_mode: PositionMode | None = None) -> Tensor:
        """Patch features ``(B, E, h, w)`` after the last block, projected one by one, not normalised."""
        tokens = self.run(images, position_mode=position_mode)
        return tokens_to_map(self.project(tokens[:, self.prefix_tokens :]), self.grid(images))

    def block_tokens(self, images: Tensor) -> Iterator[Tensor]:
        """Patch tokens ``(B, h*w, D)`` after every block, from the first."""
        tokens = self.embed(images, position_mode=self.position_mode or "bicubic")
        for index in range(self.depth):
            tokens = self.block(index, tokens)
            yield tokens[:, self.prefix_tokens :]


class ClipBlocks(TransformerTower):
    """Blocks as transformers names them in CLIP and in all that took over its layers, under ``vision``."""

    vision: Any

    def projections(self, index: int) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """Query, key and value projection of block ``index``."""
        attention = self.vision.encoder.layers[index].self_attn
        return attention.q_proj, attention.k_proj, attention.v_proj

    def attention_output(self, index: int, heads: Tensor) -> Tensor:
        """Merge attended heads ``(B, M, N, d)`` by block ``index``'s output projection to ``(B, N, D)``."""
        return self.vision.encoder.layers[index].self_attn.out_proj(heads.transpose(1, 2).flatten(2))

    def norm1(self, index: int, tokens: Tensor) -> Tensor:
        """The layer norm before block ``index``'s attention."""
        return self.vision.encoder.layers[index].layer_norm1(tokens)

    def mlp(self, index: int, tokens: Tensor) -> Tensor:
        """What the second half of block ``index`` adds: ``MLP(LN(x))``, without the residual."""
        layer = self.vision.encoder.layers[index]
        return layer.mlp.fc2(self._activation(layer.mlp.fc1(layer.layer_norm2(tokens))))


def patch_grid(images: Tensor, patch: int) -> tuple[int, int]:
    """Patch grid ``(h, w)`` of ``(B, 3, H, W)`` images.

    Raises:
        ConfigError: H or W is not a multiple of the patch size.
    """
    height, width = images.shape[-2:]
    if height % patch or width % patch or not height or not width:
        needed = (-(-height // patch) * patch, -(-width // patch) * patch)
        raise ConfigError(
            f"image of {height}×{width} pixels is no multiple of the patch size {patch}; "
            f"pad it to {needed[0]}×{needed[1]}"
        )
    return height // patch, width // patch


def square_side(config: Any, name: Literal["patch_size", "image_size"]) -> int:
    """A side in pixels, which transformers may hold twice."""
    value = getattr(config, name)
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) != 1:
        raise ConfigError(f"the image tower's {name} is {list(value)}; expected a square one")
    return int(sides.pop())
