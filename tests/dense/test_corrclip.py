"""CorrCLIP against a second implementation that holds every stream in one sequence, and what its settings mean."""

import pytest
import torch
import torch.nn.functional as F
from transformers import ViTConfig, ViTModel

import dense_cases as cases
from lexiseg.clip.towers.external import ExternalVision
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.dense import build_dense
from lexiseg.dense.base import cosines
from lexiseg.dense.corrclip import CorrCLIP, _spatial_blocks
from lexiseg.dense.methods import build_method
from lexiseg.dense.proxyclip import ColoredFor
from lexiseg.dense.region_bank import FORMAT, RegionBank, identify
from lexiseg.errors import ConfigError
from lexiseg.ops.bounded_attention import bounded_weights, merge_alike
from lexiseg.ops.grid import tokens_to_map

DISTANCE = 1.0
"""Up to which these regions are joined: with random features fewer than the default joins would stay untried."""


@pytest.fixture
def tower(tiny_clip) -> VisionTower:
    return VisionTower(tiny_clip).eval()


def regions() -> torch.Tensor:
    """Of three windows of 24×56: some unsegmented, some padding, another number in each."""
    ids = torch.zeros(3, 24, 56, dtype=torch.int64)
    ids[0, :16, :24], ids[0, 8:, 32:], ids[0, 16:, :] = 1, 2, -1
    ids[1] = 5
    ids[2, :, ::16], ids[2, :8, 40:], ids[2, 16:, 8:24] = 3, 1, 7
    return ids


