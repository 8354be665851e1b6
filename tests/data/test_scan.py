import numpy as np
import pytest
from PIL import Image

from lexiseg.data.datasets.camvid import CamVid
from lexiseg.data.scan import WithoutClasses, require_seen_classes, scan_labels, warn_absent_classes
from lexiseg.data.splits import make_split
from lexiseg.errors import DataError
from lexiseg.types import Sample


class Generated:
    classes = ("a", "b", "c")

    def __init__(self, ids=(0, 1)):
        self.ids, self.drawn = ids, 0

    def __len__(self):
        return 1000

    def __getitem__(self, index):
        self.drawn += 1
        label = np.full((3, 5), self.ids[index % len(self.ids)], dtype=np.uint8)
        return Sample(np.zeros((3, 5, 3), dtype=np.uint8), label, str(index))


def test_counts_pixels_images_and_unlabelled(trees):
    root = trees.camvid(stems=("a", "b"), ids=[0, 3])
    trees.image("train/c.jpg")
    trees.label("trainannot/c.png", [11])
    scan = scan_labels(CamVid(root=root))
    assert scan.pixels[[0, 3, 255]].tolist() == [2 * 11 * 9, 2 * 11 * 8, 11 * 17]
    assert scan.images[[0, 3, 255, 1]].tolist() == [2, 2, 1, 0]
    assert (scan.unlabelled, scan.scanned, scan.total) == (1, 3, 3)


def test_scan_reads_no_more_of_a_photograph_than_its_size(trees, monkeypatch):
    root = trees.camvid(stems=("a",))
    monkeypatch.setattr("lexiseg.data.datasets.files.read_image", lambda _: pytest.fail("pixels were read"))
    assert scan_labels(CamVid(root=root)).scanned == 1


def test_scan_finds_a_mask_of_another_size(trees):
    root = trees.camvid(stems=("a",))
    Image.fromarray(np.zeros((3, 5), np.uint8)).save(root / "trainannot/a.png")
    with pytest.raises(DataError, match="both must have the same size"):
        scan_labels(CamVid(root=root))


def test_cache_is_used_until_a_file_changes(trees, tmp_path, monkeypatch):
    root, cache = trees.camvid(ids=[0, 1]), tmp_path / "cache"
    first = scan_labels(CamVid(root=root), cache_dir=cache)
    assert len(list(cache.iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(CamVid, "read_label", lambda *_: pytest.fail("read again"))
        assert (scan_labels(CamVid(root=root), cache_dir=cache).counts == first.counts).all()
    trees.label("trainannot/a.png", [5] * 9 + [6] * 300)
    assert scan_labels(CamVid(root=root), cache_dir=cache).pixels[5] == 9 * 11


def test_damaged_cache_is_made_again(trees, tmp_path):
    dataset, cache = CamVid(root=trees.camvid()), tmp_path / "cache"
    first = scan_labels(dataset, cache_dir=cache)
    next(cache.iterdir()).write_bytes(b"PK broken")
    assert (scan_labels(dataset, cache_dir=cache).counts == first.counts).all()
    assert (scan_labels(dataset, cache_dir=cache).counts == first.counts).all()


def test_damaged_label_map_stops_the_scan(trees):
    root = trees.camvid()
    (root / "trainannot/b.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"b\.png is not an image"):
        scan_labels(CamVid(root=root))


def test_generated_data_is_sampled():
    dataset = Generated()
    scan = scan_labels(dataset, limit=7)
    assert (scan.scanned, scan.total, dataset.drawn) == (7, 1000, 7)


def test_seen_class_without_pixels_stops():
    split = make_split(Generated.classes, name="s", unseen=["b"])
    scan = scan_labels(Generated(), limit=8)
    with pytest.raises(
        DataError,
        match="split 's': seen class 'c' has no pixel in the first 8 training label maps; give more images .*train.length",
    ):
        require_seen_classes(scan, split)
    require_seen_classes(scan, split, exempt=[2])
    require_seen_classes(scan, make_split(Generated.classes, name="s", unseen=["c"]))


def test_class_absent_from_validation_warns(caplog):
    split = make_split(Generated.classes, name="s", unseen=["b"])
    assert warn_absent_classes(scan_labels(Generated(), limit=8), split) == ("c",)
    assert "no pixel of c in 8 validation label maps: such IoU is NaN" in caplog.text


def test_images_with_hidden_classes_are_left_out(trees):
    root = trees.camvid(stems=("a", "c"), ids=[0, 1])
    trees.image("train/b.jpg")
    trees.label("trainannot/b.png", [0, 2])
    dataset = CamVid(root=root)
    kept = WithoutClasses(dataset=dataset, hidden_ids=[2, 9], scan=scan_labels(dataset))
    assert [kept[i].name for i in range(len(kept))] == ["a", "c"]
    assert kept.classes == dataset.classes
    assert kept.scan.pixels[2] == 0
    assert kept.scan.pixels[1] == 2 * 11 * 8


def test_nothing_left_or_only_a_sample(trees):
    dataset = CamVid(root=trees.camvid(ids=[0, 2]))
    with pytest.raises(DataError, match="each of the 3 training images shows an unseen class"):
        WithoutClasses(dataset=dataset, hidden_ids=[2], scan=scan_labels(dataset))
    generated = Generated()
    with pytest.raises(DataError, match="only 4 of 1000 label maps were read"):
        WithoutClasses(dataset=generated, hidden_ids=[1], scan=scan_labels(generated, limit=4))
