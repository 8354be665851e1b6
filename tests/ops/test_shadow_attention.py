"""Who sees whom among shadow tokens, class token and patches."""

import torch

from lexiseg.ops.attention import attend
from lexiseg.ops.shadow_attention import shadow_mask

IMAGES, HEADS, SHADOWS, PATCHES = 2, 3, 5, 7
TOKENS = SHADOWS + 1 + PATCHES


def test_entry_by_entry():
    bias = torch.randn(IMAGES, HEADS, SHADOWS, PATCHES)
    mask = shadow_mask(bias)
    assert mask.shape == (IMAGES, HEADS, TOKENS, TOKENS)
    for row in range(TOKENS):
        for column in range(TOKENS):
            entry = mask[:, :, row, column]
            if row < SHADOWS and column > SHADOWS:
                assert torch.equal(entry, bias[:, :, row, column - SHADOWS - 1])
            elif row < SHADOWS:
                assert (entry == (0 if row == column else -100)).all()
            else:
                assert (entry == (-100 if column < SHADOWS else 0)).all()


def test_class_token_and_patches_run_on_as_without_shadows():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, IMAGES, HEADS, TOKENS, 4)
    mask = shadow_mask(torch.randn(IMAGES, HEADS, SHADOWS, PATCHES))
    plain = attend(*(part[:, :, SHADOWS:] for part in (query, key, value)))
    torch.testing.assert_close(attend(query, key, value, bias=mask)[:, :, SHADOWS:], plain)


def test_gradient_reaches_the_bias():
    bias = torch.randn(IMAGES, HEADS, SHADOWS, PATCHES, requires_grad=True)
    weights = torch.randn(IMAGES, HEADS, TOKENS, TOKENS)
    (shadow_mask(bias) * weights).sum().backward()
    assert torch.equal(bias.grad, weights[:, :, :SHADOWS, SHADOWS + 1 :])