def plain(tower: VisionTower, image: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """One image: copies, class token and patches in one sequence under a mask, as released; features ``(E, h', w')``."""
    external = cases.pooled_colors(image)[0]
    target = external.shape[-2:]
    unit = F.normalize(external.flatten(1).T, dim=1)
    fine = ids[None, None].double()
    on_grid = F.interpolate(fine, size=target, mode="nearest").long()[0, 0]
    merged = merge_alike(unit, on_grid.flatten(), distance=DISTANCE).view(target)
    coarse = F.interpolate(merged[None, None].double(), size=tower.grid(image), mode="nearest").long()[0, 0]
    weights = bounded_weights((unit @ unit.T)[None], merged.flatten()[None], sharpness=4.0)[0]
    values = coarse.unique().tolist()
    tokens = tower.embed(image, position_mode="bicubic_offset")
    count, length = len(values), tokens.shape[1]
    tokens = torch.cat([tokens[:, :1].expand(-1, count, -1), tokens], dim=1)
    allowed = torch.zeros(count + length, count + length, dtype=torch.bool)
    allowed[count:, count:] = True
    allowed[:count, count] = True
    for place, value in enumerate(values):
        allowed[place, count + 1 :] = (coarse == value).flatten()
    outputs, entering = [], tokens
    for index in range(tower.depth):
        entering = tokens
        query, key, value = tower.qkv(index, tower.norm1(index, tokens))
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        mixed = tower.attention_output(index, scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ value)
        tokens = tokens + mixed
        tokens = tokens + tower.mlp(index, tokens)
        outputs.append(tokens)
    last = tower.depth - 1
    streams = []
    for stream in (entering, outputs[0]):  # of three blocks the spatial branch reads the first
        value = tower.value(last, tower.norm1(last, stream[:, count + 1 :]))
        maps = value.transpose(2, 3).flatten(1, 2).unflatten(2, tower.grid(image))
        maps = F.interpolate(maps, size=target, mode="bilinear", align_corners=False)
        value = maps.flatten(2).unflatten(1, (value.shape[1], -1)).transpose(2, 3)
        streams.append(tower.attention_output(last, weights @ value))
    shown = F.interpolate(coarse[None, None].double(), size=target, mode="nearest").long().flatten()
    painted = outputs[-1][:, [values.index(int(number)) for number in shown]]
    joined = tower.project(streams[0]) + tower.project(streams[1]) + 0.5 * tower.project(painted)
    return tokens_to_map(joined, (target[0], target[1]))[0]


@pytest.mark.slow
@torch.no_grad()
def test_equals_the_plain_computation_in_a_batch(tower) -> None:
    images, ids = cases.some_images(), regions()
    encoder = CorrCLIP(tower, proxy=cases.pooled_colors, merge_distance=DISTANCE)
    together = encoder.encode(images, ids).features
    assert together.shape == (3, tower.embed_dim, 6, 14)
    for index in range(3):
        torch.testing.assert_close(
            together[index], plain(tower, images[index : index + 1], ids[index]), rtol=1e-4, atol=1e-5
        )
        alone = encoder.encode(images[index : index + 1], ids[index : index + 1]).features[0]
        torch.testing.assert_close(alone, together[index], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_masks_matter_and_their_absence_is_one_unsegmented_whole(tower) -> None:
    images = cases.some_images()
    encoder = CorrCLIP(tower, proxy=cases.pooled_colors)
    without = encoder.encode(images).features
    assert torch.equal(without, encoder.encode(images, torch.zeros_like(regions())).features)
    assert (
        cosines(without, cases.some_words())
        - cosines(encoder.encode(images, regions()).features, cases.some_words())
    ).abs().max() > 1e-2


@torch.no_grad()
def test_shares_and_merging(tower) -> None:
    images, ids = cases.some_images(), regions()
    whole = CorrCLIP(tower, proxy=cases.pooled_colors)
    parts = {
        name: CorrCLIP(tower, proxy=cases.pooled_colors, spatial_share=a, semantic_share=b)
        .encode(images, ids)
        .features
        for name, a, b in (("main", 0.0, 0.0), ("spatial", 1.0, 0.0), ("semantic", 0.0, 0.5))
    }
    joined = parts["spatial"] + parts["semantic"] - parts["main"]
    torch.testing.assert_close(whole.encode(images, ids).features, joined, rtol=1e-4, atol=1e-5)
    apart = CorrCLIP(tower, proxy=cases.pooled_colors, merge_distance=None).encode(images, ids).features
    merged = CorrCLIP(tower, proxy=cases.pooled_colors, merge_distance=DISTANCE).encode(images, ids).features
    assert not torch.allclose(apart, merged, atol=1e-3)


def test_blocks_of_the_spatial_branch() -> None:
    assert list(_spatial_blocks(12, None)) == [5, 6, 7, 8, 9]
    assert (min(_spatial_blocks(24, None)), max(_spatial_blocks(24, None))) == (10, 21)
    assert (min(_spatial_blocks(32, None)), max(_spatial_blocks(32, None))) == (2, 29)
    assert list(_spatial_blocks(6, None)) == [2, 3]
    assert list(_spatial_blocks(6, 1)) == [3]
    assert list(_spatial_blocks(3, None)) == list(_spatial_blocks(2, None)) == [0]
    with pytest.raises(
        ConfigError, match="expected spatial_blocks from 1 to 4 in a tower of 6 blocks, got 5"
    ):
        _spatial_blocks(6, 5)


def small_vit() -> ViTModel:
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=20,
        patch_size=4,
        image_size=20,
    )
    return ViTModel(config, add_pooling_layer=False).eval()


@torch.no_grad()
def test_an_external_model_gives_queries_plus_keys_of_its_last_block(tower) -> None:
    model, images = small_vit(), cases.some_images()
    external = ExternalVision(model)
    query, key = external.queries_and_keys(images)
    normed = []
    layer = dict(model.named_modules())
    name = [each for each in layer if each.endswith("q_proj")][-1]
    hook = layer[name].register_forward_pre_hook(lambda module, given: normed.append(given[0]))
    external.dense_features(images)
    hook.remove()
    for found, kind in ((query, "q_proj"), (key, "k_proj")):
        projection = layer[name.replace("q_proj", kind)]
        expected = F.linear(normed[0][:, 1:], projection.weight, projection.bias)
        torch.testing.assert_close(found, tokens_to_map(expected, (6, 14)))
    both = ColoredFor(tower, external, lambda each: torch.add(*external.queries_and_keys(each)))(images)
    torch.testing.assert_close(CorrCLIP(tower, proxy=external).correspondence(images), both)


@torch.no_grad()
def test_a_tower_of_blocks_may_be_the_external_model(tower) -> None:
    images = cases.some_images()
    tokens = build_dense("clip", tower, position_mode="bicubic").run_to_last(images)
    query, key, _ = tower.qkv(tower.depth - 1, tower.norm1(tower.depth - 1, tokens))
    expected = tokens_to_map((query + key).transpose(1, 2).flatten(2)[:, 1:], (3, 7))
    encoder = CorrCLIP(tower, proxy=tower)
    torch.testing.assert_close(encoder.correspondence(images), expected, rtol=1e-4, atol=1e-5)
    assert encoder.encode(images, regions()).features.shape == (3, tower.embed_dim, 3, 7)


def test_settings_out_of_range(tower) -> None:
    with pytest.raises(ConfigError, match="expected a merge_distance from 0 to 2, or null, got -1"):
        CorrCLIP(tower, proxy=cases.pooled_colors, merge_distance=-1)


@torch.no_grad()
def test_recalibration_hands_its_needs_on(tower) -> None:
    bare = build_method("corrclip", tower, proxy=cases.pooled_colors).model
    dressed = build_method("corrclip", tower, proxy=cases.pooled_colors, strength=0.2).model
    assert dressed.needs.masks
    assert dressed.one_label_per_region
    images, ids = cases.some_images(), regions()
    assert torch.equal(
        dressed.encode(images, regions=ids).features, bare.encode(images, regions=ids).features
    )
    masks = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0)) > 0.5
    assert torch.equal(dressed.region_map(masks), bare.region_map(masks))


