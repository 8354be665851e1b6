"""Trained checkpoints as rows: what they are called, by which protocol and words they are read, what tells them apart."""

from dataclasses import replace

import pytest
import torch

from hostile import small_checkpoint
from lexiseg.clip.loading import load_clip
from lexiseg.data.toy.world import TOY_CLASSES, TOY_UNSEEN, ToyWorld
from lexiseg.errors import ConfigError
from lexiseg.evaluation.benchmark import Benchmark, cell_key, measure, prepare
from lexiseg.evaluation.trained_row import TrainedChoice
from lexiseg.recipes.benchmark import table_rows
from lexiseg.recipes.evaluate import Evaluation, judge
from lexiseg.types import ClassSplit


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder with a checkpoint that was trained on the toy world's classes."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    folder.mkdir()
    checkpoint = small_checkpoint()
    split = ClassSplit("toy", TOY_CLASSES, TOY_UNSEEN)
    checkpoint["lexiseg"]["split"] = {**checkpoint["lexiseg"]["split"], **split_values(split)}
    torch.save(checkpoint, folder / "best.ckpt")
    return folder


def split_values(split):
    return {"name": split.name, "classes": list(split.classes), "unseen": list(split.unseen)}


@pytest.fixture
def row(run):
    return TrainedChoice(checkpoint=str(run / "best.ckpt")).load(device="cpu")


def column(**changes):
    world = ToyWorld(partition="val", length=3, image_size=(48, 56))
    words = {None: tuple((name,) for name in world.classes)}
    return Benchmark(
        **{"name": "tiny", "dataset": world, "words": words, "protocol": {"window": 24}, **changes}
    )


def test_entries():
    assert TrainedChoice.many("runs/a/best.ckpt") == (TrainedChoice(checkpoint="runs/a/best.ckpt"),)
    two = TrainedChoice.many(["runs/a/best.ckpt", {"checkpoint": "b.ckpt", "label": "b", "clip": "toy"}])
    assert [choice.label for choice in two] == ["trained: a", "b"]
    assert two[1].clip == "toy"
    for wrong in (
        3,
        [3],
        [None],
        {"checkpoint": "a"},
        [{"label": "a"}],
        [{"checkpoint": "a", "more": "b"}],
        [""],
        None,
    ):
        with pytest.raises(ConfigError, match="checkpoints: expected a list of paths"):
            TrainedChoice.many(wrong)


def test_rows_of_a_table():
    methods, trained = table_rows(["clip"], ["runs/a/best.ckpt"])
    assert [row.label for row in (*methods, *trained)] == ["clip", "trained: a"]
    assert table_rows([], ["runs/a/best.ckpt"])[0] == ()
    with pytest.raises(ConfigError, match="the list is empty"):
        table_rows([], [])
    with pytest.raises(ConfigError, match="checkpoints: two rows are called trained: a; give each a label"):
        table_rows("clip", ["runs/a/best.ckpt", "runs/a/last.ckpt"])


def test_a_folder_and_its_checkpoint_are_called_alike(run):
    assert TrainedChoice(checkpoint=str(run)).label == TrainedChoice(checkpoint=str(run / "best.ckpt")).label
    assert TrainedChoice(checkpoint=str(run)).label == "trained: mine"


@pytest.mark.slow
def test_it_is_judged_as_eval_judges_it(row, run):
    """Its own protocol, its seen penalty and its templates, whatever the benchmark says of methods."""
    bench, clip = column(), row.pipeline.clip
    segmenter = prepare(row, bench, clip)
    cell = measure(row, bench, segmenter, clip, key="k")
    split = ClassSplit("toy", TOY_CLASSES, TOY_UNSEEN)
    own = judge(Evaluation(run / "best.ckpt", bench.dataset, split, device="cpu"))
    assert cell.miou == own.scores["miou"]
    assert segmenter.protocol.window == 48
    assert segmenter.protocol.seen_penalty == 0.1
    assert segmenter.seen_ids == split.seen_ids
    assert cell.report["trained_on"]["same_classes"]
    assert cell.report["checkpoint"] == str(run / "best.ckpt")
    assert cell.efficiency.operations > 0
    changed = prepare(row, bench, clip, {"seen_penalty": 0.3, "stride": 16}).protocol
    assert (changed.seen_penalty, changed.stride) == (0.3, 16)


def test_on_other_classes_nobody_pays(row):
    class Fewer:
        classes = TOY_CLASSES[:5]

    words = {None: tuple((name,) for name in Fewer.classes)}
    segmenter = prepare(row, column(dataset=Fewer(), words=words), row.pipeline.clip)
    assert segmenter.protocol.seen_penalty == 0.0


def test_a_cell_knows_the_weights(row, run, tmp_path):
    bench, clip = column(), load_clip("toy")

    def key(each, limit=None):
        return cell_key(each, bench, prepare(each, bench, clip), clip, limit)

    again = TrainedChoice(checkpoint=str(run)).load(device="cpu")
    assert key(row) == key(again)
    other = torch.load(run / "best.ckpt", weights_only=True)
    name = next(iter(other["state_dict"]))
    other["state_dict"][name] = other["state_dict"][name] + 1
    torch.save(other, tmp_path / "best.ckpt")
    trained_on = TrainedChoice(checkpoint=str(tmp_path / "best.ckpt"), label="trained: mine").load(
        device="cpu"
    )
    spoken = TrainedChoice(checkpoint=str(run)).load(device="cpu", templates="plain")
    assert len({key(row), key(trained_on), key(spoken), key(row, 2)}) == 4


def test_a_cell_knows_which_words_were_trained_on(row):
    """A weight file that is imported anew with other class names: the same weights, but FC-CLIP weighs CLIP otherwise."""
    bench, clip = column(), load_clip("toy")
    renamed = replace(row.info, split=ClassSplit("toy", ("zebra", *TOY_CLASSES[1:]), TOY_UNSEEN))
    wider = replace(row.info, synonyms={row.info.split.seen[1]: (TOY_UNSEEN[0],)})
    segmenter = prepare(row, bench, clip)
    rows = (row, replace(row, info=renamed), replace(row, info=wider))
    assert len({cell_key(each, bench, segmenter, clip, None) for each in rows}) == 3
