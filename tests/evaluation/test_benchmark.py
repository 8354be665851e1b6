"""Rows and columns of a benchmark: which settings meet, what is measured, how results are kept."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import ViTConfig, ViTModel

import tiny_sam3
from lexiseg.clip.loading import load_clip
from lexiseg.data.toy.world import ToyWorld
from lexiseg.dense.methods import build_method
from lexiseg.dense.multi_view import SINGLE_VIEW, MultiView
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.evaluation.benchmark import Benchmark, MethodChoice, cell_key, measure, prepare
from lexiseg.evaluation.benchmark_table import Cell, read_cells, to_markdown, write_cells
from lexiseg.evaluation.efficiency import Efficiency, count_operations, count_parameters, tg_clip_score
from lexiseg.evaluation.naming import GroundTruthMasks
from lexiseg.evaluation.published import Published
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import TRAINING_FREE
from lexiseg.inference.shots import Shot


@pytest.fixture(scope="module")
def clip():
    return load_clip("toy")


def make(dataset=None, **kwargs):
    dataset = dataset or ToyWorld(partition="val", length=3, image_size=(48, 56))
    names = tuple((name,) for name in dataset.classes)
    words = {None: names, "own": tuple((f"a {name[0]}", name[0]) for name in names)}
    methods = {
        "gem": {"words": "own", "protocol": {"logit_scale": 7.0}},
        "sc-clip": {"protocol": {"logit_scale": 55.0}, "settings": {"class_share": 0.1}},
    }
    settings = {"name": "tiny", "dataset": dataset, "words": words, "methods": methods}
    return Benchmark(**{**settings, "protocol": {"window": 48, "stride": 24, "logit_scale": 40.0}, **kwargs})


def test_each_method_takes_its_published_settings(clip):
    bench = make()
    gem = prepare(MethodChoice(name="gem"), bench, clip)
    assert gem.protocol.logit_scale == 7.0
    assert gem.vocabulary.words[0] == ("a bricks", "bricks")
    assert gem.vocabulary.templates == ("a photo of a {}.",)
    sclip = prepare(MethodChoice(name="sclip"), bench, clip)
    assert (sclip.protocol.logit_scale, sclip.protocol.window) == (40.0, 48)
    assert sclip.protocol.activation == "linear"
    assert sclip.protocol.views == SINGLE_VIEW
    assert len(sclip.vocabulary.templates) == 80
    whole = prepare(MethodChoice(name="tg-clip"), bench, clip)
    assert whole.protocol.logit_scale == 55.0  # SC-CLIP's
    assert whole.protocol.views == MultiView()
    assert whole.model.encoder.class_share == 0.1


def test_sam_3_keeps_its_square_and_no_rule_of_other_methods(tmp_path):
    """Thresholds of a benchmark are of soft-max probabilities; what a row says of the square holds."""
    tiny_sam3.saved(tmp_path)
    sam, bench = (
        load_clip(tmp_path),
        make(protocol={"window": 48, "stride": 24, "probability_threshold": 0.3}),
    )
    protocol = prepare(MethodChoice(name="sam3", templates="single"), bench, sam).protocol
    assert (protocol.stretch, protocol.window, protocol.activation) == (sam.tower.image_size, None, "scores")
    assert protocol.probability_threshold == TRAINING_FREE.probability_threshold
    own = MethodChoice(name="sam3", templates="single", protocol={"probability_threshold": 0.2})
    assert prepare(own, bench, sam).protocol.probability_threshold == 0.2


def test_a_row_wins_over_the_run_and_the_run_over_the_benchmark(clip):
    run = {"logit_scale": 11.0, "window_batch": 3}
    changed = prepare(MethodChoice(name="gem", protocol={"window_batch": 2}), make(), clip, run).protocol
    assert (changed.logit_scale, changed.window_batch) == (11.0, 2)
    with pytest.raises(ConfigError, match="no setting windows"):
        prepare(MethodChoice(name="gem", protocol={"windows": 2}), make(), clip)


def test_a_row_may_be_adapted_and_another_file_is_another_cell(clip, tmp_path):
    bench = make()
    plain = prepare(MethodChoice(name="sclip", templates="single"), bench, clip)
    sample = bench.dataset[0]
    method = build_method("sclip", clip.tower)
    pipeline = Pipeline.training_free(method, clip, templates="single")
    learned = pipeline.adapt(
        [Shot(sample.image, sample.label, "one")], list(bench.dataset.classes)
    ).adaptation
    file = tmp_path / "few.safetensors"
    learned.write(file)
    choice = MethodChoice(name="sclip", templates="single", adapted=str(file))
    adapted = prepare(choice, bench, clip)
    assert (adapted.segment(sample.image).labels != plain.segment(sample.image).labels).any()
    first = cell_key(choice, bench, adapted, clip, None)
    replace(learned, temperature=learned.temperature / 2).write(file)
    assert cell_key(choice, bench, adapted, clip, None) != first
    with pytest.raises(CheckpointError, match="adapted with method sclip, but the model has maskclip"):
        prepare(MethodChoice(name="maskclip", adapted=str(file)), bench, clip)


def test_entries():
    assert [choice.name for choice in MethodChoice.many("all")][-1] == "tg-clip-text"
    assert MethodChoice.many("sclip") == (MethodChoice(name="sclip"),)
    views = MethodChoice.from_entry({"name": "sclip", "views": {"scales": [0.5]}, "label": "half"}).views
    assert views == MultiView(scales=(0.5,))
    with pytest.raises(ConfigError, match="two rows are called sclip; give each a label"):
        MethodChoice.many(["sclip", {"name": "sclip", "strength": 0.1}])
    with pytest.raises(ConfigError, match="no training-free method 'sclipp'"):
        MethodChoice.many(["sclipp"])
    with pytest.raises(ConfigError, match=r"with the keys name, label, .* got \{'strength': 1\}"):
        MethodChoice.many([{"strength": 1}])
    with pytest.raises(ConfigError, match="the list is empty"):
        MethodChoice.many([])


def test_a_cell_carries_score_cost_and_settings(clip):
    bench, choice = make(), MethodChoice(name="tg-clip", strength=0.3)
    segmenter = prepare(choice, bench, clip)
    cell = measure(choice, bench, segmenter, clip, key="k", images_per_batch=2)
    single = measure(choice, bench, segmenter, clip, key="k")
    assert cell.miou == single.miou > 0
    assert cell.report["images"] == 3
    told = cell.report["method"]
    assert (told["name"], told["recalibration"]["strength"]) == ("tg-clip", 0.3)
    assert told["recalibration"]["temperature"] == 2.0
    assert cell.report["protocol"]["views"]["scales"] == (0.75, 1.25)
    assert cell.report["scores"]["miou"] == cell.miou
    assert (told["encoder"]["class_share"], told["encoder"]["threshold"]) == (0.1, 0.4)
    assert cell.efficiency.seconds > 0


def test_operations_and_parameters_by_hand(clip):
    """Vanilla tower on one window of 6 × 6 patches and a class token, 42 classes."""
    segmenter = prepare(MethodChoice(name="clip"), make(), clip)
    image = ToyWorld(partition="val", length=1, image_size=(48, 48))[0].image
    tokens, width, depth, joint = 37, 96, 12, 64
    block = 2 * tokens * 12 * width**2 + 2 * 2 * tokens**2 * width
    expected = depth * block + 2 * 36 * (8 * 8 * 3) * width + 2 * 36 * width * joint + 2 * 36 * joint * 42
    assert count_operations(segmenter, image) == pytest.approx(expected, rel=0.04)  # and the way to pixels
    towers = sum(p.numel() for p in clip.parameters())
    assert count_parameters(segmenter, clip) == towers
    segmenter.protocol = replace(segmenter.protocol, pamr_steps=2)
    spread = 2 * (2 * 16 * 48 * 48) * 42  # rounds, products with 16 neighbours of every pixel, classes
    assert count_operations(segmenter, image) == pytest.approx(expected + spread, rel=0.04)
    segmenter.protocol = replace(segmenter.protocol, pamr_steps=0)
    two = count_operations(replace_views(segmenter), image)
    assert two == pytest.approx(2 * expected, rel=0.06)


def replace_views(segmenter):
    segmenter.protocol = replace(segmenter.protocol, views=MultiView(scales=(1.0,)))
    return segmenter


def test_score_of_table_4():
    """The paper's own row: mIoU 37.9, 6.8 images a second, 4.1 GFLOP: 40.0."""
    assert tg_clip_score(0.379, 1 / 6.8, 4.1e9) == pytest.approx(40.0, abs=0.05)


