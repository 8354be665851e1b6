"""Regions named by CLIP as whole pictures: each is cut out of the photograph and read on its own."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.errors import ConfigError
from lexiseg.models.region_classifiers.mask_prompts import MaskPrompts
from lexiseg.ops.region_crops import CropStyle, aligned_crops, region_crops, whole_crops
from lexiseg.ops.tracing import is_exporting
from lexiseg.types import ImageTower, Proposals, chunks

_UNTRACEABLE = (
    "regions that CLIP looks at are cut out one by one, which no exported program can hold; export with "
    "model.branch=segment"
)


@dataclass(frozen=True)
class Crops:
    """Some regions of one photograph as pictures; n of the N asked for were to be seen.

    Attributes:
        pictures: ``(n, 3, S, S)`` in CLIP's normalisation, zero where blanked.
        inside: ``(n, S, S)`` bool, the region in each picture; None for a style that does not say.
        visible: ``(N,)`` bool, which of the regions asked for are among them.
    """

    pictures: Tensor
    inside: Tensor | None
    visible: Tensor


@dataclass(frozen=True)
class CropEmbeddings:
    """What CLIP makes of every region.

    Attributes:
        vectors: ``(B, N, E)``, not normalised; zero where not visible.
        visible: ``(B, N)`` bool: whether there was anything to look at.
    """

    vectors: Tensor
    visible: Tensor


class MaskedCrops(nn.Module):
    """Cuts out every region and lets CLIP read the pieces, a few at a time.

    In the styles of ZegFormer the masks lie on the padded picture and an empty one is looked at too; in OVSeg's ``region``
    they are cut to the content first, and a region without a pixel above the threshold is not looked at.

    Args:
        style: How a region is cut out, see :data:`~lexiseg.ops.region_crops.CropStyle`.
        threshold: A pixel belongs to a region where the sigmoid of its mask is above this.
        batch: Pictures that CLIP reads at a time.
        prompts: Learned tokens for what is not of the region, with ``region`` only.
        asked: Whether anybody does; a program can hold a model that has them and does not.
        refusal: What whoever wants a program of them is told, where they are asked.
    """

    def __init__(
        self,
        style: CropStyle = "cropmask",
        *,
        threshold: float = 0.5,
        batch: int = 32,
        prompts: MaskPrompts | None = None,
        asked: bool = True,
        refusal: str = _UNTRACEABLE,
    ) -> None:
        super().__init__()
        self._refusal = refusal
        self.untraceable = refusal if asked else None
        if prompts is not None and style != "region":
            raise ConfigError(f"mask prompts need crops of style 'region', got '{style}'")
        self.style, self.threshold, self.batch = style, threshold, batch
        self.prompts = prompts

    def forward(
        self,
        tower: ImageTower,
        images: Tensor,
        proposals: Proposals,
        content: tuple[int, int] | None = None,
    ) -> CropEmbeddings:
        """Embed every region of some photographs.

        Args:
            tower: The frozen CLIP.
            images: ``(B, 3, H, W)`` in **its** normalisation, padded with zeros.
            proposals: Their regions, masks ``(B, N, h, w)`` over the padded pictures.
            content: Height and width of the picture in them; None for all.

        Raises:
            ConfigError: A program is being traced: how a region is cut out depends on what is found.
        """
        if is_exporting():
            raise ConfigError(self._refusal)
        batch, count = proposals.masks.shape[:2]
        vectors = images.new_zeros(batch, count, tower.embed_dim)
        visible = torch.zeros(batch, count, dtype=torch.bool, device=images.device)
        for index, image in enumerate(images):
            for part in chunks(count, self.batch):
                crops = self.cut(image, proposals.masks[index, part], tower.image_size, content)
                visible[index, part] = crops.visible
                if len(crops.pictures):
                    vectors[index, part][crops.visible] = self.read(tower, crops).to(vectors.dtype)
        return CropEmbeddings(vectors, visible)

    def encode_bytes(self, height: int, width: int) -> int:
        """About what its largest tensors take for an image: a batch of masks at its size, before and after the sigmoid."""
        return 0 if self.untraceable is None else 2 * 4 * self.batch * height * width

    def cut(self, image: Tensor, masks: Tensor, side: int, content: tuple[int, int] | None = None) -> Crops:
        """Cut some regions out of one photograph.

        Args:
            image: ``(3, H, W)`` in CLIP's normalisation.
            masks: ``(N, h, w)`` logits on any grid.
            side: S.
            content: See :meth:`forward`.
        """
        masks = F.interpolate(masks[None], size=image.shape[-2:], mode="bilinear", align_corners=False)[0]
        all_of_them = torch.ones(len(masks), dtype=torch.bool, device=masks.device)
        if self.style == "mask":
            return Crops(whole_crops(image, masks, side), None, all_of_them)
        if self.style == "region" and content is not None:
            image, masks = (each[..., : content[0], : content[1]] for each in (image, masks))
        inside = masks.sigmoid() > self.threshold
        if self.style == "region":
            return self.cut_regions(image, inside, side)
        return Crops(aligned_crops(image, inside, side, blank=self.style == "cropmask"), None, all_of_them)

    def cut_regions(self, image: Tensor, masks: Tensor, side: int) -> Crops:
        """Cut out OVSeg's regions: of ``(3, H, W)`` those of bool masks ``(N, H, W)`` that have a pixel."""
        visible = masks.flatten(1).any(1)
        return Crops(*region_crops(image, masks[visible], side), visible)

    def embed_regions(
        self, tower: ImageTower, photograph: npt.NDArray[np.uint8], masks: npt.NDArray[np.bool_]
    ) -> Tensor:
        """Embeddings of regions that are known, with style ``region``.

        Args:
            tower: CLIP, on the device where it reads.
            photograph: ``(H, W, 3)`` uint8 RGB.
            masks: ``(N, H, W)`` bool, each with a pixel.

        Returns:
            ``(N, E)``, not normalised.
        """
        device = next(cast(nn.Module, tower).parameters()).device
        mean, std = (
            torch.tensor(values, device=device).view(3, 1, 1) * 255 for values in (tower.mean, tower.std)
        )
        picture = (torch.from_numpy(photograph).to(device).permute(2, 0, 1) - mean) / std
        parts = [picture.new_zeros(0, tower.embed_dim)]
        for part in chunks(len(masks), self.batch):
            inside = torch.from_numpy(masks[part]).to(device)
            parts.append(self.read(tower, self.cut_regions(picture, inside, tower.image_size)))
        return torch.cat(parts)

    def read(self, tower: ImageTower, crops: Crops) -> Tensor:
        """CLIP's embeddings ``(n, E)`` of what was cut out, not normalised."""
        if self.prompts is None:
            return tower(crops.pictures)
        return cast(Tensor, self.prompts(tower, crops.pictures, crops.inside))
