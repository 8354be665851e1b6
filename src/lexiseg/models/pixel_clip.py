"""PixelCLIP: an image tower learns where things are from masks without names (Shin et al., NeurIPS 2024)."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.clip.towers.text import TextTower
from lexiseg.errors import ConfigError, DataError
from lexiseg.losses.cluster_mask import cluster_mask_loss
from lexiseg.models.cluster_prompts import ClusterPrompts
from lexiseg.models.convolutional_mask_decoder import ConvolutionalMaskDecoder
from lexiseg.models.mask_clustering import MaskAssignment, assign_masks, merge_by_cluster
from lexiseg.models.momentum_teacher import MomentumTeacher
from lexiseg.models.pixel_clip_settings import PixelCLIPOptimSettings, PixelCLIPSettings
from lexiseg.models.tuned_tower import TunedTower, tuned_names
from lexiseg.ops.mask_pooling import pool_by_masks, resize_masks
from lexiseg.types import MaskBatch

_SMALLEST_MASK = 2
"""Pixels that a mask must keep at the target's size to count, as released: more than one."""


@dataclass(frozen=True)
class MaskTargets:
    """What the student's similarity maps are compared with, in one batch.

    Attributes:
        targets: ``(M, S, S)`` bool, one per map; with global clustering M = images × clusters.
        image_of_map: ``(M,)`` int64, index into ``images``.
        images: Indices into the batch of the images that have a mask; the others are left out of everything.
        kept: Indices into the batch's masks of those that count.
        pooled: ``(N, E)`` teacher features of the kept masks.
        assignment: Of the kept masks; None without global clustering.
    """

    targets: Tensor
    image_of_map: Tensor
    images: Tensor
    kept: Tensor
    pooled: Tensor
    assignment: MaskAssignment | None


