"""PixelCLIP as a whole, and its parts by hand."""

import copy
import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lexiseg.clip.tokenizer import TextTooLongError
from lexiseg.clip.towers.text import ClipTextTower
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.errors import ConfigError, DataError
from lexiseg.losses.cluster_mask import direct_cluster_mask_loss
from lexiseg.models.cluster_prompts import ClusterPrompts, initial_words
from lexiseg.models.convolutional_mask_decoder import ConvolutionalMaskDecoder
from lexiseg.models.mask_clustering import assign_masks, merge_by_cluster
from lexiseg.models.momentum_teacher import MomentumTeacher
from lexiseg.models.pixel_clip import PixelCLIP
from lexiseg.models.pixel_clip_settings import PixelCLIPOptimSettings, PixelCLIPSettings
from lexiseg.models.tuned_tower import TunedTower, tuned_names
from lexiseg.types import MaskBatch

TINY = {"clusters": 5, "prompt_length": 2, "prompt_template": "a {} b", "image_size": 24, "mask_size": 34}
TINY |= {"decoder_channels": 32}


class WordTokenizer:
    """One token per word, its first letter; padding is 0."""

    def __call__(self, texts, context_length):
        ids = torch.zeros(len(texts), context_length, dtype=torch.long)
        for row, text in enumerate(texts):
            words = [95, *(ord(word[0]) % 90 for word in text.split()), 96]
            ids[row, : len(words)] = torch.tensor(words)
        return ids


@pytest.fixture
def towers(tiny_clip):
    return VisionTower(tiny_clip), ClipTextTower(tiny_clip, WordTokenizer())


@pytest.fixture
def build(towers):
    def make(**settings) -> PixelCLIP:
        torch.manual_seed(1)
        return PixelCLIP(*towers, PixelCLIPSettings(**(TINY | settings)))

    return make


def random_batch(counts=(4, 0, 3), side=40, seed=2) -> MaskBatch:
    """Coarse blobs as masks, images of noise."""
    generator = torch.Generator().manual_seed(seed)
    weak, strong = (
        torch.randint(0, 256, (len(counts), 3, side, side), generator=generator, dtype=torch.uint8)
        for _ in range(2)
    )
    coarse = torch.rand(sum(counts), 1, 5, 5, generator=generator)
    masks = F.interpolate(coarse, size=(38, 38), mode="bilinear")[:, 0] > 0.6
    owners = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return MaskBatch(weak, strong, masks, owners)


def direct_loss(model: PixelCLIP, batch: MaskBatch) -> torch.Tensor:
    """The step of the published code, put together from the readable parts."""
    side, count = model.settings.mask_size, model.settings.clusters
    masks = F.interpolate(batch.masks[None].float(), size=(side, side), mode="nearest")[0]
    centres = F.normalize(model.prompts(), dim=1)
    with torch.no_grad():
        features = model.teacher(model.normalize(batch.weak))
        fine = F.interpolate(features, size=(side, side), mode="bilinear")
        pooled = torch.stack(
            [(fine[i] * m).sum((1, 2)) / m.sum() for i, m in zip(batch.image_of_mask, masks, strict=True)]
        )
        shares = (100 * F.normalize(pooled, dim=1) @ centres.T).double().softmax(1)
        for _ in range(3):
            shares = shares / shares.sum(0)
            shares = shares / shares.sum(1, keepdim=True)
        targets = torch.zeros(len(batch), count, side, side, dtype=torch.bool)
        for mask, image, cluster in zip(masks, batch.image_of_mask, shares.argmax(1), strict=True):
            targets[image, cluster] |= mask.bool()
    features = F.normalize(model.student(model.normalize(batch.strong)), dim=1)
    maps = torch.einsum("kd,bdhw->bkhw", centres, features)
    owners = torch.arange(len(batch)).repeat_interleave(count)
    return direct_cluster_mask_loss(maps.flatten(0, 1), targets.flatten(0, 1), owners, model.decoder)


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def test_loss_and_gradients_equal_the_published_formulation(build):
    model, batch = build(), random_batch()
    with torch.no_grad():  # a teacher of its own
        for parameter in model.teacher.parameters():
            parameter.mul_(1.1)
    parameters = trained(model)
    loss, expected = model(batch)["loss"], direct_loss(model, batch)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    ours, theirs = (torch.autograd.grad(each, list(parameters.values())) for each in (loss, expected))
    for name, mine, direct in zip(parameters, ours, theirs, strict=True):
        scale = max(direct.abs().max().item(), 1e-6)  # keys' biases have no gradient but rounding
        assert (mine - direct).abs().max() <= 1e-4 * scale, name


