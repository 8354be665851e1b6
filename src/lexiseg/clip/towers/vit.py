"""CLIP's image tower, frozen, stepped block by block.

``transformers`` holds the weights; we run its layers ourselves because prompts, intermediate stages and the last
block's attention must be reachable, and because a frozen tower can be read with far less memory than a trained one.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel, CLIPVisionModelWithProjection

from lexiseg.errors import ConfigError
from lexiseg.ops.activation import quick_gelu
from lexiseg.ops.grid import PositionMode, resize_position_embedding, tokens_to_map

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"quick_gelu": quick_gelu, "gelu": F.gelu}


class VisionTower(nn.Module):
    """A frozen CLIP ViT whose parts can be called one by one.

    Attributes:
        depth: Number of blocks.
        width: Channels D of a token.
        embed_dim: Channels of the joint image-text space.
        patch_size: Side of a patch in pixels.
        num_heads: Attention heads of every block.
        image_size: Native square input side in pixels.
    """

    def __init__(self, model: CLIPModel | CLIPVisionModelWithProjection) -> None:
        super().__init__()
        config: Any = getattr(model.config, "vision_config", model.config)
        self.depth: int = config.num_hidden_layers
        self.width: int = config.hidden_size
        self.patch_size: int = config.patch_size
        self.num_heads: int = config.num_attention_heads
        self.image_size: int = config.image_size
        self.embed_dim: int = model.visual_projection.out_features
        if config.hidden_act not in _ACTIVATIONS:
            raise ConfigError(
                f"CLIP activation '{config.hidden_act}' is not supported; expected one of {', '.join(_ACTIVATIONS)}"
            )
        self._activation = _ACTIVATIONS[config.hidden_act]
        self.vision = model.vision_model
        self.visual_projection = model.visual_projection
        self.requires_grad_(requires_grad=False)

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Patch grid ``(h, w)`` of ``(B, 3, H, W)`` images.

        Raises:
            ConfigError: H or W is not a multiple of the patch size.
        """
        height, width = images.shape[-2:]
        patch = self.patch_size
        if height % patch or width % patch or not height or not width:
            needed = (-(-height // patch) * patch, -(-width // patch) * patch)
            raise ConfigError(
                f"image of {height}×{width} pixels is no multiple of the patch size {patch}; "
                f"pad it to {needed[0]}×{needed[1]}"
            )
        return height // patch, width // patch

    def embed(
        self, images: Tensor, *, position_mode: PositionMode = "bicubic", class_embedding_twice: bool = False
    ) -> Tensor:
        """Patches to the tokens that enter the first block.

        Args:
            images: ``(B, 3, H, W)``, normalised; any rectangle that the patch size divides.
            position_mode: How the position embedding is brought to this grid.
            class_embedding_twice: Add the class embedding a second time, as ZegCLIP, SPT-SEG and Cascade-CLIP do
                (their positional row for the class token already holds it).

        Returns:
            ``(B, 1 + h*w, D)``, class token first, after the first layer norm.
        """
        embeddings = self.vision.embeddings
        grid = self.grid(images)
        patches = embeddings.patch_embedding(images).flatten(2).transpose(1, 2)  # (B, N, D)
        position = resize_position_embedding(embeddings.position_embedding.weight, grid, position_mode)
        cls = embeddings.class_embedding + position[0]
        if class_embedding_twice:
            cls = cls + embeddings.class_embedding
        tokens = torch.cat([cls.expand(images.shape[0], 1, -1), patches + position[1:]], dim=1)
        return self.vision.pre_layrnorm(tokens)

    def qkv(self, index: int, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of block ``index``, each ``(B, heads, N, D / heads)``, from normed tokens."""
        return self.query(index, normed), self.key(index, normed), self.value(index, normed)

    def query(self, index: int, normed: Tensor) -> Tensor:
        """Queries alone, ``(B, heads, N, D / heads)``."""
        return self.split_heads(self.vision.encoder.layers[index].self_attn.q_proj(normed))

    def key(self, index: int, normed: Tensor) -> Tensor:
        """Keys alone, ``(B, heads, N, D / heads)``."""
        return self.split_heads(self.vision.encoder.layers[index].self_attn.k_proj(normed))

    def value(self, index: int, normed: Tensor) -> Tensor:
        """Values alone, ``(B, heads, N, D / heads)``."""
        return self.split_heads(self.vision.encoder.layers[index].self_attn.v_proj(normed))

    def split_heads(self, tokens: Tensor) -> Tensor:
        """Cut the channels of ``(B, N, D)`` into ``(B, heads, N, D / heads)``."""
        return tokens.unflatten(-1, (self.num_heads, self.width // self.num_heads)).transpose(1, 2)

    def attention_output(self, index: int, heads: Tensor) -> Tensor:
        """Merge attended heads ``(B, heads, N, D / heads)`` by block ``index``'s output projection to ``(B, N, D)``."""
        return self.vision.encoder.layers[index].self_attn.out_proj(heads.transpose(1, 2).flatten(2))

    def norm1(self, index: int, tokens: Tensor) -> Tensor:
        """The layer norm before block ``index``'s attention."""
        return self.vision.encoder.layers[index].layer_norm1(tokens)

    def mlp(self, index: int, tokens: Tensor) -> Tensor:
        """Second half of block ``index``: ``MLP(LN(x))``, without the residual."""
        layer = self.vision.encoder.layers[index]
        return layer.mlp.fc2(self._activation(layer.mlp.fc1(layer.layer_norm2(tokens))))

    def block(self, index: int, tokens: Tensor) -> Tensor:
        """Run block ``index`` (from 0) on ``(B, N, D)`` tokens, any N."""
        query, key, value = self.qkv(index, self.norm1(index, tokens))
        attended = F.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.attention_output(index, attended)
        return tokens + self.mlp(index, tokens)

    def post_norm(self, tokens: Tensor) -> Tensor:
        """The final layer norm."""
        return self.vision.post_layernorm(tokens)

    def project(self, tokens: Tensor) -> Tensor:
        """Final layer norm and projection: ``(…, D)`` to ``(…, embed_dim)``, not normalised."""
        return self.visual_projection(self.post_norm(tokens))

    @property
    def unread_parameters(self) -> tuple[str, ...]:
        """Beginnings of the names of parameters that :meth:`dense_features` never reads."""
        last = f"vision.encoder.layers.{self.depth - 1}.self_attn"
        return (f"{last}.q_proj", f"{last}.k_proj")

    def dense_features(self, images: Tensor, *, position_mode: PositionMode = "bicubic") -> Tensor:
        """Patch features ``(B, embed_dim, h, w)`` as PixelCLIP reads and trains them, not normalised.

        In the last block each patch takes its own value, and the class token x0 stands in for the residual of all:
        ``y = x0 + O(v)``, ``y += MLP(LN y)``, then final norm and projection (PixelCLIP, as released).
        """
        grid, last = self.grid(images), self.depth - 1
        tokens = self.embed(images, position_mode=position_mode)
        for index in range(last):
            tokens = self.block(index, tokens)
        values = self.value(last, self.norm1(last, tokens[:, 1:]))
        patches = tokens[:, :1] + self.attention_output(last, values)
        return tokens_to_map(self.project(patches + self.mlp(last, patches)), grid)

    def forward(self, images: Tensor, *, position_mode: PositionMode = "bicubic") -> Tensor:
        """Image embeddings ``(B, embed_dim)``, not normalised: the stock CLIP reading of the class token."""
        tokens = self.embed(images, position_mode=position_mode)
        for index in range(self.depth):
            tokens = self.block(index, tokens)
        return self.project(tokens[:, 0])
