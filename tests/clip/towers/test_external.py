"""Other vision models as sources of patch features: tokens before patches, positions, colours, messages."""

import pytest
import torch
import transformers
from transformers import AutoModel, BertConfig, BertModel, Dinov2Config, Dinov2Model, ViTConfig, ViTModel
from transformers import Dinov2WithRegistersConfig as RegistersConfig
from transformers import Dinov2WithRegistersModel as RegistersModel
from transformers.utils import logging

from lexiseg.clip.towers.external import ExternalVision
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.constants import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD
from lexiseg.dense import build_dense
from lexiseg.dense.proxyclip import ColoredFor
from lexiseg.errors import CheckpointError, ConfigError, LexisegError

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


def vit() -> ViTModel:
    torch.manual_seed(0)
    return ViTModel(ViTConfig(**SMALL, image_size=32, patch_size=8)).eval()


def dinov2() -> Dinov2Model:
    torch.manual_seed(0)
    return Dinov2Model(Dinov2Config(**SMALL, image_size=28, patch_size=14)).eval()


def registers() -> RegistersModel:
    torch.manual_seed(0)
    return RegistersModel(
        RegistersConfig(**SMALL, image_size=28, patch_size=14, num_register_tokens=3)
    ).eval()


@pytest.mark.parametrize(("make", "grid"), [(vit, (6, 10)), (dinov2, (3, 6)), (registers, (3, 6))])
@torch.no_grad()
def test_patches_come_out_on_the_models_own_grid(make, grid: tuple[int, int]) -> None:
    model = ExternalVision(make())
    images = torch.randn(2, 3, 48, 80, generator=torch.Generator().manual_seed(1))
    features = model.dense_features(images)
    assert features.shape == (2, 24, *grid)
    torch.testing.assert_close(model.dense_features(images[1:]), features[1:], rtol=1e-4, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in model.parameters())


@torch.no_grad()
def test_native_size_equals_the_model_in_its_own_colors(tiny_clip) -> None:
    pixels = torch.rand(1, 3, 28, 28, generator=torch.Generator().manual_seed(2))

    def normalized(mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
        return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)

    stock = registers()(pixel_values=normalized(IMAGENET_MEAN, IMAGENET_STD)).last_hidden_state
    model = ExternalVision(registers())
    ours = model.dense_features(normalized(model.mean, model.std))
    torch.testing.assert_close(ours[0].flatten(1).T, stock[0, 1 + 3 :], rtol=1e-4, atol=1e-5)
    # A reading hands it images in the colours of its own tower.
    beside = ColoredFor(VisionTower(tiny_clip), model)(normalized(CLIP_MEAN, CLIP_STD))
    torch.testing.assert_close(beside, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("make", "prefix"), [(vit, 1), (dinov2, 1), (registers, 4)])
@torch.no_grad()
def test_it_keeps_the_contract_of_image_towers(make, prefix: int) -> None:
    model, stock = ExternalVision(make()), make()
    size = model.image_size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(3))
    assert (model.prefix_tokens, model.has_class_token, model.embed_dim) == (prefix, True, 24)
    tokens = stock(pixel_values=images, output_hidden_states=True)
    torch.testing.assert_close(model(images), tokens.last_hidden_state[:, 0], rtol=1e-4, atol=1e-5)
    blocks = list(model.block_tokens(images))
    assert len(blocks) == 2
    torch.testing.assert_close(blocks[0], tokens.hidden_states[1][:, prefix:], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_proxyclip_takes_a_folder(tiny_clip, tmp_path) -> None:
    dinov2().save_pretrained(tmp_path)
    tower = VisionTower(tiny_clip).eval()
    text = torch.nn.functional.normalize(torch.randn(5, 16), dim=1)
    images = torch.randn(2, 3, 24, 56)
    logits = build_dense("proxyclip", tower, proxy=str(tmp_path))(images, text)
    assert logits.shape == (2, 5, 2, 4)
    given = build_dense("proxyclip", tower, proxy=ExternalVision(dinov2()))(images, text)
    torch.testing.assert_close(logits, given)


def test_an_unused_pooler_is_not_reported(tmp_path, monkeypatch) -> None:
    vit().save_pretrained(tmp_path)
    load, seen = AutoModel.from_pretrained, []

    def watched(*args, **kwargs):
        seen.append((logging.get_verbosity(), kwargs))
        return load(*args, **kwargs)

    monkeypatch.setattr("transformers.AutoModel.from_pretrained", watched)
    before = logging.get_verbosity()
    ExternalVision(tmp_path)
    ((verbosity, told),) = seen
    assert verbosity == logging.ERROR
    assert logging.get_verbosity() == before
    assert told.get("dtype", told.get("torch_dtype")) == torch.float32
    new = tuple(map(int, transformers.__version__.split(".")[:2])) >= (4, 56)
    assert ("torch_dtype" in told) != new, "from 4.56 on its old name is reported at every load"


def test_training_mode_never_comes_on() -> None:
    model = ExternalVision(vit())
    assert not model.train().model.training


def test_models_without_patches_and_folders_without_models(tmp_path, monkeypatch) -> None:
    text_model = BertModel(BertConfig(**SMALL, vocab_size=9))
    with pytest.raises(ConfigError, match="expected a square patch_size in its configuration, got None"):
        ExternalVision(text_model)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not a usable Hugging Face model folder"):
        ExternalVision(tmp_path)
    monkeypatch.setattr("transformers.AutoModel.from_pretrained", _offline)
    with pytest.raises(
        LexisegError, match="neither a file, nor a folder, nor to be had from the Hugging Face hub"
    ):
        ExternalVision("nobody/nothing")


def _offline(*args, **kwargs):
    raise OSError("offline")


def test_what_a_folder_lacks_is_the_same_at_every_load(tmp_path) -> None:
    """DINO's own folders have no pooler: drawn at random, it would make another model of the same weights."""
    ViTModel(ViTConfig(**SMALL, image_size=32, patch_size=8), add_pooling_layer=False).save_pretrained(
        tmp_path
    )
    one, other = (ExternalVision(tmp_path).model.state_dict() for _ in range(2))
    assert any("pooler" in name for name in one)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_weights_under_other_names_are_refused(tmp_path) -> None:
    """As zeros they would be a model that finds every patch like every other."""
    model = ViTModel(ViTConfig(**SMALL, image_size=32, patch_size=8))
    state = {f"student.{name}": tensor for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(CheckpointError, match=r"lacks \d+ weights of its model, such as .*whole"):
        ExternalVision(tmp_path)
