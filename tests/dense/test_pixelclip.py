"""PixelCLIP's own way from a photograph to labels, written out: stretched, and unit features on a finer grid."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexiseg.clip.loading import load_clip
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.dense import build_dense
from lexiseg.dense.methods import build_method, published_templates
from lexiseg.errors import ConfigError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.ops.resize import resize_image_pillow, shortest_edge_size

WORDS = ("red circle", "bricks", "grass", "water")


@pytest.fixture(scope="module")
def clip():
    return load_clip("toy")


@pytest.fixture(scope="module")
def photo():
    coarse = np.random.default_rng(0).random((7, 11, 3))
    smooth = F.interpolate(torch.from_numpy(coarse).permute(2, 0, 1)[None], size=(59, 83), mode="bilinear")
    return (255 * smooth[0].permute(1, 2, 0)).byte().numpy()


def labels_by_hand(clip, photo, *, short: int, side: int, features: int) -> torch.Tensor:
    """The release's order: resize, stretch, features to a square, unit length, cosines, straight to the photograph's size."""
    resized = resize_image_pillow(torch.from_numpy(photo), shortest_edge_size(photo.shape[:2], short, 97))
    square = F.interpolate(resized.permute(2, 0, 1)[None].float(), size=(side, side), mode="bilinear")
    encoder = build_dense("pixelclip", clip.tower)
    maps = clip.tower.dense_features(encoder.normalize(square))
    unit = F.normalize(F.interpolate(maps, size=(features, features), mode="bilinear"), dim=1)
    text = Vocabulary(tuple((word,) for word in WORDS), "pixelclip_test8").embed(clip).vectors
    cosines = torch.einsum("kd,bdhw->bkhw", text, unit)
    return F.interpolate(cosines, size=photo.shape[:2], mode="bilinear")[0]


@torch.no_grad()
def test_a_stretched_photograph(clip, photo) -> None:
    pipeline = Pipeline.training_free(build_method("pixelclip", clip.tower, feature_side=17), clip)
    assert published_templates("pixelclip") == "pixelclip_test8"
    protocol = InferenceProtocol(
        short_side=71, long_side=97, stretch=50, resize="pillow", activation="linear", logit_scale=40.0
    )
    segmenter = replace(pipeline, protocol=protocol).segmenter(WORDS)
    patch = clip.tower.patch_size
    side = round(50 / patch) * patch  # whole patches
    expected = labels_by_hand(clip, photo, short=71, side=side, features=17)
    found = segmenter.segment(photo)
    two = expected.topk(2, dim=0).values
    agrees = torch.from_numpy(found.labels.astype(np.int64)) == expected.argmax(dim=0)
    assert (two[0] - two[1])[~agrees].le(1e-5).all()
    assert len(np.unique(found.labels)) > 1
    probabilities = (40 * expected).softmax(dim=0).amax(dim=0)
    torch.testing.assert_close(torch.from_numpy(found.scores), probabilities, rtol=1e-4, atol=1e-4)
    both = segmenter.segment_batch([photo[:, ::-1], photo])
    assert np.array_equal(both[1].labels, found.labels)


def test_what_cannot_be_stretched() -> None:
    with pytest.raises(ConfigError, match=r"stretch is 320, and a stretched photograph is read whole"):
        InferenceProtocol(stretch=320, window=224)
    with pytest.raises(ConfigError, match=r"stretch is 0; expected a whole number of at least 1"):
        InferenceProtocol(stretch=0)
    with pytest.raises(ConfigError, match="feature_side of at least 1, got 0"):
        build_dense("pixelclip", load_clip("toy").tower, feature_side=0)
