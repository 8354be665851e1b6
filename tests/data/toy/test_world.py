"""The toy world draws what it says, always the same, and its CLIP knows it."""

import dataclasses
import json
from collections import Counter
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, CLIPModel, PreTrainedTokenizerBase

from lexiseg.constants import CLIP_MEAN, CLIP_STD
from lexiseg.data.toy.render import SHAPES
from lexiseg.data.toy.scene import Figure, render_scene, sample_crop
from lexiseg.data.toy.world import TOY_CLASSES, TOY_GROUNDS, TOY_OBJECTS, TOY_UNSEEN, ToyWorld
from lexiseg.errors import ConfigError

TOY_CLIP = Path(str(files("lexiseg") / "assets" / "toy_clip"))


def world(**changes: object) -> ToyWorld:
    settings = {"partition": "train", "length": 400, "image_size": (83, 131)} | changes
    return ToyWorld(**settings)


def test_classes_are_six_grounds_and_all_compositions():
    assert len(TOY_CLASSES) == len(set(TOY_CLASSES)) == 42
    assert world().classes == TOY_CLASSES
    assert TOY_CLASSES[:6] == ("bricks", "grass", "sand", "water", "planks", "cobblestones")
    assert TOY_CLASSES[6] == "red circle"
    assert TOY_CLASSES[-1] == "dotted cross"


def test_unseen_leaves_each_word_four_seen_classes():
    seen = [name.split() for name in TOY_OBJECTS if name not in TOY_UNSEEN]
    assert len(TOY_UNSEEN) == 9
    assert len(seen) == 27
    words = Counter(word for name in seen for word in name)
    assert len(words) == 12
    assert all(4 <= count <= 5 for count in words.values())


def test_sample_has_the_shape_type_and_name_of_its_contract():
    sample = world()[7]
    assert sample.image.shape == (83, 131, 3)
    assert sample.label.shape == (83, 131)
    assert sample.image.dtype == sample.label.dtype == np.uint8
    assert sample.image.std() > 10
    assert sample.name == "toy_train_0_000007"
    names = {
        world(seed=seed, partition=p)[i].name for seed in (0, 1) for p in ("train", "val") for i in (0, 1)
    }
    assert len(names) == 8


def test_same_index_same_picture_in_any_order():
    first, second = world(), world(length=12)
    for index in (11, 2, 5, 2):
        one, other = first[index], second[index]
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.label, other.label)


def test_partitions_seeds_and_indices_never_share_a_picture():
    worlds = [world(partition=p, seed=seed) for p in ("train", "val") for seed in (0, 1)]
    pictures = {w[index].image.tobytes() for w in worlds for index in range(9)}
    assert len(pictures) == 36


def test_labels_are_the_classes_of_the_scene():
    toys = world()
    for index in range(30):
        scene = toys.scene(index)
        assert 1 <= len(scene.grounds) <= 2
        assert 3 <= len(scene.figures) <= 6
        present = {TOY_CLASSES[i] for i in np.unique(toys[index].label)}
        assert present <= {*scene.grounds, *scene.objects}
        assert scene.objects[-1] in present  # nothing lies on the topmost object


def test_removing_an_object_changes_the_label_only_inside_it():
    toys = world()
    for index in range(20):
        scene = toys.scene(index)
        _, label = render_scene(scene)
        last = TOY_CLASSES.index(scene.objects[-1])
        _, without = render_scene(dataclasses.replace(scene, figures=scene.figures[:-1]))
        changed = label != without
        assert changed.any()
        assert (label[changed] == last).all()


