"""Text towers, frozen: what every family's shares, and CLIP's own."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.clip.tokenizer import TextTokenizer
from lexiseg.errors import ConfigError
from lexiseg.types import chunks

if TYPE_CHECKING:
    from transformers import CLIPModel

    from lexiseg.clip.towers.convnext import ConvNextClip

_BATCH = 256
"""Sentences per pass: bounds memory for large vocabularies without slowing small ones."""


class TextTower(nn.Module, ABC):
    """A frozen text tower with its tokenizer: sentences to unit vectors.

    Args:
        model: transformers' model of both towers.
        tokenizer: Of its words.

    Attributes:
        unit_sentences: Whether a word's sentences become unit vectors before they are averaged over its templates, as CLIP's
            authors do.
        pools: Whether a sentence becomes one vector whose direction counts, so that several may be averaged to a word.
        pooling: Where a sentence is read, as messages say it: ``end marker``, ``last token``, ``mean of tokens``, ….
        context_length: Tokens that the tower reads, markers included.
        embed_dim: Channels of the joint image-text space.
        width: Channels of a token.
        num_heads: Attention heads of every block.
        vocabulary_size: Tokens that it knows.
    """

    pooling: str
    unit_sentences = True
    pools = True

    def __init__(self, model: Any, tokenizer: TextTokenizer, *, embed_dim: int) -> None:
        super().__init__()
        self.text = model.text_model
        self.tokenizer = tokenizer
        config: Any = model.config.text_config
        self.context_length: int = config.max_position_embeddings
        self.width: int = config.hidden_size
        self.num_heads: int = config.num_attention_heads
        self.vocabulary_size: int = config.vocab_size
        self.embed_dim = embed_dim

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @abstractmethod
    def forward(self, token_ids: Tensor) -> Tensor:
        """Token ids ``(B, context)`` to text embeddings ``(B, embed_dim)``, not normalised."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """All weights under the names that transformers' model of both towers gives them."""

    def shorten(self, ids: Tensor) -> Tensor:
        """Token ids without what the tower reads past anyway; all of them where padding counts."""
        return ids

    def embed_tokens(self, token_ids: Tensor) -> Tensor:
        """Input embeddings of ``(…,)`` token ids, ``(…, D)``, before any position is added.

        Raises:
            ConfigError: This tower's words cannot be learned.
        """
        raise ConfigError(
            f"words cannot be learned through this text tower, which is read at its {self.pooling}; that needs CLIP's, "
            "which is read at the end marker. Choose such a CLIP, or set model.global_clustering=false"
        )

    def forward_embedded(self, embeddings: Tensor, end: int) -> Tensor:
        """Sentences whose words are given as vectors, so that words themselves can be learned.

        Args:
            embeddings: ``(B, N, D)`` as of :meth:`embed_tokens`; N at most ``context_length``.
            end: Position of the end marker, where the text is read.

        Returns:
            ``(B, embed_dim)``, not normalised; differentiable by ``embeddings``.
        """
        return self.embed_tokens(embeddings)  # raises: a tower that cannot do the one cannot do the other

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings ``(B, embed_dim)`` of whole sentences, in float32."""
        return F.normalize(self.encode_raw(texts), dim=-1)

    @torch.inference_mode()
    def encode_raw(self, texts: Sequence[str]) -> Tensor:
        """Embeddings ``(B, embed_dim)`` of whole sentences as the tower gives them, of any length, in float32."""
        rows = []
        for part in chunks(len(texts), _BATCH):
            ids = self.shorten(self.tokenizer(texts[part], self.context_length))
            rows.append(self(ids.to(self.device)).float())
        return torch.cat(rows)


class ClipTextTower(TextTower):
    """CLIP's text tower, and MetaCLIP 2's: causal, read at the end marker."""

    pooling: str = "end marker"

    def __init__(self, model: "CLIPModel | ConvNextClip", tokenizer: TextTokenizer) -> None:
        super().__init__(model, tokenizer, embed_dim=model.text_projection.out_features)
        self.text_projection = model.text_projection
        self.requires_grad_(requires_grad=False)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Token ids ``(B, context)`` to text embeddings ``(B, embed_dim)``, not normalised."""
        # No padding mask: attention is causal and the text is read at its end marker, so padding is never seen.
        return self.text_projection(self.text(input_ids=token_ids).pooler_output)

    def shorten(self, ids: Tensor) -> Tensor:
        """Token ids without padding that stands behind every end marker."""
        return without_padding(ids)

    def embed_tokens(self, token_ids: Tensor) -> Tensor:
        """Input embeddings of ``(…,)`` token ids, ``(…, D)``, before any position is added."""
        return self.text.embeddings.token_embedding(token_ids)

    def forward_embedded(self, embeddings: Tensor, end: int) -> Tensor:
        """Sentences whose words are given as vectors; see :meth:`TextTower.forward_embedded`."""
        tokens = embeddings + self.text.embeddings.position_embedding.weight[: embeddings.shape[1]]
        for layer in self.text.encoder.layers:
            attention, normed = layer.self_attn, layer.layer_norm1(tokens)
            query, key, value = (
                projection(normed).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
                for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            tokens = tokens + attention.out_proj(attended.transpose(1, 2).flatten(2))
            tokens = tokens + layer.mlp(layer.layer_norm2(tokens))
        return self.text_projection(self.text.final_layer_norm(tokens[:, end]))

    def weights(self) -> dict[str, Tensor]:
        """All weights under the names that transformers' model of both towers gives them."""
        return named_weights({"text_model": self.text, "text_projection": self.text_projection})


def named_weights(parts: dict[str, nn.Module]) -> dict[str, Tensor]:
    """State of several modules under the names they have together in transformers' model."""
    return {f"{part}.{name}": w for part, module in parts.items() for name, w in module.state_dict().items()}


def without_padding(ids: Tensor) -> Tensor:
    """Leave out the columns of ``(B, context)`` token ids that are padding in every row.

    Attention is causal and a text is read at its end marker, so what stands behind it changes nothing; class
    names are short, and most of the context is padding. Whatever the padding's id, even the end marker's
    own, columns equal to the last one hold nothing but it; one of them stays, for it may be that marker.
    """
    told = (ids != ids[:, -1:]).any(dim=0).nonzero()
    return ids[:, : int(told[-1]) + 2] if len(told) else ids
