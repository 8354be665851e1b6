"""Every benchmark file holds known keys only, and the published numbers."""

import inspect
import json
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra.utils import get_object
from omegaconf import OmegaConf

from lexiseg.clip.loading import load_clip
from lexiseg.data.class_files import builtin_classes
from lexiseg.dense.methods import build_method
from lexiseg.dense.names import METHODS, encoder_name
from lexiseg.dense.registry import DENSE_ENCODERS
from lexiseg.evaluation.benchmark import Benchmark, MethodChoice
from lexiseg.evaluation.published import published_miou
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.recipes.ablations import MEASURED, read_table, table_names, table_source
from lexiseg.recipes.benchmark import _borrowed, _published, printed_in, rows_of_table
from support import golden_folders

FOLDER = Path(__file__).parents[1] / "conf" / "benchmark"
PUBLISHED = {
    "voc21": "voc21",
    "voc20": "voc20",
    "context60": "context60",
    "context59": "context59",
    "coco_object": "coco_object",
    "coco_stuff": "coco_stuff164k",
    "ade20k": "ade20k",
    "cityscapes": "city_scapes",
}
"""Our benchmarks and what the methods' own files call them."""
CLASSES = {
    "voc21": 21,
    "voc20": 20,
    "context60": 60,
    "context59": 59,
    "coco_object": 81,
    "coco_stuff": 171,
    "ade20k": 150,
    "cityscapes": 19,
}
WITH_BACKGROUND = {"voc21", "context60", "coco_object"}
TITLES = {
    "sclip": "SCLIP",
    "clearclip": "ClearCLIP",
    "naclip": "NACLIP",
    "resclip": "ResCLIP",
    "proxyclip": "ProxyCLIP",
    "sc-clip": "SC-CLIP",
}
SETTINGS = {
    "attn_rcs_weights": ("resclip", "cross_weights"),
    "attn_sfr_weights": ("resclip", "feedback_weights"),
    "temp_thd": ("resclip", "feedback_threshold"),
    "delete_same_entity": ("resclip", "decay_detached"),
    "res_cls": ("sc-clip", "class_share"),
}
"""Published constructor arguments under our names; ``beta``, ``gamma`` and blocks have tests of their own."""
DEPTH = 12
FILES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name):
    return OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))


def protocol(name, method):
    settings = load(name)
    own = settings["methods"].get(method, {}).get("protocol", {})
    return InferenceProtocol.from_dict({**settings["protocol"], **own})


def words(name, method):
    settings = load(name)
    return builtin_classes(settings["methods"].get(method, {}).get("words", settings["words"]))


def encoder_setting(name, method, key):
    """What the method gets under a benchmark: the file's value, or the constructor's default."""
    own = load(name)["methods"].get(method, {}).get("settings", {})
    return own.get(key, inspect.signature(DENSE_ENCODERS[method]).parameters[key].default)


def test_there_are_eight_benchmarks_and_three_more():
    assert set(FILES) == {*PUBLISHED, "camvid", "toy", "folder"}


@pytest.mark.parametrize("name", FILES)
def test_keys_are_known(name):
    settings = load(name)
    assert list(settings) == ["name", "data", "words", "protocol", "methods"]
    assert settings["name"] == name
    target = get_object(settings["data"]["_target_"])
    given = set(settings["data"]) - {"_target_"}
    assert given <= set(inspect.signature(target).parameters)
    assert set(settings["protocol"]) <= {field.name for field in fields(InferenceProtocol)}
    for method, own in settings["methods"].items():
        assert method in METHODS
        assert own.keys() <= {"words", "settings", "protocol"}
        encoder = DENSE_ENCODERS[encoder_name(method)]
        assert own.get("settings", {}).keys() <= inspect.signature(encoder).parameters.keys()


@pytest.mark.one_in(3)
@pytest.mark.parametrize("table", table_names(MEASURED))
def test_rows_of_a_table_can_be_built(table):
    """Every method of a paper's table on the toy CLIP, under every benchmark's protocol; printed columns are known ones."""
    tower = load_clip("toy").tower
    for row in read_table(table, MEASURED).values():
        choice = MethodChoice.from_entry({**row.method, "label": row.label})
        assert row.published.keys() <= PUBLISHED.keys()
        settings = dict(choice.settings)
        if "learned" in settings.get("projections", ()):
            settings["learned"] = torch.eye(tower.width)
        method = build_method(
            choice.name,
            tower,
            strength=choice.strength,
            temperature=choice.temperature,
            views=choice.views,
            **settings,
        )
        for name in FILES:
            content = load(name)
            stage = Benchmark(
                name=name, dataset=None, words={}, protocol=content["protocol"], methods=content["methods"]
            )
            assert stage.protocol_for(choice, method.views).views == method.views


def test_the_printed_numbers_of_a_table_stand_under_its_labels():
    printed = printed_in("tg_clip_table4")
    assert printed["0.75, 1.25", "voc21"].miou == pytest.approx(0.665)
    assert printed["1.0", "cityscapes"].source.endswith("table 4")
    assert len(printed) == 15


