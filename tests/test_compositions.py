"""One photograph, one checkpoint, every door: equal labels.

The checkpoint has a seen penalty, templates of its own, a logit scale and windows, and each of these changes labels here, as do
synonyms and the background: a door that loses one of them is caught.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import lexiseg
from lexiseg.cli.main import main
from lexiseg.clip.loading import load_clip
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.data.io import read_image
from lexiseg.data.toy.world import ToyWorld
from lexiseg.evaluation.benchmark import Benchmark, MethodChoice, prepare
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.pretrained import PretrainedSegmenter
from lexiseg.recipes.compare import Comparison, build_methods, trained_contestant
from lexiseg.recipes.demo import Stage, judge_trained
from lexiseg.types import ClassSplit, Sample
from program_cases import SETTINGS, VARIANTS, save_checkpoint

SPLIT = ClassSplit("own", ("red circle", "bricks", "blue square", "sand"), ("bricks",))
TEMPLATES = ("red {}.",)
PROTOCOL = {
    "name": "own", "short_side": 44, "window": 40, "stride": 24, "seen_penalty": 0.02, "logit_scale": 10.0
}  # fmt: skip
OWN = ", ".join(SPLIT.classes)
WORDS = "water; red circle, bricks; dotted ring, blue star, green star; blue square"
BACKGROUND = "sand, green cross"
MODEL = SETTINGS | VARIANTS["zegclip"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A checkpoint, its exported folder and program, a photograph, and a data set of that photograph."""
    folder = tmp_path_factory.mktemp("doors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEXISEG_CACHE", str(folder / "cache"))
        checkpoint = save_checkpoint(folder, templates=TEMPLATES, split=SPLIT, protocol=PROTOCOL)
        for kind in ("folder", "onnx"):
            assert main(["export", str(checkpoint), "--to", kind, "--out", str(folder / kind)]) == 0
        scene = ToyWorld(partition="val", length=1, seed=5, image_size=(61, 83))[0].image
        Image.fromarray(scene).save(folder / "photo.png")
        labels = Pipeline.load(checkpoint, device="cpu").segmenter().segment(scene).labels
        every_class = (np.arange(labels.size) % len(SPLIT.classes)).reshape(labels.shape).astype(np.uint8)
        for part, mask in (("train", every_class), ("val", labels)):
            for kind, pixels in (("images", scene), ("masks", mask)):
                (folder / "data" / kind / part).mkdir(parents=True)
                Image.fromarray(pixels).save(folder / "data" / kind / part / "photo.png")
        (folder / "data" / "classes.txt").write_text("\n".join(SPLIT.classes))
        yield folder


@pytest.fixture(scope="module")
def pipeline(place):
    return Pipeline.load(place / "last.ckpt", device="cpu")


def _photo(place):
    return place / "photo.png"


def _predict(place, words, background):
    out = place / "predicted"
    flags = ["--classes", words or OWN, "--checkpoint", str(place / "last.ckpt"), "--device", "cpu"]
    flags += ["--out", str(out), *(["--background", background] if background else [])]
    assert main(["predict", str(_photo(place)), *flags]) == 0
    with Image.open(out / "photo_labels.png") as image:
        return np.asarray(image).copy()


def _encoded(place, pipeline, words, background):
    segmenter = pipeline.segmenter("green cross, blue star", background=background)
    encoded = segmenter.encode(_photo(place).read_bytes())
    return segmenter.segment_encoded(encoded, words or OWN).labels


def _set_classes(place, pipeline, words, background):
    segmenter = pipeline.segmenter("green cross, blue star", background=background)
    segmenter.set_classes(words or OWN)
    with Image.open(_photo(place)) as image:
        return segmenter.segment(image).labels


DOORS = {
    "lexiseg.segment": lambda place, pipeline, words, background: (
        lexiseg.segment(
            _photo(place), words, checkpoint=place / "last.ckpt", device="cpu", background=background
        ).labels
    ),
    "segmenter": lambda place, pipeline, words, background: (
        pipeline.segmenter(words, background=background).segment(lexiseg.read_image(_photo(place))).labels
    ),
    "vocabulary": lambda place, pipeline, words, background: (
        pipeline.segmenter(Vocabulary.from_text(words or OWN), background=background)
        .segment(_photo(place))
        .labels
    ),
    "with_words": lambda place, pipeline, words, background: (
        pipeline.segmenter("sand", background=background)
        .with_words((words or OWN).replace(", ", "\n"))
        .segment(_photo(place))
        .labels
    ),
    "segment_encoded": _encoded,
    "set_classes": _set_classes,
    "predict": lambda place, pipeline, words, background: _predict(place, words, background),
    "compare": lambda place, pipeline, words, background: (
        trained_contestant(
            Comparison(
                Vocabulary.from_text(words or OWN),
                checkpoint=str(place / "last.ckpt"),
                background=background,
            ),
            pipeline,
        )
        .segmenter.segment(_photo(place), scores=False)
        .labels
    ),
    "exported folder": lambda place, pipeline, words, background: (
        Pipeline.load(place / "folder", device="cpu")
        .segmenter(words, background=background)
        .segment(_photo(place))
        .labels
    ),
    "exported program": lambda place, pipeline, words, background: (
        Pipeline.load(place / "onnx", device="cpu")
        .segmenter(words, background=background)
        .segment(_photo(place))
        .labels
    ),
    "PretrainedSegmenter": lambda place, pipeline, words, background: (
        PretrainedSegmenter.from_pretrained(place / "folder", device="cpu")
        .segment(_photo(place), words, background=background)
        .labels
    ),
}


