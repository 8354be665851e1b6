"""Hundreds of classes all the way: 16-bit label maps read, trained on, predicted, written and scored, with ids beyond 255."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.data.check import findings, write_overlays
from lexiseg.data.datamodule import SegmentationDataModule
from lexiseg.data.datasets.folder import FolderDataset
from lexiseg.data.io import read_label
from lexiseg.data.scan import scan_labels
from lexiseg.data.splits import make_split
from lexiseg.data.transforms import train_recipe
from lexiseg.errors import ConfigError, DataError
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.label_codes import EIGHT_BIT, SIXTEEN_BIT, codes_of, label_codes
from lexiseg.losses.criterion import MaskCriterion
from lexiseg.losses.fused import MaskLossWeights
from lexiseg.models.region_model import RegionModel
from lexiseg.segments import SegmentMap
from lexiseg.training.optim import OptimSettings
from lexiseg.training.task import SegmentationTask
from lexiseg.types import MaskOutput, SegBatch, SegmentOutput, SegmentPrediction
from segmenter_fakes import ColourModel, colour_embeddings, make_segmenter

SIZE = (29, 37)

# Without a trainer there is nobody to log to, which Lightning remarks on.
quiet = pytest.mark.filterwarnings("ignore:You are trying to `self.log")


@pytest.fixture(params=[300, 847])
def classes(request):
    return tuple(f"word {i}" for i in range(request.param))


@pytest.fixture
def dataset(tmp_path, classes):
    """One photograph whose label map shows every class, and 65535 in its last row."""
    ids = (np.arange(SIZE[0] * SIZE[1]) % len(classes)).reshape(SIZE).astype(np.uint16)
    ids[-1] = 65535
    pixels = np.random.default_rng(3).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    for folder, array in (("images", pixels), ("masks", ids)):
        (tmp_path / folder).mkdir()
        Image.fromarray(array).save(tmp_path / folder / "a.png")
    return FolderDataset(images=tmp_path / "images", masks=tmp_path / "masks", classes=list(classes))


def test_two_types_and_their_codes():
    assert label_codes(254) is EIGHT_BIT
    assert label_codes(255) is SIXTEEN_BIT
    assert (EIGHT_BIT.ignore, EIGHT_BIT.unlabelled, EIGHT_BIT.size, EIGHT_BIT.dtype) == (
        255,
        254,
        256,
        np.uint8,
    )
    wide = (SIXTEEN_BIT.ignore, SIXTEEN_BIT.unlabelled, SIXTEEN_BIT.size, SIXTEEN_BIT.dtype)
    assert wide == (65535, 65534, 65536, np.uint16)
    assert codes_of(np.zeros((2, 3), np.uint8)) is EIGHT_BIT
    assert codes_of(np.zeros((2, 3), np.uint16)) is SIXTEEN_BIT
    with pytest.raises(ConfigError, match="65535 classes; a label map holds at most 65534"):
        label_codes(65535)


def test_reading_and_counting(dataset, classes):
    label = dataset[0].label
    assert label.dtype == np.uint16
    assert label.ravel()[[0, 255, 256, len(classes) - 1, -1]].tolist() == [
        0,
        255,
        256,
        len(classes) - 1,
        65535,
    ]
    scan = scan_labels(dataset)
    assert scan.counts.shape == (1, len(classes) + 1)
    assert scan.pixels[[255, 299, -1]].tolist() == [int((label == i).sum()) for i in (255, 299, 65535)]
    assert findings(classes, scan, None) == []


def test_a_remembered_scan_is_used_again(dataset, tmp_path, monkeypatch):
    first = scan_labels(dataset, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(type(dataset), "read_label", lambda *_: pytest.fail("read again"))
    assert (scan_labels(dataset, cache_dir=tmp_path / "cache").counts == first.counts).all()


def test_an_id_between_the_classes_and_the_codes_is_refused(dataset, classes, tmp_path):
    Image.fromarray(np.full(SIZE, len(classes), np.uint16)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(
        DataError,
        match=rf"ids \[{len(classes)}\] are not in the schema .* allowed 0-{len(classes) - 1}, 65535",
    ):
        dataset[0]


def test_batches_hide_unseen_classes_under_65535(dataset, classes):
    split = make_split(classes, name="s", unseen=[classes[7], classes[290]])
    data = SegmentationDataModule(
        train=dataset,
        val=dataset,
        split=split,
        train_transform=train_recipe(base=(74, 58), ratio=(1.0, 1.0), crop=(64, 80)),
        batch_size=2,
        num_workers=0,
    )
    labels = next(iter(data.train_dataloader())).labels
    assert labels.dtype == torch.int64
    assert set(labels.unique().tolist()) == {*range(len(classes)), 65535} - {7, 290}
    assert (labels[:, 58:] == 65535).all(), "what was padded takes no part"
    whole = next(iter(data.val_dataloader())).labels
    assert whole[0].tolist() == dataset[0].label.tolist()


class Heights(nn.Module):
    """One logit per class, the same at every patch."""

    names_regions = False

    def __init__(self, count):
        super().__init__()
        self.heights = nn.Parameter(torch.zeros(count))
        self.tower = None

    def normalize(self, images):
        return images.float()

    def forward(self, images, text):
        return MaskOutput(self.heights[None, :, None, None].expand(len(images), -1, 2, 3))


class Criterion(nn.Module):
    """Keeps the labels that it was asked about."""

    def forward(self, logits, labels, stage_logits):
        self.labels = labels
        return {"loss": logits.sum()}


def make_task(classes, **split):
    made = make_split(classes, name="s", **split)
    return SegmentationTask(
        Heights(len(made.training_ids)),
        torch.zeros(len(classes), 2),
        made,
        criterion=MaskCriterion(MaskLossWeights(ignored="ignored", ssim=1.0)),
        optim=OptimSettings(),
        info=None,
        labeller=lambda image: np.zeros(image.shape[:2], dtype=np.int64),
    )


def step(task, label):
    labels = torch.from_numpy(label.astype(np.int64))[None]
    batch = SegBatch(torch.zeros(1, 3, *label.shape, dtype=torch.uint8), labels, ("a",))
    loss = task.training_step(batch, 0)
    (gradient,) = torch.autograd.grad(loss, task.model.heights)
    return float(loss.detach()), gradient


@quiet
def test_a_training_step_learns_class_255_and_leaves_ignored_pixels_out(classes):
    task = make_task(classes, unseen=[], setting="supervised")
    label = np.array([[255, 255, 254], [255, 256, len(classes) - 1]], np.uint16)
    loss, gradient = step(task, label)
    assert gradient[255] < gradient[254] < gradient[0], "most pixels are of class 255, none of class 0"
    wide = np.concatenate([label, np.full((2, 3), 65535, np.uint16)])
    queries = task._queries(SegBatch(torch.zeros(1), torch.from_numpy(wide.astype(np.int64))[None]))
    assert queries[0].tolist() == wide.tolist()
    weights = MaskLossWeights(ignored="ignored")
    task.criterion = MaskCriterion(weights)
    alone, padded = step(task, label), step(task, wide)
    assert padded[0] == pytest.approx(alone[0], rel=1e-6)
    torch.testing.assert_close(padded[1], alone[1], rtol=1e-5, atol=1e-9)
    assert np.isfinite(loss)


@quiet
def test_few_seen_of_many_classes_are_numbered_in_eight_bits(classes):
    task = make_task(classes, unseen=list(classes[5:-2]))
    batch = SegBatch(torch.zeros(1), torch.tensor([[[4, len(classes) - 1, 65535]]]))
    assert task._queries(batch).tolist() == [[[4, 6, 255]]]


@quiet
def test_unlabelled_pixels_of_a_transductive_split_get_a_label(classes):
    task = make_task(classes, unseen=[classes[255], classes[256]], setting="transductive")
    with torch.no_grad():
        task.model.heights[256] = 1.0
    task.criterion = Criterion()
    step(task, np.array([[254, 65534], [65535, 0]], np.uint16))
    assert task.criterion.labels.tolist() == [[[254, 256], [65535, 0]]]


class Regions(RegionModel):
    """Two regions, the same in every photograph."""

    def __init__(self, count):
        tower = SimpleNamespace(mean=(0.0,) * 3, std=(1 / 255,) * 3, _apply=lambda *_: None)
        super().__init__(tower, None, stride=8)
        self.scores = nn.Parameter(torch.zeros(2, count + 1))

    def forward(self, images, text):
        masks = torch.zeros(len(images), 2, images.shape[-2] // 4, images.shape[-1] // 4)
        return SegmentOutput((SegmentPrediction(self.scores.expand(len(images), -1, -1), masks),))


class SetCriterion(nn.Module):
    """Keeps the targets that it was asked about."""

    def forward(self, predictions, targets):
        self.targets = targets
        return {"loss": predictions[-1].class_logits.sum()}


def region_task(classes, **split):
    task = make_task(classes, **split)
    task.model, task.criterion = Regions(len(task.split.training_ids)), SetCriterion()
    return task


@quiet
def test_a_model_of_regions_learns_class_255_from_a_padded_label_map(classes):
    task = region_task(classes, unseen=[], setting="supervised")
    labels = torch.tensor([[[255, 255, 65535], [299, 255, 0]]])
    task.training_step(SegBatch(torch.zeros(1, 3, 2, 3, dtype=torch.uint8), labels, ("a",)), 0)
    (targets,) = task.criterion.targets
    assert targets.classes.tolist() == [0, 255, 299]
    assert targets.masks.shape == (3, 8, 8)
    assert targets.masks.flatten(1).sum(1).tolist() == [1, 3, 1]


@quiet
def test_a_model_of_regions_learns_things_one_by_one(classes):
    task = region_task(classes, unseen=[], setting="supervised")
    ids = torch.tensor([[0, 0, -1], [1, -1, 1]], dtype=torch.int32)
    segments = SegmentMap(ids, torch.tensor([299, 299]), torch.tensor([True, True]))
    labels = torch.where(ids >= 0, 299, 65535)[None]
    batch = SegBatch(torch.zeros(1, 3, 2, 3, dtype=torch.uint8), labels, ("a",), (segments,))
    task.training_step(batch, 0)
    (targets,) = task.criterion.targets
    assert [targets.classes.tolist(), targets.masks.flatten(1).sum(1).tolist()] == [[299, 299], [2, 2]]


@pytest.fixture
def segmenter(classes):
    vocabulary = Vocabulary.from_names(classes)
    protocol = InferenceProtocol(activation="linear")
    return make_segmenter(ColourModel(), vocabulary, colour_embeddings(vocabulary), protocol)


def test_a_prediction_is_written_read_and_scored_as_the_truth(dataset, classes, segmenter, tmp_path):
    result = segmenter.segment(dataset[0].image)
    assert result.labels.max() > 255
    path = tmp_path / "masks" / "a.png"
    result.label_image().save(path)
    assert (read_label(path) == result.labels).all()
    report = evaluate(segmenter, dataset, make_split(classes, name="all", unseen=[], setting="supervised"))
    shown = len(np.unique(result.labels))
    assert report.scores["miou"] == report.scores["pixel_accuracy"] == 1.0
    assert report.scores["miou_absent_as_zero"] == pytest.approx(shown / len(classes))
    assert f"| 100.0 | {100 * shown / len(classes):.1f} | 100.0 |" in report.to_markdown()
    assert "all, absent as 0 %" in report.to_markdown()


def test_scored_against_labels_that_show_every_class(dataset, classes, segmenter):
    report = evaluate(segmenter, dataset, make_split(classes, name="all", unseen=[], setting="supervised"))
    sample = dataset[0]
    hit = (segmenter.segment(sample.image).labels == sample.label)[:-1]
    assert report.scores["pixel_accuracy"] == pytest.approx(hit.mean())
    assert "miou_absent_as_zero" not in report.scores


def test_overlays_of_label_maps_are_drawn(dataset, tmp_path):
    (path,) = write_overlays(dataset, tmp_path / "overlays", 1)
    with Image.open(path) as sheet:
        assert sheet.width > 2 * SIZE[1]
