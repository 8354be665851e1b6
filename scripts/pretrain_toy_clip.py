"""Train the toy world's CLIP from scratch on rendered crops and their captions, never on a mask.

The result is an ordinary Hugging Face CLIP folder (weights, configuration, tokenizer, image preprocessing)
and ``known_words.txt``, every word the captions used. One run, two phases: the class token learns the shapes
first, then the patch tokens learn what it knows. Every crop is drawn at a scale of its own, so that textures
and patterns are known at more than one size.

    python scripts/pretrain_toy_clip.py --out FOLDER
"""

import argparse
import json
import random
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.utils.logging import disable_progress_bar

from lexiseg.constants import CLIP_MEAN, CLIP_STD
from lexiseg.data.toy.scene import render_scene, sample_crop
from lexiseg.data.toy.world import TOY_GROUNDS, TOY_OBJECTS, TOY_UNSEEN
from toy_captions import CONTEXT, caption, caption_words, make_tokenizer, tell, tells

SIZE, PATCH, WIDTH, HEADS, VISION_BLOCKS, TEXT_BLOCKS, PROJECTION = 48, 8, 96, 3, 12, 4, 64
MAX_LOGIT_SCALE = float(np.log(100))
KINDS = (1, 2, 0)
KIND_SHARES = (0.68, 0.23, 0.09)
"""How many objects a training crop shows, and how often."""
EASY_RADIUS, EASY_SHARE = 17.0, 0.3


@dataclass(frozen=True)
class Phase:
    """One warm-up and cosine of the learning rate over crops of its own.

    Attributes:
        steps: Optimiser steps.
        rate: Peak learning rate.
        patch_share: Share of the loss that is read from the patch tokens, 0 to 1.
        easy_share: Share of the steps over which small figures are admitted little by little.
    """

    steps: int
    rate: float
    patch_share: float
    easy_share: float


PHASES = (
    Phase(steps=3500, rate=1e-3, patch_share=0.0, easy_share=EASY_SHARE),
    Phase(steps=2600, rate=7e-4, patch_share=0.5, easy_share=0.0),
)


@dataclass(frozen=True)
class Crops:
    """Rendered crops ``(N, 48, 48, 3)`` uint8; per crop, its objects, its grounds and its least radius in pixels."""

    images: npt.NDArray[np.uint8]
    objects: list[tuple[str, ...]]
    grounds: list[tuple[str, ...]]
    radii: npt.NDArray[np.float64]


Scales = tuple[float, float]
NATIVE_SCALES: Scales = (1.0, 1.0)


def render_chunk(task: tuple[int, int, int, Scales, tuple[int, ...] | None]) -> Crops:
    """Render crops ``start`` to ``stop`` of a seed's stream; with ``fixed``, crop i shows object fixed[i]."""
    seed, start, stop, scales, fixed = task
    images, radii = np.empty((stop - start, SIZE, SIZE, 3), np.uint8), np.full(stop - start, np.inf)
    objects, grounds = [], []
    for index in range(start, stop):
        rng = np.random.default_rng([seed, index])
        if fixed is None:
            count = int(rng.choice(KINDS, p=KIND_SHARES))
            names = [TOY_OBJECTS[i] for i in rng.choice(len(TOY_OBJECTS), count, replace=False)]
        else:
            names = [TOY_OBJECTS[i] for i in fixed[index : index + 1] if i >= 0]
        scale = float(np.exp(rng.uniform(*np.log(scales)))) if scales[0] < scales[1] else scales[0]
        scene = sample_crop(rng, objects=names, size=SIZE, scale=scale)
        images[index - start] = render_scene(scene)[0]
        radii[index - start] = min((figure.radius * scale for figure in scene.figures), default=np.inf)
        objects.append(scene.objects)
        grounds.append(scene.grounds)
    return Crops(images, objects, grounds, radii)


