"""Whether an exported program gives what the live model gives."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.errors import LexisegError
from lexiseg.types import MaskModel

LARGEST_DIFFERENCE = 1e-4
"""Of logits, absolute."""

LARGEST_LABEL_SHARE = 1e-4
"""Of pixels whose best class differs: 0.01 %."""

_COARSE = 4
"""Pixels of the smooth part of the test images, per side and patch."""


@dataclass(frozen=True)
class ParityCase:
    """Inputs of one size, and how far program and model are apart on them.

    Attributes:
        batch: Images.
        height: In pixels.
        width: In pixels.
        classes: Words.
        difference: Largest difference of logits, absolute.
        logit: Largest logit of the live model, absolute.
        labels: Share of pixels whose best class differs.
    """

    batch: int
    height: int
    width: int
    classes: int
    difference: float
    logit: float
    labels: float


@dataclass(frozen=True)
class Parity:
    """How far an exported program is from the live model.

    Attributes:
        cases: One per size.
    """

    cases: tuple[ParityCase, ...]

    @property
    def difference(self) -> float:
        """Largest difference of logits."""
        return max(case.difference for case in self.cases)

    @property
    def labels(self) -> float:
        """Share of all pixels whose best class differs."""
        pixels = [case.batch * case.height * case.width for case in self.cases]
        return sum(case.labels * count for case, count in zip(self.cases, pixels, strict=True)) / sum(pixels)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the file beside the program."""
        return {
            "largest_difference": self.difference,
            "label_share": self.labels,
            "cases": [asdict(case) for case in self.cases],
        }

    def require(self) -> None:
        """Refuse a program that does not do what the model does.

        Raises:
            LexisegError: A difference is above its limit.
        """
        # So put that a difference that is no number is refused as well.
        if not (self.difference <= LARGEST_DIFFERENCE and self.labels <= LARGEST_LABEL_SHARE):
            raise LexisegError(
                f"the exported program is not the model: logits differ by up to {self.difference:.1e} (allowed "
                f"{LARGEST_DIFFERENCE:.0e}), labels of {100 * self.labels:.4f} % of pixels (allowed "
                f"{100 * LARGEST_LABEL_SHARE:g} %); nothing was written. Please report the model's settings"
            )


def check_parity(
    model: MaskModel, run: Callable[[Tensor, Tensor], Tensor], words: Tensor | None = None
) -> Parity:
    """Run program and model side by side at three sizes and numbers of classes that the trace did not see.

    The first grid is the tower's own, which the live model treats in a way of its own; the others are wider and higher.

    Args:
        model: The live model, in evaluation mode on the processor.
        run: The program: normalised ``(B, 3, H, W)`` and ``(K, E)`` to logits.
        words: ``(K, E)`` unit text embeddings that the model was trained with; random ones follow them.
    """
    tower, generator = model.tower, torch.Generator().manual_seed(1)
    native = max(tower.image_size // model.patch_size, model.smallest_grid)
    random = F.normalize(torch.randn(171, tower.embed_dim, generator=generator), dim=-1)
    text = random if words is None else torch.cat([words.cpu(), random])
    sizes = (
        (1, native, native, 19),
        (3, native + 3, 2 * native - 1, 2),
        (2, 2 * native + 1, max(native - 1, 4), 171),
    )
    cases = []
    for batch, rows, columns, classes in sizes:
        images = _images(batch, rows * model.patch_size, columns * model.patch_size, generator)
        cases.append(_compare(model, run, model.normalize(images), text[:classes]))
    return Parity(tuple(cases))


@torch.inference_mode()
def _compare(
    model: MaskModel, run: Callable[[Tensor, Tensor], Tensor], images: Tensor, text: Tensor
) -> ParityCase:
    live, exported = model(images, text).logits, run(images, text)
    if live.shape != exported.shape:
        raise LexisegError(
            f"the exported program gives logits {tuple(exported.shape)}, the live model {tuple(live.shape)}; nothing was "
            "written. Please report the model's settings"
        )
    height, width = images.shape[-2:]
    best = [
        F.interpolate(logits, size=(height, width), mode="bilinear").argmax(1) for logits in (live, exported)
    ]
    return ParityCase(
        len(images),
        height,
        width,
        len(text),
        difference=float((live - exported).abs().max()),
        logit=float(live.abs().max()),
        labels=float((best[0] != best[1]).float().mean()),
    )


def _images(batch: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """``(B, 3, H, W)`` in 0-255: soft blobs with grain."""
    coarse = torch.rand(batch, 3, _COARSE, _COARSE, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic")
    grain = torch.randn(batch, 3, height, width, generator=generator)
    return (255 * smooth + 20 * grain).clamp(0, 255).round()
