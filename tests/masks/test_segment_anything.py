"""Tiny random SAMs of three kinds, end to end, against one full forward pass per point and plain postprocessing."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from lexiseg.constants import IMAGENET_MEAN, IMAGENET_STD
from lexiseg.errors import CheckpointError, ConfigError, LexisegError
from lexiseg.masks import segment_anything_model
from lexiseg.masks.segment_anything import SegmentAnything, SegmentAnythingSettings
from lexiseg.masks.segment_anything_model import PromptableModel, load_promptable_model
from mask_cases import photograph
from tiny_sams import SAM_SIDE, save_as_released_sam3, tiny_sam

KINDS = ("sam", "sam_hq", "sam2", "sam3")
LOOSE = {
    "points_per_side": 3,
    "min_quality": 0.1,
    "min_stability": 0.1,
    "max_overlap": 0.95,
    "overlap": "mask",
}


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return tiny_sam(request.param)


def provide(model, **settings):
    chosen = SegmentAnythingSettings(**{**LOOSE, **settings})
    return SegmentAnything(PromptableModel(model), source={"model": "tiny"}, settings=chosen)


def plain_masks(model, image):
    """Masks with predicted quality and stability of a 3x3 grid, one full forward pass per point."""
    height, width = image.shape[:2]
    stretched = type(model).__name__ in ("Sam2Model", "Sam3TrackerModel")
    third = type(model).__name__ == "Sam3TrackerModel"
    mean, std = (np.full(3, 0.5), np.full(3, 0.5)) if third else (IMAGENET_MEAN, IMAGENET_STD)
    scale = SAM_SIDE / max(height, width)
    inner = (SAM_SIDE, SAM_SIDE) if stretched else (round(height * scale), round(width * scale))
    resized = np.asarray(Image.fromarray(image).resize(inner[::-1], Image.Resampling.BILINEAR)) / 255.0
    square = np.zeros((SAM_SIDE, SAM_SIDE, 3))
    square[: inner[0], : inner[1]] = (resized - mean) / std
    pixels = torch.tensor(square, dtype=torch.float32).permute(2, 0, 1)[None]
    found = []
    for row in (1 / 6, 3 / 6, 5 / 6):
        for column in (1 / 6, 3 / 6, 5 / 6):
            # The place within the photograph, and the same place within the model's input.
            x, y = column * width * inner[1] / width, row * height * inner[0] / height
            points = torch.tensor([[[[x, y]]]], dtype=torch.float32)
            with torch.no_grad():
                answer = model(pixel_values=pixels, input_points=points)
            for index in range(3):
                logits = answer.pred_masks[:, 0, index : index + 1]
                if not stretched:
                    logits = F.interpolate(logits, (SAM_SIDE, SAM_SIDE), mode="bilinear")[
                        ..., : inner[0], : inner[1]
                    ]
                full = F.interpolate(logits, (height, width), mode="bilinear")[0, 0].numpy()
                high, low = (full > 1).sum(), (full > -1).sum()
                found.append((full > 0, float(answer.iou_scores[0, 0, index]), high / low if low else 0.0))
    return found


def filled_box(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    solid = np.zeros_like(mask)
    solid[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return solid


def plain_choice(found, settings, overlap):
    chosen = [
        item
        for item in found
        if item[1] > settings["min_quality"] and item[2] >= settings["min_stability"] and item[0].any()
    ]
    kept = []
    for item in sorted(chosen, key=lambda item: -item[1]):
        pairs = [(item[0], other[0]) for other in kept]
        if overlap == "box":
            pairs = [(filled_box(a), filled_box(b)) for a, b in pairs]
        if all((a & b).sum() <= settings["max_overlap"] * (a | b).sum() for a, b in pairs):
            kept.append(item)
    return kept


@pytest.mark.one_in(4)
@pytest.mark.parametrize("overlap", ["mask", "box"])
@pytest.mark.parametrize("size", [(41, 97), (53, 29)])
def test_equals_one_pass_per_point(model, size, overlap):
    image = photograph(*size)
    masks = provide(model, overlap=overlap)(image)
    everything = plain_masks(model, image)
    expected = plain_choice(everything, LOOSE, overlap)
    assert (overlap == "mask") < len(expected) < len(everything), "some masks must pass and some be stopped"
    assert masks.size == size
    assert masks.arrays().shape == (len(expected), *size)
    np.testing.assert_allclose(masks.scores, [item[1] for item in expected], atol=1e-5)
    np.testing.assert_allclose(masks.stability, [item[2] for item in expected], atol=1e-3)
    different = masks.arrays() != np.stack([item[0] for item in expected])
    assert different.mean() < 1e-3


def test_the_batch_changes_nothing(model):
    image = photograph(31, 47)
    first, *others = (provide(model, points_per_batch=size)(image) for size in (1, 2, 64))
    for other in others:
        assert len(first) == len(other) > 1
        np.testing.assert_allclose(first.scores, other.scores, atol=1e-5)
        assert (first.arrays() != other.arrays()).mean() < 1e-3


def test_nothing_is_good_enough():
    masks = provide(tiny_sam(), min_stability=1.0, min_quality=1.0)(photograph())
    assert len(masks) == 0
    assert masks.arrays().shape == (0, 23, 31)


def test_settings_tell_what_masks_depend_on():
    provider = provide(tiny_sam(), points_per_batch=7)
    assert provider.settings["model"] == "tiny"
    assert provider.settings["min_quality"] == LOOSE["min_quality"]
    assert "points_per_batch" not in provider.settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"points_per_side": 0}, "sam.points_per_side: expected at least 1, got 0"),
        ({"min_quality": 1.5}, "sam.min_quality: expected a share between 0 and 1, got 1.5"),
        ({"overlap": "circle"}, "expected one of box, mask, got 'circle'"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        SegmentAnythingSettings(**settings)


def test_loaded_from_a_folder(model, tmp_path):
    model.save_pretrained(tmp_path)
    image = photograph(31, 47)
    loaded = provide(load_promptable_model(tmp_path).model)(image)
    assert (loaded.arrays() == provide(model)(image).arrays()).all()


def test_released_sam_2_calls_itself_a_video_model(tmp_path):
    model = tiny_sam("sam2")
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "sam2_video"}))
    loaded = load_promptable_model(tmp_path).model
    assert all(
        torch.equal(a, b)
        for a, b in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True)
    )


def test_released_sam_3_is_a_video_model_and_the_part_that_answers_points_is_taken(tmp_path):
    model = tiny_sam("sam3")
    state = save_as_released_sam3(model, tmp_path)
    loaded = load_promptable_model(tmp_path)
    assert type(loaded.model).__name__ == "Sam3TrackerModel"
    image, points = photograph(31, 47), torch.tensor([[0.3, 0.4]])
    ours = loaded.answer(loaded.encode(image), points)
    theirs = PromptableModel(model).answer(PromptableModel(model).encode(image), points)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=1e-4)
    del state["tracker_model.mask_decoder.iou_token.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="not the SAM 3 that .*missing: mask_decoder.iou_token.weight"):
        load_promptable_model(tmp_path)


def test_an_older_transformers_and_gated_weights(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam3_video"}))
    monkeypatch.setattr(segment_anything_model.transformers, "Sam3TrackerModel", None)
    monkeypatch.setattr(segment_anything_model.transformers, "__version__", "4.50.1")
    with pytest.raises(
        ConfigError, match=r"Sam3TrackerModel, which version 4.50.1 does not have; update .* to 5.0"
    ):
        load_promptable_model(tmp_path)
    with pytest.raises(
        LexisegError, match=r"'facebook/sam3' are gated: ask .*huggingface.co/facebook/sam3.*hf auth login"
    ):
        load_promptable_model("facebook/sam3")


def test_folders_without_a_sam(tmp_path, tiny_clip):
    tiny_clip.save_pretrained(tmp_path / "clip")
    with pytest.raises(ConfigError, match="is a model of type clip; expected one of sam, sam_hq, sam2"):
        load_promptable_model(tmp_path / "clip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="not a usable Hugging Face model folder"):
        load_promptable_model(tmp_path / "empty")
