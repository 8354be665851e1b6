"""Given masks in an evaluation: the names, the painted pixels and what the report says, against loops of its own."""

import json

import numpy as np
import pytest

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.evaluation.naming import GroundTruthMasks
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.types import ClassSplit, Sample
from segmenter_fakes import ColourModel, colour_embeddings, make_segmenter

SPLIT = ClassSplit("colours", ("red", "green", "blue", "white"), unseen=("blue", "white"))


class Blocks:
    """Noisy pictures of 16x24: the label's colour on the left, half of the right is another's."""

    classes = SPLIT.classes

    def __len__(self):
        return 3

    def __getitem__(self, index):
        draw = np.random.default_rng(index)
        label = np.kron(draw.integers(0, 4, (2, 3)), np.ones((8, 8))).astype(np.uint8)
        image = draw.integers(0, 256, (16, 24, 3), dtype=np.uint8)
        image[:, :16] = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)])[label[:, :16]]
        label[-1] = 255
        return Sample(image, label, f"block {index}")


class Overlapping:
    """A large mask, a smaller one in it, one of ignored pixels alone."""

    told = {"source": "overlapping"}  # noqa: RUF012

    def masks(self, dataset, index, sample):
        masks = np.zeros((3, 16, 24), dtype=bool)
        masks[0, 2:6, 3:9] = True
        masks[1, :13, :20] = True
        masks[2, -1] = True
        return masks


def make(**settings):
    vocabulary = Vocabulary.from_names(SPLIT.classes)
    protocol = InferenceProtocol(name="blocks", short_side=None, **settings)
    return make_segmenter(ColourModel(), vocabulary, colour_embeddings(vocabulary), protocol, seen_ids=(0, 1))


def expected(masks_of, penalty):
    """Means of the segmenter's own scores under each mask, counted with loops; and the pixels, painted."""
    right, of_class, hits, pixels = 0, {}, 0, 0
    embeddings = colour_embeddings(Vocabulary.from_names(SPLIT.classes)).vectors
    for index in range(3):
        sample = Blocks()[index]
        maps = []
        for word in embeddings:  # one word at a time through the same path gives its map
            vocabulary = Vocabulary.from_names(("a",))
            single = make_segmenter(
                ColourModel(),
                vocabulary,
                type(colour_embeddings(vocabulary))(word[None], colour_embeddings(vocabulary).class_ids),
                InferenceProtocol(name="one", short_side=None, activation="sigmoid"),
            )
            maps.append(single.segment(sample.image).scores.astype(np.float64))
        masks = masks_of.masks(None, index, sample)
        painted = np.full(sample.label.shape, -1)
        for mask in sorted(masks, key=lambda one: -one.sum()):
            means = [grey[mask].mean() - penalty * (number < 2) for number, grey in enumerate(maps)]
            name = int(np.argmax(means))
            painted[mask] = name
            counts = np.bincount(sample.label[mask], minlength=256)
            truth = int(counts.argmax())
            if truth < 4:
                of_class.setdefault(truth, []).append(name == truth)
                right += name == truth
        counted = (sample.label < 4) & (painted >= 0)
        hits += int((painted[counted] == sample.label[counted]).sum())
        pixels += int(counted.sum())
    total = sum(map(len, of_class.values()))
    return right / total, float(np.mean([np.mean(each) for each in of_class.values()])), total, hits / pixels


@pytest.mark.parametrize("penalty", [0.0, 0.15])
def test_ground_truth_equals_loops(penalty):
    report = evaluate(make(seen_penalty=penalty), Blocks(), SPLIT, masks=GroundTruthMasks())
    accuracy, by_class, total, pixels = expected(GroundTruthMasks(), penalty)
    assert 0 < accuracy < 1
    assert report.scores["mask_accuracy"] == accuracy
    assert report.scores["mask_class_accuracy"] == pytest.approx(by_class)
    assert report.naming.masks == total
    assert report.scores["pixel_accuracy"] == pixels  # every labelled pixel lies in a mask, and has its name


def test_overlapping_masks_are_each_named_and_painted_small_over_large():
    report = evaluate(make(), Blocks(), SPLIT, masks=Overlapping(), images_per_batch=2)
    accuracy, by_class, total, _ = expected(Overlapping(), 0.0)
    assert (report.scores["mask_accuracy"], report.naming.masks) == (accuracy, total) == (accuracy, 6)
    assert report.scores["mask_class_accuracy"] == pytest.approx(by_class)


def test_what_the_report_says(tmp_path):
    report = evaluate(make(), Blocks(), SPLIT, masks=GroundTruthMasks(), limit=2)
    told = json.loads(report.write(tmp_path / "report.json").read_text())
    assert told["masks"] == {"source": "ground_truth", "judged": report.naming.masks}
    assert told["per_class"]["red"]["mask_accuracy"] == report.naming.per_class["red"]
    table = report.to_markdown()
    assert "| mask acc. % | mask acc. by class % | by seen class % | by unseen class % | images |" in table
    assert f"The names of {report.naming.masks} masks (ground_truth)" in table
    assert "| class | | IoU % | accuracy % | mask acc. % |" in table
    plain = evaluate(make(), Blocks(), SPLIT, limit=2)
    assert plain.naming is None
    assert "mask" not in plain.to_markdown()
    assert "masks" not in plain.to_dict()


def test_ground_truth_masks_part_the_labelled_pixels():
    sample = Blocks()[1]
    masks = GroundTruthMasks().masks(Blocks(), 1, sample)
    assert len(masks) == len(set(sample.label[:-1].flatten().tolist()))
    assert (masks.sum(0) == (sample.label != 255)).all()
    assert all(len(set(sample.label[mask].tolist())) == 1 for mask in masks)