def test_what_a_paper_prints_of_a_method_is_one_number_in_both_homes():
    """Beside a table's row without changes, and beside the method anywhere."""
    b16 = SimpleNamespace(
        has_blocks=True, has_class_token=True, aligned_patches=False, takes_prompts=True,
        patch_size=16, image_size=224, embed_dim=512, depth=12, width=768, num_heads=12, own_reading=None,
    )  # fmt: skip
    compared = set()
    for table in table_names(MEASURED):
        paper = (table_source(table, MEASURED) or "").partition(" (")[0]
        for row in read_table(table, MEASURED).values():
            for benchmark, (percent,) in row.published.items() if row.method.keys() == {"name"} else ():
                found = published_miou(row.method["name"], benchmark, b16)
                if found is not None and paper in found.source:
                    assert 100 * found.miou == pytest.approx(percent), (table, row.name, benchmark)
                    compared.add((table, row.name))
    rows = {
        "sclip_table2/query_key",
        "sclip_table3/sclip",
        "tg_clip_table3/baseline",
        "tg_clip_table3/recalibration",
    }
    assert {"/".join(each) for each in compared} == rows


@pytest.mark.parametrize("name", FILES)
def test_protocols_can_be_built(name):
    background = "class" if name in WITH_BACKGROUND else "none"
    for method in METHODS:
        built = protocol(name, method)
        assert (built.activation, built.background) == ("linear", background)


