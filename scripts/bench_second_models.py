"""Seconds, peak memory and operations of CorrCLIP and Trident, beside the arithmetic of their published codes.

    python scripts/bench_second_models.py                                  # ViT-B/16, 336×448, 21, 171 and 847 classes
    python scripts/bench_second_models.py --methods corrclip --classes 171 --runs 5

Towers with random weights: CLIP's ViT-B/16, beside it a DINO ViT-B/8 and 48 given masks (CorrCLIP), or a DINO ViT-B/16 and a
SAM ViT-B (Trident). The plain way is the published one: a window at a time; CorrCLIP's copies of the class token stand in one
sequence with all others under a mask, Trident has SAM's attention and the cosines of its values for all heads at once; logits
of all classes are upsampled to the window and to the photograph and go through a soft-max there. Each line is measured in its
own process, the two ways in turn, so that a busy machine slows both; memory in a process each. Operations are counted by torch.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import SamConfig, SamModel, ViTConfig, ViTModel

from bench_segment import timed
from bench_support import peak_mib, product_rate, random_text, random_tower
from lexiseg.clip.towers.external import ExternalVision
from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.dense.corrclip import CorrCLIP
from lexiseg.dense.proxyclip import resize_values
from lexiseg.dense.trident import Trident
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.segmenter import Segmenter
from lexiseg.inference.words import EmbeddedWords
from lexiseg.masks.segment_anything_attention import attend
from lexiseg.ops.affinity import cosine_affinity
from lexiseg.ops.bounded_attention import bounded_weights, merge_alike
from lexiseg.ops.grid import map_to_tokens, tokens_to_map
from lexiseg.ops.region_ids import ids_at, region_ids
from lexiseg.ops.sliding_window import window_grid

METHODS = ("corrclip", "trident")
STRIDES = {"corrclip": 112, "trident": 224}
"""Of windows of 336, as published."""


@dataclass(frozen=True)
class Task:
    """What is read.

    Attributes:
        model: The method on its towers.
        text: ``(K, 512)`` unit.
        protocol: As published for data without background.
        image: ``(H, W, 3)`` uint8, H a short side of the protocol and both multiples of 16.
        masks: ``(M, H, W)``.
    """

    model: Any
    text: Tensor
    protocol: InferenceProtocol
    image: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.bool_]

    def windows(self) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of each window."""
        size = (self.image.shape[0], self.image.shape[1])
        for top, left, bottom, right in window_grid(size, self.protocol.window, self.protocol.stride).boxes:
            yield slice(top, bottom), slice(left, right)

    def pixels(self) -> Tensor:
        """``(1, 3, H, W)`` normalised."""
        normed: Tensor = self.model.normalize(torch.from_numpy(self.image).permute(2, 0, 1)[None])
        return normed


def random_dino(patch: int) -> ExternalVision:
    """A ViT-B with random weights."""
    return ExternalVision(ViTModel(ViTConfig(patch_size=patch, image_size=224), add_pooling_layer=False))


