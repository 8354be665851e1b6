"""LSeg equals the published implementation on its own random weights.

Runs on every folder ``lseg…`` below the ``two-stage`` folders that LEXISEG_GOLDEN names; all sizes are read from the files.
"""

import itertools
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from published_cases import assert_close, difference

from lexiseg.checkpoints.layouts.lseg import clip_of_lseg, detect_lseg, lseg_layout
from lexiseg.clip.formats.openai import openai_to_transformers, text_config_from_openai
from lexiseg.losses.criterion import MaskCriterion
from lexiseg.losses.fused import MaskLossWeights
from lexiseg.models.registry import build_model
from support import golden_folders

FOLDERS = [
    path.parent for root in golden_folders("two-stage") for path in sorted(root.glob("lseg*/weights.npz"))
]
MARKERS = 2
"""Tokens that begin and end a text: the last of the vocabulary."""

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not FOLDERS, reason="LEXISEG_GOLDEN names no two-stage folder with lseg"),
    pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name),
]


@cache
def arrays(path: Path):
    with np.load(path) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


def published(folder):
    return arrays(folder / "weights.npz")


def config(folder):
    return json.loads((folder / "config.json").read_text())


class FreeTower(torch.nn.Module):
    """LSeg asks CLIP's image tower for the width of its words alone."""

    patch_size, image_size = 16, 64

    def __init__(self, embed_dim):
        super().__init__()
        self.embed_dim = embed_dim


def build(folder, **choices):
    state, told = published(folder), config(folder)
    found = detect_lseg(state, heads=told["vit"]["heads"])
    found |= {"taps": [hook + 1 for hook in told["vit"]["hooks"]]} | choices
    model = build_model(found, FreeTower(told["out_c"]))
    layout = lseg_layout(model.settings, told["out_c"], prefix="")
    model.load_state_dict(
        {name: t.float() if t.is_floating_point() else t for name, t in layout.from_published(state).items()}
    )
    return model.eval()


@cache
def text_rows(folder):
    """Embeddings of every sequence of one or two of the tokens that the file knows, un-normalised."""
    from transformers import CLIPTextModelWithProjection

    state = {name: t.float() for name, t in clip_of_lseg(published(folder)).items() if name != "logit_scale"}
    heads = config(folder)["clip_text"]["heads"]
    tower = CLIPTextModelWithProjection(text_config_from_openai(state, activation="quick_gelu", heads=heads))
    tower.load_state_dict(openai_to_transformers(state))
    embedding = state["token_embedding.weight"]
    start, end = len(embedding) - MARKERS, len(embedding) - 1
    words = [int(token) for token in embedding.any(1).nonzero().flatten() if token < start]
    rows = [(word,) for word in words] + list(itertools.permutations(words, 2))
    length = len(state["positional_embedding"])
    ids = torch.tensor([[start, *row, end, *[0] * (length - len(row) - 2)] for row in rows])
    with torch.no_grad():
        return torch.cat([tower(input_ids=part).text_embeds for part in ids[:, :8].split(64)])


@cache
def words(folder):
    """Unit embedding of each label of the case: which tokens make a label, its published numbers say."""
    told, expected = config(folder), arrays(folder / "eval.npz")
    rows = text_rows(folder)
    found = {}
    for label, raw in zip(told["labels"], expected["text_raw"], strict=True):
        distances = [difference(row, raw) for row in rows]
        best = int(np.argmin(distances))
        assert distances[best] < 1e-4, f"{label}: no words of this file give its published embedding"
        found[label] = F.normalize(rows[best], dim=0)
    model = build(folder, block="none")
    with torch.no_grad():
        maps = model(arrays(folder / "inputs.npz")["image"], F.normalize(rows, dim=1)).logits
    for index, label in enumerate(told["other_labels"]):
        channel = expected["out_arch0_other_labels"][:, index]
        distances = (maps - channel[:, None]).abs().amax((0, 2, 3)) / channel.abs().max()
        assert distances.min() < 1e-4, f"{label}: no words of this file give its published map"
        found[label] = F.normalize(rows[int(distances.argmin())], dim=0)
    return found


def text(folder, key="labels"):
    return torch.stack([words(folder)[label] for label in config(folder)[key]])


@torch.no_grad()
def test_every_step_of_the_encoder_and_decoder(folder):
    model, image, expected = (
        build(folder, block="none"),
        arrays(folder / "inputs.npz")["image"],
        arrays(folder / "eval.npz"),
    )
    states = model.encoder.network(image, output_hidden_states=True).hidden_states
    assert_close(states[0], expected["tokens_with_pos"], "tokens with positions")
    for number, tokens in enumerate(model.encoder.tokens(image), start=1):
        assert_close(tokens, expected[f"hooked_tokens_{number}"], f"tapped tokens {number}")
    maps = model.encoder(image)
    for number, level in enumerate(maps, start=1):
        assert_close(level, expected[f"layer{number}_rn/in"], f"level {number}")
        convolved = model.decoder.convolutions[number - 1](level)
        assert_close(convolved, expected[f"layer{number}_rn/out"], f"level {number} for the decoder")
    for number, path in zip((4, 3, 2, 1), model.decoder(maps), strict=True):
        assert_close(path, expected[f"path_{number}"], f"path {number}")
    pixels = model.head(path)
    assert_close(pixels[:, :4], expected["head1_first4ch"], "pixel embeddings")
    assert_close(pixels.norm(dim=1), expected["head1_norm"], "norms of pixel embeddings")
    assert_close(model.encode(image), F.normalize(pixels, dim=1), "unit pixel embeddings")


