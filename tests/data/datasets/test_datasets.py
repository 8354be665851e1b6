import numpy as np
import pytest
from PIL import Image

from lexiseg.data.datasets.camvid import CamVid
from lexiseg.data.datasets.catalogue import open_dataset
from lexiseg.data.datasets.coco_stuff import CocoStuff
from lexiseg.data.datasets.context import PascalContext
from lexiseg.data.datasets.folder import FolderDataset
from lexiseg.data.datasets.voc import PascalVoc
from lexiseg.errors import ConfigError, DataError


def test_voc_trainaug_prefers_vocs_own_masks(trees):
    dataset = PascalVoc(root=trees.voc(), partition="trainaug")
    assert [pair.name for pair in dataset.pairs] == ["v1", "s1"]
    first = dataset[0]
    assert first.image.shape == (13, 29, 3)
    assert first.label[0, :21].tolist() == [255, *range(20)]
    assert sorted(np.unique(dataset[1].label)) == [0, 19, 255]


def test_voc_reads_one_list_of_everything(trees):
    root = trees.voc()
    (root / "ImageSets/Segmentation/aug.txt").unlink()
    trees.text("ImageSets/Segmentation/trainaug.txt", "s1", "v1")
    assert [pair.name for pair in PascalVoc(root=root).pairs] == ["v1", "s1"]


def test_voc_background_as_class(trees):
    dataset = PascalVoc(root=trees.voc(), partition="val", background="class")
    assert dataset.classes[:2] == ("background", "aeroplane")
    assert dataset[0].label[0, :21].tolist() == list(range(21))


def test_voc_missing_layout_and_masks(trees):
    with pytest.raises(DataError) as caught:
        PascalVoc(root=trees.root / "nowhere")
    message = str(caught.value)
    assert f"looked in: {trees.root / 'nowhere'}" in message
    assert "    VOCdevkit/VOC2012/ " in message
    assert "lexiseg data prepare voc" in message
    (trees.voc() / "SegmentationClass/v2.png").unlink()
    with pytest.raises(DataError, match=r"1 files missing: SegmentationClass/v2\.png"):
        PascalVoc(root=trees.root, partition="val")


def test_context_reduces_the_zero_label(trees):
    dataset = PascalContext(root=trees.context(), partition="val")
    assert len(dataset.classes) == 59
    assert dataset[0].label[0, :60].tolist() == [255, *range(59)]
    assert PascalContext(root=trees.root, background="threshold").schema.threshold_class == 0


def test_coco_stuff_reads_only_label_train_ids(trees):
    dataset = CocoStuff(root=trees.coco_stuff(), partition="train")
    assert len(dataset) == 1
    assert dataset[0].name == "000001"
    assert dataset[0].label[0, :172].tolist() == [*range(171), 255]


def test_coco_stuff_without_converted_maps_tells_the_command(trees):
    (trees.coco_stuff() / "annotations/val2017/000001_labelTrainIds.png").unlink()
    with pytest.raises(DataError, match=r"1 of 1 label maps missing(.|\n)*lexiseg data prepare coco_stuff"):
        CocoStuff(root=trees.root, partition="val")


def test_camvid_ignores_unlabelled(trees):
    dataset = CamVid(root=trees.camvid())
    assert [pair.name for pair in dataset.pairs] == ["a", "b", "c"]
    assert dataset[0].label[0, :12].tolist() == [*range(11), 255]


def test_images_are_read_when_asked_for(trees):
    root = trees.camvid()
    (root / "train/b.jpg").write_bytes(b"broken")
    dataset = CamVid(root=root)
    assert dataset[0].image.shape == (11, 17, 3)
    with pytest.raises(DataError, match=r"b\.jpg"):
        dataset[1]


def test_mask_of_another_size_gives_both_sizes_and_paths(trees):
    root = trees.camvid(stems=("a",))
    trees.label("trainannot/a.png", [0], (11, 19))
    with pytest.raises(DataError, match=r"a\.jpg is 11x17 .* label map .*a\.png is 11x19"):
        CamVid(root=root)[0]


def test_undeclared_id_names_the_label_map(trees):
    root = trees.camvid(stems=("a",), ids=[0, 12])
    with pytest.raises(DataError, match=r"trainannot/a\.png: ids \[12\] are not in the schema"):
        CamVid(root=root)[0]


def test_two_images_of_one_stem(trees):
    root = trees.camvid(stems=("a",))
    trees.image("train/a.png")
    with pytest.raises(DataError, match=r"a\.jpg and a\.png in .* share the stem 'a'"):
        CamVid(root=root)


def folder(root, **options):
    return FolderDataset(images=root / "images/train", masks=root / "masks/train", **options)


def test_folder_with_class_file(trees):
    dataset = folder(trees.folder(), classes=trees.root / "classes.txt")
    assert dataset.classes == ("cat", "dog")
    assert dataset.words == (("cat", "kitten"), ("dog",))
    assert dataset[0].label[0, :3].tolist() == [0, 1, 255]


def test_folder_with_id_map_suffix_and_list(trees):
    root = trees.folder()
    (root / "masks/train/a.png").unlink()
    trees.label("masks/train/a_mask.png", [0, 255])
    options = {"classes": ["nothing", "cell"], "mask_suffix": "_mask.png"}
    dataset = folder(root, id_map={0: 0, 255: 1}, ignore_ids=[], **options)
    assert dataset[0].label[0, :2].tolist() == [0, 1]


def test_folder_skips_an_ignored_background(trees):
    root = trees.folder()
    trees.label("masks/train/a.png", [0, 1, 2])
    dataset = folder(root, classes=["cat", "dog"], background="ignore", background_id=0)
    assert dataset[0].label[0, :3].tolist() == [255, 0, 1]


def test_folder_mistakes(trees):
    root = trees.folder()
    with pytest.raises(ConfigError, match="no raw id stands for class ids"):
        folder(root, classes=["cat", "dog"], id_map={0: 0})
    with pytest.raises(DataError, match=r"the folder data set not found(.|\n)*classes\.txt"):
        FolderDataset(images=root / "none", masks=root / "masks/train", classes=["cat"])
    (root / "images/train/a.png").unlink()
    with pytest.raises(DataError, match="no image in that folder"):
        folder(root, classes=["cat", "dog"])


def test_fingerprint_follows_the_files(trees):
    root = trees.camvid()
    before = CamVid(root=root).fingerprint()
    assert CamVid(root=root).fingerprint() == before
    Image.new("L", (5, 3)).save(root / "trainannot/b.png")
    assert CamVid(root=root).fingerprint() != before


def test_catalogue(trees):
    assert len(open_dataset("camvid", trees.camvid())) == 3
    with pytest.raises(DataError, match="no data set named 'ade'; there are voc, context"):
        open_dataset("ade", trees.root)
    with pytest.raises(DataError, match="camvid has no partition 'dev'; it has train, val, test"):
        open_dataset("camvid", trees.root, "dev")
