"""Train the toy world's CLIP from scratch on rendered crops and their captions, never on a mask.

The result is an ordinary Hugging Face CLIP folder (weights, configuration, tokenizer, image preprocessing)
and ``known_words.txt``, every word the captions used. The folder shipped in ``src/lexiseg/assets/toy_clip``
was made by this script with its default arguments.

    python scripts/pretrain_toy_clip.py --out /path/to/folder
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
from lexiseg.data.toy import TOY_GROUNDS, TOY_OBJECTS, TOY_UNSEEN
from lexiseg.data.toy_scene import render_scene, sample_crop
from toy_captions import CONTEXT, caption, caption_words, make_tokenizer

SIZE, PATCH, WIDTH, HEADS, VISION_BLOCKS, TEXT_BLOCKS, PROJECTION = 48, 8, 96, 3, 12, 4, 64
MAX_LOGIT_SCALE = float(np.log(100))
KINDS = (1, 2, 0)
KIND_SHARES = (0.68, 0.23, 0.09)
"""How many objects a training crop shows, and how often."""


@dataclass(frozen=True)
class Crops:
    """Rendered crops ``(N, 48, 48, 3)`` uint8 and, per crop, the names of its objects and of its grounds."""

    images: npt.NDArray[np.uint8]
    objects: list[tuple[str, ...]]
    grounds: list[tuple[str, ...]]


def render_chunk(task: tuple[int, int, int, tuple[int, ...] | None]) -> Crops:
    """Render crops ``start`` to ``stop`` of a seed's stream; with ``fixed``, crop i shows object fixed[i]."""
    seed, start, stop, fixed = task
    images, objects, grounds = np.empty((stop - start, SIZE, SIZE, 3), np.uint8), [], []
    for index in range(start, stop):
        rng = np.random.default_rng([seed, index])
        if fixed is None:
            count = int(rng.choice(KINDS, p=KIND_SHARES))
            names = [TOY_OBJECTS[i] for i in rng.choice(len(TOY_OBJECTS), count, replace=False)]
        else:
            names = [TOY_OBJECTS[i] for i in fixed[index : index + 1] if i >= 0]
        scene = sample_crop(rng, objects=names, size=SIZE)
        images[index - start] = render_scene(scene)[0]
        objects.append(scene.objects)
        grounds.append(scene.grounds)
    return Crops(images, objects, grounds)


def render_crops(seed: int, count: int, workers: int, fixed: tuple[int, ...] | None = None) -> Crops:
    """Render ``count`` crops in ``workers`` processes; the result does not depend on how many."""
    tasks = [(seed, start, min(start + 500, count), fixed) for start in range(0, count, 500)]
    with ProcessPoolExecutor(workers) as pool:
        parts = list(pool.map(render_chunk, tasks))
    images = np.concatenate([part.images for part in parts])
    return Crops(images, [o for p in parts for o in p.objects], [g for p in parts for g in p.grounds])


def make_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    """A CLIP with twelve narrow vision blocks, freshly initialised."""
    tower: dict[str, str | int] = {"hidden_act": "quick_gelu", "projection_dim": PROJECTION}
    tower |= {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": HEADS}
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    special |= {"pad_token_id": tokenizer.pad_token_id, "vocab_size": len(tokenizer)}
    text = {**tower, **special, "num_hidden_layers": TEXT_BLOCKS, "max_position_embeddings": CONTEXT}
    vision = {**tower, "num_hidden_layers": VISION_BLOCKS, "image_size": SIZE, "patch_size": PATCH}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=PROJECTION))


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


def measure(model: CLIPModel, tokenizer: CLIPTokenizer, objects: Crops, grounds: Crops) -> dict[str, float]:
    """Zero-shot accuracy on held-out crops: all objects, seen and unseen ones, and grounds."""
    truth = [TOY_OBJECTS.index(names[0]) for names in objects.objects]
    right = (zero_shot(model, tokenizer, objects.images, TOY_OBJECTS) == torch.tensor(truth)).float()
    unseen = torch.tensor([names[0] in TOY_UNSEEN for names in objects.objects])
    stuff = [TOY_GROUNDS.index(names[0]) for names in grounds.grounds]
    ground_right = (zero_shot(model, tokenizer, grounds.images, TOY_GROUNDS) == torch.tensor(stuff)).float()
    parts = {"objects": right, "seen": right[~unseen], "unseen": right[unseen], "grounds": ground_right}
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


