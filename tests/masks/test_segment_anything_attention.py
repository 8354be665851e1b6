"""SAM's last attention equals what transformers' own attention gives, cut to the photograph."""

import numpy as np
import pytest
import torch
from transformers.models.sam.modeling_sam import SamVisionAttention

from lexiseg.errors import ConfigError
from lexiseg.masks.segment_anything_attention import attend, require_attention
from lexiseg.masks.segment_anything_model import PromptableModel
from lexiseg.ops.prompted_refinement import Prompts
from tiny_sams import SAM_SIDE, tiny_sam


def photograph(height: int, width: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8).numpy()


@torch.inference_mode()
def test_attention_of_a_photograph() -> None:
    model = PromptableModel(tiny_sam())
    module, seen = model.model.vision_encoder.layers[-1].attn, []
    hook = module.register_forward_hook(
        lambda _, given, named, out: seen.append(named["hidden_states"]), with_kwargs=True
    )
    encoded, last = attend(model, photograph(34, 47))
    hook.remove()
    _, whole = SamVisionAttention.forward(module, seen[0])
    side = SAM_SIDE // 16
    rows, columns = encoded.input_size[0] // 16, encoded.input_size[1] // 16
    assert last.grid == (rows, columns) == (2, 4)
    whole = whole.view(3, side, side, side, side)[:, :rows, :columns, :rows, :columns].reshape(3, 8, 8)
    maps = torch.stack(list(last.heads))
    torch.testing.assert_close(maps, whole)
    assert (maps.sum(dim=-1) < 1).all(), "the rest went to the padding"
    value = module.qkv(seen[0]).view(side, side, 3, 3, 8)[:rows, :columns, 2].flatten(0, 1).transpose(0, 1)
    torch.testing.assert_close(last.values, value)
    torch.testing.assert_close(encoded.embeddings, model.encode(photograph(34, 47)).embeddings)


@torch.inference_mode()
def test_prompts_with_box_point_and_mask_are_answered_one_by_one() -> None:
    model = PromptableModel(tiny_sam())
    encoded = model.encode(photograph(34, 47))
    mask = torch.zeros(1, model.mask_side, model.mask_side)
    mask[0, 2:5, 3:8] = 3.0
    boxes = torch.tensor([[3.0, 5.0, 30.0, 40.0], [10.0, 0.0, 63.0, 20.0]])
    points = torch.tensor([[7.0, 11.0], [13.0, 2.0]])
    assert (model.side, model.mask_side) == (SAM_SIDE, SAM_SIDE // 4)
    logits, qualities = model.answer_prompts(encoded, Prompts(points, boxes, mask))
    assert logits.shape[0] == len(qualities) == 2
    alone, quality = model.answer_prompts(encoded, Prompts(points[1:], boxes[1:], mask))
    torch.testing.assert_close(alone[0], logits[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(quality[0], qualities[1], rtol=1e-4, atol=1e-4)
    for other in (
        Prompts(points, boxes, 0 * mask),
        Prompts(points + 9, boxes, mask),
        Prompts(points, boxes + 5, mask),
    ):
        assert not torch.allclose(model.answer_prompts(encoded, other)[0], logits, atol=1e-3)


def test_models_without_it() -> None:
    with pytest.raises(
        ConfigError, match="expected a SAM of the first kind, .* got Sam2Model; choose one such as"
    ):
        require_attention(tiny_sam("sam2"))
    windows = tiny_sam()
    windows.vision_encoder.layers[-1].window_size = 3
    with pytest.raises(ConfigError, match="whose last block attends to the whole photograph"):
        require_attention(windows)
