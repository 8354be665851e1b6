"""PixelCLIP equals the published implementation on the same random weights.

Runs on every ``PixelCLIP__TAG.npz`` of the folders that LEXISEG_GOLDEN names; the weights are those of
``training-free/clip_TAG.pt`` beside them, or of the folder that another entry of LEXISEG_GOLDEN names.
"""

import dataclasses
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from published_cases import assert_close, difference, last_of
from torch import Tensor
from transformers import CLIPModel

from lexiseg.clip.formats.openai import config_from_openai, model_from_openai
from lexiseg.clip.towers.text import ClipTextTower
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.dense import build_dense
from lexiseg.models.convolutional_mask_decoder import ConvolutionalMaskDecoder
from lexiseg.models.mask_clustering import assign_masks, merge_by_cluster
from lexiseg.models.momentum_teacher import MomentumTeacher
from lexiseg.models.pixel_clip import PixelCLIP
from lexiseg.models.pixel_clip_settings import PixelCLIPOptimSettings, PixelCLIPSettings
from lexiseg.ops.mask_pooling import pool_by_masks, resize_masks
from lexiseg.types import MaskBatch
from support import golden_folders

FILES = [path for folder in golden_folders("pixelclip") for path in sorted(folder.glob("PixelCLIP__*.npz"))]
PROMPTS = "sem_seg_head.predictor.prompt_tokens"
VISUAL = "sem_seg_head.predictor.clip_model."

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not FILES, reason="LEXISEG_GOLDEN names no pixelclip folder"),
    pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem),
]

UPSTREAM_TOLERANCE = 1e-3
"""For gradients that came through the decoder's ReLUs: a similarity map that differs by one rounding (1e-6) opens or
closes a unit, which moves single entries of the gradient by up to 1e-2. Ours are computed in float64, so that only the
published run's roundings are left; in float32 the processor decides whether a unit of ours flips."""

PUBLISHED_SIDE = 64
"""What the release upsamples features to before it compares them with words, whatever the tower."""

HEAD = {
    "conv0": "opening",
    "up1": "first_upsampling",
    "conv1.double_conv.0": "first_block.0",
    "conv1.double_conv.1": "first_block.1",
    "conv1.double_conv.3": "first_block.2",
    "conv1.double_conv.4": "first_block.3",
    "up2": "second_upsampling",
    "conv2.double_conv.0": "second_block.0",
    "conv2.double_conv.1": "second_block.1",
    "conv2.double_conv.3": "second_block.2",
    "conv2.double_conv.4": "second_block.3",
    "proj": "closing",
}
"""Published names of the decoder's layers, and ours."""


class TemplateTokenizer:
    """Knows the template alone: its tokens as the file gives them, cut where the prompt stands."""

    def __init__(self, template: Tensor, placeholder: int) -> None:
        tokens = template[0].tolist()
        places = [i for i, token in enumerate(tokens) if token == placeholder]
        self.start, self.end = tokens[0], max(tokens)
        last = tokens.index(self.end)
        self.pieces = {"": [], "before ": tokens[1 : places[0]], " after": tokens[places[-1] + 1 : last]}

    def __call__(self, texts, context_length):
        ids = torch.zeros(len(texts), context_length, dtype=torch.long)
        for row, text in enumerate(texts):
            tokens = [self.start, *self.pieces[text], self.end]
            ids[row, : len(tokens)] = torch.tensor(tokens)
        return ids


@cache
def load(path: Path) -> dict[str, Tensor]:
    arrays = np.load(path)
    return {
        name: torch.from_numpy(arrays[name]) for name in arrays.files if arrays[name].dtype.kind in "fiub"
    }


@cache
def names(path: Path, key: str) -> list[str]:
    return np.load(path)[key].tolist()


def clip_name(path: Path) -> str:
    return f"clip_{path.stem.split('__')[1]}.pt"


def clip_folders(path: Path) -> list[Path]:
    """Folders with the weights behind a file: beside its own, then those that LEXISEG_GOLDEN names."""
    folders = [path.parent.parent / "training-free", *golden_folders("training-free")]
    return [folder for folder in folders if (folder / clip_name(path)).is_file()]


