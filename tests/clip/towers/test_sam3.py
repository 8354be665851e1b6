"""SAM 3's towers beside transformers' own forward pass, and what may read them."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from lexiseg.cli.main import main
from lexiseg.clip.loading import load_clip
from lexiseg.clip.saving import save_clip
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.dense import DENSE_ENCODERS, build_dense
from lexiseg.dense.methods import build_method, default_clip, default_method
from lexiseg.errors import CheckpointError, ConfigError, LexisegError
from lexiseg.evaluation.benchmark import Benchmark, MethodChoice, prepare
from lexiseg.inference.pipeline import Pipeline
from lexiseg.ops.concept_masks import concept_map, stuff_map
from lexiseg.recipes.settings import ClipSource
from tiny_sam3 import CONTEXT, QUERIES, SIDE, saved, tiny_sam3

WORDS = ("red", "blue square", "a photo of the red circle")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("sam3")
    saved(place)
    return place


@pytest.fixture(scope="module")
def clip(folder):
    return load_clip(folder)


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def photograph() -> np.ndarray:
    pixels = np.full((40, 72, 3), (205, 42, 40), dtype=np.uint8)
    pixels[20:, 36:] = (48, 78, 196)
    return pixels


def vectors(clip, words=WORDS) -> torch.Tensor:
    return Vocabulary.from_names(words, "plain").embed(clip).vectors


@torch.no_grad()
def test_a_word_is_answered_as_by_transformers(clip) -> None:
    """Ours drops padding and keeps the picture; theirs masks padding and sees picture and words at once."""
    model, batch = tiny_sam3(), images()
    seen, told = clip.tower.look(batch), vectors(clip)
    assert told.shape == (3, CONTEXT * 16)
    for word, vector in zip(WORDS, told, strict=True):
        ids = clip.text_tower.tokenizer([word], CONTEXT)
        attended = (
            torch.arange(CONTEXT) <= (ids[0] == model.config.text_config.eos_token_id).int().argmax()
        )[None]
        theirs = model(
            pixel_values=batch, input_ids=ids.expand(2, -1), attention_mask=attended.long().expand(2, -1)
        )
        ours = clip.tower.answer(seen, vector)
        assert ours.masks.shape == (2, QUERIES, 32, 32)
        for found, expected in (
            (ours.masks, theirs.pred_masks),
            (ours.queries, theirs.pred_logits),
            (ours.presence, theirs.presence_logits),
            (ours.semantic, theirs.semantic_seg),
        ):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_values_of_all_words_are_those_of_each_alone(clip) -> None:
    encoder = build_dense("sam3", clip.tower)
    state, told = encoder.encode(images()), vectors(clip)
    both = encoder.decode(state, told).logits
    assert both.shape == (2, 3, 32, 32)
    assert 0 <= both.min() < both.max() <= 1
    assert (both[:, 0] - both[:, 1]).abs().max() > 1e-3
    for index in range(3):
        answers = clip.tower.answer(state, told[index])
        expected = concept_map(answers.masks, answers.queries, answers.presence)
        torch.testing.assert_close(both[:, index], expected)
        of_stuff = (
            build_dense("sam3", clip.tower, stuff=True).decode(state, told[index : index + 1]).logits[:, 0]
        )
        torch.testing.assert_close(of_stuff, expected.maximum(stuff_map(answers.semantic, answers.presence)))
    alone = encoder.decode(encoder.encode(images()[1:]), told).logits
    torch.testing.assert_close(both[1:], alone, rtol=1e-3, atol=1e-4)


def test_one_winner_a_pixel_and_other_words_later_without_another_look(clip, monkeypatch) -> None:
    pipeline = Pipeline.training_free(build_method(default_method(clip.tower), clip.tower), clip)
    assert pipeline.protocol.stretch == SIDE
    segmenter = pipeline.segmenter("red circle, blue square, bricks")
    looks = []
    look = type(clip.tower).look
    monkeypatch.setattr(
        type(clip.tower), "look", lambda self, seen: looks.append(seen.shape) or look(self, seen)
    )
    encoded = segmenter.encode(photograph())
    first = segmenter.segment_encoded(encoded)
    other = segmenter.segment_encoded(encoded, "blue square, stripes")
    assert looks == [(1, 3, SIDE, SIDE)]
    assert first.labels.shape == other.labels.shape == (40, 72)
    state = encoded.batches[0].state
    maps = segmenter.model.decode(state, vectors(clip, ("red circle", "blue square", "bricks"))).logits
    enlarged = torch.nn.functional.interpolate(maps, size=(40, 72), mode="bilinear", align_corners=False)[0]
    assert (first.labels == enlarged.argmax(0).numpy()).mean() > 0.99
    np.testing.assert_allclose(first.scores, enlarged.amax(0).numpy(), atol=1e-4)
    assert "blue square" in set(other.id2label.values())
    unsure = pipeline.segmenter("red circle", threshold=0.99).segment(photograph())
    assert set(np.unique(unsure.labels)) == {1}


def test_a_synonym_counts_for_its_class(clip) -> None:
    pipeline = Pipeline.training_free(build_method("sam3", clip.tower), clip)
    scores = [
        pipeline.segmenter(words).segment(photograph()).scores for words in ("red", "blue", "red; blue")
    ]
    np.testing.assert_allclose(scores[2], np.maximum(scores[0], scores[1]), atol=1e-5)


def test_in_a_benchmark_it_reads_squares_under_no_threshold_of_a_soft_max(clip) -> None:
    class Data:
        classes = ("red circle", "blue square")

    words = (("red circle",), ("blue square",))
    protocol = {
        "short_side": 72,
        "window": 48,
        "stride": 24,
        "logit_scale": 40.0,
        "probability_threshold": 0.3,
    }
    benchmark = Benchmark(name="b", dataset=Data(), words={None: words}, protocol=protocol)
    segmenter = prepare(MethodChoice(name="sam3"), benchmark, clip)
    told = segmenter.protocol
    assert (told.stretch, told.window, told.activation, told.probability_threshold) == (
        SIDE,
        None,
        "scores",
        0.0,
    )
    assert segmenter.segment(photograph()).labels.shape == (40, 72)


def test_one_template(clip) -> None:
    with pytest.raises(
        ConfigError, match=r"reads a word token by token, and 2 sentences of it cannot be averaged"
    ):
        Vocabulary((("red",),), ("{}", "a {}")).embed(clip)


def test_other_sizes_and_features(clip) -> None:
    with pytest.raises(
        ConfigError, match=r"this SAM 3 reads squares of 64 pixels, got 64×72; set protocol.stretch=64"
    ):
        clip.tower.look(torch.zeros(1, 3, 64, 72))
    encoder = build_dense("sam3", clip.tower)
    assert not encoder.offers_features
    with pytest.raises(ConfigError, match="sam3 answers words with masks and has no features"):
        encoder.features(encoder.encode(images()))


def test_its_own_method_alone_reads_it(clip, tiny_clip) -> None:
    assert default_method(clip.tower) == "sam3"
    assert default_clip("sam3") == "facebook/sam3"
    assert default_clip("sclip") == default_clip(None) == "openai/clip-vit-base-patch16"
    for name in set(DENSE_ENCODERS) - {"sam3", "groupvit"}:
        with pytest.raises(
            ConfigError, match=rf"^{name} reads patches .*\(SAM 3\) answers words.*choose the method sam3"
        ):
            build_dense(name, clip.tower)
    with pytest.raises(ConfigError, match=r"^groupvit reads the groups"):
        build_dense("groupvit", clip.tower)
    with pytest.raises(
        ConfigError, match=r"^sam3 reads the answers of a SAM 3 .* \(ViT\) makes none; give a SAM 3"
    ):
        build_dense("sam3", VisionTower(tiny_clip))


def test_what_compares_vectors_refuses_it(folder) -> None:
    with pytest.raises(
        ConfigError, match="a SAM 3 reads words token by token and compares no vectors; give a CLIP"
    ):
        ClipSource(str(folder)).load()
    assert ClipSource(str(folder)).load(pooled=False).tower.own_reading == "sam3"


def test_saved_again_and_released_beside_a_tracker_it_is_the_same(clip, folder, tmp_path) -> None:
    save_clip(clip, tmp_path / "again")
    assert load_clip(tmp_path / "again").fingerprint == clip.fingerprint
    released = tmp_path / "released"
    shutil.copytree(folder, released)
    config = json.loads((folder / "config.json").read_text())
    (released / "config.json").write_text(json.dumps({"model_type": "sam3_video", "detector_config": config}))
    from safetensors.torch import load_file, save_file

    state = {
        f"detector_model.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()
    }
    extra = {"tracker_model.no_memory_embedding": torch.zeros(3), "tracker_neck.x.weight": torch.zeros(2)}
    save_file(state | extra, released / "model.safetensors", metadata={"format": "pt"})
    assert load_clip(released).fingerprint == clip.fingerprint
    del state["detector_model.text_projection.weight"]
    save_file(state, released / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="missing: text_projection.weight"):
        load_clip(released)


def test_gated_weights_and_an_older_transformers(folder, monkeypatch, tmp_path, capsys) -> None:
    Image.fromarray(photograph()).save(tmp_path / "photo.png")
    flags = ["--classes", "red", "--method", "sam3", "--out", str(tmp_path / "out")]
    assert main(["predict", str(tmp_path / "photo.png"), *flags]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert (
        "the weights of 'facebook/sam3' are gated: ask for access on https://huggingface.co/facebook/sam3"
        in told
    )
    assert "hf auth login" in told
    assert "Traceback" not in told
    monkeypatch.setattr(transformers, "Sam3Model", None)
    monkeypatch.setattr(transformers, "__version__", "4.50.1")
    with pytest.raises(
        LexisegError, match=r"Sam3Model, which version 4.50.1 does not have; update .* to 5.0 or later"
    ):
        load_clip(folder)


def test_from_the_command_line(folder, tmp_path, capsys) -> None:
    Image.fromarray(photograph()).save(tmp_path / "photo.png")
    common = [str(tmp_path / "photo.png"), "--classes", "red circle, blue square", "--clip", str(folder)]
    common += ["--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(["predict", *common, "--method", "sam3"]) == 0
    assert main(["predict", *common, "--method", "sam3", "--templates", "imagenet80"]) == 2
    assert "leave templates out" in " ".join(capsys.readouterr().err.split())
    assert main(["compare", *common]) == 0
    assert np.asarray(Image.open(tmp_path / "out" / "photo_labels.png")).shape == (40, 72)
