"""A picture of PixelCLIP's clusters while a run goes: typical masks, and the words they are nearest to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from PIL import Image
from pytorch_lightning.loggers import WandbLogger
from torch import Tensor

from lexiseg.drawing.cluster_sheet import ClusterCard, cluster_sheet
from lexiseg.models.pixel_clip import PixelCLIP
from lexiseg.storage import write_png
from lexiseg.training.cluster_examples import Cluster, TypicalMasks

_NEAREST_WORDS = 4


class ClusterPanels(pl.Callback):
    """``clusters.png`` in the run folder every so many steps and at the end, and in Weights & Biases if it is on.

    Args:
        path: The PNG; each picture replaces the one before.
        typical: Finds typical masks.
        words: Words that clusters are compared with; there may be none.
        embeddings: ``(V, E)`` unit text embeddings of them.
        every_steps: Optimiser steps between pictures; 0 for one at the end only.
    """

    def __init__(
        self, path: Path, *, typical: TypicalMasks, words: Sequence[str], embeddings: Tensor, every_steps: int
    ) -> None:
        self.path, self.typical, self.every_steps = path, typical, every_steps
        self.words, self.embeddings = tuple(words), embeddings
        self._drawn_at = -1

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Draw on the interval; with gradient accumulation only where a step was completed."""
        step = trainer.global_step
        if self.every_steps and step % self.every_steps == 0:
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Draw what the clusters became."""
        self._draw(trainer, pl_module)

    def _draw(self, trainer: pl.Trainer, pl_module: Any) -> None:
        step, model = trainer.global_step, pl_module.model
        if step == self._drawn_at:
            return
        self._drawn_at = step
        # All processes look, since the assignment is balanced over all; the first one draws.
        clusters = self.typical(model, pl_module.device)
        if not trainer.is_global_zero:
            return
        sheet = draw_clusters(
            clusters, nearest_words(model, self.words, self.embeddings), step, self.typical.examples
        )
        write_png(sheet, self.path)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                import wandb

                logger.experiment.log({"clusters": wandb.Image(sheet), "trainer/global_step": step})


@torch.no_grad()
def nearest_words(
    model: PixelCLIP, words: Sequence[str], embeddings: Tensor
) -> list[tuple[tuple[str, float], ...]]:
    """For each cluster the words whose embeddings are nearest to its prompt's, with their cosines.

    Args:
        model: With global clustering.
        words: V words; there may be none.
        embeddings: ``(V, E)``, unit length.
    """
    if model.prompts is None or not words:
        return [()] * model.settings.clusters
    centres = F.normalize(model.prompts().float(), dim=1)
    cosines = centres @ embeddings.to(centres).T
    best = cosines.topk(min(_NEAREST_WORDS, len(words)), dim=1)
    return [
        tuple((words[index], value) for index, value in zip(row, values, strict=True))
        for row, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def draw_clusters(
    clusters: Sequence[Cluster], words: Sequence[tuple[tuple[str, float], ...]], step: int, tiles: int
) -> Image.Image:
    """One sheet of all clusters that got a mask, the largest first; the others are counted in the heading."""
    filled = sorted((cluster for cluster in clusters if cluster.count), key=lambda cluster: -cluster.count)
    cards = [
        ClusterCard(
            name=f"#{cluster.index}",
            words=words[cluster.index],
            count=cluster.count,
            tiles=tuple(example.picture for example in cluster.examples),
        )
        for cluster in filled
    ]
    total, empty = sum(cluster.count for cluster in clusters), len(clusters) - len(filled)
    remark = f"{total} masks looked at; typical ones of each cluster, the nearest to its prompt first, and its nearest words"
    return cluster_sheet(
        cards,
        title=f"step {step}: {len(filled)} clusters" + (f", {empty} more without a mask" if empty else ""),
        tiles=tiles,
        remark=remark,
    )
