"""SigLIP and SigLIP 2 of fixed resolution: no class token, a head that pools by attention, a sigmoid with a bias.

Zhai et al., ICCV 2023; Tschannen et al., 2025. ``transformers`` holds both under the one name ``siglip``.
"""

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor

from lexiseg.clip.tokenizer import TextTokenizer, lowercase_tokenizer
from lexiseg.clip.towers.blocks import ClipBlocks
from lexiseg.clip.towers.family import Family
from lexiseg.clip.towers.text import TextTower, named_weights
from lexiseg.errors import ConfigError
from lexiseg.ops.grid import resize_position_embedding
from lexiseg.types import Color, PositionMode

if TYPE_CHECKING:
    from transformers import SiglipModel

_HALF: Color = (0.5, 0.5, 0.5)
"""Mean and standard deviation of SigLIP's own preprocessing."""


class SiglipTower(ClipBlocks):
    """A frozen SigLIP ViT.

    The image embedding is one learned query's attention over all patches, then a residual MLP. Read densely, every
    patch passes that head as if it were the only one: the attention over one patch is its value, so ``y = O(v)``,
    ``y += MLP(LN y)``, as MaskCLIP reads the attention pooling of a ResNet (Zhou, Loy, Dai, ECCV 2022).

    Args:
        model: transformers' SigLIP.
        colors: Mean and standard deviation of RGB in [0, 1] that it was trained with.

    Raises:
        ConfigError: It has no pooling head, without which nothing reaches the words' space.
    """

    kind = "SigLIP"
    prefix_tokens = 0
    has_class_token = False
    position_mode: PositionMode | None = "bicubic"

    def __init__(self, model: "SiglipModel", *, colors: tuple[Color, Color] = (_HALF, _HALF)) -> None:
        config: Any = model.config.vision_config
        super().__init__(config, embed_dim=config.hidden_size, colors=colors)
        if not getattr(config, "vision_use_head", True):
            raise ConfigError(
                "this SigLIP has no pooling head (vision_use_head=false), so its patches do not reach the words' space; "
                "take one with it, such as google/siglip2-base-patch16-224"
            )
        self.vision = model.vision_model
        self.requires_grad_(requires_grad=False)

    def embed(self, images: Tensor, *, position_mode: PositionMode = "bicubic") -> Tensor:
        """Normalised ``(B, 3, H, W)`` to the tokens ``(B, h*w, D)`` that enter the first block."""
        embeddings = self.vision.embeddings
        grid = self.grid(images)
        patches = embeddings.patch_embedding(images).flatten(2).transpose(1, 2)
        position = embeddings.position_embedding.weight
        return patches + resize_position_embedding(position, grid, position_mode, prefix=0)

    def project(self, tokens: Tensor) -> Tensor:
        """Final norm and the head's value path, every token on its own: ``(…, D)`` to ``(…, D)``, not normalised."""
        head = self.vision.head
        weight, bias = head.attention.in_proj_weight, head.attention.in_proj_bias
        value = F.linear(self.vision.post_layernorm(tokens), weight[-self.width :], bias[-self.width :])
        pooled = head.attention.out_proj(value)
        return pooled + head.mlp(head.layernorm(pooled))

    @property
    def unread_parameters(self) -> tuple[str, ...]:
        """Beginnings of the names of parameters that :meth:`dense_features` never reads."""
        return ("vision.head.probe",)

    def forward(self, images: Tensor, *, position_mode: PositionMode = "bicubic") -> Tensor:
        """Image embeddings ``(B, D)``, not normalised: what the head's query gathers from all patches."""
        return self.vision.head(self.vision.post_layernorm(self.run(images, position_mode=position_mode)))

    def weights(self) -> dict[str, Tensor]:
        """All weights under the names that transformers' model of both towers gives them."""
        return named_weights({"vision_model": self.vision})


class SiglipTextTower(TextTower):
    """SigLIP's text tower: every token sees every other, padding too, and the last of 64 places is read."""

    pooling: str = "last token"

    def __init__(self, model: "SiglipModel", tokenizer: TextTokenizer) -> None:
        config: Any = model.config.text_config
        super().__init__(model, tokenizer, embed_dim=config.projection_size)
        self.requires_grad_(requires_grad=False)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Token ids ``(B, context)``, padded to the whole context, to text embeddings ``(B, embed_dim)``."""
        return self.text(input_ids=token_ids).pooler_output

    def weights(self) -> dict[str, Tensor]:
        """All weights under the names that transformers' model of both towers gives them."""
        return named_weights({"text_model": self.text})


SIGLIP = Family(
    model_class="SiglipModel",
    image_tower=SiglipTower,
    text_tower=SiglipTextTower,
    tokenizer=lowercase_tokenizer,
    colors=(_HALF, _HALF),
)