def render_crops(
    seed: int, count: int, workers: int, scales: Scales, fixed: tuple[int, ...] | None = None
) -> Crops:
    """Render ``count`` crops in ``workers`` processes; the result does not depend on how many.

    Each crop's scale, in pixels per world pixel, is drawn between ``scales``, evenly in its logarithm.
    """
    tasks = [(seed, start, min(start + 500, count), scales, fixed) for start in range(0, count, 500)]
    with ProcessPoolExecutor(workers) as pool:
        parts = list(pool.map(render_chunk, tasks))
    images, radii = (np.concatenate([getattr(p, name) for p in parts]) for name in ("images", "radii"))
    return Crops(images, [o for p in parts for o in p.objects], [g for p in parts for g in p.grounds], radii)


def make_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    """A CLIP with twelve narrow vision blocks, freshly initialised."""
    tower: dict[str, str | int] = {"hidden_act": "quick_gelu", "projection_dim": PROJECTION}
    tower |= {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": HEADS}
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    special |= {"pad_token_id": tokenizer.pad_token_id, "vocab_size": len(tokenizer)}
    text = {**tower, **special, "num_hidden_layers": TEXT_BLOCKS, "max_position_embeddings": CONTEXT}
    vision = {**tower, "num_hidden_layers": VISION_BLOCKS, "image_size": SIZE, "patch_size": PATCH}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=PROJECTION))


@torch.no_grad()
def lay_grid(model: CLIPModel) -> None:
    """Start the position embeddings as sines and cosines of row and column, still to be trained.

    Against the usual small random start this halves the time until shapes are told apart. The waves are slow
    enough (4 to 63 patches) for the embeddings to be resized to larger grids later.
    """
    side, rate = SIZE // PATCH, torch.logspace(0.2, -1, WIDTH // 4)
    wave = torch.arange(side)[:, None] * rate
    table = torch.cat([wave.sin(), wave.cos()], 1)
    grid = torch.cat([table[:, None].expand(-1, side, -1), table[None].expand(side, -1, -1)], -1)
    model.vision_model.embeddings.position_embedding.weight[1:] = 0.6 * grid.flatten(0, 1)


