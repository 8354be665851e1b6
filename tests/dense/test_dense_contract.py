"""What every dense encoder promises, whatever its method."""

import pytest
import torch
from torch import Tensor

import dense_cases as cases
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.dense import DENSE_ENCODERS, build_dense
from lexiseg.dense.base import block_count, block_index, cosines, inner_block
from lexiseg.dense.registry import OWN_READINGS
from lexiseg.errors import ConfigError


@pytest.fixture
def tower(tiny_clip) -> VisionTower:
    return VisionTower(tiny_clip).eval()


@pytest.fixture
def images() -> Tensor:
    return cases.some_images()


@pytest.fixture
def text() -> Tensor:
    return cases.some_words()


each_encoder = pytest.mark.parametrize("name", cases.ENCODERS)


@pytest.mark.one_in(4)
@each_encoder
@torch.no_grad()
def test_batch_equals_its_images_on_a_rectangle(name: str, tower, images, text) -> None:
    encoder = cases.make_encoder(name, tower)
    together = encoder(images, text)
    assert together.shape[:2] == (3, 7)
    assert together.shape[2] / together.shape[3] == 3 / 7
    for index, image in enumerate(images):
        alone = encoder(image[None], text)
        torch.testing.assert_close(together[index], alone[0], rtol=1e-4, atol=1e-5)


@each_encoder
@torch.no_grad()
def test_logits_are_cosines_where_declared(name: str, tower, images, text) -> None:
    encoder = cases.make_encoder(name, tower)
    state = encoder.encode(images)
    features = encoder.features(state, text)
    assert features.shape[:2] == (3, tower.embed_dim)
    logits, plain = encoder.decode(state, text).logits, cosines(features, text)
    assert (logits.shape == plain.shape and torch.allclose(logits, plain, atol=1e-5)) == encoder.cosine_logits


@each_encoder
@torch.no_grad()
def test_words_depend_on_each_other_only_where_declared(name: str, tower, images, text) -> None:
    encoder = cases.make_encoder(name, tower)
    state = encoder.encode(images)
    whole, few = encoder.decode(state, text).logits[:, :3], encoder.decode(state, text[:3]).logits
    assert torch.allclose(whole, few, atol=1e-5) != encoder.depends_on_text


@each_encoder
@torch.no_grad()
def test_bound_state_takes_words_in_parts(name: str, tower, images, text) -> None:
    encoder = cases.make_encoder(name, tower)
    state = encoder.encode(images)
    if name == "maskclip-refined":
        with pytest.raises(ConfigError, match="refinements compare all words at once"):
            encoder.bind(state, text)
        return
    bound = encoder.bind(state, text)
    parts = torch.cat([encoder.decode(bound, part).logits for part in text.split(3)], dim=1)
    torch.testing.assert_close(parts, encoder.decode(state, text).logits, rtol=1e-4, atol=1e-5)


@each_encoder
@torch.no_grad()
def test_nothing_new_is_trained_or_changed(name: str, tower, images, text) -> None:
    before = {key: value.clone() for key, value in tower.state_dict().items()}
    encoder = cases.make_encoder(name, tower)
    encoder(images, text)
    own = {id(parameter) for parameter in tower.parameters()}
    assert {id(parameter) for parameter in encoder.parameters()} == own
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert all(torch.equal(before[key], value) for key, value in tower.state_dict().items())


@each_encoder
@pytest.mark.parametrize("size", [(8, 8), (8, 24), (40, 40)])
@torch.no_grad()
def test_one_color_and_tiny_images_give_numbers(name: str, tower, text, size: tuple[int, int]) -> None:
    logits = cases.make_encoder(name, tower)(torch.full((2, 3, *size), 0.25), text)
    assert torch.isfinite(logits).all()


@each_encoder
@torch.no_grad()
def test_last_block_is_never_run_whole(name: str, tower, images, text, monkeypatch) -> None:
    run: list[int] = []
    original = tower.block
    monkeypatch.setattr(tower, "block", lambda index, tokens: (run.append(index), original(index, tokens))[1])
    cases.make_encoder(name, tower)(images, text)
    assert tower.depth - 1 not in run
    assert len(run) == len(set(run))


@pytest.mark.parametrize("name", ["clearclip", "naclip", "gem", "sc-clip", "proxyclip"])
@torch.no_grad()
def test_methods_without_the_last_mlp_do_not_run_it(name: str, tower, images, text, monkeypatch) -> None:
    run: list[int] = []
    original = tower.mlp
    monkeypatch.setattr(tower, "mlp", lambda index, tokens: (run.append(index), original(index, tokens))[1])
    cases.make_encoder(name, tower)(images, text)
    assert tower.depth - 1 not in run


def test_image_off_the_patch_grid_is_refused(tower, text) -> None:
    with pytest.raises(ConfigError, match=r"20×56 pixels is no multiple .* 8; pad it to 24×56"):
        build_dense("sclip", tower)(torch.zeros(1, 3, 20, 56), text)


def test_colors_are_clips_own(tower) -> None:
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = [-0.48145466 / 0.26862954, (1 - 0.4578275) / 0.26130258, (0.2 - 0.40821073) / 0.27577711]
    torch.testing.assert_close(build_dense("clip", tower).normalize(pixels).flatten(), torch.tensor(expected))


def test_every_method_is_looked_at() -> None:
    assert DENSE_ENCODERS.keys() - set(OWN_READINGS) <= cases.ENCODERS.keys()


def test_registry_names_choices_and_settings(tower) -> None:
    known = ", ".join(DENSE_ENCODERS)
    with pytest.raises(ConfigError, match=f"no dense encoder 'sklip'; choose one of {known}"):
        build_dense("sklip", tower)
    with pytest.raises(ConfigError, match=r"naclip has no setting 'sigmas'; did you mean sigma\?"):
        build_dense("naclip", tower, sigmas=3)
    with pytest.raises(ConfigError, match="naclip has no setting 'x'; its settings are sigma"):
        build_dense("naclip", tower, x=3)


def test_cosines_by_hand() -> None:
    features = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    words = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    assert cosines(features, words).flatten().tolist() == pytest.approx([0.6, 1.0])
    assert cosines(features.bfloat16(), words).dtype == torch.float32


@pytest.mark.parametrize(
    ("position", "depth", "index"),
    [(8 / 12, 12, 8), (0.6667, 24, 16), (0.25, 12, 3), (0.25, 6, 2), (-1, 12, 11), (3, 12, 3), (0.0, 5, 0)],
)
def test_block_positions(position: float, depth: int, index: int) -> None:
    assert block_index(position, depth, what="x") == index


def test_block_positions_that_do_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"pre_block: the tower has 6 blocks .0 to 5., got 6"):
        block_index(6, 6, what="pre_block")
    with pytest.raises(ConfigError, match=r"fraction of the depth from 0 to below 1, got 1.5"):
        block_index(1.5, 6, what="x")
    with pytest.raises(ConfigError, match="expected a block before the last of 6, got 5"):
        inner_block(5, 6, what="x")
    assert inner_block(0.9, 6, what="x") == 4
    with pytest.raises(ConfigError, match="expected 1 to 6 blocks"):
        block_count(7, 6, what="x")
    assert block_count(0.5, 12, what="x") == 6


def test_inputs_are_left_alone(tower, images: Tensor, text: Tensor) -> None:
    copies = images.clone(), text.clone()
    for name in cases.ENCODERS:
        cases.make_encoder(name, tower)(images, text)
    assert torch.equal(images, copies[0])
    assert torch.equal(text, copies[1])