@torch.no_grad()
def test_masks_of_labels_and_of_other_labels(folder):
    image, expected = arrays(folder / "inputs.npz")["image"], arrays(folder / "eval.npz")
    model = build(folder, block="none")
    assert 1 / model.settings.temperature == pytest.approx(config(folder)["logit_scale"], rel=1e-6)
    out = model(image, text(folder)).logits
    assert_close(out, expected["out_arch0"], "masks")
    assert (out.argmax(1) == expected["argmax_arch0"]).float().mean() > 0.999
    assert_close(
        model(image, text(folder, "other_labels")).logits, expected["out_arch0_other_labels"], "others"
    )
    half = build(folder, block="none", upsampled=False)
    assert_close(half(image, text(folder)).logits, expected["logits_half_res"], "masks at half the size")


@torch.no_grad()
def test_spatial_regularisation(folder):
    image, expected = arrays(folder / "inputs.npz")["image"], arrays(folder / "eval.npz")
    cases = [name for name in expected if name.startswith(("out_arch1", "out_arch2"))]
    assert cases
    for name in cases:
        _, kind, depth, activation = name.split("_")
        block = {"arch1": "bottleneck", "arch2": "depthwise"}[kind]
        model = build(
            folder, block=block, block_depth=int(depth.removeprefix("depth")), activation=activation
        )
        assert_close(model(image, text(folder)).logits[:, :, ::2, ::2], expected[name], name)


@torch.no_grad()
def test_others_against_the_class_of_each_image(folder):
    image, expected = arrays(folder / "inputs.npz")["image"], arrays(folder / "eval.npz")
    names = config(folder)["zs_label_list"]
    chosen = [names[int(index)] for index in expected["zs_class_info"]]
    pairs = torch.stack([torch.stack([words(folder)["others"], words(folder)[name]]) for name in chosen])
    model = build(folder, block="none")  # that protocol's models have none
    state = model.encode(image)
    each = [model.decode(state[index : index + 1], pair).logits for index, pair in enumerate(pairs)]
    assert_close(torch.cat(each), expected["zs_out"], "others and class")


def test_a_training_step(folder):
    numbers = arrays(folder / "train.npz")
    told = config(folder)
    assert "arch_option 1, block_depth 2, lrelu" in told["training_case"]
    model = build(folder, block="bottleneck", block_depth=2, activation="lrelu").train()
    out = model(numbers["image"], text(folder)).logits
    assert_close(out, numbers["out"], "masks in training")
    labels = numbers["label"].where(numbers["label"] >= 0, 255)
    criterion = MaskCriterion(MaskLossWeights(focal=0, dice=0, cross_entropy=1))
    loss = criterion(out, labels)["loss"]
    assert_close(loss, numbers["loss"], "loss")
    loss.backward()
    layout = lseg_layout(model.settings, told["out_c"], prefix="")
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values()), "nothing trains in vain"
    gradients |= {
        name: torch.zeros_like(t) for name, t in model.state_dict().items() if name not in gradients
    }
    ours = layout.to_published(gradients)
    compared = 0
    for name, theirs in numbers.items():
        kind, _, key = name.partition("/")
        if kind == "gradnorm" and key not in ours:
            assert key.startswith("clip_pretrained."), f"{name}: trained there, and not here"
        elif kind in ("grad", "gradnorm"):
            gradient = ours[key]
            if key.endswith("attn.qkv.bias"):  # the keys' third is zero but for rounding
                third = len(gradient) // 3
                rest = [slice(third), slice(2 * third, None)]
                if kind == "grad":
                    for part in rest:
                        assert_close(gradient[part], theirs[part], name)
                    compared += 1
                continue
            assert_close(gradient if kind == "grad" else gradient.norm(), theirs, name)
            compared += 1
    assert compared > 100
    after = layout.to_published(model.state_dict())
    for name, theirs in numbers.items():
        key = name.removeprefix("after/")
        if key != name and key in after:
            assert_close(after[key], theirs, name)


@pytest.mark.parametrize("prefix", ["", "net."])
def test_the_same_bytes(folder, prefix):
    given = {prefix + name: tensor for name, tensor in published(folder).items()}
    told = config(folder)
    model = build(folder)
    clip = {name: tuple(tensor.shape) for name, tensor in clip_of_lseg(given).items()}
    layout = lseg_layout(model.settings, told["out_c"], clip=clip, prefix=prefix)
    assert layout.shapes.keys() == given.keys()
    for name, shape in layout.shapes.items():
        assert all(a in (-1, b) for a, b in zip(shape, given[name].shape, strict=True)), name
    ours = layout.from_published(given)
    assert ours.keys() == model.state_dict().keys()
    back = layout.to_published(ours) | {name: t for name, t in given.items() if name not in layout.live}
    assert back.keys() == given.keys()
    for name, tensor in given.items():
        assert back[name].dtype == tensor.dtype
        assert back[name].contiguous().numpy().tobytes() == tensor.contiguous().numpy().tobytes(), name
