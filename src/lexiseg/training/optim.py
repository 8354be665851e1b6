"""Optimisers and schedules as the published recipes really have them; which parameter learns how is the model's to say."""

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from lexiseg.errors import ConfigError
from lexiseg.plain_settings import require_plain_settings, within
from lexiseg.types import GroupSettings

OptimizerKind = Literal["adamw", "sgd"]

Schedule = Literal["polynomial", "cosine", "steps"]
"""How the rate falls after the warm-up: as a ``polynomial``, as half a ``cosine``, or by ``milestone_factor`` at milestones."""


@dataclass(frozen=True)
class OptimSettings:
    """AdamW or SGD with a linear warm-up and a decay; defaults as Cascade-CLIP released them.

    Attributes:
        kind: ``adamw``, or ``sgd`` with ``momentum``, whose weight decay is not decoupled.
        lr: Peak learning rate of everything that trains.
        prompt_lr_scale: Prompts learn at this times ``lr``; released: 1.
        scratch_lr_scale: What starts from scratch beside a pretrained network of the model's own learns at this times
            ``lr``; LSeg: 10.
        weight_decay: Decoupled weight decay.
        decay_norms: Decay layer norms and biases too. The released configuration means to exempt norms, but its
            rule never applies, so the published numbers decay everything: the default.
        momentum: Of SGD.
        betas: AdamW's moments.
        eps: AdamW's epsilon.
        schedule: See :data:`Schedule`.
        power: Of the polynomial.
        milestones: Steps from which on the rate is multiplied once more, with ``steps`` and no other; ascending.
        milestone_factor: By how much.
        min_lr: Learning rate at the last step; not read with ``steps``.
        warmup_steps: Steps of linear warm-up, which scales the value of a polynomial or of steps; the cosine begins after it.
        warmup_ratio: Fraction of the learning rate at step 0; not read with ``cosine``.
        schedule_steps: Steps that the decay is laid out for; 0 for those of the run. A run that stops half-way
            through a longer schedule names the longer one.
    """

    kind: OptimizerKind = "adamw"
    lr: float = within(2e-4, above=0)
    prompt_lr_scale: float = within(1.0, at_least=0)
    scratch_lr_scale: float = within(1.0, at_least=0)
    weight_decay: float = within(0.01, at_least=0)
    decay_norms: bool = True
    momentum: float = within(0.9, at_least=0, below=1)
    betas: tuple[float, float] = within((0.9, 0.999), at_least=0, below=1)
    eps: float = within(1e-8, above=0)
    schedule: Schedule = "polynomial"
    power: float = within(0.9, at_least=0)
    milestones: tuple[int, ...] = ()
    milestone_factor: float = within(0.1, above=0, at_most=1)
    min_lr: float = within(1e-6, at_least=0)
    warmup_steps: int = within(1500, at_least=0)
    warmup_ratio: float = within(1e-6, at_least=0)
    schedule_steps: int = within(0, at_least=0)

    def __post_init__(self) -> None:
        """Refuse settings that would train nothing, divide by zero or not be read."""
        require_plain_settings(self, "optim")
        if list(self.milestones) != sorted(self.milestones) or any(step < 0 for step in self.milestones):
            raise ConfigError(
                f"optim.milestones: expected steps in ascending order, got {list(self.milestones)}"
            )
        if self.milestones and self.schedule != "steps":
            raise ConfigError(
                f"optim.milestones: a {self.schedule} reads none, got {list(self.milestones)}; set optim.schedule=steps, or "
                "optim.milestones=[]"
            )
        if self.schedule == "steps" and not self.milestones:
            raise ConfigError(
                "optim.schedule: steps without milestones leave the rate as it is; name some, as optim.milestones=[6000,8000]"
            )


def learning_rate(step: int, max_steps: int, settings: OptimSettings) -> float:
    """Learning rate at ``step`` (from 0) of ``max_steps``, as the settings' schedule has it."""
    if settings.schedule == "cosine":
        return cosine_with_warmup(step, max_steps, settings)
    if settings.schedule == "polynomial":
        return polynomial_with_warmup(step, max_steps, settings)
    passed = sum(step >= milestone for milestone in settings.milestones)
    return settings.lr * settings.milestone_factor**passed * _warmed_up(step, settings)


def polynomial_with_warmup(step: int, max_steps: int, settings: OptimSettings) -> float:
    """Learning rate at ``step`` (from 0) of ``max_steps``.

    ``regular = (lr - min) (1 - step/max)^power + min``; during warm-up ``regular (1 - (1 - step/warmup)(1 - ratio))``.
    """
    left = max(1 - step / max_steps, 0.0)
    regular = (settings.lr - settings.min_lr) * left**settings.power + settings.min_lr
    return regular * _warmed_up(step, settings)


def cosine_with_warmup(step: int, max_steps: int, settings: OptimSettings) -> float:
    """Learning rate at ``step`` (from 0) of ``max_steps``, as open_clip has it.

    ``lr (step + 1) / warmup`` during warm-up; half a cosine from ``lr`` to ``min`` over the steps after it.
    """
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    after = max(max_steps - settings.warmup_steps, 1)
    return settings.lr * cosine_factor(step - settings.warmup_steps, after, settings.min_lr / settings.lr)


def _warmed_up(step: int, settings: OptimSettings) -> float:
    if step >= settings.warmup_steps:
        return 1.0
    return 1 - (1 - step / settings.warmup_steps) * (1 - settings.warmup_ratio)


class Trainable(Protocol):
    """What an optimiser asks of a model."""

    def parameter_groups(self, optim: GroupSettings) -> list[dict[str, Any]]:
        """What trains, in groups, each with ``params``, ``lr`` and ``weight_decay``."""


def build_optimizer(
    model: Trainable, settings: OptimSettings, max_steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """The optimiser over the model's own parameter groups, and its schedule to be stepped once per optimiser step."""
    groups = model.parameter_groups(settings)
    optimizer: torch.optim.Optimizer
    if settings.kind == "sgd":
        optimizer = torch.optim.SGD(groups, momentum=settings.momentum)
    else:
        optimizer = torch.optim.AdamW(groups, betas=settings.betas, eps=settings.eps)

    def factor(step: int) -> float:
        return learning_rate(step, max_steps, settings) / settings.lr

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def cosine_factor(step: int, max_steps: int, final_factor: float) -> float:
    """Share of the learning rate at ``step`` (from 0) of ``max_steps``: a half cosine from 1 to ``final_factor``."""
    progress = min(step / max_steps, 1.0)
    return final_factor + (1 - final_factor) * (1 + math.cos(math.pi * progress)) / 2