def test_keys_change_with_what_decides_a_score(clip):
    bench = make()

    def key(choice, column=bench, limit=None):
        return cell_key(choice, column, prepare(choice, column, clip), clip, limit)

    base = key(MethodChoice(name="tg-clip"))
    assert base == key(MethodChoice(name="tg-clip"))
    others = [
        key(MethodChoice(name="tg-clip", strength=0.2)),
        key(MethodChoice(name="tg-clip", temperature=1.0)),
        key(MethodChoice(name="tg-clip", unit_features=False)),
        key(MethodChoice(name="tg-clip", after_upsampling=True)),
        key(MethodChoice(name="tg-clip", uniform=True)),
        key(MethodChoice(name="tg-clip", views=SINGLE_VIEW)),
        key(MethodChoice(name="tg-clip", templates="single")),
        key(MethodChoice(name="tg-clip", settings={"threshold": 0.5})),
        key(MethodChoice(name="tg-clip"), limit=2),
        key(MethodChoice(name="tg-clip"), make(ToyWorld(partition="val", length=3, seed=1))),
    ]
    masks = GroundTruthMasks()
    given = prepare(MethodChoice(name="tg-clip"), bench, clip, masks=masks)
    others.append(cell_key(MethodChoice(name="tg-clip"), bench, given, clip, None, masks))
    assert len({base, *others}) == 12