def test_what_trains_under_each_setting(build):
    attention = trained(build())
    tower = [name for name in attention if name.startswith("student.")]
    blocks = {".self_attn.", "position_embedding"}
    assert all(any(part in name for part in blocks) for name in tower)
    assert len(tower) == 1 + 3 * 8 - 4  # queries and keys of the last block are read by nobody
    assert "prompts.tokens" in attention
    everything = [name for name in trained(build(tuned="all")) if name.startswith("student.")]
    assert len(everything) == len(dict(build().student.tower.named_parameters())) - 4
    assert not [name for name in trained(build(tuned="none")) if name.startswith("student.")]
    assert "prompts.tokens" not in trained(build(prompts_trained=False))
    assert not [name for name in attention if name.startswith("teacher.")]


@pytest.mark.parametrize(
    "settings",
    [{}, {"tuned": "all"}, {"momentum": 0.0}, {"global_clustering": False}, {"prompts_trained": False}],
    ids=str,
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradient_reaches_all_that_trains_and_nothing_else(build, towers, settings, precision):
    model = build(**settings)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        losses = model(random_batch())
    losses["loss"].backward()
    assert losses["loss"].dtype == torch.float32
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        rounding = name.endswith("k_proj.bias")  # zero but for rounding: a soft-max ignores it
        assert parameter.grad is None or rounding or parameter.grad.abs().sum() > 0, name
    frozen = [*model.student.tower.parameters(), *(p for tower in towers for p in tower.parameters())]
    known = {id(p) for p in model.parameters()}
    assert all(p.grad is None for p in frozen if id(p) not in known)


def test_a_step_changes_what_trains_alone(build, towers):
    model, before_tower = build(), copy.deepcopy(towers[0].state_dict())
    before = copy.deepcopy(model.state_dict())
    frozen = {name: p.clone() for name, p in model.student.tower.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=10.0)
    model(random_batch())["loss"].backward()
    optimizer.step()
    for name, value in model.state_dict().items():
        if not name.endswith("k_proj.bias"):  # its gradient is zero but for rounding: a soft-max ignores it
            assert torch.equal(value, before[name]) == name.startswith("teacher."), name
    model.update_teacher()
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert any(name.startswith("teacher.") for name in changed)
    tower = dict(model.student.tower.named_parameters())
    assert all(torch.equal(tower[name], value) for name, value in frozen.items())
    assert all(torch.equal(value, before_tower[name]) for name, value in towers[0].state_dict().items())


def test_training_lowers_the_loss(build):
    model, batch = build(), random_batch()
    groups = model.parameter_groups(PixelCLIPOptimSettings(lr=3e-3, clip_factor=0.1))
    optimizer, losses = torch.optim.AdamW(groups), []
    for _ in range(15):
        model.update_teacher()
        losses.append(model(batch)["loss"])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]


def test_images_without_a_mask_change_nothing(build):
    model, batch = build(), random_batch((4, 0, 3))
    with_it = model(batch)
    without = MaskBatch(
        batch.weak[[0, 2]], batch.strong[[0, 2]], batch.masks, batch.image_of_mask.clamp(max=1)
    )
    torch.testing.assert_close(with_it["loss"], model(without)["loss"])
    assert with_it["masks"] == pytest.approx(7 / 3)


@pytest.mark.parametrize("settings", [{}, {"global_clustering": False}, {"tuned": "none"}], ids=str)
@pytest.mark.parametrize("pixels", [0, 1])
def test_batch_without_masks(build, settings, pixels):
    """None at all, or one that a single pixel of the target is left of: zero loss, and zero gradients for DDP."""
    batch = random_batch((pixels, 0))
    masks = torch.zeros_like(batch.masks)
    masks[:, :1, :1] = True
    model = build(**settings)
    losses = model(dataclasses.replace(batch, masks=masks))
    losses["loss"].backward()
    assert losses["loss"] == 0
    assert all(torch.isfinite(value) for value in losses.values())
    assert all(p.grad is not None and not p.grad.any() for p in trained(model).values())


