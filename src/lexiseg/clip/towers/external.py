"""Any vision transformer of ``transformers`` as a source of patch features (DINO, DINOv2, DINOv3, …)."""

import inspect
import pickle
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from lexiseg.constants import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD
from lexiseg.errors import CheckpointError, ConfigError, LexisegError


class ExternalVision(nn.Module):
    """A frozen vision model's last hidden states on its own patch grid.

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

    def __init__(
        self,
        source: str | Path | PreTrainedModel,
        *,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.model = _load(str(source)) if isinstance(source, str | Path) else source
        self.model.eval().requires_grad_(requires_grad=False)
        patch = getattr(self.model.config, "patch_size", None)
        if not isinstance(patch, int):
            raise ConfigError(
                f"external vision model '{source}': expected a square patch_size in its configuration, "
                f"got {patch!r}; choose a ViT such as facebook/dinov2-base"
            )
        self.patch_size: int = patch
        self._interpolates = "interpolate_pos_encoding" in inspect.signature(self.model.forward).parameters
        # From CLIP's normalised colours straight to the model's own: one factor and one offset per channel.
        factor = torch.tensor(CLIP_STD) / torch.tensor(std)
        offset = (torch.tensor(CLIP_MEAN) - torch.tensor(mean)) / torch.tensor(std)
        self.register_buffer("_factor", factor.view(3, 1, 1), persistent=False)
        self.register_buffer("_offset", offset.view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "ExternalVision":
        """Stay in evaluation mode whatever the surrounding model does."""
        return super().train(mode=False)

    def forward(self, images: Tensor) -> Tensor:
        """CLIP-normalised ``(B, 3, H, W)`` to the model's last hidden states ``(B, C, h, w)``.

        Sizes that its patch does not divide are resized bilinearly to the nearest that it does.
        """
        grid = tuple(max(round(side / self.patch_size), 1) for side in images.shape[-2:])
        pixels = images * self.get_buffer("_factor") + self.get_buffer("_offset")
        size = (grid[0] * self.patch_size, grid[1] * self.patch_size)
        if size != tuple(images.shape[-2:]):
            pixels = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False)
        settings = {"interpolate_pos_encoding": True} if self._interpolates else {}
        tokens = self.model(pixel_values=pixels, **settings).last_hidden_state
        patches = tokens[:, tokens.shape[1] - grid[0] * grid[1] :]  # class and register tokens come first
        return patches.transpose(1, 2).unflatten(2, grid)


def _load(source: str) -> PreTrainedModel:
    try:
        return AutoModel.from_pretrained(source, torch_dtype=torch.float32)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{source}: refused. Its weights ask to run or build something that no model needs, or are damaged; nothing was "
            "run. Give a folder with model.safetensors"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        if Path(source).is_dir():
            raise CheckpointError(f"{source}: not a usable Hugging Face model folder ({first})") from error
        raise LexisegError(
            f"the vision model '{source}' is neither a folder nor to be had from the Hugging Face hub "
            f"({first}). Choose: go online once (the hub keeps a copy), or give the folder of local weights"
        ) from error
