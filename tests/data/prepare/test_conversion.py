import json

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from lexiseg.data.class_files import builtin_classes
from lexiseg.data.datasets.coco_stuff import CocoStuff
from lexiseg.data.datasets.context import PascalContext
from lexiseg.data.datasets.voc import PascalVoc
from lexiseg.data.prepare.coco_stuff import prepare_coco_stuff, to_train_ids
from lexiseg.data.prepare.context import FREQUENT, decode_runs, frequent_ids, prepare_context
from lexiseg.data.prepare.conversion import Job, run_jobs
from lexiseg.data.prepare.voc import prepare_voc, read_sbd
from lexiseg.errors import DataError


def pixels(path):
    return np.asarray(Image.open(path))


def encode_runs(mask):
    """COCO's compressed code, written from its description independently of the decoder."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, len(flat)]).tolist()
    runs = [0, *runs] if flat[0] else runs
    text = ""
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        while True:
            group, value = value & 31, value >> 5
            last = value == (-1 if group & 16 else 0)
            text += chr(48 + group + (0 if last else 32))
            if last:
                break
    return text


def test_runs_of_a_known_code():
    # The example everybody meets first: runs 6, 1, 40, 4, 5, 4, 5, 4, 21 on 9 x 10 pixels.
    mask = decode_runs("61X13mN000`0", 9, 10)
    assert mask.sum() == 1 + 4 + 4 + 4
    assert mask.T.ravel()[6]
    assert mask.T.ravel()[47:51].all()


@pytest.mark.parametrize("seed", range(5))
def test_runs_round_trip(seed):
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.integers(0, 2, (7, 5)), np.ones((1 + seed * 9, 3), dtype=int)).astype(bool)
    assert (decode_runs(encode_runs(mask), *mask.shape) == mask).all()


def test_damaged_runs():
    with pytest.raises(DataError, match="run lengths cover 7 pixels of 3x5"):
        decode_runs("7", 3, 5)


def test_jobs_are_resumable_and_report_the_corrupt(tmp_path):
    calls = []

    def make(name):
        def inner():
            calls.append(name)
            if name == "bad":
                raise ValueError("torn file")
            return np.full((3, 5), 7, dtype=np.uint8)

        return Job(tmp_path / "out" / f"{name}.png", inner)

    first = run_jobs([make("a"), make("bad"), make("b")], "x")
    assert (first.made, first.skipped) == (2, 0)
    assert [(path.name, reason) for path, reason in first.failed] == [("bad.png", "ValueError: torn file")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
    calls.clear()
    second = run_jobs([make("a"), make("bad"), make("b")], "x")
    assert (second.made, second.skipped, len(second.failed), calls) == (0, 2, 1, ["bad"])


def test_a_kill_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        run_jobs([Job(tmp_path / "a.png", lambda: np.zeros((2, 3), np.uint8))], "x")
    assert list(tmp_path.iterdir()) == []


def write_sbd(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"GTcls": {"Segmentation": np.array(ids, dtype=np.uint8), "Boundaries": np.zeros((1, 2))}})


def test_voc_from_sbd(trees):
    root = trees.voc()
    (root / "ImageSets/Segmentation/aug.txt").unlink()
    (root / "SegmentationClassAug/s1.png").unlink()
    sbd = root / "sbd"
    write_sbd(sbd / "cls/s1.mat", np.tile(np.arange(29) % 21, (13, 1)))
    write_sbd(sbd / "cls/v1.mat", [[1]])
    trees.text("sbd/train.txt", "s1", "v1", "torn")
    trees.text("sbd/val.txt", "v2")
    (sbd / "cls/torn.mat").write_bytes(b"not a mat file")
    report = prepare_voc(root, sbd)
    assert (report.made, report.skipped, len(report.failed)) == (1, 0, 1)
    assert report.failed[0][0].name == "torn.png"
    assert (root / "ImageSets/Segmentation/aug.txt").read_text() == "s1\n"
    assert report.notes == ["trainaug: 2 images (published: 10582)"]
    dataset = PascalVoc(root=root)
    assert dataset[1].label[0, :21].tolist() == [255, *range(20)]
    assert prepare_voc(root, sbd).skipped == 1


def test_voc_mistakes(trees):
    with pytest.raises(DataError, match=r"SBD not found as expected(.|\n)*cls/\*\.mat(.|\n)*--source FOLDER"):
        prepare_voc(trees.voc())
    write_sbd(trees.root / "high.mat", [[0, 21]])
    with pytest.raises(DataError, match=r"high\.mat holds ids \[21\]"):
        read_sbd(trees.root / "high.mat")
    savemat(trees.root / "other.mat", {"x": 1})
    with pytest.raises(DataError, match="no 'GTcls'"):
        read_sbd(trees.root / "other.mat")


def test_frequent_ids_follow_the_class_order():
    names = [names[0] for names in builtin_classes("context")]
    assert len(FREQUENT) == len(names) == 59
    assert list(FREQUENT) == sorted(set(FREQUENT))
    raw = np.array([[0, 2, 458, 1, 284]])
    assert frequent_ids(raw).tolist() == [[0, 1, 59, 0, names.index("person") + 1]]
    with pytest.raises(DataError, match="expected 0 to 459"):
        frequent_ids(np.array([[460]]))


def context_json(trees):
    ground, patch = np.ones((5, 7), dtype=bool), np.zeros((5, 7), dtype=bool)
    patch[1:3, 2:6] = True
    content = {
        "images": [
            {"image_id": 3, "file_name": "x.jpg", "height": 5, "width": 7, "phase": "train"},
            {"image_id": 4, "file_name": "y.jpg", "height": 5, "width": 7, "phase": "val"},
            {"image_id": 5, "file_name": "z.jpg", "height": 5, "width": 7, "phase": "test"},
        ],
        "annos_segmentation": [
            {
                "image_id": 3,
                "category_id": 360,
                "segmentation": {"counts": encode_runs(ground), "size": [5, 7]},
            },
            {
                "image_id": 3,
                "category_id": 23,
                "segmentation": {"counts": encode_runs(patch), "size": [5, 7]},
            },
        ],
    }
    for name in "xyz":
        trees.image(f"JPEGImages/{name}.jpg", (5, 7))
    (trees.root / "trainval_merged.json").write_text(json.dumps(content))
    return patch


def test_context_from_the_merged_json(trees):
    patch = context_json(trees)
    report = prepare_context(trees.root)
    assert (report.made, report.failed) == (2, [])
    dataset = PascalContext(root=trees.root)
    label = dataset[0].label
    assert {dataset.classes[i] for i in np.unique(label)} == {"sky", "bicycle"}
    assert ((label == dataset.classes.index("bicycle")) == patch).all()
    assert (PascalContext(root=trees.root, partition="val")[0].label == 255).all()
    assert report.notes[0] == "train: 1 images (published: 4996)"


def test_context_from_mat_files(trees):
    for name in ("x", "y"):
        trees.image(f"JPEGImages/{name}.jpg", (3, 5))
        (trees.root / "trainval").mkdir(exist_ok=True)
        savemat(trees.root / f"trainval/{name}.mat", {"LabelMap": np.full((3, 5), 454, dtype=np.uint16)})
    trees.text("ImageSets/Main/train.txt", "x", "unlabelled")
    trees.text("ImageSets/Main/val.txt", "y")
    assert prepare_context(trees.root).made == 2
    dataset = PascalContext(root=trees.root)
    assert dataset.classes[dataset[0].label[0, 0]] == "window"


def test_context_mistakes(trees):
    with pytest.raises(DataError, match=r"missing: trainval_merged\.json or trainval/(.|\n)*--source"):
        prepare_context(trees.root)
    (trees.root / "trainval_merged.json").write_text('{"images": []}')
    with pytest.raises(DataError, match=r"is not trainval_merged\.json of PASCAL Context \(KeyError"):
        prepare_context(trees.root)


def test_coco_stuff_182_to_171(trees):
    root = trees.coco_stuff()
    for folder in ("train2017", "val2017"):
        (root / f"annotations/{folder}/000001_labelTrainIds.png").unlink()
    raw = trees.label("annotations/train2017/000001.png", [0, 10, 12, 89, 91, 181, 255], (13, 173))
    report = prepare_coco_stuff(root)
    assert report.made == 2
    assert to_train_ids(raw)[0, :7].tolist() == [0, 10, 11, 79, 80, 170, 255]
    dataset = CocoStuff(root=root)
    shown = [dataset.classes[i] for i in dataset[0].label[0, :6]]
    assert shown == ["person", "fire hydrant", "stop sign", "toothbrush", "banner", "wood"]
    assert prepare_coco_stuff(root).skipped == 2
    assert "train: 1 images (published: 118287)" in report.notes


def test_coco_stuff_mistakes(trees):
    root = trees.coco_stuff()
    reserved = trees.label("annotations/val2017/000001.png", [0, 11], (13, 173))
    with pytest.raises(DataError, match=r"000001\.png holds ids \[11\]"):
        to_train_ids(reserved)
    (root / "annotations/val2017/000001_labelTrainIds.png").unlink()
    assert [path.name for path, _ in prepare_coco_stuff(root).failed] == ["000001_labelTrainIds.png"]
    with pytest.raises(DataError, match="COCO-Stuff 164k not found as expected"):
        prepare_coco_stuff(root, root / "nowhere")
