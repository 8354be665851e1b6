"""Synonyms, thresholds and areas of SCLIP's post-processing equal the published numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from published_cases import assert_close

from lexiseg.inference.decision import decide
from lexiseg.inference.layout import ImageLayout, WindowLayout
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.ops.sliding_window import window_grid
from support import golden_folders

FILES = [
    path
    for folder in golden_folders("training-free")
    for path in sorted(folder.glob("postprocess_SCLIP*.npz"))
]

pytestmark = pytest.mark.golden


def _postprocessing():
    for path in FILES:
        with np.load(path) as archive:
            yield from ((path, key) for key in archive if key.endswith("/pred"))


@pytest.mark.skipif(not FILES, reason="LEXISEG_GOLDEN names no post-processing case")
@pytest.mark.parametrize(("path", "key"), list(_postprocessing()))
def test_sclip_post_processing(path: Path, key: str):
    archive = np.load(path)
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
    labels, scores, _ = decide(
        [(slice(0, len(class_ids)), (logits,))], ImageLayout.single(layout), protocol, class_ids=class_ids
    )
    assert (labels == archive[key][0]).mean() > 0.9995
    stored = f"{queries}/{settings}/seg_logits"
    if stored in archive and float(threshold) == 0:
        assert_close(torch.from_numpy(scores), torch.from_numpy(archive[stored]).amax(0), stored)
