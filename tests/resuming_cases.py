"""A run of Lightning that is interrupted and goes on, over any data module with a training stream."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch


class Recorder(pl.LightningModule):
    """Trains one number and writes down what ``read`` finds in each batch: how bright it is, and what is to be noted."""

    def __init__(self, read: Callable[[Any], tuple[torch.Tensor, Any]]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.read, self.shown, self.validated = read, [], []

    def training_step(self, batch, _):
        brightness, note = self.read(batch)
        self.shown.append(note)
        return self.weight * brightness

    def validation_step(self, batch, _):
        self.validated.extend(batch.names)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(data: pl.LightningDataModule, read, steps: int, folder: Path, *, resume=False, **options) -> Recorder:
    """Train to ``steps`` of two batches each; ``resume`` from what the last call left in the folder."""
    task, checkpoint = Recorder(read), folder / "half.ckpt"
    trainer = pl.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        accumulate_grad_batches=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
        **options,
    )
    trainer.fit(task, data, ckpt_path=checkpoint if resume else None)
    trainer.save_checkpoint(checkpoint)
    return task


def check_resume(make_data, read, folder: Path, **options) -> None:
    """Three steps and five more see and learn exactly what eight in a row do."""
    whole = fit(make_data(), read, 8, folder, **options)
    assert len(whole.shown) == 16
    first = fit(make_data(), read, 3, folder, **options)
    second = fit(make_data(), read, 8, folder, resume=True, **options)
    assert first.shown + second.shown == whole.shown
    assert torch.equal(second.weight, whole.weight)
