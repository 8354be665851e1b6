"""Every registered model, and one of another kind, goes the whole way: trained, saved, loaded, evaluated, exported."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

import family_cases
import program_cases
import region_model_cases
import stage_towers
from lexiseg.checkpoints.info import CheckpointInfo
from lexiseg.checkpoints.model_facts import ModelFacts
from lexiseg.checkpoints.model_folder import write_model_folder
from lexiseg.checkpoints.training_file import check_same, load_tensors_only, load_weights, read_info
from lexiseg.clip.loading import load_clip
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.export.onnx_program import write_onnx
from lexiseg.export.parity import check_parity
from lexiseg.export.program import trace
from lexiseg.inference.exported import OnnxProgram
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.pretrained import PretrainedSegmenter, largest_difference
from lexiseg.inference.protocol import InferenceProtocol, suited
from lexiseg.losses.segment_criterion import SegmentLossSettings
from lexiseg.models.region_model import RegionModel
from lexiseg.models.registry import (
    MODELS,
    Registered,
    activation_of,
    build_model,
    complete_settings,
    model_settings,
)
from lexiseg.recipes.criteria import make_criterion
from lexiseg.recipes.export_published import export_published_file
from lexiseg.training.checkpointing import AtomicCheckpointIO
from lexiseg.training.optim import OptimSettings
from lexiseg.training.self_training import SelfTrainingSettings
from lexiseg.training.task import SegmentationTask
from lexiseg.types import ClassSplit, MaskModel, Sample, SegBatch
from linear_probe import LinearProbe, LinearProbeSettings
from region_probe import RegionProbe, RegionProbeSettings
from support import slow_but

SPLIT = ClassSplit("tiny", program_cases.CLASSES, unseen=("bricks",))
PROTOCOL = InferenceProtocol(name="tiny", short_side=40, window=40, stride=24)
LOSSES = {"region_probe": SegmentLossSettings(points=97)}
"""Instead of a model's own."""
STEPS = 2
MASKFORMER = {**region_model_cases.SIZES, "branch": "segment"}
SETTINGS = {name: {**program_cases.SETTINGS, "stages": [[1], [2]]} for name in program_cases.CASCADES} | {
    **dict.fromkeys(program_cases.SANS, program_cases.SMALL_SAN),
    "fc_clip": stage_towers.SMALL,
    "lseg": program_cases.SMALL_LSEG,
    "open_seg": program_cases.SMALL_OPEN_SEG,
    "zegformer": MASKFORMER,
    "two_stage": {
        "proposer": {"name": "maskformer", **region_model_cases.SIZES},
        "classifier": {"name": "segment_embedding"},
    },
    "ovseg": MASKFORMER | {"backbone": "resnet", "class_hidden": 13, "prompt_depth": 0},
}
"""What a tower of two blocks needs, and small sizes of models that bring a backbone; programs hold no crops. Other models are
taken as they are registered."""
REFUSALS = dict.fromkeys(program_cases.CASCADES, "takes learned prompts, .*; got a {kind}")
REFUSALS |= dict.fromkeys(program_cases.SANS, "needs a CLIP (ViT )?with a .*")
REFUSALS |= {"fc_clip": "needs a CLIP with a ConvNeXt or ResNet or ViT; got a {kind}"}
"""What those say of a tower that takes no prompts that cannot stand on one."""
QUICKLY_TRACED = ("cascade_clip", "fc_clip", "region_probe")
UNTRACED = {"fc_clip": "cannot be traced for images of any size"}
KINDS = (*MODELS, "linear_probe", "region_probe")
REGIONS = (
    "region_probe",
    *(name for name, entry in MODELS.items() if issubclass(entry.network, RegionModel)),
)
"""Which no self-training knows."""

each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(MODELS, "linear_probe", Registered(LinearProbe, LinearProbeSettings(sharpness=5)))
    monkeypatch.setitem(MODELS, "region_probe", Registered(RegionProbe, RegionProbeSettings(sharpness=15)))


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A random CLIP that knows the toy's words."""
    return program_cases.save_checkpoint(tmp_path_factory.mktemp("clip")).with_name("clip")


class TwoPhotographs:
    classes = SPLIT.classes

    def __len__(self):
        return 2

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        label = rng.integers(0, 3, (40, 56), dtype=np.uint8)
        return Sample(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8), label, f"photo{index}")


