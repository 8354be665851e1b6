"""Each method against its formula, written out plainly for one image and one head after the other."""

import importlib.resources

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel

import dense_cases as cases
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.dense import build_dense
from lexiseg.dense.clip_surgery import CLIPSurgery
from lexiseg.dense.learned_projection import fit_projection, kept_key, write_projection
from lexiseg.errors import ConfigError, DataError, UnavailableError

LAST = 2


@pytest.fixture
def tower(tiny_clip) -> VisionTower:
    return VisionTower(tiny_clip).eval()


@pytest.fixture
def image() -> Tensor:
    return cases.some_images()[:1]


def entering(tower: VisionTower, image: Tensor, block: int = LAST, mode: str = "bicubic_offset") -> Tensor:
    tokens = tower.embed(image, position_mode=mode)
    for index in range(block):
        tokens = tower.block(index, tokens)
    return tokens


def attended(maps: list[Tensor], value: Tensor) -> Tensor:
    """Values mixed by one map per head."""
    return torch.stack([each @ value[0, head] for head, each in enumerate(maps)])[None]


def self_maps(projected: Tensor, bias: Tensor | float = 0.0) -> list[Tensor]:
    scale = projected.shape[-1] ** 0.5
    return [(head @ head.T / scale + bias).softmax(dim=-1) for head in projected[0]]


def as_map(tower: VisionTower, tokens: Tensor) -> Tensor:
    return tower.project(tokens[:, 1:]).transpose(1, 2).unflatten(2, (3, 7))


def features(encoder, image: Tensor, text: Tensor | None = None) -> Tensor:
    return encoder.features(encoder.encode(image), text)


def whole_block(tower: VisionTower, tokens: Tensor, heads: Tensor) -> Tensor:
    tokens = tokens + tower.attention_output(LAST, heads)
    return tokens + tower.mlp(LAST, tokens)


@torch.no_grad()
def test_clip_is_the_tower_itself(tower, image) -> None:
    expected = as_map(tower, tower.block(LAST, entering(tower, image)))
    torch.testing.assert_close(features(build_dense("clip", tower), image), expected)


@torch.no_grad()
def test_clip_with_a_window_of_one_patch_is_maskclip(tower, image) -> None:
    local = build_dense("clip", tower, window=1, position_mode="bicubic")
    torch.testing.assert_close(features(local, image), features(build_dense("maskclip", tower), image))
    wide = build_dense("clip", tower, window=3, position_mode="bicubic")
    assert not torch.allclose(features(wide, image), features(local, image), atol=1e-3)


@torch.no_grad()
def test_clip_with_an_earlier_blocks_attention(tower, image) -> None:
    early, last = entering(tower, image, 1), entering(tower, image)
    query, key, _ = tower.qkv(1, tower.norm1(1, early))
    maps = [(q @ k.T / 8**0.5).softmax(dim=-1) for q, k in zip(query[0], key[0], strict=True)]
    heads = attended(maps, tower.value(LAST, tower.norm1(LAST, last)))
    expected = as_map(tower, whole_block(tower, last, heads))
    torch.testing.assert_close(features(build_dense("clip", tower, attention_block=1), image), expected)


@torch.no_grad()
def test_clip_sharpened_beyond_measure_attends_to_one_token(tower, image) -> None:
    tokens = entering(tower, image)
    query, key, value = tower.qkv(LAST, tower.norm1(LAST, tokens))
    nearest = (query @ key.transpose(-2, -1)).argmax(dim=-1)
    heads = torch.stack([value[0, head, nearest[0, head]] for head in range(3)])[None]
    expected = as_map(tower, whole_block(tower, tokens, heads))
    sharp = build_dense("clip", tower, sharpness=1e6)
    torch.testing.assert_close(features(sharp, image), expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_maskclip_keeps_each_patchs_value(tower, image) -> None:
    tokens = entering(tower, image, mode="bicubic")
    value = tower.value(LAST, tower.norm1(LAST, tokens))
    expected = as_map(tower, whole_block(tower, tokens, value))
    torch.testing.assert_close(features(build_dense("maskclip", tower), image), expected)
    alone = build_dense("maskclip", tower, residual=False, feed_forward=False)
    torch.testing.assert_close(features(alone, image), as_map(tower, tower.attention_output(LAST, value)))


@torch.no_grad()
def test_sclip_sums_both_correlations(tower, image) -> None:
    tokens = entering(tower, image)
    query, key, value = tower.qkv(LAST, tower.norm1(LAST, tokens))
    maps = [a + b for a, b in zip(self_maps(query), self_maps(key), strict=True)]
    expected = as_map(tower, whole_block(tower, tokens, attended(maps, value)))
    torch.testing.assert_close(features(build_dense("sclip", tower), image), expected)


@torch.no_grad()
def test_sclip_projections(tower, image) -> None:
    tokens = entering(tower, image)
    normed = tower.norm1(LAST, tokens)
    value = tower.value(LAST, normed)
    expected = as_map(
        tower, whole_block(tower, tokens, attended(self_maps(tower.split_heads(normed)), value))
    )
    identity = build_dense("sclip", tower, projections=["identity"])
    torch.testing.assert_close(features(identity, image), expected)
    learned = build_dense("sclip", tower, projections=["learned"], learned=torch.eye(24))
    torch.testing.assert_close(features(learned, image), expected)
    randoms = [
        build_dense("sclip", tower, projections=["random"], random_count=3, random_seed=s) for s in (5, 5, 6)
    ]
    first, again, other = (features(each, image) for each in randoms)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-3)


