"""Sliding windows, penalty, resizing and post-processing equal the published implementations' numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_cascade import FOLDERS, assert_close, case, load

from lexiseg.inference.decision import decide
from lexiseg.inference.layout import ImageLayout, WindowLayout
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.ops.class_chunks import SigmoidMerge, merged_maps
from lexiseg.ops.sliding_window import window_grid
from support import golden_folders

FREE = golden_folders("training-free")

pytestmark = pytest.mark.golden


@pytest.mark.skipif(not FOLDERS, reason="LEXISEG_GOLDEN names no cascade folder")
@pytest.mark.parametrize("folder", FOLDERS, ids=str)
@pytest.mark.parametrize(("setting", "penalty"), [("inductive", 0.1), ("transductive", 0.0)])
def test_cascade_sliding_windows(folder, setting, penalty):
    model, inputs, _ = case(folder)
    expected = load(folder, f"eval_{setting}.pt")
    image, side = inputs["img_slide"], inputs["img"].shape[-1]
    working, source = tuple(image.shape[-2:]), tuple(expected["slide_rescaled_120x187"].shape[-2:])
    grid = window_grid(working, side, side * 3 // 4)
    windows = torch.cat([image[..., top:bottom, left:right] for top, left, bottom, right in grid.boxes])
    seen = tuple(inputs["base_class"])
    with torch.no_grad():
        logits = model.decode(model.encode(windows), inputs["text"].float()).logits
    words = torch.arange(logits.shape[1])
    offset = penalty * torch.isin(words, torch.tensor(seen))[None, :, None, None]
    for size, key in ((working, "slide"), (source, "slide_rescaled_120x187")):
        layout = WindowLayout(size, working, grid, model.patch_size, "bottom_right")
        axes = layout.axes(tuple(logits.shape[-2:]), logits.device)
        maps = merged_maps(SigmoidMerge(logits, *axes), size, len(words))[None]
        assert_close(maps - offset, expected[key], key)
    protocol = InferenceProtocol(window=side, stride=side * 3 // 4, seen_penalty=penalty)
    labels, _ = decide(
        [(slice(0, len(words)), (logits,))],
        ImageLayout.single(layout),
        protocol,
        class_ids=words,
        seen_ids=seen,
        scores=False,
    )
    scores = expected["slide_rescaled_120x187"][0].topk(2, dim=0).values
    clear = (scores[0] - scores[1] > 1e-5).numpy()
    assert clear.mean() > 0.99
    assert (labels == expected["slide_argmax"][0].numpy())[clear].all()


def _postprocessing():
    for folder in FREE:
        with np.load(folder / "postprocess_SCLIP.npz") as archive:
            yield from ((folder, key) for key in archive if key.endswith("/pred"))


@pytest.mark.skipif(not FREE, reason="LEXISEG_GOLDEN names no training-free folder")
@pytest.mark.parametrize(("folder", "key"), list(_postprocessing()))
def test_sclip_post_processing(folder: Path, key: str):
    archive = np.load(folder / "postprocess_SCLIP.npz")
    queries, settings, _ = key.split("/")
    scale, threshold, area = (part.strip("lspa") for part in settings.split("_"))
    class_ids = torch.from_numpy(archive[f"{queries}/query_idx"])
    logits = torch.from_numpy(archive["logits"])[:, : len(class_ids)]
    size = (logits.shape[-2], logits.shape[-1])
    # A patch of one pixel and one window: the logits are already at the photograph's size.
    layout = WindowLayout(size, size, window_grid(size, None), 1, "bottom_right")
    protocol = InferenceProtocol(
        activation="linear",
        logit_scale=float(scale),
        probability_threshold=float(threshold),
        area_threshold=0.0 if area == "None" else float(area),
        background="class",
    )
    labels, scores = decide(
        [(slice(0, len(class_ids)), (logits,))], ImageLayout.single(layout), protocol, class_ids=class_ids
    )
    assert (labels == archive[key][0]).mean() > 0.9995
    stored = f"{queries}/{settings}/seg_logits"
    if stored in archive and float(threshold) == 0:
        assert_close(torch.from_numpy(scores), torch.from_numpy(archive[stored]).amax(0), stored)
