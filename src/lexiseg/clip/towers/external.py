"""Any vision transformer of ``transformers`` as a source of patch features (DINO, DINOv2, DINOv3, …)."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.clip.formats.huggingface import asking_hub
from lexiseg.constants import IMAGENET_MEAN, IMAGENET_STD
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.hub import float32, quiet
from lexiseg.ops.grid import tokens_to_map
from lexiseg.types import Color, PositionMode

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PROJECTIONS = ("q_proj", "k_proj")


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
    own_reading: str | None = None
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

    def queries_and_keys(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys of the last block's patches, each ``(B, C, h, w)``: all heads side by side, biases included.

        Raises:
            ConfigError: A model whose attention has no projections of its own for the two.
        """
        found: dict[str, Tensor] = {}

        def keep(kind: str) -> Callable[[nn.Module, Any, Tensor], None]:
            return lambda layer, given, result: found.update({kind: result})

        hooks = [layer.register_forward_hook(keep(kind)) for kind, layer in self._last_projections().items()]
        try:
            self._run(images)
        finally:
            for hook in hooks:
                hook.remove()
        query, key = (
            tokens_to_map(self._patches(found[kind], images), self.grid(images)) for kind in _PROJECTIONS
        )
        return query, key

    def block_tokens(self, images: Tensor) -> Iterator[Tensor]:
        """Patch tokens ``(B, h*w, C)`` after every block, from the first."""
        for tokens in self._run(images, output_hidden_states=True).hidden_states[1:]:
            yield self._patches(tokens, images)

    def forward(self, images: Tensor) -> Tensor:
        """Image embeddings ``(B, C)``: the class token, or the mean of the patches where there is none."""
        tokens = self._run(images).last_hidden_state
        return tokens[:, 0] if self.has_class_token else tokens.mean(dim=1)

    def _last_projections(self) -> dict[str, nn.Module]:
        """Of queries and of keys in the last block, by their names in ``transformers``."""
        layers = dict(self.model.named_modules())
        blocks = [name.removesuffix("q_proj") for name in layers if name.rpartition(".")[2] == "q_proj"]
        last = blocks[-1] if blocks else ""
        if any(last + kind not in layers for kind in _PROJECTIONS):
            raise ConfigError(
                f"external vision model {type(self.model).__name__}: expected attention with {' and '.join(_PROJECTIONS)}, and "
                "it has none; choose a ViT such as facebook/dino-vitb8"
            )
        return {kind: layers[last + kind] for kind in _PROJECTIONS}

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

    with quiet():  # which weights are missing is told below
        model, report = asking_hub(
            lambda: AutoModel.from_pretrained(source, output_loading_info=True, **float32()),
            source,
            what="model",
        )
    # DINO's own folders have no pooler, and transformers draws one at random, by which no two loads would be the same model.
    missing = set(report["missing_keys"])
    lacking = sorted(name for name in missing if not name.startswith("pooler."))
    if lacking:
        raise CheckpointError(
            f"{source} lacks {len(lacking)} weights of its model, such as {lacking[0]}; give a folder whose weights are whole"
        )
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name in missing:
                tensor.zero_()
    loaded: PreTrainedModel = model
    return loaded
