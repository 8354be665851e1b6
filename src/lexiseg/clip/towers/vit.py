"""CLIP's image tower, frozen, stepped block by block; MetaCLIP 2's too, which is the same with other weights."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lexiseg.clip.tokenizer import folder_tokenizer, huggingface_tokenizer
from lexiseg.clip.towers.blocks import ClipBlocks
from lexiseg.clip.towers.family import Family
from lexiseg.clip.towers.text import ClipTextTower, named_weights
from lexiseg.constants import CLIP_MEAN, CLIP_STD
from lexiseg.ops.grid import resize_position_embedding, tokens_to_map
from lexiseg.types import Color, PositionMode

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPVisionModelWithProjection


class VisionTower(ClipBlocks):
    """A frozen CLIP ViT whose parts can be called one by one.

    Args:
        model: transformers' CLIP, or any model with the same parts.
        colors: Mean and standard deviation of RGB in [0, 1] that it was trained with.
    """

    takes_prompts = True

    def __init__(
        self,
        model: "CLIPModel | CLIPVisionModelWithProjection",
        *,
        colors: tuple[Color, Color] = (CLIP_MEAN, CLIP_STD),
    ) -> None:
        config: Any = getattr(model.config, "vision_config", model.config)
        super().__init__(config, embed_dim=model.visual_projection.out_features, colors=colors)
        self.vision = model.vision_model
        self.visual_projection = model.visual_projection
        self.requires_grad_(requires_grad=False)

    @property
    def positions(self) -> Tensor:
        """Position embedding ``(1 + n*n, D)``, class token first."""
        weight: Tensor = self.vision.embeddings.position_embedding.weight
        return weight

    def embed(
        self,
        images: Tensor,
        *,
        position_mode: PositionMode = "bicubic",
        class_embedding_twice: bool = False,
        positions: Tensor | None = None,
        change_patches: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Patches to the tokens that enter the first block.

        Args:
            images: ``(B, 3, H, W)``, normalised; any rectangle that the patch size divides.
            position_mode: How the position embedding is brought to this grid.
            class_embedding_twice: Add the class embedding a second time, as ZegCLIP, SPT-SEG and Cascade-CLIP do
                (their positional row for the class token already holds it).
            positions: Instead of :attr:`positions`, of the same shape: a trained copy.
            change_patches: Applied to the patch vectors ``(B, h*w, D)`` before class token and positions come to them.

        Returns:
            ``(B, 1 + h*w, D)``, class token first, after the first layer norm.
        """
        embeddings = self.vision.embeddings
        grid = self.grid(images)
        patches = embeddings.patch_embedding(images).flatten(2).transpose(1, 2)  # (B, N, D)
        if change_patches is not None:
            patches = change_patches(patches)
        native = self.positions if positions is None else positions
        position = resize_position_embedding(native, grid, position_mode)
        cls = embeddings.class_embedding + position[0]
        if class_embedding_twice:
            cls = cls + embeddings.class_embedding
        tokens = torch.cat([cls.expand(images.shape[0], 1, -1), patches + position[1:]], dim=1)
        return self.vision.pre_layrnorm(tokens)

    def project(self, tokens: Tensor) -> Tensor:
        """Final layer norm and projection: ``(…, D)`` to ``(…, embed_dim)``, not normalised."""
        return self.visual_projection(self.vision.post_layernorm(tokens))

    @property
    def unread_parameters(self) -> tuple[str, ...]:
        """Beginnings of the names of parameters that :meth:`dense_features` never reads."""
        last = f"vision.encoder.layers.{self.depth - 1}.self_attn"
        return (f"{last}.q_proj", f"{last}.k_proj")

    def dense_features(self, images: Tensor, *, position_mode: PositionMode | None = None) -> Tensor:
        """Patch features ``(B, embed_dim, h, w)`` as PixelCLIP reads and trains them, not normalised.

        In the last block each patch takes its own value, and the class token x0 stands in for the residual of all:
        ``y = x0 + O(v)``, ``y += MLP(LN y)``, then final norm and projection (PixelCLIP, as released).
        """
        grid, last = self.grid(images), self.depth - 1
        tokens = self.embed(images, position_mode=position_mode or "bicubic")
        for index in range(last):
            tokens = self.block(index, tokens)
        values = self.value(last, self.norm1(last, tokens[:, 1:]))
        patches = tokens[:, :1] + self.attention_output(last, values)
        return tokens_to_map(self.project(patches + self.mlp(last, patches)), grid)

    def forward(self, images: Tensor, *, position_mode: PositionMode = "bicubic") -> Tensor:
        """Image embeddings ``(B, embed_dim)``, not normalised: the stock CLIP reading of the class token."""
        return self.project(self.run(images, position_mode=position_mode)[:, 0])

    def weights(self) -> dict[str, Tensor]:
        """All weights under the names that transformers' model of both towers gives them."""
        return named_weights({"vision_model": self.vision, "visual_projection": self.visual_projection})


CLIP = Family(
    model_class="CLIPModel",
    image_tower=VisionTower,
    text_tower=ClipTextTower,
    tokenizer=huggingface_tokenizer,
    colors=(CLIP_MEAN, CLIP_STD),
)

META_CLIP_2 = Family(
    model_class="MetaClip2Model",
    image_tower=VisionTower,
    text_tower=ClipTextTower,
    tokenizer=folder_tokenizer,
    colors=(CLIP_MEAN, CLIP_STD),
)
"""MetaCLIP 2 (Chuang et al., 2025): CLIP's towers, a tokenizer for every language."""
