"""Training in bfloat16 where it is safe goes through every stage to the end, near float32, and judges in float32."""

import json

import pytest
import torch

from lexiseg.inference.pipeline import Pipeline
from training.test_pixelclip_task import run as tune
from training.test_runs import read_log, run

SHORT = ("trainer.max_steps=10", "validation.every_steps=10", "data.val.length=1", "validation.panels=0")
MIXED = "trainer.precision=bf16-mixed"


CASES = {
    "cascade": (),
    "spt": ("model=spt_seg", "loss=ssim"),
    "self-training": ("self_training=published", "trainer.max_steps=20"),
}


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(more, marks=() if name == "cascade" else pytest.mark.slow, id=name)
        for name, more in CASES.items()
    ],
)
def test_a_run_in_bfloat16_stays_near_float32(tmp_path, more):
    losses = {}
    for name, precision in (("float32", ()), ("bfloat16", (MIXED,))):
        run(tmp_path / name, *SHORT, *more, *precision)
        logs = sorted((tmp_path / name).rglob("metrics.csv"))  # one per stage
        rows = [row for log in logs for row in read_log(log.parent)]
        losses[name] = [float(row["value"]) for row in rows if row["name"].endswith("loss")]
    assert len(losses["float32"]) == len(losses["bfloat16"]) > 0
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["bfloat16"] != losses["float32"]


def test_what_surrounds_a_segmenter_does_not_reach_it():
    pipeline = Pipeline.load(clip="toy", method="sclip", device="cpu")
    segmenter = pipeline.segmenter("red ring, water, sand")
    image = torch.randint(0, 256, (56, 72, 3), generator=torch.Generator().manual_seed(0)).byte().numpy()
    alone = segmenter.segment(image)
    with torch.autocast("cpu", torch.bfloat16):
        inside = segmenter.segment(image)
    assert (alone.scores == inside.scores).all()
    assert (alone.labels == inside.labels).all()


@pytest.mark.slow
def test_pixelclip_in_bfloat16_stays_near_float32(tmp_path):
    losses = {}
    for name, precision in (("float32", ()), ("bfloat16", (MIXED,))):
        folder = tmp_path / name
        tune(folder, "trainer.max_steps=10", *precision)
        losses[name] = [float(row["value"]) for row in read_log(folder) if row["name"].endswith("loss")]
        losses[name].append(json.loads((folder / "result.json").read_text())["loss"])
        assert (folder / "clip" / "config.json").is_file()
        Pipeline.load(clip=str(folder / "clip"), method="pixelclip", device="cpu")
    assert len(losses["float32"]) == len(losses["bfloat16"]) > 1
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["bfloat16"] != losses["float32"]
