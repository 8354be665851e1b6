"""A trained model ready to segment, saved to and loaded from one folder or the Hugging Face hub."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub import ModelCard, ModelHubMixin

from lexiseg.checkpoints.model_card import LIBRARY, TASK, model_card
from lexiseg.checkpoints.model_folder import download_model_folder, is_hub_name, write_model_folder
from lexiseg.checkpoints.training_file import CheckpointInfo
from lexiseg.data.io import ImageSource
from lexiseg.errors import ConfigError
from lexiseg.inference.given_masks import Masks
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.result import Segmentation
from lexiseg.inference.segmenter import Segmenter
from lexiseg.inference.words import Words
from lexiseg.types import MaskModel

_CHECKED_WORDS = 5


class PretrainedSegmenter(ModelHubMixin, library_name=LIBRARY, pipeline_tag=TASK):
    """huggingface_hub's ``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` around a trained model.

    Args:
        pipeline: A trained model with its CLIP, as :meth:`lexiseg.Pipeline.load` gives it.
        bundle_clip: Whether saving copies the CLIP into the folder, which then needs nothing else.

    Raises:
        ConfigError: A training-free reading: there is nothing trained to save.
    """

    def __new__(cls, pipeline: Pipeline, *, bundle_clip: bool = True) -> "PretrainedSegmenter":
        """Past the mixin's own, which would copy all weights of ``pipeline`` in search of a configuration."""
        return object.__new__(cls)

    def __init__(self, pipeline: Pipeline, *, bundle_clip: bool = True) -> None:
        if pipeline.info is None or not isinstance(pipeline.model, MaskModel):
            raise ConfigError(
                "a training-free reading has nothing trained to save or publish; load a checkpoint"
            )
        self.pipeline, self.bundle_clip = pipeline, bundle_clip
        self._saved_as = "model"
        self.model: MaskModel = pipeline.model
        self.info: CheckpointInfo = pipeline.info

    def segmenter(
        self,
        words: Words = None,
        *,
        background: bool | str | Sequence[str] | None = None,
        threshold: float | None = None,
        refine: bool | int | None = None,
        masks: Masks | None = None,
    ) -> Segmenter:
        """As :meth:`lexiseg.Pipeline.segmenter`."""
        return self.pipeline.segmenter(
            words, background=background, threshold=threshold, refine=refine, masks=masks
        )

    def segment(
        self,
        image: ImageSource,
        words: Words = None,
        *,
        background: bool | str | Sequence[str] | None = None,
        threshold: float | None = None,
    ) -> Segmentation:
        """Name every pixel of one photograph; for many, build a :meth:`segmenter` once.

        Args:
            image: A path, a file's bytes, an open file, a Pillow image, or ``(H, W, 3)`` uint8 RGB.
            words: As in :meth:`lexiseg.Pipeline.segmenter`; None for the model's own classes.
            background: As there.
            threshold: As there.
        """
        return self.segmenter(words, background=background, threshold=threshold).segment(image)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # no arguments for a constructor that nobody calls by hand
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        device: str = "auto",
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> "PretrainedSegmenter":
        """Load a folder or a hub name; every other argument but ``device`` is huggingface_hub's.

        Raises:
            CheckpointError: Not to be had, damaged, incomplete, or of a newer lexiseg.
        """
        place = pretrained_model_name_or_path
        if is_hub_name(place):
            place = download_model_folder(
                str(place),
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
            )
        return cls(Pipeline.load(place, device=device))

    def push_to_hub(  # type: ignore[override]  # what to upload is not a choice: the folder is one whole
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
        commit_message: str = "Push model using lexiseg",
        model_card_kwargs: dict[str, Any] | None = None,
    ) -> str:
        """Upload the folder, with a card that names ``repo_id``; the arguments are huggingface_hub's.

        Returns:
            Where the commit can be seen.
        """
        return super().push_to_hub(
            repo_id,
            private=private,
            token=token,
            branch=branch,
            create_pr=create_pr,
            commit_message=commit_message,
            model_card_kwargs={"name": repo_id, **(model_card_kwargs or {})},
        )

    def generate_model_card(self, name: str | None = None) -> ModelCard:  # type: ignore[override]
        """The card for a reader who gets the model as ``name``; by default the folder it was last saved to."""
        parameters = sum(
            parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad
        )
        return model_card(
            self.info,
            self.pipeline.facts,
            name=name or self._saved_as,
            parameters=parameters,
            bundled=self.bundle_clip,
        )

    def _save_pretrained(self, save_directory: Path) -> None:
        """What the mixin calls to write everything but the card, which it asks for next."""
        self._saved_as = save_directory.name
        write_model_folder(
            save_directory,
            self.model,
            self.pipeline.clip,
            self.info,
            self.pipeline.facts,
            bundle_clip=self.bundle_clip,
        )


@torch.inference_mode()
def largest_difference(one: PretrainedSegmenter, other: PretrainedSegmenter) -> float:
    """Largest difference between the logits of two models, on one random image and random words; 0 if they are the same."""
    generator = torch.Generator().manual_seed(0)
    tower = one.pipeline.clip.tower
    size = (tower.image_size, tower.image_size + tower.patch_size)
    image = torch.randint(0, 256, (1, 3, *size), generator=generator).byte()
    text = F.normalize(torch.randn(_CHECKED_WORDS, tower.embed_dim, generator=generator), dim=-1)
    logits = []
    for each in (one, other):
        device = next(each.model.parameters()).device
        output = each.model(each.model.normalize(image.to(device)), text.to(device))
        logits.append(output.logits.float().cpu())
    return float((logits[0] - logits[1]).abs().max())
