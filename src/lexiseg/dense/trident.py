"""Trident: CLIP's values spliced by DINO window by window, then spread over the photograph by SAM (Shi et al., ICCV 2025)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from lexiseg.dense.base import DenseState, Idle
from lexiseg.dense.proxyclip import ProxyCLIP, ProxyFeatures
from lexiseg.errors import ConfigError
from lexiseg.masks.provider import Picture
from lexiseg.masks.segment_anything_attention import LastAttention, attend, require_attention
from lexiseg.masks.segment_anything_model import EncodedImage, PromptableModel, load_promptable_model
from lexiseg.ops.affinity import mean_affinity
from lexiseg.ops.grid import PositionMode, map_to_tokens, tokens_to_map
from lexiseg.ops.guided_aggregation import guided_weights, spread
from lexiseg.ops.prompted_refinement import Prompts, RefinementSettings, redraw, settle
from lexiseg.ops.resize import resize_image
from lexiseg.types import BlockTower, ImageTower, chunks

Guide = Callable[[Picture], LastAttention]
"""An ``(H, W, 3)`` uint8 photograph to any model's attention over a grid that lies on it."""

_WITHOUT_REFINEMENT: Idle = (lambda given: not given["sam_refine"], "without sam_refine")

_WINDOWS_AT_ONCE = 8
"""Windows spliced together: each holds the square of its patches."""


@dataclass(frozen=True)
class WindowParts:
    """Windows after both towers, before their values are mixed.

    Attributes:
        value: ``(B, M, h*w, d)`` values of CLIP's last block.
        external: ``(B, C, h, w)`` features of the second model, on the same grid.
    """

    value: Tensor
    external: Tensor


@dataclass(frozen=True)
class PictureState(DenseState):
    """A whole photograph.

    Attributes:
        encoded: Of the third model, for labels that it is to draw anew; None: it is not to.
    """

    encoded: EncodedImage | None = None