def batches():
    generator = torch.Generator().manual_seed(5)
    for number in range(STEPS):
        images = torch.randint(0, 256, (2, 3, 40, 56), generator=generator, dtype=torch.uint8)
        yield SegBatch(images, torch.randint(0, 2, (2, 40, 56), generator=generator), (f"a{number}", "b"))


def make_task(kind, clip, split=SPLIT, **self_training):
    torch.manual_seed(7)
    model = build_model({"name": kind, **SETTINGS.get(kind, {})}, clip.tower)
    vectors = Vocabulary.from_names(split.classes, ("a {}.",)).embed(clip).vectors
    info = CheckpointInfo(
        model_settings(model),
        {"source": clip.source, "fingerprint": clip.fingerprint},
        ("a {}.",),
        split,
        suited(PROTOCOL, model.activation).to_dict(),
    )
    return SegmentationTask(
        model,
        vectors,
        split,
        criterion=make_criterion(model, LOSSES.get(kind)),
        optim=OptimSettings(lr=1e-2, warmup_steps=0),
        info=info,
        labeller=lambda image: np.zeros(image.shape[:2], dtype=np.int64),
        self_training=SelfTrainingSettings(**self_training),
    )


@pytest.fixture
def trained(kind, clip_folder, tmp_path):
    """The task after two steps, and its checkpoint."""
    return train(kind, clip_folder, tmp_path)


def train(kind, clip_folder, folder):
    task = make_task(kind, load_clip(clip_folder))
    trainer = pl.Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[AtomicCheckpointIO()],
    )
    trainer.fit(task, DataLoader(list(batches()), batch_size=None))
    trainer.save_checkpoint(folder / "last.ckpt")
    return task, folder / "last.ckpt"


def masks(model):
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (1, 3, 24, 40), generator=generator).float()
    width = model.tower.embed_dim
    text = torch.nn.functional.normalize(torch.randn(5, width, generator=generator), dim=-1)
    with torch.no_grad():
        return answer(model.eval(), model.normalize(images), text)


def answer(model, images, text):
    """What a model says, which may be more than what it is trained on."""
    return model.decode(model.encode(images), text).logits


@each_kind
def test_images_and_words_do_not_see_each_other_unless_it_says_so(kind, clip_folder):
    model = make_task(kind, load_clip(clip_folder)).model.eval()
    images = model.normalize(torch.randn(3, 3, 24, 56) * 60 + 120)
    text = torch.nn.functional.normalize(torch.randn(7, model.tower.embed_dim), dim=-1)
    with torch.no_grad():
        whole, state = answer(model, images, text), model.encode(images)
        if not model.names_regions:
            torch.testing.assert_close(model(images, text).logits, whole, rtol=1e-4, atol=1e-5)
        assert whole.shape[:2] == (3, 7)
        assert whole.shape[2] / whole.shape[3] == 3 / 7
        alone = torch.cat([answer(model, image[None], text) for image in images])
        torch.testing.assert_close(alone, whole, rtol=1e-4, atol=1e-5)
        if not model.words_together:
            bound = model.bind(state, text)
            parts = torch.cat([model.decode(bound, part).logits for part in text.split(3)], dim=1)
            torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)
        few = model.decode(state, text[:3]).logits
        assert torch.allclose(few, whole[:, :3], atol=1e-5) != model.depends_on_text
    if not model.offers_features:
        with pytest.raises(ConfigError, match="gives masks, not features"):
            model.features(state, text)


@each_kind
def test_what_trains_is_its_own(kind, clip_folder):
    model = make_task(kind, load_clip(clip_folder)).model
    of_tower = {id(parameter) for parameter in model.tower.parameters()}
    assert not of_tower & {id(parameter) for parameter in model.parameters()}
    grouped = [p for group in model.parameter_groups(OptimSettings()) for p in group["params"]]
    trained = [id(parameter) for parameter in model.parameters() if parameter.requires_grad]
    assert sorted(map(id, grouped)) == sorted(trained)
    assert "_mean" not in model.state_dict(), "colours are the tower's: persistent=False"
    model.to(torch.float64)
    assert next(model.tower.parameters()).dtype == torch.float64, "_apply takes the tower along"


