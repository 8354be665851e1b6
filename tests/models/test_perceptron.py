"""Layers with ReLU between them, on tokens and on maps."""

import torch
from torch import nn

from lexiseg.models.perceptron import perceptron


@torch.no_grad()
def test_on_a_map_it_is_the_same_at_every_pixel():
    tokens, pixels = perceptron(5, 7, 3), perceptron(5, 7, 3, pointwise=True)
    pixels.load_state_dict(
        {name: tensor.view(pixels.state_dict()[name].shape) for name, tensor in tokens.state_dict().items()}
    )
    given = torch.randn(2, 5, 3, 4)
    torch.testing.assert_close(pixels(given), tokens(given.movedim(1, -1)).movedim(-1, 1))


def test_layers():
    layers = perceptron(5, 7, 11, 3)
    assert [type(layer) for layer in layers] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [tuple(layers[i].weight.shape) for i in (0, 2, 4)] == [(7, 5), (11, 7), (3, 11)]