def test_textures_and_noise_do_not_depend_on_the_objects():
    scene = world().scene(3)
    image, label = render_scene(scene)
    bare, _ = render_scene(dataclasses.replace(scene, figures=()))
    untouched = (image == bare).all(-1)
    assert untouched.mean() > 0.2
    assert untouched[label >= len(TOY_GROUNDS)].mean() < 0.05


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("circle", np.pi * 0.9**2),
        ("square", 1.52**2),
        ("triangle", 3 * np.sqrt(3) * 0.53**2),
        ("ring", np.pi * (0.98**2 - 0.5**2)),
        ("cross", 2 * 1.9 * 0.62 - 0.62**2),
        ("star", 5 * 1.06 * 0.46 * np.sin(np.pi / 5)),
    ],
)
def test_mask_area_follows_the_formula(shape: str, area: float):
    radius, crop = 19.0, sample_crop(np.random.default_rng(1), objects=["red circle"], size=61)
    figure = Figure("blue", shape, centre=(29.3, 31.1), radius=radius, angle=0.7, tint=(0, 0, 0))
    _, label = render_scene(dataclasses.replace(crop, figures=(figure,)))
    covered = (label == TOY_CLASSES.index(f"blue {shape}")).sum()
    assert covered == pytest.approx(area * radius**2, rel=0.02)


def test_pixel_belongs_to_a_figure_when_its_centre_does():
    crop = sample_crop(np.random.default_rng(2), objects=["red circle"], size=29)
    figure = Figure("red", "circle", centre=(10.0, 17.0), radius=10.0, angle=0.0, tint=(0, 0, 0))
    _, label = render_scene(dataclasses.replace(crop, figures=(figure,)))
    y, x = np.mgrid[:29, :29] + 0.5
    np.testing.assert_array_equal(label == TOY_CLASSES.index("red circle"), np.hypot(y - 10, x - 17) < 9)


def test_shapes_reach_about_as_far_as_their_radius():
    y, x = np.mgrid[-1.4:1.4:281j, -1.4:1.4:281j].astype(np.float32)
    for name, distance in SHAPES.items():
        inside = distance(y, x) < 0
        assert 0.88 < np.hypot(y, x)[inside].max() < 1.2, name


def test_colour_names_tell_the_colour():
    leading = {"red": 0, "green": 1, "blue": 2}
    for colour, channel in leading.items():
        crop = sample_crop(np.random.default_rng(5), objects=[f"{colour} square"])
        image, label = render_scene(crop)
        assert image[label == TOY_CLASSES.index(f"{colour} square")].mean(0).argmax() == channel


def test_every_class_occurs_within_150_scenes():
    toys = world(length=150, image_size=(64, 64))
    present = set().union(*(np.unique(toys[index].label).tolist() for index in range(150)))
    assert present == set(range(42))


def test_scene_looks_the_same_at_twice_the_size():
    small, large = (world(image_size=size, partition="val")[4] for size in ((64, 96), (128, 192)))
    assert (large.label[::2, ::2] == small.label).mean() > 0.95