@pytest.mark.parametrize("name", FILES)
def test_a_comment_says_what_it_is(name):
    text = (FOLDER / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    assert "\t" not in text


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_class_of_the_data_has_its_words(name):
    for method in METHODS:
        assert len(words(name, method)) == CLASSES[name]


def test_names_come_from_the_data_and_words_from_the_file():
    assert words("voc21", "sclip")[0][0] == "sky"
    assert words("voc21", "clearclip")[0] == ("background",)
    assert words("coco_object", "proxyclip")[0][-1] == "rail"


def test_lavgs_rule_for_the_background_counts_its_words():
    assert encoder_setting("voc21", "lavg", "background_words") == len(words("voc21", "lavg")[0]) == 26
    assert all(
        encoder_setting(name, "lavg", "background_words") == 0 for name in PUBLISHED if name != "voc21"
    )


def test_methods_without_an_entry_take_sc_clips_values():
    assert protocol("voc21", "tg-clip") == protocol("voc21", "gem") == protocol("voc21", "sc-clip")
    assert protocol("voc21", "sc-clip").area_threshold == 0.1
    assert protocol("voc21", "resclip").area_threshold == 0.0


def test_what_is_borrowed_from_sc_clip_for_want_of_published_values_is_told():
    built = [
        Benchmark(name=n, dataset=None, words={}, protocol={}, methods=load(n)["methods"]) for n in FILES
    ]
    ours = {each.name: {method for method in METHODS if each.borrows(method)} for each in built}
    assert ours["toy"] == ours["camvid"] == ours["folder"] == set()
    for name in PUBLISHED:
        assert not ours[name] & TITLES.keys()
        assert {"clip-surgery", "gem", "tg-clip", "tg-clip-text"} <= ours[name]
        assert "clip" not in ours[name]
        assert ("maskclip" in ours[name]) == (name in WITH_BACKGROUND)
        assert ("pixelclip" in ours[name]) == (name in WITH_BACKGROUND)
        assert ("groupvit" in ours[name]) == (name not in WITH_BACKGROUND)
    rows = MethodChoice.many(["gem", "sclip"])
    run = SimpleNamespace(methods=rows, benchmarks=[each for each in built if each.name in ("voc21", "toy")])
    cells = dict.fromkeys((row.label, each.name) for row in rows for each in built)
    assert _borrowed(run, cells) == "\nSettings of sc-clip, for want of published ones: gem (voc21).\n"
    assert _borrowed(run, {}) == ""


def test_clip_is_read_as_sclip_reads_it_and_maskclip_whole():
    for name in PUBLISHED:
        assert protocol(name, "clip") == protocol(name, "sclip")
        assert words(name, "clip") == words(name, "sclip")
    sides = {
        "voc20": (512, 2048),
        "context59": (520, 520),
        "coco_stuff": (512, 2048),
        "cityscapes": (512, 1024),
    }
    for name, sizes in sides.items():
        whole = protocol(name, "maskclip")
        assert (whole.window, whole.stride, whole.probability_threshold) == (None, None, 0)
        assert (whole.short_side, whole.long_side) == sizes
    assert ("tv monitor",) in words("voc20", "maskclip")
    assert words("context59", "maskclip")[0] == ("airplane",)
    assert ("brick wall",) in words("coco_stuff", "maskclip")
    assert ("traffic light",) in words("cityscapes", "maskclip")


@pytest.mark.parametrize("same_tower", [True, False])
def test_what_a_table_prints_stands_beside_its_rows_on_the_tower_that_it_is_of(monkeypatch, same_tower):
    monkeypatch.setattr("lexiseg.recipes.benchmark.is_published_tower", lambda tower: same_tower)
    run = SimpleNamespace(
        methods=MethodChoice.many(rows_of_table("tg_clip_table4", ["one"])),
        benchmarks=[],
        clip=SimpleNamespace(tower=None),
        masks=None,
        printed=printed_in("tg_clip_table4"),
    )
    found = _published(run)
    assert (("1.0", "voc21") in found) == same_tower
    run.masks = "given"
    assert _published(run) == {}, "names of given masks are another task"


def test_pixelclip_and_groupvit_have_their_own():
    stretched = protocol("ade20k", "pixelclip")
    assert (stretched.short_side, stretched.long_side, stretched.resize) == (640, 2560, "pillow")
    assert (stretched.stretch, stretched.window, stretched.probability_threshold) == (320, None, 0.0)
    assert encoder_setting("ade20k", "pixelclip", "feature_side") == 64
    for name, threshold in (("voc21", 0.95), ("context60", 0.35), ("coco_object", 0.95)):
        grouped = protocol(name, "groupvit")
        assert (grouped.short_side, grouped.long_side, grouped.window, grouped.stride) == (
            448,
            2048,
            448,
            224,
        )
        assert (grouped.logit_scale, grouped.probability_threshold, grouped.area_threshold) == (1, 0, 0)
        assert encoder_setting(name, "groupvit", "background_threshold") == threshold
        assert words(name, "groupvit")[0] == ("background",)


def test_toy_and_camvid_windows_follow_the_native_side():
    toy, camvid = protocol("toy", "clip"), protocol("camvid", "clip")
    reference = InferenceProtocol.training_free(native_side=48)
    assert (toy.short_side, toy.window, toy.stride) == (None, reference.window, reference.stride)
    reference = InferenceProtocol.training_free()
    assert (camvid.short_side, camvid.window, camvid.stride) == (
        reference.short_side,
        reference.window,
        reference.stride,
    )


GOLDEN = [folder / "hparams.json" for folder in golden_folders("training-free")]
CASES = [(name, method) for name in PUBLISHED for method in TITLES]
golden = [
    pytest.mark.golden,
    pytest.mark.skipif(not GOLDEN, reason="LEXISEG_GOLDEN names no training-free folder"),
]


def published(name, method):
    for path in GOLDEN:
        yield json.loads(path.read_text())[f"{TITLES[method]}/{PUBLISHED[name]}"]


class TestPublished:
    pytestmark = golden

    @pytest.mark.parametrize(("name", "method"), CASES)
    def test_protocol(self, name, method):
        ours = protocol(name, method)
        for theirs in published(name, method):
            window = theirs["slide_crop"] or None
            assert ours.short_side == theirs["short_side"]
            assert (ours.window, ours.stride) == (window, theirs["slide_stride"] if window else None)
            assert ours.logit_scale == theirs["logit_scale"]
            assert ours.probability_threshold == theirs["prob_thd"]
            assert ours.area_threshold == (theirs.get("area_thd") or 0)
            assert ours.pamr_steps == theirs.get("pamr_steps", 0)

    @pytest.mark.parametrize(("name", "method"), CASES)
    def test_words(self, name, method):
        ours = words(name, method)
        for theirs in published(name, method):
            assert (len(ours), sum(map(len, ours))) == (theirs["classes"], theirs["queries"])

    @pytest.mark.parametrize(("name", "method"), CASES)
    def test_encoder_settings(self, name, method):
        for theirs in published(name, method):
            for key, (owner, own) in SETTINGS.items():
                if owner == method:
                    value = encoder_setting(name, method, own)
                    assert (list(value) if isinstance(value, tuple) else value) == theirs[key]
            if "gaussian_std" in theirs:
                assert encoder_setting(name, method, "sigma") == theirs["gaussian_std"]
            if method == "proxyclip":
                assert encoder_setting(name, method, "shift") == theirs["beta"]
                assert encoder_setting(name, method, "sharpness") == theirs["gamma"]

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_blocks_of_sc_clip(self, name):
        def block(share):
            return round(share * DEPTH)

        for theirs in published(name, "sc-clip"):
            assert encoder_setting(name, "sc-clip", "threshold") == theirs["beta"]
            assert block(encoder_setting(name, "sc-clip", "pre_block")) == theirs["pre_adjust_idx"]
            assert block(encoder_setting(name, "sc-clip", "post_block")) == theirs["post_adjust_idx"]
            first, last = (block(share) for share in encoder_setting(name, "sc-clip", "multi_blocks"))
            # Theirs is the end of a Python range.
            assert (first, last + 1) == (theirs["multi_start_idx"], theirs["multi_end_idx"])

    def test_nothing_published_is_left_out(self):
        for path in GOLDEN:
            expected = {f"{title}/{PUBLISHED[name]}" for title in TITLES.values() for name in PUBLISHED}
            assert set(json.loads(path.read_text())) == expected
