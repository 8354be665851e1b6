"""Pictures of validation images while a run goes: photograph, truth, prediction."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger

from lexiseg.drawing.overlay import annotate, panels
from lexiseg.label_codes import label_codes
from lexiseg.storage import write_png
from lexiseg.types import ClassSplit, SegmentationDataset


class ValidationPanels(pl.Callback):
    """A PNG per validation image in the run folder, and mask panels in Weights & Biases if it is on.

    Args:
        folder: Where the PNGs go; each validation overwrites those of the one before.
        dataset: The validation data set; its first images are drawn.
        split: Names the classes and says which are unseen (hatched).
        count: How many images; 0 for none.
    """

    def __init__(
        self, folder: Path, *, dataset: SegmentationDataset, split: ClassSplit, count: int = 4
    ) -> None:
        self.folder, self.dataset, self.split = folder, dataset, split
        self.count = min(count, len(dataset))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Draw."""
        if not trainer.is_global_zero or trainer.sanity_checking or not self.count:
            return
        for index in range(self.count):
            sample = self.dataset[index]
            predicted = pl_module.labeller(sample.image)
            kind = label_codes(len(self.split.classes)).dtype
            drawn = [
                annotate(sample.image, labels, self.split.classes, hatched=self.split.unseen)
                for labels in (sample.label, predicted.astype(kind))
            ]
            sheet = panels(
                [sample.image, *drawn], titles=["photograph", "truth", f"step {trainer.global_step}"]
            )
            write_png(sheet, self.folder / f"{index:02d}_{sample.name.replace('/', '_')}.png")
            for logger in trainer.loggers:
                if isinstance(logger, WandbLogger):
                    _log_masks(
                        logger,
                        sample.name,
                        sample.image,
                        predicted,
                        sample.label,
                        self.split,
                        trainer.global_step,
                    )


def _log_masks(
    logger: WandbLogger,
    name: str,
    image: np.ndarray,
    predicted: np.ndarray,
    truth: np.ndarray,
    split: ClassSplit,
    step: int,
) -> None:
    import wandb

    labels = dict(enumerate(split.classes)) | {label_codes(len(split.classes)).ignore: "unlabelled"}
    masks = {
        "prediction": {"mask_data": predicted, "class_labels": labels},
        "truth": {"mask_data": truth, "class_labels": labels},
    }
    picture = wandb.Image(image, masks=masks)
    logger.experiment.log({f"validation/{name}": picture, "trainer/global_step": step})