class Trident(ProxyCLIP):
    """Splice, then segment: three models over one photograph.

    *Splice*: the last block of each window as ProxyCLIP has it, with the mean of S over all windows of the photograph; what
    the output projection gives is averaged where windows overlap. *Segment*: the attention ``a`` and the values ``u`` of the
    last block of a SAM that sees the whole photograph give weights
    (:func:`~lexiseg.ops.guided_aggregation.guided_weights`); the spliced map, brought to SAM's grid, is averaged by them once
    for all heads, and normed and projected. The one map of cosines goes to the photograph's size directly.

    *Refinement* (``sam_refine``; the paper's figures are with it): SAM is asked about every region of every class, see
    :mod:`~lexiseg.ops.prompted_refinement`.

    Windows alone, without a photograph (:meth:`decode` of what :meth:`encode` gives), are read as ProxyCLIP reads them.

    Differs from the release: regions that SAM fails on get their labels back (``restore_failed=False``: as released).

    Args:
        tower: The frozen image tower.
        proxy: As of :class:`~lexiseg.dense.proxyclip.ProxyCLIP`; the release's is DINO with patches of 16.
        sam: The third model: a hub name or folder of a SAM of the first kind, the model itself, or a function to
            :class:`~lexiseg.masks.segment_anything_attention.LastAttention`.
        sharpness: γ.
        shift: β.
        likeness: Factor on the mean cosine of SAM's values, which others must exceed; 3 on Cityscapes, 0 on VOC20.
        keep_negative: False on ADE20K and Cityscapes: a negative threshold becomes 0.6.
        halves: Let SAM look at the left and the right half apart, as released for Cityscapes.
        sam_refine: Let SAM draw the labels anew.
        refine_threshold: Probability that a pixel needs to count for it.
        restore_failed: See above.
        position_mode: How CLIP's position embedding reaches other grids.

    Raises:
        LexisegError: The second or third model cannot be loaded.
        ConfigError: A SAM of another kind, or a refinement by a function.
    """

    whole_picture = True
    idle: ClassVar[Mapping[str, Idle]] = {
        "refine_threshold": _WITHOUT_REFINEMENT,
        "restore_failed": _WITHOUT_REFINEMENT,
    }

    def __init__(  # noqa: PLR0913  (one keyword per setting, as of every method)
        self,
        tower: BlockTower,
        *,
        proxy: str | Path | ImageTower | ProxyFeatures = "facebook/dino-vitb16",
        sam: str | Path | PromptableModel | PreTrainedModel | Guide = "facebook/sam-vit-base",
        sharpness: float = 3.0,
        shift: float = 1.2,
        likeness: float = 1.2,
        keep_negative: bool = True,
        halves: bool = False,
        sam_refine: bool = False,
        refine_threshold: float = 0.2,
        restore_failed: bool = True,
        position_mode: PositionMode = "bicubic_offset",
    ) -> None:
        if not 0 <= refine_threshold < 1:
            raise ConfigError(
                f"trident: expected a refine_threshold from 0 to below 1, got {refine_threshold}"
            )
        super().__init__(tower, proxy=proxy, sharpness=sharpness, shift=shift, position_mode=position_mode)
        self.sam: Any = load_promptable_model(sam) if isinstance(sam, str | Path) else sam
        if isinstance(self.sam, PromptableModel | PreTrainedModel):
            inner = self.sam.model if isinstance(self.sam, PromptableModel) else self.sam
            require_attention(inner)
            self.sam = PromptableModel(inner)
        elif sam_refine:
            raise ConfigError(
                "trident: sam_refine needs a SAM that answers prompts, got a function; give sam= a hub name, a folder or a "
                "model, or leave sam_refine out"
            )
        self.likeness, self.keep_negative, self.halves = likeness, keep_negative, halves
        self.redraws = sam_refine
        self.refinement = RefinementSettings(threshold=refine_threshold, restore_failed=restore_failed)

    def encode(self, images: Tensor) -> WindowParts:  # type: ignore[override]
        """Run both window models once; of CLIP's last block only the values."""
        return WindowParts(*self.read_both(images))

    def features(self, state: WindowParts | DenseState, text: Tensor | None = None) -> Tensor:
        """Patch features ``(B, E, h, w)``: of a whole photograph, or of windows each spliced alone."""
        if isinstance(state, DenseState):
            return super().features(state, text)
        grid = (state.external.shape[-2], state.external.shape[-1])
        return self.to_state(self.splice(state.value, state.external), grid).features

    def bind(self, state: WindowParts | DenseState, text: Tensor) -> DenseState:
        """Windows spliced once for all words."""
        return state if isinstance(state, DenseState) else DenseState(self.features(state, text))

    def gather(
        self,
        states: Sequence[WindowParts],
        merge: Callable[[Tensor], Tensor],
        picture: Tensor,
        regions: Tensor | None = None,
    ) -> PictureState:
        """As in :class:`~lexiseg.types.PictureReader`; the map is on SAM's grid."""
        del regions
        spliced = merge(torch.cat(list(self.spliced_windows(states))))
        weights, grid, encoded = self._look(picture)
        together = spread(spliced, weights, grid)
        features = self.tower.project(map_to_tokens(together[None]))
        return PictureState(tokens_to_map(features, (together.shape[1], together.shape[2])), encoded)

    def spliced_windows(self, states: Sequence[WindowParts]) -> Iterator[Tensor]:
        """Maps ``(n, D, h, w)`` of a photograph's windows, some at a time, all against the mean over all of them."""
        external = torch.cat([state.external for state in states])
        mean = mean_affinity(map_to_tokens(external))
        for state in states:
            grid = (state.external.shape[-2], state.external.shape[-1])
            for part in chunks(len(state.value), _WINDOWS_AT_ONCE):
                tokens = self.splice(state.value[part], state.external[part], mean=mean)
                yield tokens_to_map(tokens, grid).float()

    def redraw_labels(
        self, state: PictureState, labels: Tensor, maps: Callable[[int], Tensor], classes: int
    ) -> tuple[Tensor, Tensor]:
        """As in :class:`~lexiseg.types.Redrawing`: SAM's answers decide inside them."""
        encoded, size = state.encoded, (labels.shape[0], labels.shape[1])
        if encoded is None:
            raise ValueError("expected a state that was gathered with sam_refine")

        def answer(prompts: Prompts) -> tuple[Tensor, Tensor]:
            logits, qualities = self.sam.answer_prompts(encoded, prompts)
            return F.interpolate(self.sam.enlarge(logits, encoded)[None], size=size, mode="bilinear")[
                0
            ], qualities

        redrawn = redraw(
            labels,
            maps,
            classes,
            answer,
            side=self.sam.side,
            mask_side=self.sam.mask_side,
            settings=self.refinement,
        )
        if redrawn is None:
            return labels, torch.zeros(size, device=labels.device)
        return settle(redrawn, labels, maps, classes, restore_failed=self.refinement.restore_failed)

    def _look(self, picture: Tensor) -> tuple[list[Tensor], tuple[int, int], EncodedImage | None]:
        """Weights of each piece that SAM looks at, a piece's grid, and SAM's whole picture where it is asked later."""
        height, width = (
            -(-side // self.tower.patch_size) * self.tower.patch_size for side in picture.shape[:2]
        )
        seen = resize_image(picture, (height, width)).cpu().numpy()
        pieces = [seen[:, : width // 2], seen[:, width // 2 :]] if self.halves else [seen]
        weights: list[Tensor] = []
        encoded, grid = None, (0, 0)
        for piece in pieces:
            encoded, attention = self._attention(np.ascontiguousarray(piece))
            grid = attention.grid
            weights.append(
                guided_weights(
                    attention.heads, attention.values, factor=self.likeness, keep_negative=self.keep_negative
                )
            )
        if self.redraws and self.halves:
            encoded = self.sam.encode(seen)
        return weights, grid, encoded if self.redraws else None

    def _attention(self, picture: Picture) -> tuple[EncodedImage | None, LastAttention]:
        return (
            attend(self.sam, picture) if isinstance(self.sam, PromptableModel) else (None, self.sam(picture))
        )
