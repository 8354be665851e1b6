"""Typical masks of clusters: the nearest of those assigned, one per photograph, cut from what the model saw."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexiseg.clip.loading import load_clip
from lexiseg.data.label_regions import RegionMap
from lexiseg.data.mask_views import TwoViews
from lexiseg.data.unlabelled import MaskedImage
from lexiseg.errors import ConfigError
from lexiseg.models.pixel_clip import PixelCLIP
from lexiseg.models.pixel_clip_settings import PixelCLIPSettings
from lexiseg.training.cluster_examples import TypicalMasks
from lexiseg.training.cluster_panels import draw_clusters, nearest_words

VIEWS = TwoViews(short_side=37, crop=29, size=24, mask_size=13)


class Photos:
    """Vertical bands of random colours, each a mask; photograph 2 has none."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        size, count = (41 + 2 * index, 67 - 3 * index), 0 if index == 2 else index + 2
        bands = np.broadcast_to(np.arange(size[1]) * (index + 2) // size[1], size)
        colours = np.random.default_rng(index).integers(0, 256, (9, 3), dtype=np.uint8)
        ids = bands + 1 if count else np.zeros(size, dtype=np.int64)
        return MaskedImage(colours[bands], RegionMap(ids, count), f"p{index}")


@pytest.fixture(scope="module")
def clip():
    return load_clip("toy")


def model(clip, **settings):
    small = {"clusters": 3, "prompt_length": 2, "image_size": 24, "mask_size": 24, "decoder_channels": 32}
    return PixelCLIP(clip.tower, clip.text_tower, PixelCLIPSettings(**{**small, **settings}))


def test_clusters_share_all_masks_and_show_the_nearest(clip):
    pixel_clip = model(clip)
    clusters = TypicalMasks(Photos(), VIEWS, images=5, examples=2)(pixel_clip)
    assert [cluster.index for cluster in clusters] == [0, 1, 2]
    counted = sum(cluster.count for cluster in clusters)
    assert counted > 5
    for cluster in clusters:
        assert len(cluster.examples) == min(2, cluster.count)
        assert all(example.picture.size == (88, 88) for example in cluster.examples)
    again = TypicalMasks(Photos(), VIEWS, images=5, examples=2)(pixel_clip)
    assert [c.count for c in again] == [c.count for c in clusters], "the same windows every time"


def test_cosines_by_hand(clip):
    """One photograph, one cluster: masks by the cosines of their mean patch features with the prompt."""
    pixel_clip = model(clip, clusters=1)
    typical = TypicalMasks(Photos(), VIEWS, images=1, examples=9)
    (cluster,) = typical(pixel_clip)
    window = typical.views(Photos()[0].image, Photos()[0].masks, np.random.default_rng((0, 0)))
    image = torch.from_numpy(np.ascontiguousarray(window.weak)).permute(2, 0, 1)[None].float()
    shown = F.interpolate(image, (24, 24), mode="bilinear", antialias=True)
    with torch.no_grad():
        features = pixel_clip.student.tower.dense_features(pixel_clip.normalize(shown))
        fine = F.interpolate(features, (24, 24), mode="bilinear")[0]
        masks = F.interpolate(torch.from_numpy(window.masks)[:, None].float(), (24, 24), mode="nearest")[:, 0]
        pooled = torch.stack([(fine * mask).sum(dim=(1, 2)) / mask.sum() for mask in masks])
        expected = F.cosine_similarity(pooled, pixel_clip.prompts()).sort(descending=True).values
    assert [example.similarity for example in cluster.examples] == pytest.approx(expected.tolist(), abs=1e-4)
    assert cluster.count == len(masks) > 1


def test_photographs_come_before_further_masks_of_the_same(clip):
    """Of four photographs with masks, five places: the best of each, then the best of what is left."""
    (cluster,) = TypicalMasks(Photos(), VIEWS, images=5, examples=5)(model(clip, clusters=1))
    cosines = [example.similarity for example in cluster.examples]
    assert cosines[:4] == sorted(cosines[:4], reverse=True)
    (alone,) = TypicalMasks(Photos(), VIEWS, images=5, examples=99)(model(clip, clusters=1))
    assert len(alone.examples) == alone.count
    assert max(example.similarity for example in alone.examples[4:]) == cosines[4]


def test_nearest_words_of_prompts_that_are_words(clip):
    """A prompt made of a word's own tokens is nearest to that word."""
    words = ("bricks", "sand", "grass")
    pixel_clip = model(clip, prompt_length=1)
    tokenizer, tower = clip.text_tower.tokenizer, clip.text_tower
    ids = [tokenizer([word], 77)[0, 1:2] for word in words]
    with torch.no_grad():
        pixel_clip.prompts.tokens.copy_(torch.stack([tower.embed_tokens(token) for token in ids]))
    embeddings = tower.encode([pixel_clip.settings.prompt_template.replace("{}", word) for word in words])
    found = nearest_words(pixel_clip, words, embeddings)
    for word, near in zip(words, found, strict=True):
        assert near[0][0] == word
        assert near[0][1] == pytest.approx(1, abs=1e-4)
        assert [cosine for _, cosine in near] == sorted((cosine for _, cosine in near), reverse=True)
    assert nearest_words(pixel_clip, (), embeddings[:0]) == [(), (), ()]


def test_the_sheet_names_empty_clusters(clip):
    pixel_clip = model(clip, clusters=31)
    clusters = TypicalMasks(Photos(), VIEWS, images=2, examples=3)(pixel_clip)
    assert sum(not cluster.count for cluster in clusters) > 20
    sheet = draw_clusters(clusters, [()] * 31, step=7, tiles=3)
    assert np.asarray(sheet).std() > 5


def test_refused(clip):
    with pytest.raises(ConfigError, match="expected images and examples of at least 1, got 0 and 6"):
        TypicalMasks(Photos(), VIEWS, images=0)
    with pytest.raises(ConfigError, match="without clusters there is nothing to look at"):
        TypicalMasks(Photos(), VIEWS)(model(clip, global_clustering=False))
