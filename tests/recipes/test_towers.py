"""Any transformer's blocks can be looked into; a tower without attention blocks is refused in one message."""

import pytest
import torch

import family_cases
from lexiseg.errors import ConfigError
from lexiseg.recipes import towers
from lexiseg.recipes.analyze import attention_figure
from lexiseg.recipes.towers import FROZEN, choose_blocks, load_towers


@pytest.mark.parametrize("family", sorted(family_cases.CASES))
def test_a_tower_of_any_family_gives_its_blocks(family, tmp_path):
    model = family_cases.saved(family, tmp_path)
    loaded = load_towers(clip=str(tmp_path), device="cpu", short_side=24)
    image = torch.randint(0, 256, (24, 56, 3), generator=torch.Generator().manual_seed(2)).byte().numpy()
    read = loaded.read(image)[FROZEN]
    assert loaded.depth == len(read.blocks) == model.config.vision_config.num_hidden_layers
    assert read.grid == (3, 7)
    assert all(tokens.shape == (21, 24) and tokens.isfinite().all() for tokens in read.blocks)
    attention = attention_figure(loaded, tmp_path, image, [(10, 5)]).values["attention"]
    assert {len(maps[0]) for maps in attention.values()} == {3}


def test_a_tower_without_blocks_is_refused(monkeypatch):
    class Frozen:
        source = "a_convnext"
        tower = type("Tower", (), {"has_blocks": False, "kind": "ConvNeXt"})()

        def to(self, device):
            return self

    monkeypatch.setattr(towers, "load_clip", lambda source: Frozen())
    with pytest.raises(
        ConfigError, match="'a_convnext' has a ConvNeXt image tower, which has no attention blocks"
    ):
        load_towers(clip="a_convnext", device="cpu")


def test_blocks_stand_in_the_tower_s_order_and_once():
    assert choose_blocks("12, 6,6", 12) == (6, 12)
    assert choose_blocks(" all ", 3) == (1, 2, 3)


@pytest.mark.parametrize(
    ("text", "fewest"),
    [("0", 1), ("4", 1), ("", 1), (",", 1), ("two", 1), ("-1", 1), ("1.5", 1), ("2", 2), ("2,2", 2)],
)
def test_mistakes(text, fewest):
    with pytest.raises(ConfigError, match=f"expected all, or {fewest} or more numbers from 1 to 3"):
        choose_blocks(text, 3, fewest=fewest)