@cache
def clip(path: Path) -> CLIPModel:
    folders = clip_folders(path)
    if not folders:
        pytest.skip(f"no weights {clip_name(path)}")
    state = torch.load(folders[0] / clip_name(path), weights_only=True)
    return model_from_openai(state, config_from_openai(state, activation="quick_gelu")).eval()


def text_tower(path: Path) -> ClipTextTower:
    file = load(path)
    tokenizer = TemplateTokenizer(file["tokenizer/template"], int(file["tokenizer/token_pos"]))
    return ClipTextTower(clip(path), tokenizer)


def set_decoder(decoder: ConvolutionalMaskDecoder, file: dict[str, Tensor]) -> None:
    decoder.load_state_dict(
        {
            f"{HEAD[layer]}.{kind}": value
            for key, value in file.items()
            if key.startswith("head/w/")
            for layer, kind in [key.removeprefix("head/w/").rsplit(".", 1)]
        }
    )


def set_tower(tower: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Published weights into a tower of ours; the joint projection of a block becomes three."""
    ours = dict(tower.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            mine = our_names(name)
            for target, part in zip(mine, value.chunk(len(mine)), strict=True):
                ours[target].copy_(part)


def our_names(published: str) -> list[str]:
    """Names in our image tower of one published tensor under ``visual.``."""
    if published == "visual.positional_embedding":
        return ["vision.embeddings.position_embedding.weight"]
    match = re.fullmatch(
        r"visual\.transformer\.resblocks\.(\d+)\.attn\.(in_proj_|out_proj\.)(\w+)", published
    )
    block, which, kind = match.groups()
    parts = ["q_proj", "k_proj", "v_proj"] if which == "in_proj_" else ["out_proj"]
    return [f"vision.encoder.layers.{block}.self_attn.{part}.{kind}" for part in parts]


def under(file: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in file.items() if key.startswith(prefix)}


def step_model(path: Path) -> tuple[PixelCLIP, MaskBatch]:
    """Model and batch of the published training step."""
    file = load(path)
    clusters, length = file["prompt/words"].shape
    image_size, mask_size = file["step/image_a"].shape[-1], file["step/target"].shape[-1]
    settings = PixelCLIPSettings(
        clusters=clusters,
        prompt_length=length,
        prompt_template="before {} after",
        image_size=image_size,
        mask_size=mask_size,
        decoder_channels=len(file["head/w/conv0.weight"]),
    )
    model = PixelCLIP(VisionTower(clip(path)), text_tower(path), settings)
    set_decoder(model.decoder, file)
    set_tower(model.student.tower, under(file, "step/student_w/"))
    set_tower(model.teacher.average.tower, under(file, "step/teacher_w_before/"))
    masks = [file["clusters/masks0"], file["clusters/masks1"]]
    owners = torch.tensor([0, 1]).repeat_interleave(torch.tensor([len(m) for m in masks]))
    views = [torch.stack([file[f"step/{kind}_a"], file[f"step/{kind}_b"]]) for kind in ("image", "strong")]
    return model, MaskBatch(*views, torch.cat(masks), owners)


def gradients(path: Path, dtype: torch.dtype) -> tuple[dict[str, Tensor], PixelCLIP, Tensor]:
    """Loss and gradients of the published step, under the published names; what nothing reaches is 0."""
    model, batch = step_model(path)
    for part in (model, model.student.tower, model.teacher.average.tower):
        part.to(dtype)
    batch = dataclasses.replace(batch, weak=batch.weak.to(dtype), strong=batch.strong.to(dtype))
    model.update_teacher()
    loss = model(batch)["loss"]
    loss.backward()
    student, decoder = dict(model.student.tower.named_parameters()), dict(model.decoder.named_parameters())
    found = {}
    for name in names(path, "step/grad_names"):
        if name == PROMPTS:
            found[name] = model.prompts.tokens.grad
        elif name.startswith(VISUAL):
            mine = [student[our] for our in our_names(name.removeprefix(VISUAL))]
            found[name] = torch.cat([torch.zeros_like(p) if p.grad is None else p.grad for p in mine])
        else:
            layer, kind = name.removeprefix("head.").rsplit(".", 1)
            found[name] = decoder[f"{HEAD[layer]}.{kind}"].grad
    return found, model, loss.detach()


@torch.no_grad()
def test_dense_features(path):
    file = load(path)
    inputs = np.load(next(folder / "inputs.npz" for folder in clip_folders(path)))
    tower = VisionTower(clip(path))
    encoder = build_dense("pixelclip", tower)
    for key, expected in under(file, "dense/").items():
        image = torch.from_numpy(inputs[key]).float()
        assert_close(encoder.encode(image).features.permute(0, 2, 3, 1), expected, f"dense {key}")
        assert_close(tower(image), file[f"nodense/{key}"], f"class token {key}")


@torch.no_grad()
def test_prompted_text(path):
    file, (model, _) = load(path), step_model(path)
    words = file["prompt/words"]
    table = clip(path).text_model.embeddings.token_embedding
    assert torch.equal(model.prompts.tokens, table(words))  # the same draw as the release's
    assert_close(model.prompts(), file["prompt/text_embeds"], "text embeddings")


def clustered(path: Path, masks: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Similarity, shares and targets of the published clustering case."""
    file = load(path)
    features, centres = file["clusters/teacher_feats"], file["clusters/embeddings"]
    side, (images, count) = file["clusters/target"].shape[-1], file["clusters/target"].shape[:2]
    small = resize_masks(torch.cat(masks), side)
    owners = torch.arange(len(masks)).repeat_interleave(torch.tensor([len(m) for m in masks]))
    kept = small.flatten(1).sum(1) > 1
    small, owners = small[kept], owners[kept]
    found = assign_masks(pool_by_masks(features, small, owners), centres, scale=100.0, iterations=3)
    targets = merge_by_cluster(small, found.clusters, owners, images=images, count=count)
    return 100 * found.similarity, found, targets


def test_clusters_and_targets(path):
    file = load(path)
    logits, found, targets = clustered(path, [file["clusters/masks0"], file["clusters/masks1"]])
    assert_close(logits, file["clusters/logits"], "logits")
    assert_close(found.shares, file["clusters/assignment"], "assignment")
    assert torch.equal(found.clusters, file["clusters/hard"])
    assert torch.equal(targets, file["clusters/target"].bool())
    *_, targets = clustered(path, [file["clusters/masks0"], file["clusters/masks1"][:0]])
    assert torch.equal(targets, file["clusters/target_second_empty"].bool())


@torch.no_grad()
def test_decoder(path):
    file = load(path)
    decoder = ConvolutionalMaskDecoder(len(file["head/w/conv0.weight"]))
    set_decoder(decoder, file)
    assert_close(decoder(file["head/in"]), file["head/out"], "decoder")


def test_momentum(path):
    file, (model, _) = load(path), step_model(path)
    layer = next(n for n in names(path, "step/grad_names") if n.endswith(".resblocks.0.attn.in_proj_weight"))
    name = layer.removeprefix(VISUAL)
    teacher = MomentumTeacher(model.student, 0.999)
    set_tower(model.student.tower, {name: file["momentum/student"]})
    set_tower(teacher.average.tower, {name: file["momentum/teacher_before"]})
    teacher.update(model.student)
    weights = dict(teacher.average.tower.named_parameters())
    after = torch.cat([weights[our] for our in our_names(name)])
    assert_close(after, file["momentum/teacher_after"], "teacher")
    moved = file["momentum/teacher_after"] - file["momentum/teacher_before"]
    assert difference(after - file["momentum/teacher_before"], moved) <= 1e-3  # a move of 1e-3 of the weights


@torch.no_grad()
def test_step_forward(path):
    file, (model, batch) = load(path), step_model(path)
    model.update_teacher()
    centres = model.prompts()
    assert_close(model.teacher(model.normalize(batch.weak)), file["step/teacher_feat"], "teacher")
    found = model.find_targets(batch, centres)
    assert_close(100 * found.assignment.similarity, file["step/sinkhorn_logits"], "logits")
    assert torch.equal(found.targets, file["step/target"].flatten(0, 1).bool())
    maps = model.similarity_maps(batch.strong[found.images], found, centres)
    assert_close(maps[:, None], file["step/cost_volume"], "maps")
    assert_close(model.decoder(maps[:, None]), file["step/head_out"], "decoder")
    assert_close(model(batch)["loss"], file["step/loss"], "loss")


def recorded_gradients(path: Path) -> dict[str, Tensor]:
    """Those that the file holds whole, under the published names. They were written down after clipping."""
    file = load(path)
    last = last_of(n for n in names(path, "step/grad_names") if n.endswith("attn.in_proj_weight"))
    whole = {
        PROMPTS: file["step/grad_prompt_tokens"],
        f"{VISUAL}visual.positional_embedding": file["step/grad_pos"],
        last: file["step/grad_qkv_last"],
    }
    return whole | {f"head.{key}": value for key, value in under(file, "step/grad_head.").items()}


def test_step_gradients(path):
    file, (found, _, loss) = load(path), gradients(path, torch.float64)
    assert_close(loss, file["step/loss"], "loss")
    clipping = PixelCLIPOptimSettings().gradient_clip / file["optim/total_grad_norm"]
    for name, expected in recorded_gradients(path).items():
        tolerance = 1e-4 if name.startswith("head.") else UPSTREAM_TOLERANCE
        assert difference(found[name] * clipping, expected) <= tolerance, name
    for name, expected in zip(names(path, "step/grad_names"), file["step/grad_norms"], strict=True):
        assert float(found[name].norm()) == pytest.approx(float(expected), rel=UPSTREAM_TOLERANCE), name


def test_parameter_groups(path):
    file, (model, _) = load(path), step_model(path)
    rates = {
        id(p): (group["lr"], group["weight_decay"])
        for group in model.parameter_groups(PixelCLIPOptimSettings())
        for p in group["params"]
    }
    student, decoder = dict(model.student.tower.named_parameters()), dict(model.decoder.named_parameters())
    seen = set()
    for name, lr, decay in zip(names(path, "optim/names"), file["optim/lr"], file["optim/wd"], strict=True):
        if name == PROMPTS:
            ours = [model.prompts.tokens]
        elif name.startswith(VISUAL):
            ours = [student[n] for n in our_names(name.removeprefix(VISUAL))]
        else:
            layer, kind = name.removeprefix("head.").rsplit(".", 1)
            ours = [decoder[f"{HEAD[layer]}.{kind}"]]
        trained = [p for p in ours if p.requires_grad]  # all but the last block's queries and keys
        assert trained
        for parameter in trained:
            assert rates[id(parameter)] == pytest.approx((float(lr), float(decay)))
            seen.add(id(parameter))
    assert seen == rates.keys() == {id(p) for p in model.parameters() if p.requires_grad}


def test_optimiser_step(path):
    """From the recorded gradients: Adam divides by their size, so it would blow up their rounding."""
    file, (_, model, _) = load(path), gradients(path, torch.float32)
    settings = PixelCLIPOptimSettings()
    trained = [p for p in model.parameters() if p.requires_grad]
    norm = torch.nn.utils.clip_grad_norm_(trained, settings.gradient_clip)
    assert_close(norm, file["optim/total_grad_norm"], "norm")
    recorded = recorded_gradients(path)
    tokens, opening = model.prompts.tokens, model.decoder.opening.weight
    tokens.grad, opening.grad = recorded[PROMPTS].clone(), recorded["head.conv0.weight"].clone()
    before = tokens.detach().clone(), opening.detach().clone()
    groups = model.parameter_groups(settings)
    torch.optim.AdamW(groups, betas=settings.betas, eps=settings.eps).step()
    assert_close(tokens.detach() - before[0], file["optim/prompt_delta"], "prompts")
    assert_close(opening.detach() - before[1], file["optim/conv0_delta"], "decoder")


@pytest.mark.parametrize(
    ("image", "key"), [("step/image_a", "sem_seg"), ("infer/nonsq_image", "nonsq_sem_seg")]
)
@torch.no_grad()
def test_inference(path, image, key):
    """The published inference of a stretched image, made of our parts."""
    file, (model, _) = load(path), step_model(path)
    encoder = build_dense("pixelclip", model.tuned_tower())
    features = encoder.encode(model.normalize(file[image][None])).features
    if key == "sem_seg":
        assert_close(features.permute(0, 2, 3, 1), file["infer/clip_feat"], "features")
    fine = build_dense("pixelclip", model.tuned_tower(), feature_side=PUBLISHED_SIDE)
    cosines = fine(model.normalize(file[image][None]), F.normalize(file["infer/text"], dim=1))
    expected = file[f"infer/{key}"]
    assert_close(F.interpolate(cosines, size=expected.shape[-2:], mode="bilinear")[0], expected, key)