def contrastive_loss(model: CLIPModel, images: Tensor, tokens: dict[str, Tensor]) -> Tensor:
    """Symmetric cross-entropy over the batch: each image finds its caption and each caption its image."""
    logits = model(pixel_values=images, **tokens).logits_per_image
    target = torch.arange(len(logits))
    return (nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(logits.T, target)) / 2


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
    """Endless batches of pixels and tokens: crops in random order, mirrored by lot, with fresh captions."""

    def __init__(self, crops: Crops, tokenizer: CLIPTokenizer, batch: int, seed: int) -> None:
        self.crops, self.tokenizer, self.batch = crops, tokenizer, batch
        self.draw, self.order = random.Random(seed), np.random.default_rng([seed, 3])
        self.queue = np.empty(0, dtype=np.int64)

    def __call__(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Pixels ``(B, 3, 48, 48)`` and tokens of the next batch."""
        """Pixels ``(B, 3, 48, 48)`` and tokens of the next batch."""
        if len(self.queue) < self.batch:
            self.queue = np.concatenate([self.queue, self.order.permutation(len(self.crops.images))])
        chosen, self.queue = self.queue[: self.batch], self.queue[self.batch :]
        down, across = self.order.choice((-1, 1)), self.order.choice((-1, 1))
        images = self.crops.images[chosen][:, ::down, ::across].copy()
        texts = [caption(self.crops.objects[i], self.crops.grounds[i], self.draw) for i in chosen]
        return pixels(images), self.tokenizer(texts, padding=True, return_tensors="pt")


def train(args: argparse.Namespace, console: Console) -> None:
    """Render, train, measure, save."""
    start = time.monotonic()
    torch.manual_seed(args.seed)
    words = caption_words()
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = make_tokenizer(words, Path(scratch))
    console.print(f"rendering {args.crops} crops in {args.threads} processes")
    crops = render_crops(10 + args.seed, args.crops, args.threads)
    objects = render_crops(20_000 + args.seed, 1440, args.threads, tuple(i % 36 for i in range(1440)))
    grounds = render_crops(30_000 + args.seed, 300, args.threads, (-1,) * 300)
    console.print(f"rendered after {time.monotonic() - start:.0f} s")
    batches = Batches(crops, tokenizer, args.batch, args.seed)
    model = make_model(tokenizer).train()
    optimiser, schedule = make_optimiser(model, args.rate, args.steps)
    with progress_bar(console) as bar:
        task = bar.add_task("training", total=args.steps)
        for step in range(1, args.steps + 1):
            loss = contrastive_loss(model, *batches())
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
            bar.update(task, advance=1, description=f"loss {loss.item():.3f}")
            if step % args.report == 0 or step == args.steps:
                scores = measure(model, tokenizer, objects, grounds)
                save(model, tokenizer, words, args.out)
                spent = time.monotonic() - start
                console.print(f"step {step}, {spent:.0f} s, loss {loss.item():.3f}, accuracy {scores}")
    console.print(f"done in {(time.monotonic() - start) / 60:.1f} minutes; folder {args.out}")


def progress_bar(console: Console) -> Progress:
    """Steps done, time spent, time left."""
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *times, console=console
    )


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        description="Train the toy world's CLIP from scratch: TIMING on two cores.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write; files in it are replaced")
    parser.add_argument("--steps", type=int, default=2000, help="optimiser steps")
    parser.add_argument("--batch", type=int, default=128, help="crops per step")
    parser.add_argument("--crops", type=int, default=48000, help="crops to render, then to draw batches from")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0, help="seed of crops, captions and first weights")
    parser.add_argument("--threads", type=int, default=2, help="threads, and rendering processes")
    parser.add_argument("--report", type=int, default=200, help="measure and save every so many steps")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    disable_progress_bar()
    train(args, Console())


if __name__ == "__main__":
    main()