def test_a_uniform_row_reads_every_benchmark_alike(clip):
    bench = make()
    own, uniform = (prepare(MethodChoice(name="tg-clip", uniform=on), bench, clip) for on in (False, True))
    text = prepare(MethodChoice(name="tg-clip-text"), bench, clip)
    for segmenter in (uniform, text):
        protocol = segmenter.protocol
        assert (protocol.logit_scale, protocol.probability_threshold, protocol.area_threshold) == (40.0, 0, 0)
        assert (protocol.short_side, protocol.window) == (own.protocol.short_side, own.protocol.window)
    assert own.protocol.logit_scale == 55.0
    assert text.model.encoder.class_share == 0.1  # SC-CLIP's
    assert text.model.reads_pixels
    changed = MethodChoice(name="tg-clip", uniform=True, protocol={"logit_scale": 7.0})
    assert prepare(changed, bench, clip).protocol.logit_scale == 7.0


def test_given_masks_lift_the_area_rule_unless_it_is_asked_for(clip):
    ruled = make(protocol={"window": 48, "stride": 24, "area_threshold": 0.1})
    assert prepare(MethodChoice(name="gem"), ruled, clip).protocol.area_threshold == 0.1
    masks = GroundTruthMasks()
    assert prepare(MethodChoice(name="gem"), ruled, clip, masks=masks).protocol.area_threshold == 0.0
    asked = prepare(MethodChoice(name="gem"), ruled, clip, {"area_threshold": 0.2}, masks=masks)
    assert asked.protocol.area_threshold == 0.2
    inside = prepare(MethodChoice(name="lavg"), ruled, clip, masks=masks)  # the masks are its own
    assert inside.protocol.area_threshold == 0.1


def test_a_method_inside_masks_is_measured_with_them_and_refused_without(clip, tmp_path):
    torch.manual_seed(0)
    size = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20}
    ViTModel(ViTConfig(**size, patch_size=8, image_size=48)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="^corrclip reads a photograph inside masks, and got none"):
        prepare(MethodChoice(name="corrclip"), make(), clip)  # before its second model is looked for
    choice = MethodChoice(name="corrclip", settings={"proxy": str(tmp_path)})
    bench, masks = make(), GroundTruthMasks()
    segmenter = prepare(choice, bench, clip, masks=masks)
    cell = measure(choice, bench, segmenter, clip, key="k", masks=masks)
    assert cell.report["masks"]["judged"] > 3
    assert cell.efficiency.operations > 0
    sample = bench.dataset[0]
    regions = masks.masks(bench.dataset, 0, sample)
    found = segmenter.segment(sample.image, masks=regions)
    assert all(len(np.unique(found.labels[region])) == 1 for region in regions)


def cell(method, benchmark, miou, seconds=0.5):
    return Cell(method, benchmark, "k", miou, Efficiency(1_900_000, 2_000_000_000, seconds), {"images": 3})