@pytest.mark.one_in(3)
@each_kind
def test_it_trains_and_its_checkpoint_is_the_same_model(kind, trained, clip_folder):
    task, path = trained
    untrained = make_task(kind, load_clip(clip_folder)).model
    assert isinstance(untrained, MaskModel)
    assert (masks(untrained) - masks(task.model)).abs().max() > 1e-3, "two steps move it"
    checkpoint = load_tensors_only(path)
    info = read_info(checkpoint, path)
    assert activation_of(info.model) == task.model.activation
    assert (
        info.model
        == model_settings(task.model)
        == complete_settings({"name": kind, **SETTINGS.get(kind, {})})
    )
    stored = {name for name in checkpoint["state_dict"] if name.startswith("model.")}
    assert stored == {f"model.{name}" for name in untrained.state_dict()}
    clip = load_clip(clip_folder)
    check_same(info, model=info.model, fingerprint=clip.fingerprint, path=path)
    again = build_model(info.model, clip.tower)
    load_weights(again, checkpoint["state_dict"], path)
    assert torch.equal(masks(again), masks(task.model))


@pytest.mark.one_in(5)
@each_kind
def test_it_is_evaluated_from_its_checkpoint_and_from_its_folder(trained, tmp_path):
    task, path = trained
    loaded = Pipeline.load(path, device="cpu")
    write_model_folder(tmp_path / "folder", task.model, loaded.clip, task.info, ModelFacts())
    again = Pipeline.load(tmp_path / "folder", device="cpu")
    assert torch.equal(masks(again.model), masks(loaded.model))
    reports = [evaluate(each.segmenter(), TwoPhotographs(), SPLIT) for each in (loaded, again)]
    assert reports[0].images == 2
    assert reports[0].scores["miou"] > 0
    assert reports[0].scores == reports[1].scores


@pytest.mark.one_in(4)
@pytest.mark.parametrize("kind", slow_but(KINDS, ["cascade_clip", "fc_clip"]))
@pytest.mark.parametrize("family", family_cases.CASES)
def test_it_comes_back_on_a_tower_of_any_family_or_refuses_it(kind, family, tmp_path):
    family_cases.saved(family, tmp_path / "clip")
    clip = load_clip(tmp_path / "clip")
    refusal = REFUSALS.get(kind)
    stands = clip.tower.kind == "ViT" if kind == "fc_clip" else clip.tower.takes_prompts
    if refusal and not stands:
        with pytest.raises(ConfigError, match=refusal.format(kind=clip.tower.kind)):
            make_task(kind, clip)
        return
    task, path = train(kind, tmp_path / "clip", tmp_path)
    loaded = Pipeline.load(path, device="cpu")
    assert torch.equal(masks(loaded.model), masks(task.model))
    pretrained = PretrainedSegmenter(loaded)
    pretrained.save_pretrained(tmp_path / "folder")
    again = PretrainedSegmenter.from_pretrained(tmp_path / "folder", device="cpu")
    assert largest_difference(pretrained, again) == 0
    photograph = TwoPhotographs()[0].image
    assert (again.segment(photograph).labels == pretrained.segment(photograph).labels).all()


@pytest.mark.parametrize("family", family_cases.CASES)
def test_no_published_layout_holds_another_model(family, tmp_path):
    family_cases.saved(family, tmp_path / "clip")
    _, path = train("linear_probe", tmp_path / "clip", tmp_path)
    with pytest.raises(CheckpointError, match="not 'linear_probe'; export it --to folder"):
        export_published_file(path, tmp_path / "published.pth")


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", slow_but(KINDS, QUICKLY_TRACED))
def test_it_is_exported(kind, trained, tmp_path):
    pytest.importorskip("onnxruntime")
    task, _ = trained
    model = task.model.eval()
    if kind in UNTRACED:
        with pytest.raises(ConfigError, match=UNTRACED[kind]):
            trace(model)
        return
    write_onnx(trace(model), tmp_path / "model.onnx")
    parity = check_parity(model, OnnxProgram(tmp_path / "model.onnx", "cpu"))
    parity.require()
    assert len(parity.cases) == 3


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in REGIONS])
def test_a_teacher_of_a_checkpoint_that_calls_it_otherwise_resumes(kind, clip_folder):
    split = ClassSplit("tiny", program_cases.CLASSES, unseen=("bricks",), setting="transductive")
    task = make_task(kind, load_clip(clip_folder), split, teacher_decay=0.9)
    assert task.teacher.average.tower is task.model.tower
    checkpoint = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    before = {name.replace("teacher.average.", "teacher.model."): t for name, t in task.state_dict().items()}
    task.on_load_checkpoint(checkpoint := checkpoint | {"state_dict": before})
    task.load_state_dict(checkpoint["state_dict"])
