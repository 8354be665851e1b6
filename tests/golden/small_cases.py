"""What the small golden set computes: every method once on a tiny model whose weights follow `rule`."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from rule import SEED, drawn, drawn_bytes, fill, image, tiny_clip, weight, words
from small_guided_cases import GUIDED
from torch import Tensor

from lexiseg.clip.towers.text import ClipTextTower
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.dense import build_dense
from lexiseg.inference.decision import decide
from lexiseg.inference.layout import ImageLayout, WindowLayout
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.losses.criterion import MaskCriterion
from lexiseg.losses.fused import MaskLossWeights
from lexiseg.models.pixel_clip import PixelCLIP
from lexiseg.models.pixel_clip_settings import PixelCLIPSettings
from lexiseg.models.registry import build_model
from lexiseg.ops.class_chunks import LinearMerge, SigmoidMerge
from lexiseg.ops.pamr import color_affinity, pamr
from lexiseg.ops.resize import keep_ratio_size, resize_image, resize_label
from lexiseg.ops.sliding_window import window_grid
from lexiseg.training.optim import OptimSettings, build_optimizer
from lexiseg.types import MaskBatch
from support import merged_maps

Outputs = Iterator[tuple[str, Tensor]]

KEPT = 96
"""Values stored of a tensor, evenly spread over it."""

SEEN, CLASSES, IMAGES, HEIGHT, WIDTH = (0, 1, 3, 4, 6), 7, 2, 24, 40

MODELS = {
    "cascade_clip": {"stages": [[1, 2], [3], [4]]},
    "zegclip": {"stages": [[4]]},
    "spt_seg": {"stages": [[4]], "spectral_grid": 4},
}

SEEDS = {"spt_seg": 7}
"""Where the common seed would leave a model without work: there SPT-SEG's gate shuts out every patch, here some."""

READINGS = {
    "clip": {},
    "maskclip": {},
    "maskclip-refined": {"denoising_threshold": 0.05, "smoothing_threshold": 0.5},
    "sclip": {},
    "clip-surgery": {"blocks": 3},
    "gem": {"blocks": 3},
    "clearclip": {},
    "naclip": {},
    "sc-clip": {"pre_block": 2, "post_block": 1, "multi_blocks": (1, 2)},
    "resclip": {"feedback_threshold": 0.1},
    "proxyclip": {},
    "pixelclip": {},
}


def sampled(tensor: Tensor) -> Tensor:
    """At most ``KEPT`` values, evenly spread."""
    flat = tensor.detach().flatten()
    return flat[torch.arange(min(KEPT, len(flat))) * len(flat) // min(KEPT, len(flat))] if len(flat) else flat


def mask_model(name: str) -> Outputs:
    """Features, masks, scores, losses, gradients and two optimiser steps of a trainable model."""
    tower = VisionTower(tiny_clip())
    quiet = {"prompt_dropout": 0.0, "decoder_dropout": 0.0}
    shape = {"prompt_length": 3, "decoder_heads": 4, "decoder_layers": 2}
    model = build_model({"name": name, **shape, **quiet, **MODELS[name]}, tower).eval()
    fill(model, seed=SEEDS.get(name, SEED))
    pictures, text = image("mask model", HEIGHT, WIDTH, IMAGES), words(CLASSES)
    with torch.no_grad():
        state = model.encode(pictures)
        out = model.decode(state, text)
    yield "class token", state.cls
    for index, (features, masks) in enumerate(zip(state.stages, out.stage_logits, strict=True)):
        yield f"features {index}", features
        yield f"masks {index}", masks
    upsampled = F.interpolate(out.logits, size=(HEIGHT, WIDTH), mode="bilinear", align_corners=False)
    scores = upsampled.sigmoid()
    scores[:, list(SEEN)] -= 0.1
    yield "scores", scores
    yield from _training(name, model.train(), pictures, text[list(SEEN)])


def _training(name: str, model: torch.nn.Module, pictures: Tensor, text: Tensor) -> Outputs:
    """Without the gradients and steps of key biases, which are zero in theory and rounding noise to Adam."""
    spectral = MaskCriterion(MaskLossWeights(dice=0.0, ssim=1.0))
    criterion = spectral if name == "spt_seg" else MaskCriterion()
    labels = drawn_bytes("labels", IMAGES, HEIGHT, WIDTH).long() % (len(text) + 1)
    labels = labels.where(labels < len(text), 255)
    settings = OptimSettings(lr=1e-3, warmup_steps=0)
    optimizer, scheduler = build_optimizer(model, settings, 8)
    for step in range(2):
        losses = criterion(model(pictures, text).logits, labels)
        for key, value in losses.items():
            yield f"step {step} {key}", value
        optimizer.zero_grad()
        losses["loss"].backward()
        for key, parameter in model.named_parameters():
            if step == 0 and parameter.grad is not None and not _is_noise(key):
                yield f"gradient norm of {key}", parameter.grad.norm()
        optimizer.step()
        scheduler.step()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad and not _is_noise(key):
            yield f"{key} after two steps", parameter


def _is_noise(name: str) -> bool:
    return name.endswith((".key.bias", ".k.bias", "k_proj.bias"))


@torch.no_grad()
def reading(name: str) -> Outputs:
    """Features and logits of a training-free reading on a rectangle of 6×8 patches: enough for SC-CLIP's neighbours."""
    tower = VisionTower(tiny_clip())
    method = name.removesuffix("-refined")
    extra = {"proxy": lambda images: F.avg_pool2d(images, 4)} if method == "proxyclip" else {}
    encoder = build_dense(method, tower, **extra, **READINGS[name])
    text = words(CLASSES)
    state = encoder.encode(image("reading", 48, 64, IMAGES))
    yield "features", encoder.features(state, text)
    yield "logits", encoder.decode(state, text).logits


class CharacterTokenizer:
    """A sentence's letters as tokens between a start and an end."""

    def __call__(self, texts, context_length: int) -> Tensor:
        ids = torch.zeros(len(texts), context_length, dtype=torch.long)
        for row, text in enumerate(texts):
            tokens = [95, *(1 + ord(letter) % 80 for letter in text), 96]
            ids[row, : len(tokens)] = torch.tensor(tokens)
        return ids


def pixel_clip() -> Outputs:
    """Assignment, targets, maps, loss and gradients of one PixelCLIP step, and the teacher after it."""
    clip = tiny_clip()
    settings = PixelCLIPSettings(
        clusters=5,
        prompt_length=2,
        prompt_template="in {} of",
        image_size=32,
        mask_size=24,
        decoder_channels=32,
        momentum=0.9,
    )
    model = PixelCLIP(VisionTower(clip), ClipTextTower(clip, CharacterTokenizer()), settings)
    fill(model.decoder)
    with torch.no_grad():
        model.prompts.tokens.copy_(drawn("cluster prompts", *model.prompts.tokens.shape))
        for name, parameter in model.student.named_parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * weight(f"student {name}", tuple(parameter.shape)))
    views = [drawn_bytes(f"{kind} view", IMAGES, 3, 32, 32) for kind in ("weak", "strong")]
    coarse = F.interpolate(drawn("masks", 9, 1, 3, 4), size=(24, 24), mode="bilinear")[:, 0]
    batch = MaskBatch(views[0], views[1], coarse > 0.2, torch.tensor([0] * 4 + [1] * 5))
    model.update_teacher()
    centres = model.prompts()
    found = model.find_targets(batch, centres)
    yield "cluster embeddings", centres
    yield "pooled masks", found.pooled
    yield "shares", found.assignment.shares
    yield "clusters", found.assignment.clusters
    yield "targets", found.targets.flatten(1).sum(1)
    yield "maps", model.similarity_maps(batch.strong[found.images], found, centres)
    loss = model(batch)["loss"]
    yield "loss", loss
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not _is_noise(name):
            yield f"gradient norm of {name}", parameter.grad.norm()