@pytest.fixture(autouse=True)
def _cache(place, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(place / "cache"))


@pytest.fixture(params=[(None, None), (WORDS, BACKGROUND)], ids=["own classes", "other words"])
def asked(request):
    return request.param


def labels_of(pipeline, place, words, background):
    return pipeline.segmenter(words, background=background).segment(_photo(place)).labels


@pytest.mark.one_in(3)
@pytest.mark.parametrize("door", DOORS)
def test_every_door_gives_the_same_labels(place, pipeline, asked, door):
    expected = labels_of(pipeline, place, *asked)
    found = DOORS[door](place, pipeline, *asked)
    assert found.shape == expected.shape == (61, 83)
    assert len(np.unique(expected)) > 1
    assert np.array_equal(found, expected)


def test_every_rule_matters_here(place, pipeline, asked):
    """Otherwise a door that forgets one would give equal labels all the same."""
    words, background = asked
    expected = labels_of(pipeline, place, words, background)
    changed = {
        "penalty": replace(pipeline, protocol=replace(pipeline.protocol, seen_penalty=0.0)),
        "templates": replace(pipeline, templates="single"),
        "scale": replace(pipeline, protocol=replace(pipeline.protocol, logit_scale=1.0)),
        "windows": replace(pipeline, protocol=replace(pipeline.protocol, window=None, stride=None)),
    }
    for rule, other in changed.items():
        assert (labels_of(other, place, words, background) != expected).mean() > 0.05, rule
    if words:
        bare = ", ".join(group.split(";")[0] for group in words.split(","))
        assert (labels_of(pipeline, place, bare, background) != expected).any(), "synonyms"
        plain = labels_of(pipeline, place, words, None)
        assert (plain + 1 != expected).any(), "background"


def test_a_training_free_reading_at_every_door(place):
    """The words take the templates that the method was published with; so does every door."""
    method, words, background = "sc-clip", "red circle; red ring, bricks, blue square", "sand, water"
    path, vocabulary = _photo(place), Vocabulary.from_text(words)
    pipeline = Pipeline.load(clip="toy", method=method, device="cpu")
    expected = pipeline.segmenter(words, background=background).segment(path).labels
    single = replace(pipeline, templates="single").segmenter(words, background=background)
    assert (single.segment(path).labels != expected).any(), "templates must matter here"
    flags = ["--classes", words, "--background", background, "--clip", "toy", "--method", method]
    out = place / "read"
    assert main(["predict", str(path), *flags, "--device", "cpu", "--out", str(out)]) == 0
    comparison = Comparison(vocabulary, [method], background=background)
    (shown,) = build_methods(comparison, load_clip("toy"), pytest.fail)
    other = pipeline.segmenter("green star", background=background)
    doors = {
        "segment": lexiseg.segment(
            path, words, clip="toy", method=method, device="cpu", background=background
        ).labels,
        "vocabulary": pipeline.segmenter(vocabulary, background=background).segment(path).labels,
        "segment_encoded": other.segment_encoded(other.encode(path), vocabulary).labels,
        "with_words": other.with_words(words).segment(path).labels,
        "predict": np.asarray(Image.open(out / "photo_labels.png")),
        "compare": shown.segmenter.segment(path).labels,
    }
    for door, labels in doors.items():
        assert np.array_equal(labels, expected), door


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("tg-clip-text", {}),
        ("tg-clip", {"unit_features": False}),
        ("tg-clip", {"after_upsampling": True}),
        (
            "tg-clip",
            {
                "strength": 2.0,
                "temperature": 0.1,
                "scales": (1.0, 1.5),
                "flip": "vertical",
                "fusion": "maximum",
            },
        ),
    ],
)
def test_settings_of_a_method_at_every_door(place, method, settings):
    """Python, the command line, the comparison and a benchmark of the common protocol read alike, and not as without."""
    words, path = "red circle; red ring, bricks, blue square", _photo(place)
    pipeline = Pipeline.load(clip="toy", method=method, device="cpu", settings=settings)
    expected = pipeline.segmenter(words).segment(path)
    plain = Pipeline.load(clip="toy", method="sc-clip" if not settings else "tg-clip", device="cpu")
    assert not np.array_equal(plain.segmenter(words).segment(path).scores, expected.scores)

    flags = [
        f"--{key}={settings[key]}" for key in ("strength", "temperature", "flip", "fusion") if key in settings
    ]
    if "scales" in settings:
        flags.append(f"--scales={','.join(map(str, settings['scales']))}")
    more = [key for key in ("unit_features", "after_upsampling") if key in settings]
    flags += [flag for key in more for flag in ("--set", f"{key}={str(settings[key]).lower()}")]
    out = place / "tuned"
    asked = ["--classes", words, "--clip", "toy", "--method", method, "--device", "cpu", "--out", str(out)]
    assert main(["predict", str(path), *asked, *flags]) == 0
    told = json.loads((out / "photo.json").read_text())
    assert told["method"] == dict(pipeline.method) | {"encoder": told["method"]["encoder"]}
    assert told["protocol"]["logit_scale"] == 40.0, "the same for every data set, as TG-CLIP's text has it"
    assert told["protocol"]["probability_threshold"] == told["protocol"]["area_threshold"] == 0
    for key in ("scales", "flip", "fusion"):
        assert key not in settings or told["protocol"]["views"][key] == json.loads(json.dumps(settings[key]))

    comparison = Comparison(Vocabulary.from_text(words), [method], settings=settings)
    clip = load_clip("toy")
    (shown,) = build_methods(comparison, clip, pytest.fail)
    of_views = {key: settings[key] for key in ("scales", "flip", "fusion") if key in settings}
    entry = {"name": method} | {key: value for key, value in settings.items() if key not in of_views}
    entry |= {"views": of_views} if of_views else {}
    common = {
        key: value for key, value in pipeline.protocol.to_dict().items() if key not in ("name", "views")
    }
    groups = tuple(tuple(word.strip() for word in group.split(";")) for group in words.split(","))
    column = Benchmark(name="one", dataset=None, words={None: groups}, protocol=common)
    easy = ("strength", "temperature", "scales", "flip", "fusion")
    parts = {
        **{key: value for key, value in settings.items() if key in easy},
        "settings": {key: value for key, value in settings.items() if key not in easy},
    }
    doors = {
        "segment": lexiseg.segment(path, words, clip="toy", method=method, device="cpu", **parts).labels,
        "predict": np.asarray(Image.open(out / "photo_labels.png")),
        "compare": shown.segmenter.segment(path).labels,
        "benchmark": prepare(MethodChoice.from_entry(entry), column, clip).segment(path).labels,
    }
    for door, labels in doors.items():
        assert np.array_equal(labels, expected.labels), door


