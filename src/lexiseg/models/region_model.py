"""What all models share that find regions first and name them second."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lexiseg.errors import ConfigError
from lexiseg.losses.open_seg_criterion import OpenSegLossSettings
from lexiseg.losses.segment_criterion import SegmentLossSettings
from lexiseg.models.parameter_groups import group_parameters
from lexiseg.ops.given_regions import best_overlaps, certain_logits
from lexiseg.types import (
    NO_NEEDS,
    Activation,
    ClassifiedMasks,
    ClassWords,
    Color,
    GroupSettings,
    ImageTower,
    MaskOutput,
    Proposals,
    SegmentOutput,
)


class RegionModel(nn.Module):
    """A :class:`~lexiseg.types.MaskModel` that proposes regions and names each: ``encode``, then ``classify``.

    A subclass has ``encode``, ``classify`` and ``forward``. Its answer for a class depends on the other classes, for the
    scores of a region are a soft-max over all, so ``classify`` gets all of them; their maps may be made a few at a time.

    Args:
        tower: The frozen CLIP image tower; not part of the state dict.
        settings: The model's own, a frozen dataclass whose ``name`` is the model's.
        colors: RGB mean and deviation in [0, 1] that its images are normalised by; None for the tower's.
        stride: Height and width of images must be multiples of it.

    Attributes:
        names_regions: The segmenter asks :meth:`classify` instead of :meth:`decode`.
        settings: As given.
        patch_size: ``stride``.
        own_loss: The loss that it was published with.
        crop_templates: See :class:`~lexiseg.types.RegionSegmentable`.
    """

    names_regions = True
    needs = NO_NEEDS
    activation: Activation = "scores"
    depends_on_text = True
    words_together = True
    offers_features = False
    smallest_grid = 2
    own_loss: SegmentLossSettings | OpenSegLossSettings = SegmentLossSettings()
    crop_templates: str | None = None

    _mean: Tensor
    _std: Tensor

    def __init__(
        self, tower: ImageTower, settings: Any, *, colors: tuple[Color, Color] | None = None, stride: int = 32
    ) -> None:
        super().__init__()
        self.settings = settings
        self.patch_size = stride
        self._tower = (tower,)  # in a tuple: no submodule, so the frozen tower enters no checkpoint
        for name, values in zip(("_mean", "_std"), colors or (tower.mean, tower.std), strict=True):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1) * 255, persistent=False)

    @property
    def tower(self) -> Any:
        """The frozen image tower."""
        return self._tower[0]

    @property
    def normalization(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of RGB in 0-255, each ``(3, 1, 1)``, as :meth:`normalize` applies them."""
        return self._mean, self._std

    @property
    def untraceable(self) -> str | None:
        """Why no program can be traced of it, as one of its parts says; None where one can."""
        reasons = (getattr(part, "untraceable", None) for part in self.modules() if part is not self)
        return next(filter(None, reasons), None)

    def parameter_groups(self, optim: GroupSettings) -> list[dict[str, Any]]:
        """What trains, in groups for AdamW."""
        return group_parameters(self.named_parameters(), optim)

    def _apply(self, fn, recurse: bool = True) -> "RegionModel":  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Take the tower along to another device or type, though it is no submodule."""
        self.tower._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def normalize(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` RGB in 0-255 to what :meth:`encode` takes."""
        return (images - self._mean) / self._std

    def encode(self, images: Tensor, content: tuple[int, int] | None = None) -> Any:
        """Find regions, before any word is known.

        Args:
            images: ``(B, 3, H, W)`` normalised; H and W multiples of the stride.
            content: Height and width of the picture in them; the rest, at the right and the bottom, is padding of zeros.
                None where there is none.
        """
        raise NotImplementedError

    def encode_bytes(self, height: int, width: int) -> int:
        """About what the largest tensors of :meth:`encode` take together for one image, so that too large a one is refused.

        Of the parts that say so (``encode_bytes`` of their own); 0 where none does.

        Args:
            height: In pixels, padded.
            width: Likewise.
        """
        estimates = (getattr(part, "encode_bytes", None) for part in self.modules() if part is not self)
        return sum(estimate(height, width) for estimate in estimates if estimate is not None)

    def classify(self, state: Any, words: ClassWords) -> ClassifiedMasks:
        """Name the regions of :meth:`encode`'s state.

        Args:
            state: Of B images with N regions each.
            words: Of K classes.

        Returns:
            Masks ``(B, N, h, w)``, scores ``(B, N, K)`` at least 0, and ``(B, N)`` that of "nothing" where there is one.
        """
        raise NotImplementedError

    def encode_masks(self, images: Tensor, masks: Tensor, content: tuple[int, int] | None = None) -> Any:
        """The state of :meth:`encode` for regions that are given instead of found; :meth:`classify` names them.

        Args:
            images: ``(B, 3, H, W)`` as of :meth:`encode`.
            masks: ``(B, N, h, w)`` mask logits on any grid over the whole (padded) image.
            content: As of :meth:`encode`.
        """
        raise NotImplementedError

    @torch.no_grad()
    def name_masks(
        self, images: Tensor, masks: Tensor, words: ClassWords, content: tuple[int, int] | None = None
    ) -> Tensor:
        """Scores of given regions, as the model would score its own: its classifier alone is asked.

        Where it reads the embedding of its own proposals, a given region takes that of the proposal that it overlaps most
        (intersection over union). Where it reads pictures or maps, the given mask itself is read.

        Args:
            images: ``(1, 3, H, W)`` one photograph, normalised; H and W multiples of the stride.
            masks: ``(N, h, w)`` on a grid over the whole (padded) image: bool, or mask logits.
            words: K classes.
            content: Height and width of the picture in the image; the rest is padding. None where there is none.

        Returns:
            ``(N, K)``, at least 0.

        Raises:
            ConfigError: Several photographs, or masks of another shape.
        """
        if len(images) != 1 or masks.ndim != 3:
            raise ConfigError(
                f"name_masks: expected one photograph (1, 3, H, W) and its masks (N, h, w), got {tuple(images.shape)} and "
                f"{tuple(masks.shape)}; name the masks of one photograph after the other"
            )
        if not len(masks):
            return images.new_zeros(0, words.classes)
        state = self.encode_masks(images, certain_logits(masks).to(images)[None], content)
        return self.named(state, words).scores[0]

    def named(self, state: Any, words: ClassWords) -> ClassifiedMasks:
        """As :meth:`classify`, of every region, where that leaves some out."""
        return self.classify(state, words)

    def forward(self, images: Tensor, text: Tensor) -> SegmentOutput:
        """Normalised images ``(B, 3, H, W)`` and unit text ``(K, E)`` to what the loss reads, of every layer that bears one."""
        raise NotImplementedError

    def decode(self, state: Any, text: Tensor) -> MaskOutput:
        """Class maps ``(B, K, h, w)`` for unit text ``(K, E)``, one word a class, none of them known from training."""
        return MaskOutput(self.classify(state, ClassWords.plain(text)).maps)

    def bind(self, state: Any, text: Tensor) -> Any:
        """The state itself: the words must come together."""
        del text
        return state

    def features(self, state: Any, text: Tensor | None = None) -> Tensor:
        """None: a model of regions answers with masks.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            f"{type(self).__name__} gives masks, not features; use one of the training-free methods"
        )


def with_given_masks(found: Proposals, masks: Tensor) -> Proposals:
    """Given regions with what a proposer says of the proposals that they overlap most.

    Args:
        found: Proposals of B images, with embeddings.
        masks: ``(B, N, H, W)`` mask logits of given regions.

    Returns:
        The given masks, ``(B, N, D)`` embeddings of the best overlapping proposals, and ``found``'s pixel map.
    """
    if found.embeddings is None:
        return Proposals(masks, None, found.pixels)
    best = [best_overlaps(*each) for each in zip(masks, found.masks, strict=True)]
    chosen = [each[index] for each, index in zip(found.embeddings, best, strict=True)]
    return Proposals(masks, torch.stack(chosen), found.pixels)


def require_tower(tower: ImageTower, *, model: str, kinds: Sequence[str]) -> None:
    """Refuse a tower that a model cannot stand on.

    Args:
        tower: Given.
        model: Its name, for the message.
        kinds: What ``tower.kind`` may be.

    Raises:
        ConfigError: The tower is of another kind.
    """
    if tower.kind not in kinds:
        raise ConfigError(f"model '{model}' needs a CLIP with a {' or '.join(kinds)}; got a {tower.kind}")