@torch.no_grad()
def resizing() -> Outputs:
    """Images and labels, smaller and larger."""
    picture, label = drawn_bytes("picture", 29, 43, 3), drawn_bytes("label", 29, 43) % 7
    for short_side in (11, 47):
        size = keep_ratio_size((29, 43), short_side)
        yield f"image {size[0]}x{size[1]}", resize_image(picture, size)
        yield f"label {size[0]}x{size[1]}", resize_label(label, size)


@torch.no_grad()
def windows() -> Outputs:
    """Logits of overlapping windows to maps at the photograph's size, labels, and labels refined by colours."""
    source, working, patch = (37, 61), (48, 79), 8
    grid = window_grid(working, 32, 21)
    logits = 3 * drawn("window logits", len(grid), CLASSES, 4, 4)
    layout = WindowLayout(source, working, grid, patch, "bottom_right")
    axes = layout.axes((4, 4), logits.device)
    yield "sigmoid maps", merged_maps(SigmoidMerge(logits, *axes), source, CLASSES)
    linear = merged_maps(LinearMerge(logits, *axes), source, CLASSES)
    yield "linear maps", linear
    protocol = InferenceProtocol(window=32, stride=21, seen_penalty=0.1, activation="sigmoid")
    labels, scores, _ = decide(
        [(slice(0, CLASSES), (logits,))],
        ImageLayout.single(layout),
        protocol,
        class_ids=torch.arange(CLASSES),
        seen_ids=SEEN,
    )
    yield "labels", torch.from_numpy(labels)
    yield "scores", torch.from_numpy(scores)
    yield "refined maps", pamr(linear[None], color_affinity(image("colours", *source)), steps=3)


CASES: dict[str, Callable[[], Outputs]] = {
    **{name: lambda name=name: mask_model(name) for name in MODELS},
    **{f"reading-{name}": lambda name=name: reading(name) for name in READINGS},
    **GUIDED,
    "pixel_clip": pixel_clip,
    "resizing": resizing,
    "windows": windows,
}
"""Every case by the name of its file."""


def outputs(name: str) -> dict[str, Tensor]:
    """What is stored of a case: at most ``KEPT`` values of every tensor, and of the larger ones the mean size of all."""
    stored: dict[str, Tensor] = {}
    for key, tensor in CASES[name]():
        stored[key] = sampled(tensor)
        if tensor.numel() > KEPT:
            stored[f"{key}: mean size"] = tensor.detach().double().abs().mean()[None].float()
    return stored
