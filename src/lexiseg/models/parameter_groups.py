"""Which rate and which decay each parameter gets."""

from collections.abc import Iterable, Set
from typing import Any

from torch import nn

from lexiseg.types import GroupSettings


def group_parameters(
    parameters: Iterable[tuple[str, nn.Parameter]],
    optim: GroupSettings,
    *,
    prompts: str = "prompts.",
    scratch: tuple[str, ...] = (),
) -> list[dict[str, Any]]:
    """Trainable parameters in groups for the optimiser; frozen ones are left out.

    Args:
        parameters: As ``named_parameters`` gives them.
        optim: Rates and decay.
        prompts: Beginning of the names of those that learn at ``prompt_lr_scale``.
        scratch: Beginnings of the names of those that no pretrained network brings, which learn at ``scratch_lr_scale``.

    Returns:
        One group; more where norms and biases (every parameter of one axis) are exempt from decay, or prompts or new
        parts have a learning rate of their own.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            decays = optim.decay_norms or parameter.ndim > 1
            scale = optim.prompt_lr_scale if name.startswith(prompts) else 1.0
            scale *= optim.scratch_lr_scale if name.startswith(scratch) else 1.0
            key = (optim.lr * scale, optim.weight_decay if decays else 0.0)
            groups.setdefault(key, []).append(parameter)
    return [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in groups.items()]


def group_by_module(
    model: nn.Module, optim: GroupSettings, *, slow: nn.Module | None = None, slow_scale: float = 1.0
) -> list[dict[str, Any]]:
    """Trainable parameters in groups for AdamW, exempt from decay by the kind of module that holds them.

    As Mask2Former and its followers: all of a norm or an embedding is exempt, Swin's tables of relative positions too, and
    nothing else, biases included.

    Args:
        model: Its parameters.
        optim: Rates and decay; with ``decay_norms`` nothing is exempt.
        slow: A part of it, such as a pre-trained backbone, that learns at ``slow_scale`` times the rate.
        slow_scale: See ``slow``.

    Returns:
        One group per rate and decay.
    """
    exempt = {
        id(parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm2d | nn.Embedding)
        or name == "relative_position_bias_table"
    }
    scaled = {id(parameter) for parameter in slow.parameters()} if slow is not None else set()
    return group_exempting(
        model, optim, set() if optim.decay_norms else exempt, slow=scaled, slow_scale=slow_scale
    )


def group_exempting(
    model: nn.Module,
    optim: GroupSettings,
    exempt: Set[int],
    *,
    slow: Set[int] = frozenset(),
    slow_scale: float = 1.0,
) -> list[dict[str, Any]]:
    """Trainable parameters in groups for AdamW, where the model itself says which are exempt from decay.

    Args:
        model: Its parameters.
        optim: Rate and decay.
        exempt: ``id`` of each parameter that is not decayed.
        slow: ``id`` of each that learns at ``slow_scale`` times the rate.
        slow_scale: See ``slow``.

    Returns:
        One group per rate and decay.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            rate = optim.lr * (slow_scale if id(parameter) in slow else 1.0)
            decay = 0.0 if id(parameter) in exempt else optim.weight_decay
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in groups.items()]