def test_results_survive_a_file(tmp_path):
    path = tmp_path / "results.json"
    assert read_cells(path) == {}
    cells = [cell("sclip", "toy", 0.5), cell("gem", "toy", 0.25, math.nan)]
    write_cells(cells, path)
    back = read_cells(path)
    assert back["sclip", "toy"] == cells[0]
    assert math.isnan(back["gem", "toy"].efficiency.seconds)
    path.write_text(json.dumps({"scores": 1}))
    with pytest.raises(ConfigError, match="is no result of a benchmark"):
        read_cells(path)


def test_the_table():
    cells = {
        (c.method, c.benchmark): c
        for c in (cell("a", "toy", 0.5), cell("a", "voc", 0.3, 1.5), cell("b", "toy", 0.25, math.nan))
    }
    lines = to_markdown(cells, ["a", "b"], ["toy", "voc"]).splitlines()
    assert lines[0] == "| method | toy | voc | mean | M parameters | GFLOP/image | s/image | FPS | score |"
    score = 40 + np.log(1 + 1 / 1.0 + 1 / 2.0)
    assert lines[2] == f"| a | 50.0 | 30.0 | 40.0 | 1.9 | 2.0 | 1.000 | 1.0 | {score:.1f} |"
    assert lines[3] == "| b | 25.0 | – | – | 1.9 | 2.0 | – | – | – |"
    assert to_markdown(cells, ["a"], ["toy"]).splitlines()[0].count("mean") == 0


def test_the_table_of_other_speeds_and_unseen_operations():
    fast = {("a", "toy"): cell("a", "toy", 0.5, 0.125)}
    assert to_markdown(fast, ["a"], ["toy"]).splitlines()[2].split(" | ")[-3:-1] == ["0.125", "8.0"]
    program = replace(fast["a", "toy"], efficiency=Efficiency(1_900_000, 0, 0.25))
    assert to_markdown({("a", "toy"): program}, ["a"], ["toy"]).splitlines()[2] == (
        "| a | 50.0 | 1.9 | – | 0.250 | 4.0 | – |"
    )


def test_published_numbers_stand_beside_and_below_is_where_they_are_from():
    cells = {(row, "voc21"): cell(row, "voc21", 0.5) for row in ("a", "b")} | {
        ("a", "toy"): cell("a", "toy", 0.3)
    }
    printed = {("a", "voc21"): Published(0.666, "one paper"), ("c", "voc21"): Published(0.4, "another")}
    table = to_markdown(cells, ["b", "a", "c"], ["toy", "voc21"], printed).splitlines()
    assert table[0].startswith("| method | toy | voc21 | voc21 published | mean |")
    assert table[2].startswith("| b | – | 50.0 | – |")
    assert table[3].startswith("| a | 30.0 | 50.0 | 66.6 a |")
    assert table[4].startswith("| c | – | – | 40.0 b |")
    assert table[-1] == "Published, on OpenAI's ViT-B/16 unless it is said: a one paper; b another."
    assert "score: mIoU in percent + ln(1 + FPS + 1 / GFLOP)" in table[6], "what the last column is"
    assert "published" not in to_markdown(cells, ["b"], ["toy", "voc21"], printed)


def test_names_of_masks_have_columns_of_their_own():
    scores = {"miou": 0.5, "mask_accuracy": 0.25, "mask_class_accuracy": 0.125}
    named = {("a", "toy"): replace(cell("a", "toy", 0.5), report={"scores": scores})}
    table = to_markdown(named, ["a", "b"], ["toy"]).splitlines()
    assert table[0].startswith("| method | toy | toy masks | toy masks by class | M parameters |")
    assert table[2].startswith("| a | 50.0 | 25.0 | 12.5 | 1.9 |")
    assert table[3].startswith("| b | – | – | – | – |")


def test_a_key_knows_the_templates_themselves(clip, monkeypatch):
    """A method whose published templates were mended is measured again, though its row reads the same."""
    bench, choice = make(), MethodChoice(name="gem")
    before = cell_key(choice, bench, prepare(choice, bench, clip), clip, None)
    monkeypatch.setattr("lexiseg.inference.pipeline.published_templates", lambda name: "single")
    assert cell_key(choice, bench, prepare(choice, bench, clip), clip, None) != before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strength": "word"}, "tg-clip.strength: expected a number or null, got 'word'"),
        ({"strength": -0.5}, "tg-clip.strength: expected at least 0, got -0.5"),
        ({"temperature": 0}, "tg-clip.temperature: expected above 0, got 0"),
    ],
)
def test_a_recalibration_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        MethodChoice.from_entry({"name": "tg-clip", **settings})
