"""SAM 3, which is asked for a concept in words: an image tower whose answers are of one word each (Carion et al., 2025)."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.clip.tokenizer import TextTokenizer, huggingface_tokenizer
from lexiseg.clip.towers.blocks import square_side
from lexiseg.clip.towers.family import Family
from lexiseg.clip.towers.text import TextTower, named_weights, without_padding
from lexiseg.errors import ConfigError
from lexiseg.ops.grid import map_to_tokens
from lexiseg.types import Color, ConceptAnswers, PositionMode

if TYPE_CHECKING:
    from transformers import Sam3Model

_COLORS: tuple[Color, Color] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_TEXT = ("text_encoder.", "text_projection.")
"""Beginnings of the names of what reads words."""


class Sam3Tower(nn.Module):
    """A frozen SAM 3 without its memory of films: looks once, then answers one word after another.

    It reads squares of its own size alone, whole photographs stretched to them: its attention knows the places of these.

    Args:
        model: transformers' SAM 3.
        colors: Mean and standard deviation of RGB in [0, 1] that it was trained with.

    Attributes:
        word_width: Channels of a token of a word.
        cells_per_patch: Cells of a mask in a patch.
        others: See :class:`~lexiseg.types.ConceptTower`.
    """

    kind = "SAM 3"
    prefix_tokens = 0
    has_class_token = False
    has_blocks = False
    takes_prompts = False
    aligned_patches = False
    own_reading: str | None = "sam3"
    position_mode: PositionMode | None = None

    def __init__(self, model: "Sam3Model", *, colors: tuple[Color, Color] = _COLORS) -> None:
        super().__init__()
        self.mean, self.std = colors
        config: Any = model.config
        backbone = config.vision_config.backbone_config
        self.patch_size: int = square_side(backbone, "patch_size")
        self.image_size: int = square_side(backbone, "image_size")
        self.embed_dim: int = config.vision_config.fpn_hidden_size
        self.word_width: int = config.detr_encoder_config.hidden_size
        self.cells_per_patch = int(max(config.vision_config.scale_factors) ** 2)
        self.model: Any = model
        self.requires_grad_(requires_grad=False)
        self.eval()

    def train(self, mode: bool = True) -> "Sam3Tower":
        """Stay in evaluation mode: in training transformers drops parts of the answer."""
        return super().train(mode=False)

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Patch grid ``(h, w)`` of ``(B, 3, H, W)`` images; ``ConfigError`` for others than squares of the native side."""
        height, width = images.shape[-2:]
        if (height, width) != (self.image_size, self.image_size):
            raise ConfigError(
                f"this SAM 3 reads squares of {self.image_size} pixels, got {height}×{width}; set "
                f"protocol.stretch={self.image_size} and no window"
            )
        return height // self.patch_size, width // self.patch_size

    def look(self, images: Tensor) -> Any:
        """Normalised ``(B, 3, H, W)`` to what :meth:`answer` asks, however many words."""
        self.grid(images)
        return self.model.vision_encoder(images)

    def answer(self, seen: Any, word: Tensor) -> ConceptAnswers:
        """What the images show of one word.

        Args:
            seen: What :meth:`look` gave of B images.
            word: ``(context * word_width,)`` as the text tower gives it, tokens that are padding at 0.
        """
        tokens = word.view(1, -1, self.word_width)
        told = (tokens != 0).any(dim=2)
        tokens = tokens[:, : int(told.sum())].expand(len(seen.fpn_hidden_states[0]), -1, -1).contiguous()
        # Versions of transformers differ in whether they take the tensor itself or look for this attribute of it.
        tokens.pooler_output = tokens.view_as(tokens)  # type: ignore[attr-defined]
        found = self.model(vision_embeds=seen, text_embeds=tokens)
        return ConceptAnswers(
            found.pred_masks, found.pred_logits, found.presence_logits.view(-1, 1), found.semantic_seg
        )

    def dense_features(self, images: Tensor) -> Tensor:
        """Normalised ``(B, 3, H, W)`` to ``(B, C, h, w)``: the map that its detector starts from. No word compares with it."""
        maps: Tensor = self.look(images).fpn_hidden_states[-2]
        return maps

    def block_tokens(self, images: Tensor) -> Iterator[Tensor]:
        """Patch tokens ``(B, h*w, D)`` after every block."""
        backbone = self.model.vision_encoder.backbone
        tokens = backbone.layer_norm(backbone.embeddings(images).unflatten(1, self.grid(images)))
        for layer in backbone.layers:
            tokens = layer(tokens)
            yield tokens.flatten(1, 2)

    @property
    def unread_parameters(self) -> tuple[str, ...]:
        """Beginnings of the names of parameters that :meth:`dense_features` never reads."""
        parts = (name for name, _ in self.model.named_children() if name != "vision_encoder")
        return tuple(f"model.{name}." for name in parts)

    def forward(self, images: Tensor) -> Tensor:
        """Image embeddings ``(B, C)``, the mean of :meth:`dense_features`."""
        return map_to_tokens(self.dense_features(images)).mean(dim=1)

    def weights(self) -> dict[str, Tensor]:
        """All weights but those that read words, under the names that transformers' model gives them."""
        return {name: w for name, w in self.model.state_dict().items() if not name.startswith(_TEXT)}


class Sam3TextTower(TextTower):
    """SAM 3's text tower: a word is all of its tokens, side by side, and neither pooled nor of unit length."""

    pooling = "every token"
    unit_sentences = False
    pools = False

    def __init__(self, model: "Sam3Model", tokenizer: TextTokenizer) -> None:
        config: Any = model.config
        self.word_width: int = config.detr_encoder_config.hidden_size
        width = config.text_config.max_position_embeddings * self.word_width
        parts = SimpleNamespace(text_model=model.text_encoder, config=config)
        super().__init__(parts, tokenizer, embed_dim=width)
        self.text_projection: Any = model.text_projection
        self._end: int = config.text_config.eos_token_id
        self.requires_grad_(requires_grad=False)
        self.eval()

    def forward(self, token_ids: Tensor) -> Tensor:
        """Token ids ``(B, context)`` to ``(B, context * word_width)``: their tokens up to the end marker, then zeros."""
        ends = (token_ids == self._end).int().argmax(dim=1, keepdim=True)
        told = torch.arange(token_ids.shape[1], device=token_ids.device) <= ends
        states = self.text(input_ids=token_ids, attention_mask=told.long()).last_hidden_state
        tokens = self.text_projection(states) * told[:, :, None]
        return F.pad(tokens, (0, 0, 0, self.context_length - tokens.shape[1])).flatten(1)

    def shorten(self, ids: Tensor) -> Tensor:
        """Token ids without padding that stands behind every end marker."""
        return without_padding(ids)

    def weights(self) -> dict[str, Tensor]:
        """All weights under the names that transformers' model gives them."""
        return named_weights({"text_encoder": self.text, "text_projection": self.text_projection})


SAM_3 = Family(
    model_class="Sam3Model",
    image_tower=Sam3Tower,
    text_tower=Sam3TextTower,
    tokenizer=huggingface_tokenizer,
    colors=_COLORS,
)
