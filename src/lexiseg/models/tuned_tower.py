"""An image tower of which only some parameters train."""

import copy
from typing import Literal, Protocol, cast

from torch import Tensor, nn

from lexiseg.errors import ConfigError
from lexiseg.types import Color

TunedPart = Literal["attention", "all", "none"]
"""What trains inside the image tower: ``attention`` the position embedding and every attention's projections (the
released ViTs), ``all`` everything (the released ConvNeXt), ``none`` nothing."""

_ATTENTION_PARTS = (".self_attn.", ".attention.", "position_embedding")
"""What the names of the parameters under ``attention`` contain."""


class DenseTower(Protocol):
    """An image tower that PixelCLIP can tune: any ``nn.Module`` with these, of :class:`~lexiseg.types.ImageTower`."""

    embed_dim: int
    mean: Color
    std: Color

    @property
    def unread_parameters(self) -> tuple[str, ...]:
        """Beginnings of the names of parameters that :meth:`dense_features` never reads."""

    def dense_features(self, images: Tensor) -> Tensor:
        """Normalised ``(B, 3, H, W)`` to patch features ``(B, embed_dim, h, w)``, not normalised."""


def tuned_names(tower: nn.Module, part: TunedPart) -> list[str]:
    """Names of the parameters of ``tower`` that train; those that no gradient can reach are never among them.

    Differs from the release, which also decays the last block's queries and keys though nothing reads them (by
    2e-10 of their value per step): here they stay as they are.

    Raises:
        ConfigError: ``attention`` of a tower that has none.
    """
    unread = cast(DenseTower, tower).unread_parameters
    names = [name for name, _ in tower.named_parameters() if not name.startswith(unread)]
    if part == "none":
        return []
    if part == "all":
        return names
    chosen = [name for name in names if any(piece in name for piece in _ATTENTION_PARTS)]
    if not chosen:
        raise ConfigError("model.tuned: this image tower has no attention to tune; set model.tuned=all")
    return chosen


class TunedTower(nn.Module):
    """A tower whose tuned parameters, and no others, are parameters and state of this module.

    They are registered under their own names; the tower itself is no submodule, so what is frozen enters no
    checkpoint and no optimiser, yet moves along to other devices.

    Args:
        tower: Is taken over: its parameters are frozen but for the tuned ones.
        names: From :func:`tuned_names`.
    """

    def __init__(self, tower: nn.Module, names: list[str]) -> None:
        super().__init__()
        self._tower = (tower.requires_grad_(requires_grad=False),)
        self.names = tuple(names)
        parameters = dict(tower.named_parameters())
        for name in names:
            parameters[name].requires_grad = True
            _register(self, name, parameters[name])

    @property
    def tower(self) -> nn.Module:
        """The whole tower."""
        return self._tower[0]

    def _apply(self, fn, recurse: bool = True) -> "TunedTower":  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Take the frozen rest along to another device or type."""
        self.tower._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised ``(B, 3, H, W)`` to patch features ``(B, E, h, w)``, not normalised."""
        return cast(DenseTower, self.tower).dense_features(images)

    def frozen_copy(self) -> nn.Module:
        """A copy of the whole tower as it is now, nothing in it training."""
        return copy.deepcopy(self.tower).requires_grad_(requires_grad=False)

    def frozen_parameters(self) -> list[nn.Parameter]:
        """Parameters of the tower that do not train."""
        tuned = set(self.names)
        return [parameter for name, parameter in self.tower.named_parameters() if name not in tuned]


def _register(root: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Make ``parameter`` known as ``root.<name>``, with empty modules along a dotted name."""
    *path, leaf = name.split(".")
    for part in path:
        if part not in dict(root.named_children()):
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    root.register_parameter(leaf, parameter)
