"""Labels and position embeddings equal the published implementation of Cascade-CLIP.

Runs on every folder that LEXISEG_GOLDEN names; test_mask_models.py compares the model itself.
"""

import pytest
import torch
from published_cases import assert_close, load

from lexiseg.data.splits import seen_label_map
from lexiseg.ops.grid import resize_position_embedding
from lexiseg.types import ClassSplit
from support import golden_folders

FOLDERS = golden_folders("cascade")

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not FOLDERS, reason="LEXISEG_GOLDEN names no cascade folder"),
]


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_label_remapping(folder):
    """Seen labels become query indices; everything else becomes 255."""
    inputs, expected = load(folder, "inputs.pt"), load(folder, "train_inductive.pt")
    names = tuple(f"class {i}" for i in inputs["both_class"])
    split = ClassSplit("golden", names, tuple(names[i] for i in inputs["novel_class"]))
    hidden = torch.from_numpy(seen_label_map(split)).long()[inputs["label"]]
    query = torch.full((256,), 255)
    query[list(split.training_ids)] = torch.arange(len(split.training_ids))
    assert torch.equal(query[hidden], expected["label_in_loss"])


@pytest.mark.skipif(not golden_folders("clip"), reason="LEXISEG_GOLDEN names no clip folder")
def test_position_embedding():
    for folder in golden_folders("clip"):
        numbers = load(folder, "pos_embed_resize.pt")
        native, expected = (
            next(tensor for name, tensor in numbers.items() if name.startswith(prefix))
            for prefix in ("clip_pos_", "resized_")
        )
        side = round((len(expected) - 1) ** 0.5)
        assert_close(
            resize_position_embedding(native, (side, side), "bilinear"), expected, "position embedding"
        )
