"""Optimiser and schedule as the published recipe really has them."""

from dataclasses import dataclass

import torch
from torch import nn

from lexiseg.errors import ConfigError
from lexiseg.types import require_plain_types


@dataclass(frozen=True)
class OptimSettings:
    """AdamW with polynomial decay after a linear warm-up; defaults as released.

    Attributes:
        lr: Peak learning rate of everything that trains.
        prompt_lr_scale: Prompts learn at this times ``lr``; released: 1.
        weight_decay: Decoupled weight decay.
        decay_norms: Decay layer norms and biases too. The released configuration means to exempt norms, but its
            rule never applies, so the published numbers decay everything: the default.
        betas: AdamW's moments.
        eps: AdamW's epsilon.
        power: Of the polynomial.
        min_lr: Learning rate at the last step.
        warmup_steps: Steps of linear warm-up, which scales the polynomial's own value.
        warmup_ratio: Fraction of the learning rate at step 0.
        schedule_steps: Steps that the decay is laid out for; 0 for those of the run. A run that stops half-way
            through a longer schedule names the longer one.
    """

    lr: float = 2e-4
    prompt_lr_scale: float = 1.0
    weight_decay: float = 0.01
    decay_norms: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    power: float = 0.9
    min_lr: float = 1e-6
    warmup_steps: int = 1500
    warmup_ratio: float = 1e-6
    schedule_steps: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that would train nothing or divide by zero."""
        require_plain_types(self, "optim")
        if (
            self.lr <= 0
            or self.prompt_lr_scale < 0
            or self.min_lr < 0
            or self.warmup_steps < 0
            or self.schedule_steps < 0
        ):
            raise ConfigError(
                "optim: expected lr above 0 and prompt_lr_scale, min_lr, warmup_steps, schedule_steps at least 0; got "
                f"{self.lr}, {self.prompt_lr_scale}, {self.min_lr}, {self.warmup_steps}, {self.schedule_steps}"
            )
        object.__setattr__(self, "betas", tuple(self.betas))


def polynomial_with_warmup(step: int, max_steps: int, settings: OptimSettings) -> float:
    """Learning rate at ``step`` (from 0) of ``max_steps``.

    ``regular = (lr - min) (1 - step/max)^power + min``; during warm-up ``regular (1 - (1 - step/warmup)(1 - ratio))``.
    """
    left = max(1 - step / max_steps, 0.0)
    regular = (settings.lr - settings.min_lr) * left**settings.power + settings.min_lr
    if step < settings.warmup_steps:
        regular *= 1 - (1 - step / settings.warmup_steps) * (1 - settings.warmup_ratio)
    return regular


def parameter_groups(model: nn.Module, settings: OptimSettings) -> list[dict[str, object]]:
    """Trainable parameters of ``model`` in groups for AdamW; frozen ones are left out.

    Returns:
        One group; more where norms and biases (every parameter of one axis) are exempt from decay, or prompts have a
        learning rate of their own.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = settings.decay_norms or parameter.ndim > 1
            scale = settings.prompt_lr_scale if name.startswith("prompts.") else 1.0
            key = (settings.lr * scale, settings.weight_decay if decays else 0.0)
            groups.setdefault(key, []).append(parameter)
    return [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in groups.items()]


def build_optimizer(
    model: nn.Module, settings: OptimSettings, max_steps: int
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """AdamW over what trains, and its schedule to be stepped once per optimiser step."""
    optimizer = torch.optim.AdamW(parameter_groups(model, settings), betas=settings.betas, eps=settings.eps)

    def factor(step: int) -> float:
        return polynomial_with_warmup(step, max_steps, settings) / settings.lr

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
