"""What every data set of the catalogue promises, on a small tree in its layout."""

from pathlib import Path

import pytest

from lexiseg.data.datasets.catalogue import CATALOGUE, open_dataset
from lexiseg.errors import DataError
from lexiseg.label_codes import label_codes

CONF = Path(__file__).parents[3] / "conf" / "data"

each_data_set = pytest.mark.parametrize("name", CATALOGUE)


@each_data_set
def test_images_and_labels_of_one_size_with_ids_of_its_classes(trees, name):
    root = trees.of(name)
    for partition in CATALOGUE[name].partitions[:2]:
        dataset = open_dataset(name, root, partition)
        assert len(dataset) >= 1
        assert len(set(dataset.classes)) == len(dataset.classes) == len(dataset.words)
        sample = dataset[0]
        assert sample.image.shape == (*sample.label.shape, 3)
        ids = set(sample.label.ravel().tolist())
        ignore = label_codes(len(dataset.classes)).ignore
        assert sample.label.dtype == label_codes(len(dataset.classes)).dtype
        assert ids - {ignore}, f"{partition}: the tree should show some class"
        assert ids <= {*range(len(dataset.classes)), ignore}
        assert len({pair.name for pair in dataset.pairs}) == len(dataset)


@each_data_set
def test_a_folder_without_it_says_where_it_looked_and_what_belongs_there(tmp_path, name):
    with pytest.raises(DataError) as caught:
        open_dataset(name, tmp_path / "nowhere")
    assert f"looked in: {tmp_path / 'nowhere'}" in str(caught.value)
    assert "expected" in str(caught.value)


@each_data_set
def test_what_was_published_and_where_training_finds_it(name):
    entry = CATALOGUE[name]
    assert entry.counts, "PUBLISHED_COUNTS: images of each published partition"
    assert entry.counts.keys() <= set(entry.partitions)
    assert (CONF / f"{name}.yaml").is_file(), f"add conf/data/{name}.yaml"
