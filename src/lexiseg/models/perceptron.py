"""Linear layers with ReLU between them, on tokens or on every pixel of a map."""

from itertools import pairwise

from torch import nn


def perceptron(*widths: int, pointwise: bool = False) -> nn.Sequential:
    """Layers from each width to the next; layer i of them is module ``2 i``.

    Args:
        widths: Channels of the input, after each layer, and of the output.
        pointwise: Whether it runs on maps ``(B, C, h, w)``, as 1×1 convolutions, instead of on ``(…, C)``.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [
            nn.Conv2d(inputs, outputs, kernel_size=1) if pointwise else nn.Linear(inputs, outputs),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers[:-1])
