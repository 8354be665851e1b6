"""Any vision transformer of ``transformers`` as a source of patch features (DINO, DINOv2, DINOv3, …)."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.clip.formats.huggingface import asking_hub
from lexiseg.constants import IMAGENET_MEAN, IMAGENET_STD
from lexiseg.errors import ConfigError
from lexiseg.types import Color, PositionMode

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ExternalVision(nn.Module):
    """A frozen vision model's last hidden states on its own patch grid: an image tower whose space knows no words.

    Args:
        source: A hub name (``facebook/dino-vitb8``, ``facebook/dinov2-base``), a folder with the same
            content, or a model already built.
        mean: Per-channel RGB mean that the model was trained with, for values in [0, 1].
        std: Its standard deviation.

    Raises:
        LexisegError: Nothing can be loaded from there.
        CheckpointError: A folder that ``transformers`` cannot read.
        ConfigError: A model without square patches.
    """

    kind = "vision model"
    has_blocks = False
    takes_prompts = False
    aligned_patches = False
    groups_patches = False
    position_mode: PositionMode | None = None
    unread_parameters: tuple[str, ...] = ()

    def __init__(
        self,
        source: "str | Path | PreTrainedModel",
        *,
        mean: Color = IMAGENET_MEAN,
        std: Color = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        self.model: Any = _load(str(source)) if isinstance(source, str | Path) else source
        self.model.eval().requires_grad_(requires_grad=False)
        config = self.model.config
        patch = getattr(config, "patch_size", None)
        if not isinstance(patch, int):
            raise ConfigError(
                f"external vision model '{source}': expected a square patch_size in its configuration, "
                f"got {patch!r}; choose a ViT such as facebook/dinov2-base"
            )
        self.patch_size: int = patch
        self.image_size: int = getattr(config, "image_size", None) or patch
        self.embed_dim: int = config.hidden_size
        self.has_class_token = any(name.endswith("cls_token") for name, _ in self.model.named_parameters())
        self.prefix_tokens = int(self.has_class_token) + (getattr(config, "num_register_tokens", None) or 0)
        self._interpolates = "interpolate_pos_encoding" in inspect.signature(self.model.forward).parameters

    def train(self, mode: bool = True) -> "ExternalVision":
        """Stay in evaluation mode whatever the surrounding model does."""
        return super().train(mode=False)

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Patch grid ``(h, w)`` that ``(B, 3, H, W)`` images come nearest to; any size will do."""
        height, width = (max(round(side / self.patch_size), 1) for side in images.shape[-2:])
        return height, width

    def dense_features(self, images: Tensor) -> Tensor:
        """Normalised ``(B, 3, H, W)`` to the model's last hidden states ``(B, C, h, w)``.

        Sizes that its patch does not divide are resized bilinearly to the nearest that it does.
        """
        tokens = self._patches(self._run(images).last_hidden_state, images)
        return tokens.transpose(1, 2).unflatten(2, self.grid(images))

    def block_tokens(self, images: Tensor) -> Iterator[Tensor]:
        """Patch tokens ``(B, h*w, C)`` after every block, from the first."""
        for tokens in self._run(images, output_hidden_states=True).hidden_states[1:]:
            yield self._patches(tokens, images)

    def forward(self, images: Tensor) -> Tensor:
        """Image embeddings ``(B, C)``: the class token, or the mean of the patches where there is none."""
        tokens = self._run(images).last_hidden_state
        return tokens[:, 0] if self.has_class_token else tokens.mean(dim=1)

    def _run(self, images: Tensor, **settings: bool) -> Any:
        height, width = self.grid(images)
        size = (height * self.patch_size, width * self.patch_size)
        if size != tuple(images.shape[-2:]):
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        if self._interpolates:
            settings["interpolate_pos_encoding"] = True
        return self.model(pixel_values=images, **settings)

    def _patches(self, tokens: Tensor, images: Tensor) -> Tensor:
        height, width = self.grid(images)
        return tokens[:, tokens.shape[1] - height * width :]  # class and register tokens come first


def _load(source: str) -> "PreTrainedModel":
    import torch
    from transformers import AutoModel

    return asking_hub(
        lambda: AutoModel.from_pretrained(source, torch_dtype=torch.float32), source, what="model"
    )
