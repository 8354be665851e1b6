"""Which rate and which decay each parameter gets."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from lexiseg.types import GroupSettings


def group_parameters(
    parameters: Iterable[tuple[str, nn.Parameter]], optim: GroupSettings, *, prompts: str = "prompts."
) -> list[dict[str, Any]]:
    """Trainable parameters in groups for AdamW; frozen ones are left out.

    Args:
        parameters: As ``named_parameters`` gives them.
        optim: Rates and decay.
        prompts: Beginning of the names of those that learn at ``prompt_lr_scale``.

    Returns:
        One group; more where norms and biases (every parameter of one axis) are exempt from decay, or prompts have a
        learning rate of their own.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            decays = optim.decay_norms or parameter.ndim > 1
            scale = optim.prompt_lr_scale if name.startswith(prompts) else 1.0
            key = (optim.lr * scale, optim.weight_decay if decays else 0.0)
            groups.setdefault(key, []).append(parameter)
    return [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in groups.items()]


def group_by_module(model: nn.Module, optim: GroupSettings) -> list[dict[str, Any]]:
    """Trainable parameters in groups for AdamW, exempt from decay by the kind of module that holds them.

    As Mask2Former and its followers: all of a norm or an embedding is exempt, and nothing else, biases included.

    Args:
        model: Its parameters.
        optim: Rates and decay; with ``decay_norms`` nothing is exempt.

    Returns:
        One group, or two.
    """
    exempt = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm2d | nn.Embedding)
        for parameter in module.parameters(recurse=False)
    }
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            spare = id(parameter) in exempt and not optim.decay_norms
            (spared if spare else decayed).append(parameter)
    groups = ((decayed, optim.weight_decay), (spared, 0.0))
    return [{"params": params, "lr": optim.lr, "weight_decay": decay} for params, decay in groups if params]
