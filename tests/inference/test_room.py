"""Models say what a photograph would take in them, and one that is too large is refused before any of it is read."""

import numpy as np
import pytest
import torch

import pair_cases
import program_cases
import side_cases
import stage_towers
from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.errors import DataError
from lexiseg.inference import layout
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.segmenter import Segmenter
from lexiseg.inference.words import EmbeddedWords
from lexiseg.models.registry import build_model
from region_model_cases import SIZES, tiny_tower

PIXELS = {"name": "open_seg", "reading": "pixels", **program_cases.SMALL_OPEN_SEG}
MODELS = {
    "san": {"name": "san", **program_cases.SMALL_SAN},
    "fc_clip": {"name": "fc_clip", **stage_towers.SMALL},
    "zegformer": {"name": "zegformer", **SIZES, "branch": "segment"},
    "ovseg": {"name": "ovseg", **SIZES, "class_hidden": 13, "prompt_depth": 0, "backbone": "resnet"},
    "open_seg": {"name": "open_seg", **program_cases.SMALL_OPEN_SEG},
    "pixels": PIXELS,
    "lseg": {"name": "lseg", **program_cases.SMALL_LSEG},
}


def build(kind):
    torch.manual_seed(0)
    return build_model(MODELS[kind], tiny_tower()).eval()


def segmenter(model, count=3, **protocol):
    generator = torch.Generator().manual_seed(1)
    vectors = torch.nn.functional.normalize(torch.randn(count, 16, generator=generator), dim=-1)
    vocabulary = Vocabulary.from_names([f"word {index}" for index in range(count)])
    words = EmbeddedWords(vocabulary, TextEmbeddings(vectors, torch.arange(count)))
    return Segmenter(model, words, InferenceProtocol(activation=model.activation, **protocol))


@pytest.mark.parametrize("kind", MODELS)
def test_too_large_a_photograph_is_refused_before_it_is_read(kind, monkeypatch):
    model = build(kind)
    image = np.zeros((130, 170, 3), np.uint8)
    estimate = model.encode_bytes(*segmenter(model)._layout(image).windows[0].padded)
    assert estimate > 4 * 1000
    monkeypatch.setattr(layout, "_ENCODING_BYTES", estimate - 1)

    def never(*_):
        raise AssertionError("it was read")

    with monkeypatch.context() as patch:
        patch.setattr(model, "encode", never)
        with pytest.raises(DataError, match=r"set a smaller protocol\.short_side"):
            segmenter(model).segment(image)
    assert segmenter(model, short_side=70).segment(image).labels.shape == (130, 170)
    monkeypatch.setattr(layout, "_ENCODING_BYTES", 4 * model.encode_bytes(96, 96) - 1)
    with pytest.raises(DataError, match="read as 4 windows of 96x96 at once"):
        segmenter(model, window=96, window_batch=4).segment(image)
    assert segmenter(model, window=96, window_batch=3).segment(image).labels.shape == (130, 170)


def test_shadow_tokens_by_hand():
    """Patches of 8 at 0.7 of the size: 5×8 of 64×96 pixels; with 5 queries and the class token 46 tokens, 3 heads."""
    assert side_cases.san().encode_bytes(64, 96) == 2 * 4 * 3 * 46**2


@pytest.mark.parametrize(("proposer", "regions"), [("side_adapter", 5), ("given", 128)])
def test_shadow_tokens_of_a_pair_by_hand(proposer, regions):
    """Patches of 8 at half the size: 4×6 of 64×96 pixels."""
    model, patches = pair_cases.pair(proposer, "shadow_tokens"), 4 * 6
    masks = 2 * 4 * 128 * 64 * 96 if proposer == "given" else 0
    assert model.encode_bytes(64, 96) == 2 * 4 * model.tower.num_heads * (regions + 1 + patches) ** 2 + masks


def test_the_published_san_reads_its_protocol_and_no_photograph_of_a_camera():
    """ViT-B/16 at half the size, 100 queries: 640×2560 is 20×80 patches, 3000×4000 (padded to 3008) is 94×125."""
    with torch.device("meta"):
        tower = tiny_tower(depth=12, width=24, heads=12, patch=16, image_size=224)
    san = build_model({"name": "san"}, tower)
    assert san.encode_bytes(640, 2560) == 8 * 12 * (101 + 1600) ** 2 < layout._ENCODING_BYTES
    assert san.encode_bytes(3008, 4000) == 8 * 12 * (101 + 94 * 125) ** 2 > layout._ENCODING_BYTES


@pytest.mark.parametrize(("kind", "cells"), [("lseg", 256), ("pixels", 64)])
def test_words_are_asked_for_in_parts_that_fit_their_maps(kind, cells, monkeypatch):
    """LSeg's maps come at twice this size of image (patches of 4), OpenSeg's at a quarter, not at one logit a patch."""
    model = build(kind)
    image = np.zeros((2 * model.patch_size, 3 * model.patch_size, 3), np.uint8)
    maps = model.decode(model.encode(torch.zeros(1, 3, *image.shape[:2])), torch.randn(2, 16)).logits
    assert model.cells_per_patch == cells == maps[0, 0].numel() / 6
    asked, decode = [], model.decode
    monkeypatch.setattr("lexiseg.inference.segmenter._LOGIT_BYTES", 4 * 5 * 6 * cells)
    monkeypatch.setattr(model, "decode", lambda state, text: asked.append(len(text)) or decode(state, text))
    segmenter(model, count=13).segment(image)
    assert asked == [5, 5, 3]
