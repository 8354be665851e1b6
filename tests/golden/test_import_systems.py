"""Released files of models of regions through the command's own recipe: in, used, and out with the same bytes."""

import numpy as np
import pytest
import torch
from fc_clip_cases import clip_of_fc_clip, folders_with, load

from lexiseg.checkpoints.published_system import SYSTEMS
from lexiseg.checkpoints.training_file import load_tensors_only
from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.errors import CheckpointError, ConfigError, LexisegError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.recipes.export_published import export_published_file
from lexiseg.recipes.import_published import PublishedImport, import_published_file

VOCABULARY = 49408
CASES = [
    *((folder, "san_weights.pt", "ov_classifier.") for folder in folders_with("san_weights.pt")),
    *((folder, "fcclip_weights.pt", "backbone.clip_model.") for folder in folders_with("fcclip_weights.pt")),
]
each_case = pytest.mark.parametrize(
    ("folder", "name", "text"), CASES, ids=[folder.name for folder, _, _ in CASES]
)


def released(folder, name, text):
    """The file as the release writes it, with the whole token embedding."""
    stored = load(folder, name)
    tokens = torch.zeros(VOCABULARY, stored["token_embedding_rows"].shape[1])
    tokens[stored["token_embedding_ids"]] = stored["token_embedding_rows"]
    return {**stored["state_dict"], f"{text}token_embedding.weight": tokens}, stored["config"]


def heads(published, sizes):
    """Of the two towers, which no file stores and the goldens choose freely."""
    return {"text_heads": sizes["th"]} | (
        {"vision_heads": sizes["D"] // sizes["head_width"]}
        if "D" in sizes
        else {}
        if any(".trunk." in name for name in published)
        else {
            "vision_heads": len(clip_of_fc_clip(published)["visual.attnpool.q_proj.bias"])
            // sizes["head_width"]
        }
    )


@each_case
def test_a_released_file_is_used_and_written_back_with_the_same_bytes(folder, name, text, tmp_path):
    published, sizes = released(folder, name, text)
    torch.save({"model": published, "iteration": 7}, tmp_path / "released.pth")
    written = import_published_file(
        PublishedImport(tmp_path / "released.pth", {"source": None, **heads(published, sizes)})
    )
    assert written.clip is not None
    pipeline = Pipeline.load(written.checkpoint, device="cpu")
    assert pipeline.protocol.activation == "scores"
    sides = (800, 1333) if "fcclip" in name else (640, 2560)
    assert (pipeline.protocol.short_side, pipeline.protocol.long_side) == sides
    assert (pipeline.protocol.resize, pipeline.protocol.combine) == ("pillow", "masks")
    assert len(pipeline.templates) == 14
    again = export_published_file(written.checkpoint, tmp_path / "again.pth")
    assert again.tensors == len(published)
    state = load_tensors_only(tmp_path / "again.pth")["model"]
    assert list(state) == list(published)
    for key, tensor in published.items():
        assert state[key].dtype == tensor.dtype
        assert torch.equal(state[key], tensor), key


@each_case
def test_a_wrong_file_is_refused_by_key(folder, name, text, tmp_path):
    published, sizes = released(folder, name, text)
    where = {"source": None, **heads(published, sizes)}
    broken = dict(published)
    lost = next(
        key for key in published if key.startswith(("side_adapter", "sem_seg_head")) and "norm" in key
    )
    broken["extra.weight"] = broken.pop(lost)
    torch.save({"model": broken}, tmp_path / "broken.pth")
    with pytest.raises(CheckpointError, match=rf"missing: {lost}.*unknown: extra\.weight"):
        import_published_file(PublishedImport(tmp_path / "broken.pth", where))
    assert [path.name for path in tmp_path.iterdir()] == ["broken.pth"]


@each_case
def test_without_its_side_car_nothing_is_written(folder, name, text, tmp_path):
    published, sizes = released(folder, name, text)
    torch.save({"model": published}, tmp_path / "released.pth")
    written = import_published_file(
        PublishedImport(tmp_path / "released.pth", {"source": None, **heads(published, sizes)})
    )
    written.sidecar.unlink()
    with pytest.raises(CheckpointError, match="give --sidecar"):
        export_published_file(written.checkpoint, tmp_path / "again.pth")
    assert not (tmp_path / "again.pth").exists()


@each_case
def test_another_clip_is_not_taken_for_the_one_inside(folder, name, text, tmp_path):
    published, _ = released(folder, name, text)
    torch.save({"model": published}, tmp_path / "released.pth")
    with pytest.raises(ConfigError, match="leave --clip out"):
        import_published_file(PublishedImport(tmp_path / "released.pth", {"source": "toy"}))


def test_a_file_that_holds_a_mark_and_nothing_else_is_refused(tmp_path):
    for system in SYSTEMS:
        torch.save({"model": {system.mark: torch.zeros(1, 2)}}, tmp_path / "x.pth")
        with pytest.raises(LexisegError):
            import_published_file(PublishedImport(tmp_path / "x.pth", {"source": "toy"}))


def test_a_file_of_the_cascade_family_needs_its_clip_named(tmp_path):
    torch.save({"state_dict": {"decode_head.x": torch.zeros(2)}}, tmp_path / "x.pth")
    with pytest.raises(ConfigError, match="say with --clip"):
        import_published_file(PublishedImport(tmp_path / "x.pth", {"source": None}))


@each_case
def test_an_imported_model_segments_a_photograph(folder, name, text, tmp_path, monkeypatch):
    published, sizes = released(folder, name, text)
    torch.save({"model": published}, tmp_path / "released.pth")
    written = import_published_file(
        PublishedImport(tmp_path / "released.pth", {"source": None, **heads(published, sizes)})
    )
    pipeline = Pipeline.load(written.checkpoint, device="cpu")
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    width = pipeline.clip.tower.embed_dim
    vectors = torch.nn.functional.normalize(
        torch.randn(4, width, generator=torch.Generator().manual_seed(1)), dim=-1
    )
    monkeypatch.setattr(
        Vocabulary, "embed", lambda *_: TextEmbeddings(vectors, torch.tensor([0, 1, 1, 2]))
    )  # the file brings no tokenizer
    picture = np.random.default_rng(3).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    result = pipeline.segmenter("dog, cat; kitten, sky").segment(picture)
    assert result.labels.shape == (61, 83)
    assert np.isfinite(result.scores).all()
