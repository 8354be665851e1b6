"""Published checkpoints in and out, on a tiny CLIP: every model, every refusal."""

import os

import pytest
import torch
import torch.nn.functional as F

from lexiseg.checkpoints.published_checkpoint import SIDECAR_SUFFIX, export_published, import_published
from lexiseg.checkpoints.published_layout import published_layout, published_tower
from lexiseg.checkpoints.training_file import MODEL_PREFIX, CheckpointInfo, load_tensors_only, read_info
from lexiseg.cli.composing import compose_config
from lexiseg.cli.main import main
from lexiseg.clip.loading import load_clip
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import CheckpointError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.models.registry import build_model, model_settings
from lexiseg.types import ClassSplit
from openai_files import openai_state

CASES = {
    "zegclip": ("zegclip", [[3]]),
    "frozen_clip": ("frozen_clip", [[3]]),
    "frozen_clip with the cascade": ("frozen_clip", [[1], [2], [3]]),
    "spt_seg": ("spt_seg", [[3]]),
    "cascade_clip": ("cascade_clip", [[1, 2], [3]]),
}


class Attack:
    """Pickles into a call of ``os.system``."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def published_file(tower, kind):
    """A complete published file of a random model, and that model."""
    torch.manual_seed(4)
    name, stages = CASES[kind]
    settings = {"name": name, "stages": stages, "prompt_length": 2, "decoder_layers": 2, "spectral_grid": 5}
    model = build_model(settings | {"unused_parameters": True}, tower).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    layout = published_layout(model.settings, tower)
    state = published_tower(tower) | layout.to_published(model.state_dict())
    for name in layout.shapes.keys() - state.keys():
        assert name.startswith("backbone.proj_fre"), f"{name} is dead in the release and has a place here"
        state[name] = torch.randn(layout.shapes[name])
    state["decode_head.loss_decode.criterion.empty_weight"] = torch.ones(6)
    state |= {
        "text_encoder.ln_final.weight": torch.randn(20),
        "text_encoder.text_projection": torch.randn(20, 16),
    }
    state = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
    return {"meta": {"CLASSES": ("cat", "dog"), "iter": 7}, "state_dict": state}, model


@pytest.fixture
def tower(tiny_clip):
    return VisionTower(tiny_clip)


@pytest.fixture
def place(tmp_path, tiny_clip):
    """Writes a published file and the CLIP beside it; returns a function that imports with the command."""
    torch.save(openai_state(tiny_clip), tmp_path / "clip.pt")

    def write(content, *flags):
        torch.save(content, tmp_path / "published.pth")
        common = ["--clip", str(tmp_path / "clip.pt"), "--vision-heads", "3", "--text-heads", "2"]
        return main(["import", str(tmp_path / "published.pth"), *common, *flags])

    return write


def masks(model):
    generator = torch.Generator().manual_seed(9)
    images = torch.randn(1, 3, 24, 40, generator=generator)
    text = F.normalize(torch.randn(5, 16, generator=generator), dim=-1)
    with torch.no_grad():
        return model.eval()(images, text).logits


@pytest.mark.parametrize("kind", list(CASES))
def test_import_and_export_of_every_model(tower, place, tmp_path, kind):
    content, model = published_file(tower, kind)
    assert place(content) == 0
    loaded = Pipeline.load(tmp_path / "published.ckpt", device="cpu")
    assert loaded.info.model["name"] == CASES[kind][0]
    assert loaded.info.model["stages"] == CASES[kind][1]
    assert loaded.info.split.classes == ("cat", "dog")
    torch.testing.assert_close(masks(loaded.model), masks(model), rtol=1e-5, atol=1e-6)
    exported = tmp_path / "exported.pth"
    assert (
        main(["export", str(tmp_path / "published.ckpt"), "--to", "published", "--out", str(exported)]) == 0
    )
    again = torch.load(exported, weights_only=True)
    assert again["meta"] == {"CLASSES": ["cat", "dog"], "iter": 7}
    assert list(again["state_dict"]) == list(content["state_dict"])
    for name, tensor in content["state_dict"].items():
        assert again["state_dict"][name].numpy().tobytes() == tensor.numpy().tobytes(), name


def test_half_precision_files_keep_their_bytes(tower, place, tmp_path):
    content, _ = published_file(tower, "cascade_clip")
    kept = {
        n
        for n in content["state_dict"]
        if n.startswith("backbone.") and "prompt" not in n and "_layers" not in n
    }
    content["state_dict"] = {n: t if n in kept else t.half() for n, t in content["state_dict"].items()}
    assert place(content) == 0
    exported = tmp_path / "exported.pth"
    assert (
        main(["export", str(tmp_path / "published.ckpt"), "--to", "published", "--out", str(exported)]) == 0
    )
    for name, tensor in torch.load(exported, weights_only=True)["state_dict"].items():
        assert tensor.dtype == content["state_dict"][name].dtype, name
        assert torch.equal(tensor, content["state_dict"][name]), name


def test_position_embedding_of_the_training_grid(tower, tmp_path):
    """Released files hold it already resized; it is compared after resizing, and its bytes travel."""
    content, _ = published_file(tower, "zegclip")
    native = content["state_dict"]["backbone.positional_embedding"]
    patches = F.interpolate(
        native[1:].T.reshape(1, 24, 5, 5), size=(8, 8), mode="bilinear", align_corners=False
    )
    resized = torch.cat([native[:1], patches.flatten(2)[0].T])
    content["state_dict"]["backbone.positional_embedding"] = resized
    torch.save(content, tmp_path / "x.pth")
    assert torch.equal(
        import_published(tmp_path / "x.pth", tower).rest["backbone.positional_embedding"], resized
    )
    resized[17] += 0.01
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"backbone\.positional_embedding differs by up to 0\.01"):
        import_published(tmp_path / "x.pth", tower)


def _without(state, name):
    del state[name]


@pytest.mark.parametrize("kind", ["zegclip", "cascade_clip", "spt_seg"])
@pytest.mark.parametrize("position", [0.0, 0.3, 0.6, 0.9])
def test_damaged_keys_are_named(tower, tmp_path, kind, position):
    content, _ = published_file(tower, kind)
    intact = content["state_dict"]
    required = [n for n in intact if not n.startswith("text_encoder.") and not n.endswith("empty_weight")]
    victim = required[int(position * len(required))]
    shape = tuple(intact[victim].shape)
    changes = {
        f"missing: .*{victim}": {n: t for n, t in intact.items() if n != victim},
        "unknown: decode_head.extra": intact | {"decode_head.extra": torch.ones(2)},
    }
    wrong = torch.randn(shape[0] + 1, *shape[1:])
    if victim != "backbone.positional_embedding":
        changes[victim.replace(".", r"\.")] = intact | {victim: wrong}
    for message, state in changes.items():
        torch.save({"state_dict": state}, tmp_path / "x.pth")
        with pytest.raises(CheckpointError, match=message):
            import_published(tmp_path / "x.pth", tower)


@pytest.mark.slow
def test_every_missing_key_is_named(tower, tmp_path):
    content, _ = published_file(tower, "cascade_clip")
    for victim in published_layout(build_model(_settings("cascade_clip"), tower).settings, tower).shapes:
        state = {name: tensor for name, tensor in content["state_dict"].items() if name != victim}
        torch.save({"state_dict": state}, tmp_path / "x.pth")
        with pytest.raises(CheckpointError, match="missing: .*" + victim.replace(".", r"\.")):
            import_published(tmp_path / "x.pth", tower)


def _settings(kind):
    name, stages = CASES[kind]
    return {"name": name, "stages": stages, "prompt_length": 2, "decoder_layers": 2}


def test_another_clip_is_named(tower, tmp_path):
    content, _ = published_file(tower, "zegclip")
    name = "backbone.transformer.resblocks.1.attn.in_proj_weight"
    content["state_dict"][name][2, 3] += 0.5
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(
        CheckpointError, match=name.replace(".", r"\.") + " differs by up to 0.5; give the same CLIP"
    ):
        import_published(tmp_path / "x.pth", tower)
    content["state_dict"]["backbone.conv1.weight"] = torch.zeros(24, 3, 4, 4)
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"\(24, 3, 4, 4\), the CLIP given has \(24, 3, 8, 8\)"):
        import_published(tmp_path / "x.pth", tower)


def test_a_pickle_that_would_run_a_command_is_refused(place, tmp_path, capsys):
    witness = tmp_path / "ran"
    assert place({"state_dict": Attack(f"touch {witness}")}) == 2
    told = capsys.readouterr().err
    assert "published.pth: refused" in told
    assert "Expected a file of a released ZegCLIP, SPT-SEG, Cascade-CLIP, SAN" in told
    assert not witness.exists()
    assert not (tmp_path / "published.ckpt").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {"weight": torch.ones(2)}}, r"expected the published layout .* got weight"),
        ({"state_dict": {}}, "no state_dict in it"),
        ({"state_dict": {"backbone.proj": 3}}, "backbone.proj is no tensor"),
    ],
)
def test_other_files_are_refused(tower, tmp_path, content, message):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=message):
        import_published(tmp_path / "x.pth", tower)


@pytest.mark.parametrize("kind", list(CASES))
def test_a_model_trained_here_is_exported_without_sidecar(tower, tmp_path, kind):
    model = build_model(_settings(kind) | {"spectral_grid": 5}, tower)
    content = export_published(_checkpoint(model), _info(model), tower, None)
    state = content["state_dict"]
    assert state["backbone.positional_embedding"].shape == (1 + 32 * 32, 24)
    assert state.keys() == published_layout(model.settings, tower).shapes.keys()
    torch.save(content, tmp_path / "x.pth")
    again = import_published(tmp_path / "x.pth", tower)
    for key in ("name", "stages", "prompts", "decoder", "decoder_layers"):
        assert again.settings[key] == model_settings(model)[key], key
    for name, tensor in _checkpoint(model)["state_dict"].items():
        assert torch.equal(again.state_dict[name], tensor), name
    assert again.classes == ("cat",)


def _checkpoint(model):
    return {"state_dict": {MODEL_PREFIX + name: tensor for name, tensor in model.state_dict().items()}}


def _info(model):
    split = ClassSplit("s", ("cat",))
    return CheckpointInfo(model_settings(model), {"source": "x", "fingerprint": "f"}, ("{}",), split, {})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"stages": [[1], [3]]},
            r"cannot say model.stages=\(\(1,\), \(3,\)\): a reader would take \(\(2,\), \(3,\)\)",
        ),
        ({"stages": [[3], [3]]}, "cannot say model.stages"),
        ({"stages": [[2]]}, r"no place for stages\.0\.projections\.2"),
        ({"normalization": "clip"}, "cannot say model.normalization=clip"),
        ({"projection": "clip"}, "cannot say model.stages"),
        (
            {"name": "spt_seg", "decoder_heads": 2, "stages": [[3]]},
            r"hlfs\.l_q\.weight: expected \(14, 16\), got \(8, 16\)",
        ),
    ],
)
def test_models_that_the_layout_cannot_hold(tower, settings, message):
    model = build_model(_settings("cascade_clip") | settings, tower)
    with pytest.raises(CheckpointError, match=message):
        export_published(_checkpoint(model), _info(model), tower, None)


def test_a_sidecar_of_another_model_is_refused(tower, place, tmp_path):
    content, _ = published_file(tower, "spt_seg")
    assert place(content) == 0
    checkpoint = load_tensors_only(tmp_path / "published.ckpt")
    other = build_model(_settings("zegclip"), tower)
    sidecar = tmp_path / f"published.ckpt{SIDECAR_SUFFIX}"
    with pytest.raises(CheckpointError, match="made by the import of another model"):
        export_published(_checkpoint(other), _info(other), tower, sidecar)
    sidecar.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="no side-car of an import"):
        export_published(checkpoint, read_info(checkpoint, "x"), tower, sidecar)


def test_the_file_itself_is_not_overwritten(tower, place, tmp_path, capsys):
    content, _ = published_file(tower, "zegclip")
    assert place(content, "--out", str(tmp_path / "published.pth")) == 2
    assert "is the file to be read" in capsys.readouterr().err
    assert place(content, "--split", "voc_15_5") == 2
    assert "pottedplant" in capsys.readouterr().err


def test_an_imported_checkpoint_segments(tmp_path):
    """On the shipped CLIP, with the toy split: words in, labels out."""
    clip = load_clip("toy")
    depth = clip.vision.depth
    model = build_model({"name": "zegclip", "stages": [[depth]], "unused_parameters": True}, clip.vision)
    layout = published_layout(model.settings, clip.vision)
    state = published_tower(clip.vision) | layout.to_published(model.state_dict())
    unseen = list(compose_config("train", ["split=toy"]).split.unseen)
    classes = ["red circle", "blue square", *unseen]
    torch.save({"meta": {"CLASSES": classes}, "state_dict": state}, tmp_path / "x.pth")
    assert (
        main(["import", str(tmp_path / "x.pth"), "--clip", "toy", "--split", "toy", "--protocol", "native"])
        == 0
    )
    loaded = Pipeline.load(tmp_path / "x.ckpt", device="cpu")
    assert loaded.info.split.unseen == tuple(unseen)
    assert loaded.protocol.seen_penalty == 0.1
    vocabulary = Vocabulary.from_text("red circle, blue square")
    labels = loaded.segmenter(vocabulary).segment((torch.rand(31, 47, 3) * 255).byte().numpy()).labels
    assert labels.shape == (31, 47)
