"""Labels where words are scored only in the blocks in which they may win, against scoring every word everywhere."""

import sys

import pytest
import torch

from lexiseg.data.toy.world import ToyWorld
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.segmenter import Segmenter
from lexiseg.ops import class_chunks

SCENES = 200
SIZE = (97, 131)


@pytest.fixture(scope="module", params=["sc-clip", "tg-clip"])
def segmenter(request) -> Segmenter:
    pipeline = Pipeline.load(clip="toy", method=request.param, templates="single", device="cpu")
    return pipeline.segmenter(ToyWorld(partition="val", length=1).classes)


def differing(segmenter, first, stop, monkeypatch, blocks=32):
    """Pixels that differ over some scenes, and how many scores were computed of all that there are."""
    world, scored, pixels = ToyWorld(partition="val", length=SCENES, image_size=SIZE), 0, 0
    update = class_chunks.Running.update

    def counted(self, scores, *place):
        nonlocal scored
        scored += scores.numel()
        update(self, scores, *place)

    monkeypatch.setattr(class_chunks.Running, "update", counted)
    monkeypatch.setattr(class_chunks, "_BLOCK_SIDE", blocks)
    for index in range(first, stop):
        encoded = segmenter.encode(world[index].image)
        labels = []
        for worth in (1, sys.maxsize):
            before, scored = scored, 0
            monkeypatch.setattr(class_chunks, "_WORDS_WORTH_BOUNDS", worth)
            labels.append(segmenter.segment_encoded(encoded, scores=False).labels)
        pixels += int((labels[0] != labels[1]).sum())
    return pixels, before / scored


def test_labels_of_toy_scenes(segmenter, monkeypatch):
    torch.manual_seed(0)
    pixels, share = differing(segmenter, 0, 3, monkeypatch, blocks=11)
    assert pixels == 0
    assert share < 0.8


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_labels_of_many_toy_scenes(segmenter, monkeypatch):
    assert differing(segmenter, 0, SCENES, monkeypatch)[0] == 0