def test_sclip_settings_that_make_no_sense(tower) -> None:
    with pytest.raises(ConfigError, match=r"sclip\.projections: expected .* query, key, .* got \['vlaue'\]"):
        build_dense("sclip", tower, projections=["vlaue"])
    with pytest.raises(ConfigError, match="got none"):
        build_dense("sclip", tower, projections=[])
    with pytest.raises(ConfigError, match=r"needs a \(24, 24\) matrix, got shape \(3, 24\)"):
        build_dense("sclip", tower, projections=["learned"], learned=torch.zeros(3, 24))
    with pytest.raises(ConfigError, match="random_count of at least 1, got 0"):
        build_dense("sclip", tower, projections=["random"], random_count=0)


@pytest.mark.slow
def test_learned_projection_lowers_its_loss_and_leaves_the_tower(tower, tmp_path) -> None:
    images, words = cases.some_images(), cases.some_words()
    labels = torch.zeros(3, 24, 56, dtype=torch.int64)
    labels[:, :, 24:] = 3
    labels[:, 16:] = 255
    before = {key: value.clone() for key, value in tower.state_dict().items()}

    def loss(matrix: Tensor) -> float:
        encoder = build_dense("sclip", tower, projections=["learned"], learned=matrix)
        logits = 40 * encoder(images, words)
        return F.cross_entropy(logits, labels[:, 4::8, 4::8], ignore_index=255).item()

    start = tower.vision.encoder.layers[LAST].self_attn.q_proj.weight.detach().T.clone()
    fitted = fit_projection(tower, [(images, labels)], words, epochs=8, learning_rate=1e-2)
    assert loss(fitted) < loss(start) - 0.05
    assert all(torch.equal(before[key], value) for key, value in tower.state_dict().items())
    doubled, ids = words[[0, 0, *range(1, len(words))]], torch.tensor([0, *range(len(words))])
    twice = fit_projection(tower, [(images, labels)], doubled, class_ids=ids, epochs=1, learning_rate=1e-2)
    once = fit_projection(tower, [(images, labels)], words, epochs=1, learning_rate=1e-2)
    assert not torch.allclose(twice, once), "a class of two words is twice as likely"
    kept = tmp_path / "folder" / "kept.safetensors"
    write_projection(fitted, kept, "a key")
    assert kept_key(kept) == "a key"
    with torch.no_grad():
        by_file = build_dense("sclip", tower, projections=["learned"], learned=str(kept))
        by_matrix = build_dense("sclip", tower, projections=["learned"], learned=fitted)
        assert torch.equal(by_file(images, words), by_matrix(images, words))
    with pytest.raises(DataError, match="at least one labelled image"):
        fit_projection(tower, [(images, torch.full_like(labels, 255))], words)


@torch.no_grad()
def test_clearclip_is_attention_alone(tower, image) -> None:
    query, _, value = tower.qkv(LAST, tower.norm1(LAST, entering(tower, image)))
    expected = tower.attention_output(LAST, attended(self_maps(query), value))
    torch.testing.assert_close(features(build_dense("clearclip", tower), image), as_map(tower, expected))
    query, _, value = tower.qkv(1, tower.norm1(1, entering(tower, image, 1)))
    both = expected + tower.attention_output(1, attended(self_maps(query), value))
    torch.testing.assert_close(
        features(build_dense("clearclip", tower, blocks=2), image), as_map(tower, both)
    )


