"""TIPSv2: patches trained to match words, register tokens, texts read as the mean of their tokens (``tipsv2``)."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lexiseg.clip.tokenizer import TextTokenizer, lowercase_tokenizer
from lexiseg.clip.towers.blocks import TransformerTower
from lexiseg.clip.towers.family import Family
from lexiseg.clip.towers.text import TextTower, named_weights
from lexiseg.ops.grid import resize_position_embedding
from lexiseg.types import Color, PositionMode

if TYPE_CHECKING:
    from transformers import Tipsv2Model

_BLACK: Color = (0.0, 0.0, 0.0)
_WHITE: Color = (1.0, 1.0, 1.0)
"""TIPS takes RGB in [0, 1] as it is."""


class TipsTower(TransformerTower):
    """A frozen TIPSv2 ViT: class token, registers, patches; blocks as in DINOv2, with a scale on what each adds.

    Its first register is a second class token, trained on synthetic captions; the image embedding is the first class
    token, as in transformers. Nothing stands between the last norm and the words, for patches as for the class token.

    Args:
        model: transformers' TIPSv2.
        colors: Mean and standard deviation of RGB in [0, 1] that it was trained with.
    """

    aligned_patches = True
    position_mode: PositionMode | None = "bilinear_antialias"

    def __init__(self, model: "Tipsv2Model", *, colors: tuple[Color, Color] = (_BLACK, _WHITE)) -> None:
        config: Any = model.config.vision_config
        super().__init__(config, embed_dim=config.hidden_size, colors=colors)
        self.prefix_tokens = 1 + config.num_register_tokens
        self.vision = model.vision_model
        self.requires_grad_(requires_grad=False)

    def embed(self, images: Tensor, *, position_mode: PositionMode = "bilinear_antialias") -> Tensor:
        """Normalised ``(B, 3, H, W)`` to the tokens ``(B, 1 + registers + h*w, D)`` that enter the first block."""
        embeddings: Any = self.vision.embeddings
        grid = self.grid(images)
        patches = embeddings.patch_embeddings.projection(images).flatten(2).transpose(1, 2)
        position = resize_position_embedding(embeddings.position_embeddings[0], grid, position_mode)
        cls = (embeddings.cls_token[0] + position[:1]).expand(len(images), -1, -1)
        registers = embeddings.register_tokens.expand(len(images), -1, -1)  # they stand nowhere in the image
        return torch.cat([cls, registers, patches + position[1:]], dim=1)

    def projections(self, index: int) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """Query, key and value projection of block ``index``."""
        attention = self._layer(index).attention
        return attention.q_proj, attention.k_proj, attention.v_proj

    def attention_output(self, index: int, heads: Tensor) -> Tensor:
        """Attended heads ``(B, M, N, d)`` projected and scaled, as block ``index`` adds them: ``(B, N, D)``."""
        layer = self._layer(index)
        return layer.layer_scale1(layer.attention.o_proj(heads.transpose(1, 2).flatten(2)))

    def norm1(self, index: int, tokens: Tensor) -> Tensor:
        """The layer norm before block ``index``'s attention."""
        return self._layer(index).norm1(tokens)

    def mlp(self, index: int, tokens: Tensor) -> Tensor:
        """What the second half of block ``index`` adds: ``scale · MLP(LN(x))``, without the residual."""
        layer = self._layer(index)
        return layer.layer_scale2(layer.mlp(layer.norm2(tokens)))

    def project(self, tokens: Tensor) -> Tensor:
        """The final layer norm, ``(…, D)`` to ``(…, D)``: words live in the same space."""
        return self.vision.layernorm(tokens)

    @property
    def unread_parameters(self) -> tuple[str, ...]:
        """Beginnings of the names of parameters that :meth:`dense_features` never reads."""
        return ("vision.embeddings.mask_token",)

    def forward(self, images: Tensor, *, position_mode: PositionMode = "bilinear_antialias") -> Tensor:
        """Image embeddings ``(B, D)``, not normalised: the first class token."""
        return self.project(self.run(images, position_mode=position_mode)[:, 0])

    def weights(self) -> dict[str, Tensor]:
        """All weights under the names that transformers' model of both towers gives them."""
        return named_weights({"vision_model": self.vision})

    def _layer(self, index: int) -> Any:
        return self.vision.encoder.layer[index]


class TipsTextTower(TextTower):
    """TIPSv2's text tower: every token sees every other but padding, and their mean is read."""

    pooling: str = "mean of tokens"

    def __init__(self, model: "Tipsv2Model", tokenizer: TextTokenizer) -> None:
        config: Any = model.config.text_config
        super().__init__(model, tokenizer, embed_dim=config.hidden_size)
        self._padding = config.pad_token_id or 0
        self.requires_grad_(requires_grad=False)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Token ids ``(B, N)`` to text embeddings ``(B, embed_dim)``, not normalised; padding is not seen."""
        told = (token_ids != self._padding).long()
        return self.text(input_ids=token_ids, attention_mask=told).pooler_output

    def shorten(self, ids: Tensor) -> Tensor:
        """Token ids without the last columns that are padding in every row; no marker ends a sentence here."""
        told = (ids != self._padding).any(dim=0).nonzero()
        return ids[:, : int(told[-1]) + 1] if len(told) else ids[:, :1]

    def weights(self) -> dict[str, Tensor]:
        """All weights under the names that transformers' model of both towers gives them."""
        return named_weights({"text_model": self.text})


TIPS = Family(
    model_class="Tipsv2Model",
    image_tower=TipsTower,
    text_tower=TipsTextTower,
    tokenizer=lowercase_tokenizer,
    colors=(_BLACK, _WHITE),
)