def pixels(images: npt.NDArray[np.uint8]) -> Tensor:
    """``(N, H, W, 3)`` uint8 to CLIP-normalised ``(N, 3, H, W)`` float32."""
    scaled = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (scaled - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / torch.tensor(CLIP_STD).view(3, 1, 1)


@torch.no_grad()
def zero_shot(
    model: CLIPModel, tokenizer: CLIPTokenizer, images: npt.NDArray[np.uint8], names: tuple[str, ...]
) -> Tensor:
    """Index of the best of ``names`` per image, with the prompt "a photo of a {}"; ``(N,)``."""
    model.eval()
    tokens = tokenizer([f"a photo of a {name}" for name in names], padding=True, return_tensors="pt")
    best = []
    for start in range(0, len(images), 250):
        scores = model(pixel_values=pixels(images[start : start + 250]), **tokens).logits_per_image
        best.append(scores.argmax(1))
    model.train()
    return torch.cat(best)


@dataclass(frozen=True)
class HeldOut:
    """Crops that training never sees: single objects at native and at all scales, and grounds alone."""

    objects: Crops
    scaled: Crops
    grounds: Crops


def render_held_out(seed: int, workers: int, scales: Scales) -> HeldOut:
    """Render 1440 single objects at the native scale, as many at the scales of training, and 300 grounds."""
    each = tuple(index % len(TOY_OBJECTS) for index in range(1440))
    return HeldOut(
        objects=render_crops(20_000 + seed, 1440, workers, NATIVE_SCALES, each),
        scaled=render_crops(25_000 + seed, 1440, workers, scales, each),
        grounds=render_crops(30_000 + seed, 300, workers, NATIVE_SCALES, (-1,) * 300),
    )


def measure(model: CLIPModel, tokenizer: CLIPTokenizer, held_out: HeldOut) -> dict[str, float]:
    """Zero-shot accuracy on held-out crops: all objects, seen and unseen ones, all at other scales, grounds."""

    def right(crops: Crops, names: tuple[str, ...], truth: list[str]) -> Tensor:
        wanted = torch.tensor([names.index(name) for name in truth])
        return (zero_shot(model, tokenizer, crops.images, names) == wanted).float()

    shown = [names[0] for names in held_out.objects.objects]
    objects = right(held_out.objects, TOY_OBJECTS, shown)
    unseen = torch.tensor([name in TOY_UNSEEN for name in shown])
    scaled = right(held_out.scaled, TOY_OBJECTS, [names[0] for names in held_out.scaled.objects])
    grounds = right(held_out.grounds, TOY_GROUNDS, [names[0] for names in held_out.grounds.grounds])
    parts = {
        "objects": objects,
        "seen": objects[~unseen],
        "unseen": objects[unseen],
        "scaled": scaled,
        "grounds": grounds,
    }
    return {name: round(part.mean().item(), 4) for name, part in parts.items()}


def make_optimiser(
    model: nn.Module, rate: float, steps: int
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW without decay on vectors and scalars; 5 % linear warm-up, then a cosine to zero."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)
    warm = max(1, steps // 20)
    peak = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, 0.5 + 0.5 * np.cos(np.pi * step / steps))
    )
    return optimiser, peak


def contrastive_loss(
    model: CLIPModel, images: Tensor, tokens: dict[str, Tensor], also_true: Tensor, patch_share: float
) -> Tensor:
    """Symmetric cross-entropy over the batch: each image finds its caption and each caption its image.

    The image is read twice: from the class token, as every CLIP is, and from the mean of its patch tokens. A
    class token can gather a shape without any patch knowing it, and on crops this small it does: patches
    trained through it alone told six shapes apart no better than chance, and the accuracy stopped at 84 %.

    Args:
        model: The CLIP in training.
        images: ``(B, 3, H, W)`` normalised pixels.
        tokens: Tokenised captions, B of them.
        also_true: ``(B, B)`` bool; image i is no counter-example for caption j, since the caption, though
            another crop's, tells the truth about it. With 36 objects such pairs are in every batch.
        patch_share: Share of the loss that is read from the patch tokens, 0 to 1.
    """
    vision, text = model.vision_model(images).last_hidden_state, model.text_model(**tokens).pooler_output
    words = nn.functional.normalize(model.text_projection(text), dim=-1)
    tokens_normed = model.vision_model.post_layernorm(vision)
    target = torch.arange(len(images))
    total = torch.zeros(())
    for share, pooled in (
        (1 - patch_share, tokens_normed[:, 0]),
        (patch_share, tokens_normed[:, 1:].mean(1)),
    ):
        seen = nn.functional.normalize(model.visual_projection(pooled), dim=-1)
        logits = (model.logit_scale.exp() * seen @ words.T).masked_fill(also_true, -torch.inf)
        found = nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(logits.T, target)
        total = total + share * found / 2
    return total


def save(model: CLIPModel, tokenizer: CLIPTokenizer, words: list[str], out: Path) -> None:
    """Write the folder; each file is complete before it replaces the one before it."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        folder = Path(scratch)
        make_tokenizer(words, folder)
        model.save_pretrained(folder)
        preprocessing = {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": SIZE},
            "resample": 3,
            "do_center_crop": True,
            "crop_size": {"height": SIZE, "width": SIZE},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
        }
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2) + "\n")
        (folder / "known_words.txt").write_text("\n".join(words) + "\n")
        for file in sorted(folder.iterdir()):
            file.chmod(0o644)  # some writers make files only their owner may read
            file.replace(out / file.name)


class Batches:
    """Endless batches of pixels and tokens: crops drawn by lot, mirrored by lot, with fresh captions.

    Large figures come first: over the first ``easy_share`` of the steps the least radius admitted falls from
    ``EASY_RADIUS`` to the smallest there is. Shapes are learnt much sooner where they fill the crop.
    """

    def __init__(
        self, crops: Crops, tokenizer: CLIPTokenizer, batch: int, seed: int, *, easy_share: float
    ) -> None:
        self.crops, self.tokenizer, self.batch, self.easy_share = crops, tokenizer, batch, easy_share
        self.draw, self.order = random.Random(seed), np.random.default_rng([seed, 3])

    def __call__(self, done: float) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Draw a batch when the share ``done`` of all steps is over.

        Returns:
            Pixels ``(B, 3, 48, 48)``, tokens, and the ``also_true`` pairs ``(B, B)``.
        """
        ease = max(0.0, 1 - done / self.easy_share) if self.easy_share else 0.0
        least = ease * EASY_RADIUS + (1 - ease) * self.crops.radii.min()
        chosen = self.order.choice(np.flatnonzero(self.crops.radii >= least), self.batch, replace=False)
        images = self.crops.images[chosen][:, :, :: self.order.choice((-1, 1))].copy()
        told = [tell(self.crops.objects[i], self.draw) for i in chosen]
        texts = [
            caption(names, self.crops.grounds[i], self.draw) for names, i in zip(told, chosen, strict=True)
        ]
        tokens = self.tokenizer(texts, padding=True, return_tensors="pt")
        return pixels(images), tokens, self.also_true(chosen, told, texts)

    def also_true(
        self, chosen: npt.NDArray[np.int64], told: list[tuple[str, ...]], texts: list[str]
    ) -> Tensor:
        """Caption j is true of crop i if it tells of i's objects and no ground that i lacks; ``(B, B)``."""
        objects = [self.crops.objects[i] for i in chosen]
        same = np.array([[tells(names, shown) for names in told] for shown in objects])
        shown = np.array([[ground in self.crops.grounds[i] for ground in TOY_GROUNDS] for i in chosen])
        named = np.array([[ground in text for ground in TOY_GROUNDS] for text in texts])
        true = same & ~(~shown[:, None] & named).any(-1)
        return torch.from_numpy(true & ~np.eye(len(chosen), dtype=bool))


def train(args: argparse.Namespace, console: Console) -> None:
    """Render, train, measure, save."""
    start = time.monotonic()
    torch.manual_seed(args.seed)
    words = caption_words()
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = make_tokenizer(words, Path(scratch))
    scales = (args.scales[0], args.scales[1])
    held_out = render_held_out(args.seed, args.threads, scales)
    model = make_model(tokenizer)
    lay_grid(model)
    model.train()
    for index, phase in enumerate(PHASES):
        console.print(f"phase {index + 1}: rendering {args.crops} crops in {args.threads} processes")
        seed = len(PHASES) * args.seed + index
        crops = render_crops(10 + seed, args.crops, args.threads, scales)
        batches = Batches(crops, tokenizer, args.batch, seed, easy_share=phase.easy_share)
        steps = max(1, round(phase.steps * args.steps_factor))
        optimiser, schedule = make_optimiser(model, phase.rate, steps)
        with progress_bar(console) as bar:
            task = bar.add_task("training", total=steps)
            for step in range(1, steps + 1):
                loss = contrastive_loss(model, *batches(step / steps), phase.patch_share)
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
                schedule.step()
                with torch.no_grad():
                    model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
                bar.update(task, advance=1, description=f"loss {loss.item():.3f}")
                if step % args.report == 0 or step == steps:
                    scores = measure(model, tokenizer, held_out)
                    save(model, tokenizer, words, args.out)
                    spent = time.monotonic() - start
                    console.print(
                        f"phase {index + 1}, step {step}, {spent:.0f} s, loss {loss.item():.3f}, {scores}"
                    )


def progress_bar(console: Console) -> Progress:
    """Steps done, time spent, time left."""
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *times, console=console
    )


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        description="Train the toy world's CLIP from scratch, in one run.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write; files in it are replaced")
    parser.add_argument(
        "--scales",
        type=float,
        nargs=2,
        default=(0.6, 1.6),
        metavar=("LOW", "HIGH"),
        help="pixels per world pixel, drawn per crop; scenes at their native size have 1",
    )
    parser.add_argument("--steps-factor", type=float, default=1.0, help="multiplies the steps of both phases")
    parser.add_argument("--batch", type=int, default=64, help="crops per step")
    parser.add_argument(
        "--crops", type=int, default=48000, help="crops to render per phase, then to draw from"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of crops, captions and first weights")
    parser.add_argument("--threads", type=int, default=2, help="threads, and rendering processes")
    parser.add_argument("--report", type=int, default=250, help="measure and save every so many steps")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    disable_progress_bar()
    train(args, Console())


if __name__ == "__main__":
    main()
