import pytest
from published_cases import last_of


@pytest.mark.parametrize("depth", [6, 12, 24, 101])
def test_the_last_block_is_found_by_its_number(depth):
    blocks = [f"visual.transformer.resblocks.{index}.attn.in_proj_weight" for index in range(depth)]
    assert last_of(blocks) == last_of(sorted(blocks)) == blocks[-1]