def given_masks(height: int, width: int) -> npt.NDArray[np.bool_]:
    """48 rectangles, a strip at the right under none of them."""
    rows, columns = 6, 8
    masks = np.zeros((rows * columns, height, width), dtype=np.bool_)
    for index, mask in enumerate(masks):
        row, column = divmod(index, columns)
        top, left = row * height // rows, column * (width - 16) // columns
        mask[top : (row + 1) * height // rows, left : (column + 1) * (width - 16) // columns] = True
    return masks


def make_task(args: argparse.Namespace) -> Task:
    """One method and one number of classes."""
    torch.manual_seed(0)
    height, width = args.size
    name, device = args.methods[0], torch.device("cpu")
    tower = random_tower(device)
    model: Any
    if name == "corrclip":
        model = CorrCLIP(tower, proxy=random_dino(8))
    else:
        model = Trident(tower, proxy=random_dino(16), sam=SamModel(SamConfig()).eval())
    protocol = replace(InferenceProtocol.training_free(), short_side=height, window=336, stride=STRIDES[name])
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Task(model, random_text(args.classes[0], device), protocol, image, given_masks(height, width))


@torch.inference_mode()
def plain_corrclip(task: Task) -> npt.NDArray[np.integer]:
    """Labels ``(H, W)`` as the published code has them, one window at a time."""
    model, pixels, ids = task.model, task.pixels(), region_ids(torch.from_numpy(task.masks))
    total = torch.zeros(1, len(task.text), *ids.shape)
    seen = torch.zeros(ids.shape)
    for rows, columns in task.windows():
        features = window_corrclip(model, pixels[..., rows, columns], ids[rows, columns])
        logits = task.text @ F.normalize(features, dim=1).flatten(2)
        size = (rows.stop - rows.start, columns.stop - columns.start)
        maps = logits.unflatten(2, features.shape[-2:])
        total[..., rows, columns] += F.interpolate(maps, size=size, mode="bilinear")
        seen[rows, columns] += 1
    labels = upsampled_labels(total / seen, task)
    for number in ids.unique()[1:]:
        inside = ids == number
        labels[inside] = labels[inside].bincount().argmax()
    return labels.numpy()


def window_corrclip(model: CorrCLIP, window: Tensor, ids: Tensor) -> Tensor:
    """Features ``(1, 512, h, w)``: copies of the class token, the token and the patches in one sequence under a mask."""
    tower = model.tower
    external = model.correspondence(window)
    target = (external.shape[-2], external.shape[-1])
    unit = F.normalize(map_to_tokens(external), dim=-1)
    merged = merge_alike(unit[0], ids_at(ids, target).flatten(), distance=0.2).view(target)
    weights = bounded_weights(cosine_affinity(unit), merged.flatten()[None], sharpness=4.0)
    coarse = ids_at(merged, tower.grid(window)).flatten()
    values, places = coarse.unique(return_inverse=True)
    count = len(values)
    tokens = model.embed(window)
    tokens = torch.cat([tokens[:, :1].expand(-1, count, -1), tokens], dim=1)
    hidden = torch.zeros(tokens.shape[1], tokens.shape[1], dtype=torch.bool)
    hidden[:, :count] = True
    hidden[:count, count + 1 :] = places != torch.arange(count)[:, None]
    entering, averaged = tokens, torch.zeros_like(tokens)
    for index in range(tower.depth):
        entering = tokens
        query, key, value = tower.qkv(index, tower.norm1(index, tokens))
        scores = (query @ key.mT / query.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf)
        tokens = tokens + tower.attention_output(index, scores.softmax(dim=-1) @ value)
        tokens = tokens + tower.mlp(index, tokens)
        if index in model.averaged:
            averaged = averaged + tokens / len(model.averaged)
    last, streams = tower.depth - 1, []
    for stream in (entering, averaged):
        value = tower.value(last, tower.norm1(last, stream[:, count + 1 :]))
        value = resize_values(value, tower.grid(window), target)
        streams.append(tower.project(tower.attention_output(last, weights[:, None] @ value)))
    painted = tokens[:, ids_at(places.view(tower.grid(window)), target).flatten()]
    return tokens_to_map(streams[0] + streams[1] + 0.5 * tower.project(painted), target)


@torch.inference_mode()
def plain_trident(task: Task) -> npt.NDArray[np.integer]:
    """Labels ``(H, W)`` as the published code has them: all heads of SAM's attention at once."""
    model, pixels = task.model, task.pixels()
    size = (task.image.shape[0] // 16, task.image.shape[1] // 16)
    boxes = list(task.windows())
    parts = [model.read_both(pixels[..., rows, columns]) for rows, columns in boxes]
    value, external = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    grid = (external.shape[-2], external.shape[-1])
    mean = cosine_affinity(map_to_tokens(external)).mean()
    maps = tokens_to_map(model.splice(value, external, mean=mean), grid)
    total, seen = torch.zeros(maps.shape[1], *size), torch.zeros(size)
    for part, (rows, columns) in zip(maps, boxes, strict=True):
        place = (
            slice(rows.start // 16, rows.stop // 16),
            slice(columns.start // 16, columns.stop // 16),
        )
        total[:, *place] += part
        seen[place] += 1
    _, found = attend(model.sam, task.image)
    attention = torch.stack(list(found.heads))
    unit = F.normalize(found.values, dim=-1)
    cosines = unit @ unit.mT
    thresholds = (1.2 * cosines.mean(dim=(0, 2))).clamp(max=0.9)
    weights = torch.where(cosines > thresholds[:, None], attention, 0.0).mean(dim=0)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    coarse = F.interpolate((total / seen)[None], size=found.grid, mode="bilinear")
    spread = map_to_tokens(coarse)[0].T @ weights.T
    features = model.tower.project(spread.T[None])
    logits = (F.normalize(features, dim=-1) @ task.text.T).mT.unflatten(2, found.grid)
    return upsampled_labels(logits, task).numpy()


def upsampled_labels(logits: Tensor, task: Task) -> Tensor:
    """Labels of ``(1, K, h, w)`` logits, every class at the photograph's size."""
    size = (task.image.shape[0], task.image.shape[1])
    maps = F.interpolate(logits, size=size, mode="bilinear")
    return (maps * task.protocol.logit_scale).softmax(dim=1).argmax(dim=1)[0]


def operations(run: Callable[[], object]) -> float:
    """10⁹ floating-point operations of products and convolutions."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9


def measure(args: argparse.Namespace) -> dict[str, float]:
    """One line, or the memory of one way, in this process."""
    task = make_task(args)
    vocabulary = Vocabulary.from_names([f"class {index}" for index in range(len(task.text))])
    words = EmbeddedWords(vocabulary, TextEmbeddings(task.text, torch.arange(len(task.text))))
    segmenter = Segmenter(task.model, words, task.protocol)
    masks = task.masks if task.model.needs.masks else None

    def plainly() -> npt.NDArray[np.integer]:
        return {"corrclip": plain_corrclip, "trident": plain_trident}[args.methods[0]](task)

    def ours() -> npt.NDArray[np.integer]:
        return segmenter.segment(task.image, scores=False, masks=masks).labels

    if args.way:
        (plainly if args.way == "plain" else ours)()
        return {"mib": peak_mib(torch.device("cpu"))}
    agreement = float((plainly() == ours()).mean())
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(args.runs):
        for way, run in (("plain", plainly), ("ours", ours)):
            seconds[way].append(timed(run, torch.device("cpu")))
    return {
        **{way: statistics.median(times) for way, times in seconds.items()},
        "agreement": agreement,
        "plain_gflop": operations(plainly),
        "gflop": operations(ours),
        "rate": product_rate(torch.device("cpu"), 882),
    }


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--classes", type=int, nargs="*", default=[21, 171, 847])
    parser.add_argument(
        "--size", type=int, nargs=2, default=(336, 448), metavar=("H", "W"), help="336 by multiples of 16"
    )
    parser.add_argument("--runs", type=int, default=3, help="timed images; the median is printed")
    parser.add_argument("--json", action="store_true", help="measure one line here and print JSON")
    parser.add_argument("--way", choices=("plain", "ours"), help="with --json: memory of one way only")
    args = parser.parse_args()
    if args.json:
        print(json.dumps(measure(args)))
        return
    print(f"ViT-B/16, {args.size[0]}×{args.size[1]}, float32, {torch.get_num_threads()} threads\n")
    heads = ("plain s", "ours s", "faster", "plain MiB", "ours MiB", "plain GFLOP", "ours GFLOP", "limit s")
    print(f"| method | classes | {' | '.join(heads)} | ours / limit |")
    print("| --- |" + " ---: |" * 10)
    for method in args.methods:
        for classes in args.classes:
            row = ask(args, method, classes)
            memory = [ask(args, method, classes, way)["mib"] for way in ("plain", "ours")]
            limit = row["gflop"] / row["rate"]
            told = "" if row["agreement"] > 0.999 else f" labels agree on {100 * row['agreement']:.2f} % only"
            print(
                f"| {method} | {classes} | {row['plain']:.2f} | {row['ours']:.2f} | {row['plain'] / row['ours']:.2f} | "
                f"{memory[0]:.0f} | {memory[1]:.0f} | {row['plain_gflop']:.0f} | {row['gflop']:.0f} | {limit:.2f} | "
                f"{row['ours'] / limit:.2f} |{told}",
                flush=True,
            )


def ask(args: argparse.Namespace, method: str, classes: int, way: str | None = None) -> dict[str, float]:
    """Measure one line in a fresh process."""
    command = [sys.executable, __file__, "--json", "--methods", method, "--classes", str(classes)]
    command += ["--size", *map(str, args.size), "--runs", str(args.runs), *(["--way", way] if way else [])]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


if __name__ == "__main__":
    main()
