"""Which masks are typical of each of PixelCLIP's clusters."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from lexiseg.data.mask_views import TwoViews, Views
from lexiseg.data.unlabelled import MaskedDataset
from lexiseg.drawing.cluster_sheet import cut_out
from lexiseg.errors import ConfigError
from lexiseg.models.mask_clustering import MaskAssignment, assign_masks
from lexiseg.models.pixel_clip import PixelCLIP
from lexiseg.progress import with_progress
from lexiseg.types import MaskBatch


@dataclass(frozen=True)
class Example:
    """One mask.

    Attributes:
        picture: The mask cut out of its photograph.
        similarity: Cosine with its cluster.
    """

    picture: Image.Image
    similarity: float


@dataclass(frozen=True)
class Cluster:
    """What went to one cluster, of the masks looked at.

    Attributes:
        index: Its number.
        count: How many masks.
        examples: Those nearest to its centre, first one of each photograph.
    """

    index: int
    count: int
    examples: tuple[Example, ...]


class TypicalMasks:
    """Looks at the same windows of the same photographs every time, so that pictures of a run can be compared.

    Windows are drawn as in training but neither mirrored nor distorted, and at the crop's own size, since they are
    looked at; the model gets them at its size. Memory holds one photograph at a time and the pooled masks.

    Args:
        dataset: Photographs and masks.
        views: Those of the training.
        images: How many photographs to look at, evenly spread over the data set.
        examples: How many masks per cluster at most.
        seed: Of the windows.

    Raises:
        ConfigError: A number below 1.
    """

    def __init__(
        self, dataset: MaskedDataset, views: TwoViews, *, images: int = 64, examples: int = 6, seed: int = 0
    ) -> None:
        if images < 1 or examples < 1:
            raise ConfigError(
                f"pictures: expected images and examples of at least 1, got {images} and {examples}"
            )
        self.dataset, self.examples, self.seed = dataset, examples, seed
        self.views = replace(
            views, size=views.crop, mask_size=views.crop, flip=0.0, distort=False, cut_masks=False
        )
        self.indices = np.unique(np.linspace(0, len(dataset) - 1, images).astype(np.int64)).tolist()

    @torch.no_grad()
    def __call__(self, model: PixelCLIP, device: torch.device | str = "cpu") -> list[Cluster]:
        """Every cluster with its typical masks.

        In a run of several processes all must call it together, for the assignment is balanced over all of them; as
        all look at the same photographs, all find the same.

        Raises:
            ConfigError: A model without clusters.
        """
        if model.prompts is None:
            raise ConfigError("model.global_clustering is off: without clusters there is nothing to look at")
        numbers = with_progress(range(len(self.indices)), "looking for typical masks", len(self.indices))
        found = [self._pooled(model, number, device) for number in numbers]
        pooled = torch.cat([features for features, _ in found])
        places = [(number, mask) for number, (_, kept) in enumerate(found) for mask in kept.tolist()]
        settings = model.settings
        assignment = assign_masks(
            pooled,
            model.prompts(),
            scale=settings.assignment_scale,
            iterations=settings.assignment_iterations,
        )
        counts = assignment.clusters.bincount(minlength=settings.clusters).tolist()
        chosen = [
            _nearest(assignment, cluster, places, self.examples) for cluster in range(settings.clusters)
        ]
        drawn = self._draw([place for places_ in chosen for place, _ in places_])
        return [
            Cluster(cluster, counts[cluster], tuple(Example(drawn[place], cosine) for place, cosine in best))
            for cluster, best in enumerate(chosen)
        ]

    def _window(self, number: int) -> Views:
        item = self.dataset[self.indices[number]]
        return self.views(item.image, item.masks, np.random.default_rng((self.seed, number)))

    def _pooled(self, model: PixelCLIP, number: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Pooled features ``(n, E)`` of one window's masks, and their indices among them."""
        window = self._window(number)
        image = torch.from_numpy(np.ascontiguousarray(window.weak)).to(device).permute(2, 0, 1)[None].float()
        side = model.settings.image_size
        shown = F.interpolate(image, (side, side), mode="bilinear", align_corners=False, antialias=True)
        masks = torch.from_numpy(window.masks).to(device)
        owners = torch.zeros(len(masks), dtype=torch.long, device=device)
        found = model.find_targets(MaskBatch(shown, shown, masks, owners), None)
        return found.pooled, found.kept

    def _draw(self, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Image.Image]:
        """The mask at each place cut out, every photograph read once."""
        drawn = {}
        for number in sorted({number for number, _ in places}):
            window = self._window(number)
            for place in places:
                if place[0] == number:
                    drawn[place] = cut_out(window.weak, window.masks[place[1]])
        return drawn


def _nearest(
    assignment: MaskAssignment, cluster: int, places: Sequence[tuple[int, int]], most: int
) -> list[tuple[tuple[int, int], float]]:
    """Places and cosines of the masks of a cluster that are nearest to its centre.

    One of each photograph, and further ones of the same photographs only where there are too few of these.
    """
    members = (assignment.clusters == cluster).nonzero().flatten()
    cosines = assignment.similarity[members, cluster]
    ranked = [
        (places[int(members[rank])], float(cosines[rank]))
        for rank in cosines.argsort(descending=True, stable=True).tolist()
    ]
    best_of_photograph: dict[int, tuple[tuple[int, int], float]] = {}
    for found in ranked:
        best_of_photograph.setdefault(found[0][0], found)
    first = list(best_of_photograph.values())
    return [*first, *(found for found in ranked if found not in first)][:most]