def test_fewer_masks_than_clusters_and_masks_over_each_other(build):
    batch = random_batch((2, 1))
    everywhere = dataclasses.replace(batch, masks=torch.ones_like(batch.masks))
    losses = build()(everywhere)
    assert torch.isfinite(losses["loss"])
    assert losses["clusters"] == 2  # the two equal masks of one image cannot be told apart
    assert -1 <= losses["similarity"] <= 1


def test_each_mask_is_its_own_target_without_global_clustering(build):
    model, batch = build(global_clustering=False), random_batch((2, 3))
    found = model.find_targets(batch, None)
    assert model.prompts is None
    assert found.assignment is None
    assert found.targets.shape == (5, 34, 34)
    assert found.image_of_map.tolist() == [0, 0, 1, 1, 1]
    maps = model.similarity_maps(batch.strong[found.images], found, None)
    features = F.normalize(model.student(model.normalize(batch.strong)), dim=1)
    expected = torch.einsum("d,dhw->hw", F.normalize(found.pooled[3], dim=0), features[1])
    torch.testing.assert_close(maps[3], expected)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_who_pools_the_masks(build, momentum):
    """Momentum 0 asks the student itself, 1 the tower as it was."""
    model, batch = build(momentum=momentum), random_batch()
    first = model.find_targets(batch, model.prompts()).pooled
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.mul_(1.5)
    model.update_teacher()
    again = model.find_targets(batch, model.prompts()).pooled
    assert torch.equal(first, again) == (momentum == 1.0)
    assert (model.teacher is None) == (momentum == 0.0)


def test_momentum_by_hand(towers):
    student = TunedTower(copy.deepcopy(towers[0]), tuned_names(towers[0], "attention"))
    teacher = MomentumTeacher(student, 0.75, shared=student.frozen_parameters())
    (weight, *_), (average, *_) = student.parameters(), teacher.average.parameters()
    old = average.clone()
    with torch.no_grad():
        weight.add_(4.0)
    teacher.update(student)
    torch.testing.assert_close(average.detach(), old + 1.0)
    shared = student.tower.vision.encoder.layers[0].mlp.fc1.weight
    assert teacher.average.tower.vision.encoder.layers[0].mlp.fc1.weight is shared


def test_merging_by_hand():
    masks = torch.tensor([[[1, 0, 0]], [[1, 1, 0]], [[0, 0, 1]], [[0, 1, 0]]], dtype=torch.bool)
    targets = merge_by_cluster(
        masks, torch.tensor([2, 2, 0, 2]), torch.tensor([0, 0, 0, 1]), images=2, count=3
    )
    expected = [[[[0, 0, 1]], [[0, 0, 0]], [[1, 1, 0]]], [[[0, 0, 0]], [[0, 0, 0]], [[0, 1, 0]]]]
    assert targets.int().tolist() == expected


def test_assignment_by_hand():
    """Both masks look like centre 0, the second more so; balance leaves centre 1 to the first."""
    centres = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    found = assign_masks(torch.tensor([[1.0, 0.5], [5.0, 0.0]]), centres, scale=10.0, iterations=3)
    assert found.similarity[:, 0].tolist() == pytest.approx([1 / math.sqrt(1.25), 1.0])
    assert found.clusters.tolist() == [1, 0]
    nearest = assign_masks(torch.tensor([[1.0, 0.5], [5.0, 0.0]]), centres, scale=10.0, iterations=0)
    assert nearest.clusters.tolist() == [0, 0]


def test_prompts_stand_inside_the_sentence(towers):
    """With tokens of known words the prompted sentence is that sentence, read by the ordinary text tower."""
    text_tower = towers[1]
    prompts = ClusterPrompts(
        text_tower, count=2, length=2, template="a {} b", vocabulary=("dog", "cat"), seed=3
    )
    words = initial_words(text_tower, (2, 2), vocabulary=("dog", "cat"), seed=3)
    assert set(words.flatten().tolist()) == {ord("d") % 90, ord("c") % 90}
    letters = {ord("d") % 90: "dog", ord("c") % 90: "cat"}
    sentences = [f"a {letters[x]} {letters[y]} b" for x, y in words.tolist()]
    torch.testing.assert_close(F.normalize(prompts(), dim=1), text_tower.encode(sentences))


