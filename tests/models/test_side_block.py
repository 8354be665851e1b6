"""The side adapter's block is a pre-norm transformer layer."""

import torch
from torch import nn

from lexiseg.models.side_block import SideBlock
from side_cases import shaken


@torch.no_grad()
def test_equals_torchs_own_layer():
    ours = shaken(SideBlock(14, 2, 22))
    theirs = nn.TransformerEncoderLayer(
        14, 2, 22, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    ).eval()
    pairs = {
        "self_attn.in_proj_": ours.qkv,
        "self_attn.out_proj.": ours.proj,
        "linear1.": ours.fc1,
        "linear2.": ours.fc2,
        "norm1.": ours.norm1,
        "norm2.": ours.norm2,
    }
    theirs.load_state_dict(
        {f"{name}{kind}": getattr(part, kind) for name, part in pairs.items() for kind in ("weight", "bias")}
    )
    tokens = torch.randn(3, 7, 14)
    torch.testing.assert_close(ours(tokens), theirs(tokens))