def test_excluded_classes_never_appear():
    exclude = (*TOY_UNSEEN, "water")
    toys = world(exclude=exclude, image_size=(64, 64))
    hidden = [TOY_CLASSES.index(name) for name in exclude]
    for index in range(60):
        assert not np.isin(toys[index].label, hidden).any()
    assert toys.classes == TOY_CLASSES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partition": "test"}, "partition must be 'train' or 'val', but is 'test'"),
        ({"length": 2.5}, "length and seed must be whole numbers, but are 2.5 and 0"),
        ({"seed": "abc"}, "length and seed must be whole numbers, but are 400 and 'abc'"),
        ({"image_size": "abc"}, "image_size must be"),
        ({"length": 0}, "length must be from 1 to 10000000 and seed at least 0, but are 0 and 0"),
        ({"seed": -3}, "but are 400 and -3"),
        ({"image_size": (128, 9)}, r"at least 16 each, but is \(128, 9\)"),
        ({"exclude": ("red circel",)}, "cannot exclude 'red circel'; its classes are bricks, grass"),
        ({"exclude": TOY_GROUNDS}, "keep at least one of each"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        world(**changes)


def test_index_outside_the_world_ends_iteration():
    toys = world(length=3, image_size=(16, 17))
    assert len(toys) == len(list(toys)) == 3
    with pytest.raises(IndexError, match="samples 0 to 2, asked for -1"):
        toys[-1]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(TOY_CLIP)


def test_toy_clip_is_small_and_complete():
    assert sum(file.stat().st_size for file in TOY_CLIP.iterdir()) <= 12 * 2**20
    config = json.loads((TOY_CLIP / "config.json").read_text())
    assert config["vision_config"]["num_hidden_layers"] == 12
    assert config["text_config"]["hidden_act"] == config["vision_config"]["hidden_act"] == "quick_gelu"
    assert json.loads((TOY_CLIP / "preprocessor_config.json").read_text())["image_mean"] == list(CLIP_MEAN)


def test_end_of_text_is_named_and_has_the_highest_id(tokenizer: PreTrainedTokenizerBase):
    config = json.loads((TOY_CLIP / "config.json").read_text())["text_config"]
    highest = max(tokenizer.get_vocab().values())
    assert tokenizer.eos_token_id == config["eos_token_id"] == highest == config["vocab_size"] - 1
    assert highest != 2


def test_known_words_are_one_token_and_others_fall_to_bytes(tokenizer: PreTrainedTokenizerBase):
    known = (TOY_CLIP / "known_words.txt").read_text().split()
    assert {word for name in TOY_CLASSES for word in name.split()} | {"photo"} <= set(known)
    assert all(len(tokenizer(word)["input_ids"]) == 3 for word in known)
    for text in ("zebra", "日本", "Émile"):
        ids = tokenizer(text)["input_ids"]
        assert len(ids) > 4
        assert tokenizer.unk_token_id not in ids[:-1]
    assert tokenizer("A Photo")["input_ids"] == tokenizer("a photo")["input_ids"]


@torch.no_grad()
def zero_shot(
    tokenizer: PreTrainedTokenizerBase, crops: list[np.ndarray], names: tuple[str, ...]
) -> np.ndarray:
    model = CLIPModel.from_pretrained(TOY_CLIP).eval()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    pixels = (torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2) / 255 - mean) / std
    tokens = tokenizer([f"a photo of a {name}" for name in names], padding=True, return_tensors="pt")
    return model(pixel_values=pixels, **tokens).logits_per_image.argmax(1).numpy()


def test_toy_clip_knows_its_objects_unseen_compositions_included(tokenizer: PreTrainedTokenizerBase):
    truth = np.arange(324) % len(TOY_OBJECTS)
    draws = (np.random.default_rng([90_001, index]) for index in range(324))
    crops = [
        render_scene(sample_crop(rng, objects=[TOY_OBJECTS[i]]))[0]
        for rng, i in zip(draws, truth, strict=True)
    ]
    right = zero_shot(tokenizer, crops, TOY_OBJECTS) == truth
    unseen = np.isin(truth, [TOY_OBJECTS.index(name) for name in TOY_UNSEEN])
    # Over crops of all sizes; guessing would give 0.03.
    assert right.mean() >= 0.9
    assert right[unseen].mean() >= 0.87


def test_toy_clip_knows_its_grounds(tokenizer: PreTrainedTokenizerBase):
    scenes = [sample_crop(np.random.default_rng([90_002, index])) for index in range(72)]
    best = zero_shot(tokenizer, [render_scene(scene)[0] for scene in scenes], TOY_GROUNDS)
    assert (
        np.mean([TOY_GROUNDS[i] == scene.grounds[0] for i, scene in zip(best, scenes, strict=True)]) >= 0.95
    )


def test_kept_scenes_are_the_scenes():
    fresh = ToyWorld(partition="train", length=3, image_size=(40, 48))
    kept = ToyWorld(partition="train", length=3, image_size=(40, 48), keep=True)
    first, again = kept[2], kept[2]
    assert again is first
    assert (first.image == fresh[2].image).all()
    assert (first.label == fresh[2].label).all()
    assert fresh[2] is not fresh[2]
