"""What an import keeps of the class file that is given with a released file."""

import pytest
import torch

import stage_towers
from lexiseg.checkpoints.layouts.fc_clip import CLIP, fc_clip_layout
from lexiseg.checkpoints.training_file import load_tensors_only, read_info
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import CheckpointError
from lexiseg.inference.words import known_words
from lexiseg.recipes.import_published import PublishedImport, import_published_file

CLIP_HOW = {"source": None, "text_heads": 2}


@pytest.fixture
def released(tiny_clip, tmp_path):
    """A file as FC-CLIP releases it, of tiny sizes."""
    model = stage_towers.fc_clip("ConvNeXt", tiny_clip)
    text = stage_towers.openai_state(tiny_clip)
    for name in [name for name in text if ".mlp." in name and not name.startswith("visual.")]:
        if (
            "c_proj.bias" not in name
        ):  # released text towers have four times their width inside, the tiny one twice
            text[name] = torch.cat([text[name]] * 2, dim=1 if "c_proj" in name else 0)
    clip = stage_towers.convnext_files.convnext_state(text, hidden=19)
    ours = fc_clip_layout(model.settings, model.tower).to_published(model.state_dict())
    path = tmp_path / "released.pth"
    torch.save({"model": {**{CLIP + name: tensor for name, tensor in clip.items()}, **ours}}, path)
    return path


def test_all_words_of_a_class_are_known(released, tmp_path):
    classes = tmp_path / "classes.txt"
    classes.write_text("cat; kitten; Kitty\nsofa\nroad; lane\n")
    written = import_published_file(PublishedImport(released, CLIP_HOW, classes_file=classes))
    info = read_info(load_tensors_only(written.checkpoint), written.checkpoint)
    assert info.split.classes == ("cat", "sofa", "road")
    assert info.synonyms == {"cat": ("kitten", "Kitty"), "road": ("lane",)}
    asked = Vocabulary.from_text("tabby; kitten, Sofa, bike lane, Lane")
    assert known_words(asked, info.split, info.synonyms) == ("kitten", "Sofa", "Lane")


def test_a_synonym_of_an_unseen_class_is_new(released, tmp_path):
    classes = tmp_path / "classes.txt"
    classes.write_text("cat; kitten\nsofa\n")
    split = {"name": "custom", "unseen": ["cat"]}
    written = import_published_file(PublishedImport(released, CLIP_HOW, split=split, classes_file=classes))
    info = read_info(load_tensors_only(written.checkpoint), written.checkpoint)
    assert known_words(Vocabulary.from_text("kitten, sofa"), info.split, info.synonyms) == ("sofa",)


@pytest.mark.parametrize("synonyms", [{"dog": ["puppy"]}, {"cat": [3]}, ["cat"]])
def test_synonyms_of_nothing_are_refused(released, tmp_path, synonyms):
    classes = tmp_path / "classes.txt"
    classes.write_text("cat; kitten\n")
    written = import_published_file(PublishedImport(released, CLIP_HOW, classes_file=classes))
    checkpoint = load_tensors_only(written.checkpoint)
    checkpoint["lexiseg"]["synonyms"] = synonyms
    with pytest.raises(CheckpointError, match="its description cannot be used"):
        read_info(checkpoint, "x.ckpt")


def test_a_description_of_before_has_no_synonyms(released, tmp_path):
    written = import_published_file(PublishedImport(released, CLIP_HOW))
    checkpoint = load_tensors_only(written.checkpoint)
    del checkpoint["lexiseg"]["synonyms"]
    assert read_info(checkpoint, "x.ckpt").synonyms == {}


def test_a_checkpoint_of_our_own_is_not_imported(released, tmp_path):
    ours = import_published_file(PublishedImport(released, CLIP_HOW)).checkpoint
    for out in (None, tmp_path / "again.ckpt"):
        with pytest.raises(
            CheckpointError, match=f"{ours}: a checkpoint of lexiseg already.*lexiseg eval {ours}"
        ):
            import_published_file(PublishedImport(ours, CLIP_HOW, out=out))
    torch.save({"lexiseg_pixelclip": {}, "state_dict": {}}, ours)
    with pytest.raises(CheckpointError, match="training state of `lexiseg pixelclip`"):
        import_published_file(PublishedImport(ours, CLIP_HOW))
