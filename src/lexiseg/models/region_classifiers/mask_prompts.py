"""OVSeg's mask prompt tokens: CLIP reads a cut-out region with learned tokens where the region is not."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lexiseg.errors import ConfigError
from lexiseg.models.region_model import require_tower
from lexiseg.ops.region_crops import covered_patches
from lexiseg.types import ImageTower


class MaskPrompts(nn.Module):
    """One vector per depth and patch position, in the place of every patch without a pixel of the region.

    At depth 0 it replaces the patch embedding, before class token and positions are added; at depth d the token after block
    d. Replaced tokens are attended to like the others (Liang et al., 2023, sec. 3.3; released code).

    Args:
        tower: The CLIP that reads the regions, at its native size.
        depth: How often tokens are replaced, counted from the embedding.

    Raises:
        ConfigError: A tower that patches cannot be replaced in.
    """

    def __init__(self, tower: ImageTower, depth: int) -> None:
        super().__init__()
        require_tower(tower, model="ovseg", kinds=("ViT",))
        if not tower.takes_prompts:
            raise ConfigError(
                "mask prompts need a CLIP with a class token and CLIP's way of embedding; set model.prompt_depth=0"
            )
        blocks, width = tower.depth, tower.width  # type: ignore[attr-defined]
        if depth > blocks:
            raise ConfigError(
                f"model.prompt_depth: expected at most the tower's {blocks} blocks, got {depth}"
            )
        patches = (tower.image_size // tower.patch_size) ** 2
        self.tokens = nn.Parameter(torch.zeros(depth, patches, width))

    def start(self) -> None:
        """Draw the tokens anew, normal with deviation 0.02, as at the beginning of their tuning; until then they are zero."""
        nn.init.normal_(self.tokens, std=0.02)

    def forward(self, tower: ImageTower, regions: Tensor, masks: Tensor) -> Tensor:
        """Image embeddings of regions.

        Args:
            tower: As given.
            regions: ``(n, 3, S, S)`` normalised, S the tower's native size.
            masks: ``(n, S, S)`` bool.

        Returns:
            ``(n, E)``, not normalised.
        """
        *_, tokens = self.block_inputs(tower, regions, masks)
        embeddings: Tensor = tower.project(tokens[:, 0])  # type: ignore[attr-defined]
        return embeddings

    def block_inputs(self, tower: ImageTower, regions: Tensor, masks: Tensor) -> Iterator[Tensor]:
        """Tokens ``(n, 1 + P, D)`` that enter each block, and at last those that leave the last one."""
        keep = covered_patches(masks, tower.patch_size)[..., None]  # (n, P, 1)

        def patched(depth: int, patches: Tensor) -> Tensor:
            return patches.where(keep, self.tokens[depth].to(patches.dtype))

        steps: ImageTower = tower
        tokens = steps.embed(regions, change_patches=lambda patches: patched(0, patches))  # type: ignore[attr-defined]
        for index in range(steps.depth):  # type: ignore[attr-defined]
            yield tokens
            tokens = steps.block(index, tokens)  # type: ignore[attr-defined]
            if index + 1 < len(self.tokens):
                tokens = torch.cat([tokens[:, :1], patched(index + 1, tokens[:, 1:])], dim=1)
        yield tokens


def take_prompts(prompts: MaskPrompts | None, tokens: Tensor) -> None:
    """Take over mask prompt tokens that were tuned on the CLIP which is to read with them.

    Args:
        prompts: The model's own; None where it has none.
        tokens: ``(depth, P, D)``.

    Raises:
        ConfigError: As many as the model has not, or of another CLIP.
    """
    own = None if prompts is None else prompts.tokens
    if own is None or own.shape != tokens.shape:
        came, have = ("none" if each is None else "x".join(map(str, each.shape)) for each in (tokens, own))
        raise ConfigError(
            f"the CLIP brings mask prompt tokens of {came} (depth x patches x width), the model has {have}; set "
            f"model.prompt_depth={len(tokens)}"
        )
    with torch.no_grad():
        own.copy_(tokens)
