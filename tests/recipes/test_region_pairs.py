"""Pairs by the similarity of words and regions: which region a word takes, and what a file of them says."""

import pytest
import torch

from caption_cases import captioned_scenes
from lexiseg.errors import ConfigError, LexisegError
from lexiseg.recipes.region_pairs import PairBuild, best_regions, start_pairs
from lexiseg.recipes.settings import ClipSource


def test_each_word_takes_its_nearest_region():
    regions = torch.tensor([[2.0, 0, 0], [0, 0.1, 0], [1, 1, 0]])
    words = torch.tensor([[0.0, 5, 0], [1, 0, 0], [0, 3, 0], [1, 1, 1]])
    cosines, best = best_regions(regions, words)
    assert best == [1, 0, 1, 2]
    assert cosines == pytest.approx([1, 1, 1, 2 / (2**0.5 * 3**0.5)])


def test_a_bad_output_is_told_before_clip_is_loaded(tmp_path):
    """Masks lie beside the photographs, unless they are said to lie elsewhere, and pairs would replace them."""
    photos = tmp_path / "scenes"
    captioned_scenes(photos, 2)
    nowhere = ClipSource("no such CLIP")

    def start(output, masks=None, place=photos):
        captions = photos / "captions.json"
        start_pairs(PairBuild([place], captions, output, masks, "toy", nowhere, overwrite=True))

    for output, masks in ((photos, None), (tmp_path / "built", tmp_path / "deep" / ".." / "built")):
        with pytest.raises(ConfigError, match="output: .* holds the masks; give pairs a folder of their own"):
            start(output, masks)
    with pytest.raises(ConfigError, match="output: .* holds the masks"):
        start(photos / "deep", place=next((photos / "deep").glob("*.png")))
    with pytest.raises(LexisegError, match="--output"):
        start(photos / "captions.json" / "below")