@torch.no_grad()
def test_naclip_prefers_neighbours(tower, image) -> None:
    _, key, value = tower.qkv(LAST, tower.norm1(LAST, entering(tower, image)))
    bias = torch.zeros(22, 22)
    for i in range(21):
        for j in range(21):
            squared = (i // 7 - j // 7) ** 2 + (i % 7 - j % 7) ** 2
            bias[1 + i, 1 + j] = torch.exp(torch.tensor(-squared / (2 * 1.5**2)))
    expected = tower.attention_output(LAST, attended(self_maps(key, bias), value))
    torch.testing.assert_close(
        features(build_dense("naclip", tower, sigma=1.5), image), as_map(tower, expected)
    )
    with pytest.raises(ConfigError, match="expected sigma above 0"):
        build_dense("naclip", tower, sigma=0)


@torch.no_grad()
def test_gem_over_two_blocks(tower, image) -> None:
    mode = "bicubic_antialias"
    stream = entering(tower, image, 1, mode)
    for block in (1, 2):
        normed = tower.norm1(block, entering(tower, image, block, mode))
        sharpness = normed.norm(dim=-1).mean() / 8**0.5
        query, key, value = tower.qkv(block, normed)
        total = torch.zeros_like(value)
        for projected in (query, key, value):
            unit = F.normalize(projected, dim=-1)
            gathered = F.normalize((unit @ unit.transpose(-2, -1) * sharpness).softmax(dim=-1) @ unit, dim=-1)
            total += (gathered @ gathered.transpose(-2, -1) * sharpness).softmax(dim=-1) @ value / 3
        stream = stream + tower.attention_output(block, total)
    encoder = build_dense("gem", tower, blocks=2)
    torch.testing.assert_close(features(encoder, image), as_map(tower, stream))
    assert build_dense("gem", tower).blocks == 2  # half of three blocks, rounded up


@torch.no_grad()
def test_clip_surgery_contrasts_words(tower, image) -> None:
    words = cases.some_words()
    encoder = build_dense("clip-surgery", tower, blocks=1)
    unit = F.normalize(features(encoder, image), dim=1)
    cls = F.normalize(tower(image, position_mode="bilinear"), dim=-1)
    weights = (2 * cls @ words.T).softmax(dim=-1)[0] * len(words)
    products = unit[0, :, None] * words.T[:, :, None, None] * weights[None, :, None, None]  # (E, K, h, w)
    expected = (products - products.mean(dim=1, keepdim=True)).sum(dim=0)
    torch.testing.assert_close(encoder(image, words)[0], expected)
    assert encoder(image, words).sum(dim=1).abs().max() < 1e-5


@torch.no_grad()
def test_clip_surgery_with_a_redundant_text(tower, image) -> None:
    words, empty = cases.some_words()[:1], cases.some_words()[1]
    encoder = CLIPSurgery(tower, blocks=2, redundant=empty)
    unit = F.normalize(features(encoder, image), dim=1)
    expected = torch.einsum("behw,ke->bkhw", unit, words - empty)
    torch.testing.assert_close(encoder(image, words), expected)
    assert not encoder.depends_on_text
    with pytest.raises(ConfigError, match=r"expected redundant \(16,\), got shape \(3,\)"):
        CLIPSurgery(tower, redundant=torch.zeros(3))


@torch.no_grad()
def test_sc_clip_written_out(tower, image) -> None:
    words = tower.embed(image, position_mode="bicubic_offset")
    outputs = []
    for block in range(LAST):
        words = tower.block(block, words)
        outputs.append(words)
    encoder = build_dense("sc-clip", tower, pre_block=1, post_block=0, multi_blocks=(0, 1), outlier_share=0.0)

    def agg(similarity: Tensor, tokens: Tensor) -> Tensor:
        kept = similarity * (similarity >= 0.4)
        return kept @ tokens / (kept.sum(dim=1, keepdim=True) + 1e-6)

    def calibrated(tokens: Tensor) -> Tensor:
        _, key, value = tower.qkv(LAST, tower.norm1(LAST, tokens[None]))
        maps = [(middle.softmax(dim=-1) + own) / 2 for own in self_maps(key)]
        return tower.attention_output(LAST, attended(maps, value))[0]

    unit = F.normalize(outputs[1][0, 1:], dim=1)
    similarity = unit @ unit.T
    middle = 3 * (similarity - similarity.mean())
    middle = torch.where(middle < 0, -torch.inf, middle)
    shallow = F.normalize(outputs[0][0, 1:], dim=1)
    grouped = shallow @ shallow.T
    result = agg(grouped, calibrated(agg(similarity, outputs[1][0, 1:])) + 0.3 * outputs[1][0, :1])
    summed = (outputs[0] + outputs[1])[0]
    result = result + agg(grouped, calibrated(summed[1:]) + 0.3 * summed[:1])
    expected = tower.project(result).T.unflatten(1, (3, 7))[None]
    torch.testing.assert_close(features(encoder, image), expected)


def test_sc_clip_blocks(tower) -> None:
    assert build_dense("sc-clip", tower).pre_block == 1  # two thirds of three, kept before the last
    with pytest.raises(ConfigError, match="pre_block: expected a block before the last of 3, got 2"):
        build_dense("sc-clip", tower, pre_block=2)
    with pytest.raises(ConfigError, match="multi_blocks must be"):
        build_dense("sc-clip", tower, multi_blocks=(1, 0))


@torch.no_grad()
def test_resclip_without_both_parts_is_naclip(tower, image) -> None:
    bare = build_dense("resclip", tower, cross_weights=None, feedback_weights=None)
    torch.testing.assert_close(features(bare, image), features(build_dense("naclip", tower), image))
    assert not bare.depends_on_text
    with pytest.raises(ConfigError, match="without feedback_weights there is no first pass"):
        bare.first_classes(bare.encode(image), cases.some_words())
    with pytest.raises(ConfigError, match="base: expected one of naclip, clearclip, sclip, clip, got 'gem'"):
        build_dense("resclip", tower, base="gem")


@torch.no_grad()
def test_resclip_mixes_middle_attention(tower, image) -> None:
    query, key, _ = tower.qkv(1, tower.norm1(1, entering(tower, image, 1)))
    middle = [(q @ k.T / 8**0.5).softmax(dim=-1) for q, k in zip(query[0], key[0], strict=True)]
    _, key, value = tower.qkv(LAST, tower.norm1(LAST, entering(tower, image)))
    bias = build_bias()
    maps = [2.0 * (0.6 * own + 0.4 * other) for own, other in zip(self_maps(key, bias), middle, strict=True)]
    expected = as_map(tower, tower.attention_output(LAST, attended(maps, value)))
    settings = {"cross_weights": (2.0, 0.4), "cross_blocks": (1, 1), "feedback_weights": None}
    torch.testing.assert_close(features(build_dense("resclip", tower, **settings), image), expected)


def build_bias() -> Tensor:
    rows, columns = torch.arange(21) // 7, torch.arange(21) % 7
    squared = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    return F.pad(torch.exp(-squared / 50.0), (1, 0, 1, 0))


@torch.no_grad()
def test_proxyclip_with_flat_external_features_averages_all_values(tower, image) -> None:
    flat = build_dense("proxyclip", tower, proxy=lambda images: torch.ones(len(images), 2, 3, 7))
    value = tower.value(LAST, tower.norm1(LAST, entering(tower, image)))[:, :, 1:]
    mean = value.mean(dim=2, keepdim=True).expand_as(value)
    expected = tower.project(tower.attention_output(LAST, mean)).transpose(1, 2).unflatten(2, (3, 7))
    torch.testing.assert_close(features(flat, image), expected)


@torch.no_grad()
def test_proxyclip_on_a_finer_rectangle(tower, image) -> None:
    """Values are resized on rows and columns as they lie in the image; the release transposes them."""
    eye = torch.eye(84).unflatten(1, (6, 14))[None]  # every cell is like itself alone
    encoder = build_dense("proxyclip", tower, proxy=lambda images: eye, shift=1.0)
    value = tower.value(LAST, tower.norm1(LAST, entering(tower, image)))[0, :, 1:]
    resized = F.interpolate(value.transpose(1, 2).unflatten(2, (3, 7)), size=(6, 14), mode="bilinear")
    value_fine = resized.flatten(2).flatten(0, 1).T
    expected = tower.project(tower.vision.encoder.layers[LAST].self_attn.out_proj(value_fine))
    torch.testing.assert_close(features(encoder, image)[0], expected.T.unflatten(1, (6, 14)))


def test_the_toy_clip_as_the_second_model(tower, image, tmp_path) -> None:
    folder = importlib.resources.files("lexiseg") / "assets" / "toy_clip"
    CLIPModel.from_pretrained(str(folder)).vision_model.save_pretrained(tmp_path)
    for name in ("proxyclip", "corrclip"):
        named, given = (build_dense(name, tower, proxy=each) for each in ("toy", tmp_path))
        assert torch.equal(named.encode(image).features, given.encode(image).features)


@pytest.mark.parametrize(
    ("name", "settings", "wanting"),
    [
        ("proxyclip", {}, "a second vision model; name one by --proxy"),
        ("trident", {}, "a second vision model and a SAM; name them by --proxy and --sam"),
        ("trident", {"proxy": torch.nn.Identity()}, "a SAM; name one by --sam"),
    ],
)
def test_second_models_that_are_nowhere_are_told_with_their_flags(
    tower, monkeypatch, name, settings, wanting
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("offline")

    monkeypatch.setattr("transformers.AutoModel.from_pretrained", offline)
    monkeypatch.setattr("transformers.PretrainedConfig.get_config_dict", offline)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UnavailableError, match=f"; {name} needs {wanting}$"):
        build_dense(name, tower, **settings)
