"""SAM, SAM 2, SAM 3 and SAM-HQ models of ``transformers`` behind one form: encode once, then answer points."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from PIL import Image
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from lexiseg.constants import IMAGENET_MEAN, IMAGENET_STD
from lexiseg.errors import CheckpointError, ConfigError, LexisegError, UnavailableError
from lexiseg.hub import SINCE, float32, tell_gated
from lexiseg.keys import some_names
from lexiseg.masks.provider import Picture
from lexiseg.ops.prompted_refinement import Prompts

_MODELS = {
    "sam": "SamModel",
    "sam_hq": "SamHQModel",
    "sam2": "Sam2Model",
    "sam2_video": "Sam2Model",
    "sam3_tracker": "Sam3TrackerModel",
    "sam3_video": "Sam3TrackerModel",
}
"""By the model type of a configuration; the released checkpoints of SAM 2 and SAM 3 call themselves the video model."""

_STRETCHED = {"Sam2Model": (IMAGENET_MEAN, IMAGENET_STD), "Sam3TrackerModel": ((0.5,) * 3, (0.5,) * 3)}
"""Models that see both sides of a photograph stretched, with the mean and deviation of their colours."""


@dataclass(frozen=True)
class EncodedImage:
    """A photograph as the mask decoder takes it.

    Attributes:
        embeddings: Keyword arguments of the model's forward.
        size: Height and width of the photograph.
        input_size: Height and width that it has within the model's square input.
    """

    embeddings: dict[str, Any]
    size: tuple[int, int]
    input_size: tuple[int, int]


class PromptableModel(nn.Module):
    """A frozen SAM, SAM 2, SAM 3 or SAM-HQ with its preprocessing, as published.

    SAM and SAM-HQ shrink or enlarge the longer side to the input's and pad the rest; SAM 2 and SAM 3 stretch both sides.

    Args:
        model: A ``SamModel``, ``Sam2Model``, ``SamHQModel``, or ``Sam3TrackerModel``, the part of a SAM 3 that answers points.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(requires_grad=False)
        self._side = int(model.config.prompt_encoder_config.image_size)
        self._kind = type(model).__name__
        self._stretches = self._kind in _STRETCHED
        mean, std = _STRETCHED.get(self._kind, (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("_mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "PromptableModel":
        """Stay in evaluation mode whatever the surrounding model does."""
        return super().train(mode=False)

    def encode(self, image: Picture) -> EncodedImage:
        """Run the image tower on an ``(H, W, 3)`` uint8 RGB photograph."""
        size = (image.shape[0], image.shape[1])
        inner = self._input_size(size)
        resized = Image.fromarray(image).resize((inner[1], inner[0]), Image.Resampling.BILINEAR)
        colours = (
            torch.from_numpy(np.array(resized)).to(self.get_buffer("_mean").device).permute(2, 0, 1) / 255
        )
        pixels = (colours - self.get_buffer("_mean")) / self.get_buffer("_std")
        pixels = F.pad(pixels, (0, self._side - inner[1], 0, self._side - inner[0]))[None]
        return EncodedImage(self._embed(pixels.to(self.model.dtype)), size, inner)

    def answer(self, encoded: EncodedImage, points: Tensor) -> tuple[Tensor, Tensor]:
        """Three masks for each point.

        Args:
            encoded: From :meth:`encode`.
            points: ``(P, 2)`` points ``(x, y)`` as shares of width and height.

        Returns:
            Logits ``(3P, a, b)`` on the decoder's own grid, and their 3P predicted intersections over union.
        """
        height, width = encoded.input_size
        places = (points * points.new_tensor([width, height])).to(
            self.get_buffer("_mean").device, self.model.dtype
        )
        answer = self.model(input_points=places[None, :, None], multimask_output=True, **encoded.embeddings)
        return answer.pred_masks[0].flatten(0, 1).float(), answer.iou_scores[0].flatten().float()

    @property
    def side(self) -> int:
        """Pixels of the model's square input."""
        return self._side

    @property
    def mask_side(self) -> int:
        """Pixels of the square that a mask prompt lies on."""
        return 4 * int(self.model.config.prompt_encoder_config.image_embedding_size)

    def answer_prompts(self, encoded: EncodedImage, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """One mask for each box with the point in it, all with the same rough mask; of a SAM of the first kind.

        Args:
            encoded: From :meth:`encode`.
            prompts: In pixels of the model's input.

        Returns:
            Logits ``(R, a, b)`` on the decoder's own grid, and their predicted intersections over union ``(R,)``.
        """
        kind = self.model.dtype
        answer = self.model(
            input_points=prompts.points[None, :, None].to(kind),
            input_labels=torch.ones(
                1, len(prompts.points), 1, dtype=torch.int64, device=prompts.points.device
            ),
            input_boxes=prompts.boxes[None].to(kind),
            input_masks=prompts.mask[None].to(kind),
            multimask_output=False,
            **encoded.embeddings,
        )
        return answer.pred_masks[0].flatten(0, 1).float(), answer.iou_scores[0].flatten().float()

    def enlarge(self, logits: Tensor, encoded: EncodedImage) -> Tensor:
        """Bring logits ``(N, a, b)`` of the decoder's grid to the photograph's pixels ``(N, H, W)``, bilinearly."""
        if not self._stretches:
            square = _bilinear(logits, (self._side, self._side))
            logits = square[:, : encoded.input_size[0], : encoded.input_size[1]]
        return _bilinear(logits, encoded.size)

    def _embed(self, pixels: Tensor) -> dict[str, Any]:
        if self._kind != "SamHQModel":
            return {"image_embeddings": self.model.get_image_embeddings(pixels)}
        tower = self.model.vision_encoder(pixels)
        return {
            "image_embeddings": tower.last_hidden_state,
            "intermediate_embeddings": tower.intermediate_embeddings,
        }

    def _input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        if self._stretches:
            return self._side, self._side
        factor = self._side / max(size)
        return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))


def load_promptable_model(source: str | Path) -> PromptableModel:
    """Load a SAM, SAM 2, SAM 3 or SAM-HQ by hub name or from a folder; nothing in it is executed.

    Raises:
        LexisegError: Nothing can be loaded from there.
        CheckpointError: A folder that ``transformers`` cannot read.
        ConfigError: A model of another kind, or one that the installed ``transformers`` is too old for.
    """
    try:
        kind = PretrainedConfig.get_config_dict(source)[0].get("model_type")
        if not isinstance(kind, str):
            raise ValueError("no config.json with a model_type")
        if kind in _MODELS:
            model, report = _class_of(_MODELS[kind], source).from_pretrained(
                source, output_loading_info=True, **float32()
            )
            _require_whole(source, kind, report["missing_keys"])
            return PromptableModel(model)
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        if Path(source).is_dir():
            raise CheckpointError(f"{source}: not a usable Hugging Face model folder ({first})") from error
        gated = tell_gated(source, error)
        if gated:
            raise LexisegError(gated) from error
        raise UnavailableError(
            f"the SAM '{source}' is neither a folder nor to be had from the Hugging Face hub ({first}). Choose: go "
            "online once (the hub keeps a copy), or give the folder of local weights"
        ) from error
    raise ConfigError(
        f"'{source}' is a model of type {kind}; expected one of {', '.join(_MODELS)}, such as facebook/sam-vit-base"
    )


def _require_whole(source: str | Path, kind: str, missing: Collection[str]) -> None:
    """A SAM 3 lies in one file with what reads words, and what is not found there would be drawn at random."""
    lost = sorted(name for name in missing if "positional_embedding" not in name)
    if lost and kind.startswith("sam3"):
        raise CheckpointError(
            f"{source}: the weights are not the SAM 3 that its config.json describes. missing: {some_names(lost)}"
        )


def _class_of(name: str, source: str | Path) -> Any:
    model_class = getattr(transformers, name, None)
    if model_class is None:
        raise ConfigError(
            f"{source} needs transformers' {name}, which version {transformers.__version__} does not have; update "
            f"transformers{SINCE.get(name, '')}"
        )
    return model_class


def _bilinear(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
