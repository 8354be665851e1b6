"""A frozen CLIP written as a Hugging Face folder: the same weights, tokens and embeddings, for us and for transformers."""

import gzip
import itertools
import json
import string

import pytest
import torch
from transformers import CLIPModel, CLIPTokenizer

from lexiseg.clip.loading import load_clip
from lexiseg.clip.saving import save_clip
from lexiseg.clip.tokenizer import huggingface_tokenizer, openai_tokenizer
from lexiseg.clip.towers.text import ClipTextTower
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import LexisegError
from openai_files import openai_state

SENTENCES = ("A photo of a red circle.", "isn't it? 42 STRIPED squares!!", "  naïve &amp; <|endoftext|>")


@pytest.fixture(scope="module")
def toy():
    return load_clip("toy")


@pytest.fixture(scope="module")
def saved(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "clip"
    save_clip(toy, folder)
    return folder


def test_the_same_clip_comes_back(toy, saved):
    again = load_clip(saved)
    assert again.fingerprint == toy.fingerprint
    assert again.logit_scale == toy.logit_scale
    assert again.known_words == toy.known_words
    words = Vocabulary.from_text("red circle, bricks; sand", templates="single")
    assert torch.equal(words.embed(again).vectors, words.embed(toy).vectors)
    image = torch.randn(2, 3, 40, 56)
    assert torch.equal(again.vision(image), toy.vision(image))


def test_transformers_loads_it(toy, saved):
    model, report = CLIPModel.from_pretrained(saved, output_loading_info=True)
    assert not any(report[f"{kind}_keys"] for kind in ("missing", "unexpected", "mismatched"))
    tokens = CLIPTokenizer.from_pretrained(saved)(["a red circle"], return_tensors="pt")
    found = model.get_text_features(**tokens)
    found = torch.nn.functional.normalize(getattr(found, "pooler_output", found), dim=-1)
    torch.testing.assert_close(found, toy.text_tower.encode(["a red circle"]), rtol=1e-5, atol=1e-6)
    assert json.loads((saved / "preprocessor_config.json").read_text())["size"] == {"shortest_edge": 48}


def test_a_clip_from_openais_layout(toy, tiny_clip, tmp_path):
    """Head counts and activation, which a bare state dict does not hold, are in the folder."""
    torch.save(openai_state(tiny_clip), tmp_path / "clip.pt")
    clip = load_clip(tmp_path / "clip.pt", activation="gelu", vision_heads=3, text_heads=2)
    with pytest.raises(LexisegError, match="has no tokenizer"):
        save_clip(clip, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    clip.text_tower = ClipTextTower(tiny_clip, toy.text_tower.tokenizer)
    save_clip(clip, tmp_path / "folder")
    again = load_clip(tmp_path / "folder")
    assert again.fingerprint == clip.fingerprint
    image = torch.randn(1, 3, 24, 40)
    # Not bit for bit: torch's matrix products round by where weights lie in memory, and another file lies elsewhere.
    torch.testing.assert_close(again.vision(image), clip.vision(image), rtol=1e-6, atol=1e-6)


def test_tokens_stay_the_same(toy, tmp_path):
    tokenizer = toy.text_tower.tokenizer
    tokenizer.save(tmp_path, context_length=77)
    again = huggingface_tokenizer(str(tmp_path))
    assert torch.equal(again(SENTENCES, 77), tokenizer(SENTENCES, 77))


def test_tokens_of_openais_vocabulary_stay_the_same(tmp_path):
    """Its padding is token 0, an exclamation mark: as a marker it would change sentences that hold one."""
    letters = [*string.ascii_letters, *string.digits, *string.punctuation]
    lasts = [f"{letter}</w>" for letter in letters]
    firsts = [f"{one}{two}" for one, two in itertools.product(string.ascii_lowercase, repeat=2)]
    pairs = list(itertools.islice(itertools.product([*letters, *firsts], [*letters, *lasts]), 48894))
    path = tmp_path / "bpe_simple_vocab_16e6.txt.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(["header", *(" ".join(pair) for pair in pairs), ""]))
    tokenizer = openai_tokenizer(path)
    tokenizer.save(tmp_path, context_length=77)
    again = huggingface_tokenizer(str(tmp_path))
    for sentence in SENTENCES[:2]:
        ours, theirs = tokenizer([sentence], 77)[0], again([sentence], 77)[0]
        length = int((ours == ours.max()).nonzero()[0]) + 1
        assert torch.equal(theirs[:length], ours[:length])
        assert (theirs[length:] == ours.max()).all(), "padding is the end marker"


@pytest.mark.parametrize(
    "content",
    [b"\x80\x02X", gzip.compress(b"\xff\xfe\x00", mtime=0)[:-9], gzip.compress(b"\xff\xfe", mtime=0)],
)
def test_a_broken_vocabulary_file(tmp_path, content):
    path = tmp_path / "bpe.txt.gz"
    path.write_bytes(content)
    with pytest.raises(LexisegError, match=r"expected OpenAI's bpe_simple_vocab_16e6\.txt\.gz"):
        openai_tokenizer(path)