class PixelCLIP(nn.Module):
    """Tunes a CLIP image tower with class-agnostic masks.

    A teacher, the student's moving average, pools its features of the weak view under each mask; the masks of all
    images are assigned to K clusters, whose centres are learnable class prompts in CLIP's text space; the masks of
    one cluster become one target. The student's cosines with each centre, on the strong view, pass a small decoder
    and are compared with the targets. So one training step is::

        model.update_teacher()  # as released: before the teacher is asked
        output = model(batch)
        output["loss"].backward()

    and afterwards :meth:`tuned_tower` is the result; decoder, prompts and teacher have done their work.

    Parameters and state are what trains, and the teacher's average of it; both towers' frozen weights are neither.

    Differs from the release: images without a mask pass no tower, for they add nothing to the loss; the teacher is
    updated by its own call, not inside ``forward``.

    Args:
        tower: Image tower to start from, copied: a :class:`~lexiseg.clip.towers.vit.VisionTower` or any other
            :class:`~lexiseg.models.tuned_tower.DenseTower`.
        text_tower: Frozen text tower; needed only with global clustering.
        settings: Architecture.

    Raises:
        ConfigError: The tower has nothing of what ``settings.tuned`` names, its patches do not divide ``settings.image_size``,
            or a text tower is needed and missing.
        TextTooLongError: Template and prompt are longer than the text tower reads.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self, tower: nn.Module, text_tower: TextTower | None, settings: PixelCLIPSettings | None = None
    ) -> None:
        super().__init__()
        self.settings = settings = settings or PixelCLIPSettings()
        patch = getattr(tower, "patch_size", 1) if getattr(tower, "has_blocks", False) else 1
        if settings.image_size % patch:
            raise ConfigError(
                f"model.image_size {settings.image_size}: expected a multiple of {patch}, the patch size of this CLIP's tower"
            )
        self.student = TunedTower(copy.deepcopy(tower), tuned_names(tower, settings.tuned))
        self.teacher = None
        if settings.momentum:
            shared = self.student.frozen_parameters()
            self.teacher = MomentumTeacher(self.student, settings.momentum, shared=shared)
        self.prompts = None
        if settings.global_clustering:
            if text_tower is None:
                raise ConfigError(
                    "model.global_clustering: cluster centres are class prompts, which need a text tower; got none. Load "
                    "the CLIP with its tokenizer, or set model.global_clustering=false"
                )
            self.prompts = ClusterPrompts(
                text_tower,
                count=settings.clusters,
                length=settings.prompt_length,
                template=settings.prompt_template,
                vocabulary=settings.prompt_vocabulary,
                seed=settings.prompt_seed,
                trained=settings.prompts_trained,
            )
        self.decoder = ConvolutionalMaskDecoder(settings.decoder_channels)
        for name, values in (("_mean", tower.mean), ("_std", tower.std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1) * 255, persistent=False)

    def forward(self, batch: MaskBatch) -> dict[str, Tensor]:
        """Loss of one batch; in a run of several processes all must call it together.

        Args:
            batch: Images of any one size; masks of any resolution that show the same window.

        Returns:
            ``loss``, differentiable (0 for a batch without a mask), and for logging ``masks`` (that count, per
            image) and, with global clustering, ``clusters`` (how many got a mask in this process) and
            ``similarity`` (mean cosine of a mask and its cluster).

        Raises:
            DataError: Images, masks and their owners do not fit each other.
        """
        check_batch(batch)
        centres = None if self.prompts is None else self.prompts()
        found = self.find_targets(batch, centres)
        maps = self.similarity_maps(batch.strong[found.images], found, centres)
        losses = {"loss": self._loss(maps, found)}
        losses["masks"] = losses["loss"].new_tensor(len(found.kept) / max(len(batch), 1))
        if found.assignment is not None:
            clusters = found.assignment.clusters
            chosen = found.assignment.similarity.gather(1, clusters[:, None])
            losses["clusters"] = losses["loss"].new_tensor(len(clusters.unique()))
            losses["similarity"] = chosen.sum() / max(len(clusters), 1)
        return losses

    @torch.no_grad()
    def find_targets(self, batch: MaskBatch, centres: Tensor | None) -> MaskTargets:
        """Pool, assign and merge the masks of a batch.

        Args:
            batch: Of which the weak view is looked at.
            centres: ``(K, E)`` cluster embeddings, or None without global clustering.
        """
        settings = self.settings
        masks = resize_masks(batch.masks, settings.mask_size)
        kept = (masks.flatten(1).sum(dim=1) >= _SMALLEST_MASK).nonzero().flatten()
        images, image_of_mask = batch.image_of_mask[kept].unique(return_inverse=True)
        features = self._features(self.teacher or self.student, batch.weak[images])
        with torch.autocast(features.device.type, enabled=False):
            pooled = pool_by_masks(features, masks[kept], image_of_mask)
            if centres is None:
                return MaskTargets(masks[kept], image_of_mask, images, kept, pooled, None)
            assignment = assign_masks(
                pooled,
                centres,
                scale=settings.assignment_scale,
                iterations=settings.assignment_iterations,
            )
        targets = merge_by_cluster(
            masks[kept], assignment.clusters, image_of_mask, images=len(images), count=len(centres)
        )
        image_of_map = torch.arange(len(images), device=images.device).repeat_interleave(len(centres))
        return MaskTargets(targets.flatten(0, 1), image_of_map, images, kept, pooled, assignment)

    def similarity_maps(self, images: Tensor, found: MaskTargets, centres: Tensor | None) -> Tensor:
        """Cosines ``(M, h, w)`` of the student's patches with what each target stands for.

        Args:
            images: ``(B, 3, H, W)`` RGB in 0-255, those of ``found.images``.
            found: Of the same batch.
            centres: Cluster embeddings; without them each mask's own pooled feature is compared.
        """
        features = self._features(self.student, images)
        with torch.autocast(features.device.type, enabled=False):
            unit = F.normalize(features.float(), dim=1).flatten(2)  # (B, E, h*w)
            if centres is not None:
                maps = (F.normalize(centres.float(), dim=1) @ unit).flatten(0, 1)
            else:
                own = F.normalize(found.pooled, dim=1)
                maps = unit.new_zeros(len(own), unit.shape[2])
                for image, patches in enumerate(unit):
                    of_image = found.image_of_map == image
                    maps[of_image] = own[of_image] @ patches
            return maps.unflatten(1, features.shape[-2:]).to(self.decoder.opening.weight.dtype)

    def update_teacher(self) -> None:
        """Let the teacher follow; once per optimiser step, before the step's first batch."""
        if self.teacher is not None:
            self.teacher.update(self.student)

    def tuned_tower(self) -> nn.Module:
        """A frozen copy of the image tower as it is now, of the kind that was given."""
        return self.student.frozen_copy()

    def parameter_groups(self, optim: PixelCLIPOptimSettings) -> list[dict[str, Any]]:
        """What trains, in groups for AdamW, each with ``name``, ``lr`` and ``weight_decay``; empty ones left out."""
        norms = {
            id(p)
            for module in self.modules()
            if isinstance(module, nn.GroupNorm)
            for p in module.parameters()
        }
        decoder = list(self.decoder.parameters())
        plain, normed = ([p for p in decoder if (id(p) in norms) == kind] for kind in (False, True))
        prompts = [] if self.prompts is None else list(self.prompts.parameters())
        parts = [
            ("prompts", prompts, optim.prompt_factor, optim.weight_decay),
            ("clip", list(self.student.parameters()), optim.clip_factor, optim.weight_decay),
            ("decoder", plain, optim.decoder_factor, optim.weight_decay),
            ("decoder_norms", normed, optim.decoder_factor, optim.norm_weight_decay),
        ]
        groups = []
        for name, parameters, factor, decay in parts:
            trained = [p for p in parameters if p.requires_grad]
            if trained:
                groups.append(
                    {"name": name, "params": trained, "lr": optim.lr * factor, "weight_decay": decay}
                )
        return groups

    def normalize(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` RGB in 0-255 to the tower's input, stretched to its square size without antialiasing."""
        side = self.settings.image_size
        normalised = (images - self._mean) / self._std
        if images.shape[-2:] == (side, side):
            return normalised
        return F.interpolate(normalised, size=(side, side), mode="bilinear", align_corners=False)

    def _features(self, tower: nn.Module, images: Tensor) -> Tensor:
        return tower(self.normalize(images))

    def _loss(self, maps: Tensor, found: MaskTargets) -> Tensor:
        """The mask loss; without a single mask a zero that still reaches every parameter, as DDP needs."""
        if len(found.kept):
            return cluster_mask_loss(maps, found.targets, found.image_of_map, self.decoder)
        return sum((p.sum() * 0 for p in self.parameters() if p.requires_grad), maps.sum() * 0)


def check_batch(batch: MaskBatch) -> None:
    """Refuse a batch whose parts do not belong together.

    Raises:
        DataError: Says which.
    """
    weak, strong, masks = batch.weak, batch.strong, batch.masks
    if weak.ndim != 4 or weak.shape != strong.shape:
        raise DataError(
            f"expected two views (B, 3, H, W) of one size, got {tuple(weak.shape)} and {tuple(strong.shape)}"
        )
    if masks.ndim != 3 or masks.dtype != torch.bool:
        raise DataError(f"expected masks (N, H, W) of type bool, got {tuple(masks.shape)} of {masks.dtype}")
    if masks.shape[1] * weak.shape[3] != masks.shape[2] * weak.shape[2]:
        raise DataError(
            f"masks of {masks.shape[1]}×{masks.shape[2]} cannot show the window of views of "
            f"{weak.shape[2]}×{weak.shape[3]}: the ratio of sides differs; cut both from one window"
        )
    owners = batch.image_of_mask
    if len(owners) != len(masks) or (
        len(owners) and not 0 <= int(owners.min()) <= int(owners.max()) < len(weak)
    ):
        raise DataError(
            f"expected for each of {len(masks)} masks the index of one of {len(weak)} images, got {len(owners)} "
            f"indices {owners[:8].tolist()}"
        )