def _split_flags(place):
    return [
        "data=folder",
        f"data.root={place / 'data'}",
        "split=custom",
        f"split.unseen=[{', '.join(SPLIT.unseen)}]",
    ]


def _perfect(scores, labels):
    """Truth was what the segmenter said: any class in it has an IoU of 1 exactly where the labels are equal."""
    assert scores["miou"] == scores["pixel_accuracy"] == 1.0
    assert scores["seen"] == scores["unseen"] == 1.0, f"both groups are there: {np.unique(labels)}"


def test_evaluation_labels_as_segmentation_does(place, pipeline):
    output = place / "eval.json"
    flags = [f"checkpoint={place / 'last.ckpt'}", f"output={output}", "device=cpu", *_split_flags(place)]
    assert main(["eval", *flags]) == 0
    _perfect(json.loads(output.read_text())["scores"], labels_of(pipeline, place, None, None))


def test_training_validates_as_segmentation_does(place, pipeline):
    """One step at next to no rate from this checkpoint: what validates it are the same weights."""
    out = place / "run"
    settings = {**MODEL, "stages": [list(stage) for stage in MODEL["stages"]]}
    name = settings.pop("name")
    flags = [
        f"model={name}",
        f"clip.source={place / 'clip'}",
        f"init_from={place / 'last.ckpt'}",
        f"output_dir={out}",
        f"templates=[{', '.join(map(repr, TEMPLATES))}]",
        "trainer=cpu",
        "trainer.max_steps=1",
        "optim.lr=1e-30",
        "optim.min_lr=0.0",
        "optim.warmup_steps=0",
        "data.batch_size=1",
        "data.num_workers=0",
        "data.train_transform.base=[83,61]",
        "data.train_transform.crop=[40,40]",
        "validation.panels=0",
        *(f"++model.{key}={value}" for key, value in settings.items()),
        *(f"++protocol.{key}={value}" for key, value in PROTOCOL.items()),
        *_split_flags(place),
    ]
    assert main(["train", *flags]) == 0
    _perfect(json.loads((out / "result.json").read_text())["val"], labels_of(pipeline, place, None, None))


class _OnePhotograph:
    """The photograph, labelled by what segmentation finds."""

    classes = SPLIT.classes

    def __init__(self, image, label):
        self.sample = Sample(image, label.astype(np.uint8), "photo")

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.sample


def test_the_demo_shows_what_segmentation_finds(place, pipeline):
    expected = labels_of(pipeline, place, None, None)
    photo = read_image(_photo(place))
    stage = Stage(
        _OnePhotograph(photo, expected), SPLIT, pipeline.clip, pipeline.templates, pipeline.protocol
    )
    judged = judge_trained(stage, place / "last.ckpt", "trained")
    assert np.array_equal(judged.segmenter.segment(photo).labels, expected)
