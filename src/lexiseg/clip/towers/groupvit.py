"""GroupViT: patches that are gathered in groups on the way, trained from captions alone (Xu et al., CVPR 2022)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lexiseg.clip.tokenizer import TextTokenizer, huggingface_tokenizer
from lexiseg.clip.towers.blocks import patch_grid, square_side
from lexiseg.clip.towers.family import Family
from lexiseg.clip.towers.text import ClipTextTower, TextTower, named_weights
from lexiseg.constants import IMAGENET_MEAN, IMAGENET_STD
from lexiseg.ops.grid import map_to_tokens, resize_position_embedding
from lexiseg.ops.grouping import composed_assignment, owners, paint_groups
from lexiseg.types import Color, PatchGroups, PositionMode

if TYPE_CHECKING:
    from transformers import GroupViTModel

_MOST_SCALE = 100.0
"""To which the release clamps the scale of cosines; transformers does not."""


class GroupVitTower(nn.Module):
    """A frozen GroupViT image tower.

    Three stages of blocks over patches and learned group tokens; after the first two, every token goes to one group (by a hard
    arg-max), and only the groups go on. Images of any size: transformers' own model runs at its native one only, so the
    position embedding is resized here, bicubically as in the release.

    Args:
        model: transformers' GroupViT.
        colors: Mean and standard deviation of RGB in [0, 1] that it was trained with.

    Attributes:
        depth: Blocks of the first stage, the only ones that see patches.
        width: Channels D of a token.
        logit_scale: Factor on cosines with words, at most 100.
        others: See :class:`~lexiseg.types.GroupTower`.
    """

    kind = "GroupViT"
    prefix_tokens = 0
    has_class_token = False
    has_blocks = False
    own_reading: str | None = "groupvit"
    takes_prompts = False
    aligned_patches = False
    position_mode: PositionMode | None = "bicubic"

    def __init__(
        self, model: "GroupViTModel", *, colors: tuple[Color, Color] = (IMAGENET_MEAN, IMAGENET_STD)
    ) -> None:
        super().__init__()
        self.mean, self.std = colors
        config: Any = model.config.vision_config
        self.depth: int = config.depths[0]
        self.width: int = config.hidden_size
        self.patch_size: int = square_side(config, "patch_size")
        self.image_size: int = square_side(config, "image_size")
        self.embed_dim: int = model.config.projection_dim
        self.logit_scale = min(float(model.logit_scale.detach().exp()), _MOST_SCALE)
        self.vision: Any = model.vision_model
        self.projection: Any = model.visual_projection
        self.requires_grad_(requires_grad=False)
        self.eval()

    def train(self, mode: bool = True) -> "GroupVitTower":
        """Stay in evaluation mode: in training transformers draws noise for the assignments."""
        return super().train(mode=False)

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Patch grid ``(h, w)`` of ``(B, 3, H, W)`` images; ``ConfigError`` where the patch does not divide them."""
        return patch_grid(images, self.patch_size)

    def embed(self, images: Tensor) -> Tensor:
        """Normalised ``(B, 3, H, W)`` to the patch tokens ``(B, h*w, D)`` that enter the first block."""
        embeddings = self.vision.embeddings
        patches = embeddings.layernorm(map_to_tokens(embeddings.patch_embeddings.projection(images)))
        return patches + resize_position_embedding(
            embeddings.position_embeddings[0], self.grid(images), "bicubic", prefix=0
        )

    def groups(self, images: Tensor) -> PatchGroups:
        """Normalised ``(B, 3, H, W)`` to the groups that the tower makes of their patches."""
        tokens: Any = self.embed(images)
        group_tokens: Any = None
        assignments: list[Tensor] = []
        for stage in self.vision.encoder.stages:
            tokens, group_tokens, assignment = stage(tokens, group_tokens, True)
            if assignment is not None:
                assignments.append(assignment)
        tokens = self.vision.layernorm(tokens)
        return PatchGroups(
            self._project(tokens),
            self._project(tokens.mean(dim=1)),
            composed_assignment(assignments).unflatten(2, self.grid(images)),
        )

    def dense_features(self, images: Tensor) -> Tensor:
        """Normalised ``(B, 3, H, W)`` to ``(B, E, h, w)``: every patch has the embedding of its group."""
        groups = self.groups(images)
        return paint_groups(groups.embeddings, owners(groups.maps, self.grid(images)))

    def block_tokens(self, images: Tensor) -> Iterator[Tensor]:
        """Patch tokens ``(B, h*w, D)`` after every block of the first stage; later there are no patches any more."""
        patches = self.embed(images)
        stage = self.vision.encoder.stages[0]
        tokens = torch.cat([patches, stage.group_token.expand(len(images), -1, -1)], dim=1)
        for layer in stage.layers:
            tokens = layer(tokens, attention_mask=None)
            yield tokens[:, : patches.shape[1]]

    @property
    def unread_parameters(self) -> tuple[str, ...]:
        """Beginnings of the names of parameters that :meth:`dense_features` never reads: there are none."""
        return ()

    def forward(self, images: Tensor) -> Tensor:
        """Image embeddings ``(B, E)``, not normalised: the projected mean of the groups."""
        return self.groups(images).image

    def weights(self) -> dict[str, Tensor]:
        """All weights under the names that transformers' model of both towers gives them."""
        return named_weights({"vision_model": self.vision, "visual_projection": self.projection})

    def _project(self, tokens: Tensor) -> Tensor:
        """``(…, D)`` to ``(…, E)``; the batch norm inside wants one axis before the channels."""
        return self.projection(tokens.reshape(-1, self.width)).reshape(*tokens.shape[:-1], self.embed_dim)


class GroupVitTextTower(ClipTextTower):
    """GroupViT's text tower: CLIP's, with an MLP and a batch norm as projection.

    The release averages a word's sentences before any of them is brought to unit length.
    """

    unit_sentences = False

    def __init__(self, model: "GroupViTModel", tokenizer: TextTokenizer) -> None:
        TextTower.__init__(self, model, tokenizer, embed_dim=model.config.projection_dim)
        self.text_projection: Any = model.text_projection
        self.requires_grad_(requires_grad=False)
        self.eval()


GROUPVIT = Family(
    model_class="GroupViTModel",
    image_tower=GroupVitTower,
    text_tower=GroupVitTextTower,
    tokenizer=huggingface_tokenizer,
    colors=(IMAGENET_MEAN, IMAGENET_STD),
)
