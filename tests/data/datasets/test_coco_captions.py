import pytest

from lexiseg.data.datasets.coco_captions import CocoCaptions
from lexiseg.errors import DataError


def captions(trees, **changes):
    for name in ("b", "a", "c"):
        trees.image(f"val2017/{name}.jpg", (5, 7))
    content = {
        "images": [
            {"id": 3, "file_name": "b.jpg"},
            {"id": 5, "file_name": "a.jpg"},
            {"id": 7, "file_name": "c.jpg"},
        ],
        "annotations": [
            {"id": 12, "image_id": 3, "caption": "A dog runs. "},
            {"id": 11, "image_id": 3, "caption": "a dog on grass"},
            {"id": 13, "image_id": 5, "caption": "\nTwo cats"},
            {"id": 14, "image_id": 7, "caption": " "},
        ],
    }
    trees.json("annotations/captions_val2017.json", **{**content, **changes})
    return trees.root


def test_photographs_with_their_sentences(trees):
    dataset = CocoCaptions(root=captions(trees), partition="val")
    assert [(item.name, item.captions) for item in dataset] == [
        ("a", ("Two cats",)),
        ("b", ("a dog on grass", "A dog runs.")),
    ]
    assert dataset[1].image.shape == (5, 7, 3)
    assert len(dataset) == 2


def test_sentences_are_known_without_a_photograph(trees):
    root = captions(trees)
    (root / "val2017/a.jpg").write_bytes(b"broken")
    dataset = CocoCaptions(root=root, partition="val")
    assert dataset.captions[0] == ("Two cats",)
    with pytest.raises(DataError, match=r"a\.jpg"):
        dataset[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": []}, "no caption in captions_val2017"),
        ({"annotations": [{"id": 1, "image_id": 3}]}, "KeyError: 'caption'"),
        ({"images": [{"id": 3, "file_name": "z.jpg"}]}, r"1 images missing: z\.jpg"),
    ],
)
def test_another_json_is_refused(trees, changes, message):
    with pytest.raises(DataError, match=message):
        CocoCaptions(root=captions(trees, **changes), partition="val")


def test_elsewhere(trees):
    with pytest.raises(
        DataError, match=r"COCO captions not found as expected; missing: .*(.|\n)*captions_train2017\.json"
    ):
        CocoCaptions(root=trees.root / "nowhere")