def a_bank(tmp_path, tower, proxy, *, width: int) -> RegionBank:
    """Of nineteen regions that nobody has seen."""
    generator = torch.Generator().manual_seed(3)
    keys = F.normalize(torch.randn(19, width, generator=generator), dim=1).half()
    values = torch.randn(19, tower.embed_dim, generator=generator).half()
    model = CorrCLIP(tower, proxy=proxy).correspondence
    about = {
        "format": FORMAT,
        "clip": {"source": "tower", "weights": identify(tower)},
        "proxy": {"source": "proxy", "weights": identify(model)},
        "method": CorrCLIP(tower, proxy=proxy).making,
        "protocol": {},
        "regions": 19,
        "width": {"keys": width, "values": tower.embed_dim},
    }
    RegionBank.write(tmp_path, about, {"keys": iter([keys]), "values": iter([values])})
    return RegionBank.open(tmp_path)


@torch.no_grad()
def test_memory_is_half_of_what_every_region_says(tower, tmp_path) -> None:
    """One window over the photograph: means over windows are the window's own."""
    proxy = ExternalVision(small_vit())
    bank = a_bank(tmp_path, tower, proxy, width=12)
    image, ids, words = cases.some_images()[2:], regions()[2].clamp(min=0), cases.some_words()
    plainly = CorrCLIP(tower, proxy=proxy, merge_distance=None)
    remembering = CorrCLIP(tower, proxy=proxy, bank=bank, neighbours=3, memory_share=0.3)
    assert (remembering.whole_picture, remembering.cosine_logits) == (True, False)
    assert not plainly.whole_picture
    assert remembering.merge_distance is None
    features = plainly.encode(image, ids[None]).features
    state = remembering.encode(image, regions=ids[None])
    torch.testing.assert_close(state.features, features)
    picture = torch.zeros(24, 56, 3, dtype=torch.uint8)
    gathered = remembering.gather([state], lambda maps: maps[0], picture, ids)
    found = remembering.decode(gathered, words).logits[0]
    compared = F.normalize(plainly.correspondence(image)[0].flatten(1), dim=0)
    own = cosines(features, words)[0].flatten(1)
    small = F.interpolate(ids[None, None].double(), size=features.shape[-2:], mode="nearest").long().flatten()
    assert small.unique().tolist() == [0, 1, 3, 7]
    for number in small.unique():
        inside = small == number
        key = F.normalize(compared[:, inside].mean(dim=1), dim=0)
        best = (torch.from_numpy(bank.keys.astype("float32")) @ key).topk(3).indices.numpy()
        value = torch.from_numpy(bank.values[best].astype("float32").mean(axis=0))
        said = words @ F.normalize(value, dim=0)
        torch.testing.assert_close(
            found.flatten(1)[:, inside], 0.7 * own[:, inside] + 0.3 * said[:, None], rtol=1e-3, atol=1e-4
        )


def test_a_bank_of_other_models_and_shares_out_of_range(tower, tmp_path) -> None:
    proxy = ExternalVision(small_vit())
    bank = a_bank(tmp_path, tower, proxy, width=12)
    with pytest.raises(ConfigError, match="the second vision model was proxy with the weights"):
        CorrCLIP(tower, proxy=tower, bank=bank)
    with pytest.raises(
        ConfigError, match="built with semantic_share 0.5, and the photograph would be read with 0.1"
    ):
        CorrCLIP(tower, proxy=proxy, bank=bank, neighbours=3, semantic_share=0.1)
    with pytest.raises(ConfigError, match="expected neighbours from 1 to the 19 regions"):
        CorrCLIP(tower, proxy=proxy, bank=bank)
    with pytest.raises(ConfigError, match="expected a memory_share from 0 to 1, got 1.5"):
        CorrCLIP(tower, proxy=proxy, memory_share=1.5)