def test_initial_words_are_drawn_with_a_seed(towers):
    first, same, other = (initial_words(towers[1], (50, 4), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert first.max() < 97 - 10


def test_prompts_longer_than_the_tower_reads(towers):
    with pytest.raises(TextTooLongError, match="text of 14 tokens is longer than the 13 that CLIP reads"):
        ClusterPrompts(towers[1], count=2, length=10, template="a {} b")


def test_decoder_size_and_independence_of_maps():
    decoder = ConvolutionalMaskDecoder()
    assert sum(p.numel() for p in decoder.parameters()) == 118_145
    maps = torch.randn(3, 1, 5, 7)
    together = decoder(maps)
    assert together.shape == (3, 1, 20, 28)
    torch.testing.assert_close(together[1:2], decoder(maps[1:2]))


def test_parameters_of_the_published_model():
    """ViT-B/16: what trains is a third of the tower."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.device("meta"):
        tower = VisionTower(
            CLIPVisionModelWithProjection(CLIPVisionConfig(patch_size=16, projection_dim=512))
        )
    sizes = dict(tower.named_parameters())
    tuned = sum(sizes[name].numel() for name in tuned_names(tower, "attention"))
    unread = 2 * (768 * 768 + 768)
    assert tuned == 197 * 768 + 12 * 4 * (768 * 768 + 768) - unread


def test_state_holds_what_trains_and_the_teacher(build):
    model = build()
    names = set(model.state_dict())
    teacher = {name for name in names if name.startswith("teacher.average.")}
    student = {name for name in names if name.startswith("student.")}
    assert names - teacher == set(trained(model))
    assert {n.removeprefix("teacher.average.") for n in teacher} == {
        n.removeprefix("student.") for n in student
    }
    other = build(prompt_seed=1)
    assert not torch.equal(other.prompts.tokens, model.prompts.tokens)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter) * parameter.requires_grad)
    other.load_state_dict(model.state_dict())
    batch = random_batch()
    assert torch.equal(model(batch)["loss"], other(batch)["loss"])


def test_everything_moves_to_another_type(build):
    model = build().double()
    assert model.student.tower.vision.embeddings.class_embedding.dtype == torch.float64
    assert model.prompts.text_tower.text_projection.weight.dtype == torch.float64
    assert model(random_batch())["loss"].isfinite()


def test_the_tuned_tower_is_an_ordinary_frozen_one(build, towers):
    model = build()
    with torch.no_grad():
        model.student.tower.vision.encoder.layers[0].self_attn.v_proj.weight.mul_(1.5)
    tower, images = model.tuned_tower(), torch.randn(2, 3, 24, 40)
    assert isinstance(tower, VisionTower)
    assert not any(p.requires_grad for p in tower.parameters())
    torch.testing.assert_close(tower.dense_features(images), model.student(images))
    assert not torch.allclose(tower(images), towers[0](images))
    assert tower.state_dict().keys() == towers[0].state_dict().keys()
    before = tower(images)
    with torch.no_grad():
        model.student.tower.vision.encoder.layers[0].self_attn.v_proj.weight.mul_(1.5)
    assert torch.equal(tower(images), before)  # a copy


def test_parameter_groups_by_hand(build):
    groups = {g["name"]: g for g in build().parameter_groups(PixelCLIPOptimSettings())}
    rates = {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()}
    expected = {
        "prompts": (2e-3, 1e-4),
        "clip": (2e-6, 1e-4),
        "decoder": (2e-4, 1e-4),
        "decoder_norms": (2e-4, 0.0),
    }
    assert rates == {name: pytest.approx(values) for name, values in expected.items()}
    assert len(groups["decoder_norms"]["params"]) == 8
    lean = build(tuned="none", prompts_trained=False).parameter_groups(PixelCLIPOptimSettings())
    assert [group["name"] for group in lean] == ["decoder", "decoder_norms"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clusters": 0}, "model.clusters: expected from 1 to 65536, got 0"),
        ({"momentum": 1.5}, "model.momentum: expected from 0 to 1, got 1.5"),
        ({"prompt_template": "a photo"}, "expected one {}, where the prompt stands, got 'a photo'"),
        ({"tuned": "mlp"}, "model.tuned: expected one of attention, all, none, got 'mlp'"),
        ({"decoder_channels": 48}, "model.decoder_channels: expected a multiple of 32, got 48"),
        ({"assignment_scale": 0.0}, "model.assignment_scale: expected above 0, got 0.0"),
        ({"global_clustering": "no"}, "model.global_clustering: expected true or false, got 'no'"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        PixelCLIPSettings(**settings)


def test_impossible_optimisers():
    with pytest.raises(ConfigError, match="optim.lr: expected above 0, got 0"):
        PixelCLIPOptimSettings(lr=0.0)
    with pytest.raises(ConfigError, match="optim.gradient_clip: expected at least 0, got -1.0"):
        PixelCLIPOptimSettings(gradient_clip=-1.0)


class Convolution(nn.Conv2d):
    """The least that can be tuned: no attention, no class token."""

    unread_parameters = ()
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    dense_features = nn.Conv2d.forward


def test_any_tower_with_dense_features_can_be_tuned(towers):
    tower = Convolution(3, 16, 8, stride=8)
    model = PixelCLIP(tower, towers[1], PixelCLIPSettings(**(TINY | {"tuned": "all"})))
    side = model.settings.image_size
    grey = model.normalize(torch.full((1, 3, side, side), 51.0))[0, :, 0, 0]
    torch.testing.assert_close(grey, torch.tensor([0.2, 0.0, -1 / 7]))  # in the tower's own colours
    model(random_batch())["loss"].backward()
    assert {name for name in model.state_dict() if "prompts" not in name and "decoder" not in name} == {
        f"{who}.{name}" for who in ("student", "teacher.average") for name in ("weight", "bias")
    }
    assert model.student.tower.weight.grad.abs().sum() > 0
    assert isinstance(model.tuned_tower(), Convolution)


def test_impossible_towers(towers):
    with pytest.raises(ConfigError, match="which need a text tower; got none"):
        PixelCLIP(towers[0], None, PixelCLIPSettings(**TINY))
    odd = PixelCLIPSettings(**{**TINY, "image_size": towers[0].patch_size + 1})
    with pytest.raises(
        ConfigError, match=r"model.image_size \d+: expected a multiple of \d+, the patch size"
    ):
        PixelCLIP(*towers, odd)
    with pytest.raises(ConfigError, match=r"has no attention to tune; set model.tuned=all"):
        tuned_names(Convolution(3, 5, 1), "attention")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": torch.ones(7, 38, 20, dtype=torch.bool)}, "masks of 38×20 cannot show .* 40×40"),
        ({"masks": torch.ones(7, 38, 38)}, "of type bool, got .* of torch.float32"),
        ({"image_of_mask": torch.full((7,), 3)}, "each of 7 masks the index of one of 3 images"),
        ({"image_of_mask": torch.zeros(5, dtype=torch.long)}, "got 5 indices"),
        ({"strong": torch.zeros(3, 3, 8, 8)}, "two views .* of one size"),
    ],
    ids=["ratio", "type", "owner", "count", "views"],
)
def test_batches_that_do_not_fit(build, change, message):
    with pytest.raises(DataError, match=message):
        build()(dataclasses.replace(random_batch(), **change))


@pytest.mark.parametrize(("scale", "iterations"), [(10.0, 0), (30.0, 7)])
def test_settings_of_the_assignment_reach_it(build, scale, iterations):
    model = build(assignment_scale=scale, assignment_iterations=iterations)
    centres = model.prompts()
    found = model.find_targets(random_batch(), centres)
    expected = assign_masks(found.pooled, centres, scale=scale, iterations=iterations)
    torch.testing.assert_close(found.assignment.shares, expected.shares)
    published = assign_masks(found.pooled, centres, scale=scale, iterations=3)
    assert not torch.allclose(found.assignment.shares, published.shares)


def test_photographs_come_in_the_colours_of_the_tower(tiny_clip, towers):
    mean, std = (0.125, 0.25, 0.5), (0.5, 0.25, 0.75)
    tower = VisionTower(tiny_clip, colors=(mean, std))
    model = PixelCLIP(tower, towers[1], PixelCLIPSettings(**TINY))
    images = random_batch(side=24).weak
    expected = (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(model.normalize(images), expected)
