"""Seconds and peak memory of a PixelCLIP training step at ViT-B/16 on random weights, ours beside the direct formulation.

    python scripts/bench_pixelclip.py                     # 320×320, masks of 256×256, 64 clusters, batch 4
    python scripts/bench_pixelclip.py --steps 1 --batch 2

Direct is the step as its formulas say: the teacher's features at the masks' size before they are pooled, every
similarity map through the decoder at once, logits interpolated to full size, binary cross-entropy under autograd.
Towers, clustering and optimiser are the same in both, the weights and images too; each form runs in a process of its
own, and loss and gradient norm are printed so that one sees that both compute the same. Processor time is added up over
threads; on a busy machine it tells more than the clock. Memory is the process' peak
less its peak before the first step, with model and batch in place.

Counted for the defaults, per step: the student's blocks on 4×401 tokens take 0.29 TFLOP forward and, most weights being
frozen, 0.42 backward; the teacher 0.29; the decoder 0.13 forward and 0.27 backward over 256 maps. Direct keeps 1.6 GB
of decoder activations and several full-size maps of 67 MB each; ours keeps 0.9 MB (:mod:`lexiseg.losses.cluster_mask`).
What both keep of the student, some 0.7 GB, stays.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from bench_support import peak_mib, synchronize
from lexiseg.clip.towers.text import ClipTextTower
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.losses.cluster_mask import cluster_mask_loss, direct_cluster_mask_loss
from lexiseg.models import pixel_clip
from lexiseg.models.pixel_clip import PixelCLIP
from lexiseg.models.pixel_clip_settings import PixelCLIPOptimSettings, PixelCLIPSettings
from lexiseg.types import MaskBatch

_FORMS = ("direct", "ours")
_VOCABULARY = 49408


class _TemplateTokenizer:
    """As long as CLIP's own tokens of the template; which words they are does not matter for random weights."""

    def __call__(self, texts: list[str], context_length: int) -> Tensor:
        ids = torch.zeros(len(texts), context_length, dtype=torch.long)
        for row, text in enumerate(texts):
            words = [_VOCABULARY - 2, *(len(word) for word in text.split()), _VOCABULARY - 1]
            ids[row, : len(words)] = torch.tensor(words)
        return ids


def _model(args: argparse.Namespace, device: torch.device) -> PixelCLIP:
    """ViT-B/16 with its text tower, random weights."""
    vision = {"patch_size": 16, "projection_dim": 512}
    text = {"vocab_size": _VOCABULARY, "eos_token_id": _VOCABULARY - 1, "projection_dim": 512}
    clip = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=512)).eval()
    settings = PixelCLIPSettings(clusters=args.clusters, image_size=args.size, mask_size=args.mask_size)
    tower = ClipTextTower(clip, _TemplateTokenizer())  # type: ignore[arg-type]
    return PixelCLIP(VisionTower(clip), tower, settings).to(device)


def _batch(args: argparse.Namespace, device: torch.device) -> MaskBatch:
    """Noise, and masks that tile each image: a coarse map of random labels, each label one mask."""
    weak, strong = (torch.randint(0, 256, (args.batch, 3, args.size, args.size)).byte() for _ in range(2))
    coarse = torch.randint(0, args.masks, (args.batch, 1, 16, 16)).float()
    labels = F.interpolate(coarse, size=(args.mask_size, args.mask_size))
    masks = (labels == torch.arange(args.masks).view(-1, 1, 1)).flatten(0, 1)
    owners = torch.arange(args.batch).repeat_interleave(args.masks)
    return MaskBatch(weak, strong, masks, owners).to(device)


def _pool_directly(features: Tensor, masks: Tensor, image_of_mask: Tensor) -> Tensor:
    """Mean of features upsampled to the masks' size."""
    fine = F.interpolate(features, size=masks.shape[-2:], mode="bilinear", align_corners=False).flatten(2)
    flat = masks.flatten(1).float()
    pooled = torch.stack([fine[image] @ mask for image, mask in zip(image_of_mask, flat, strict=True)])
    return pooled / flat.sum(dim=1, keepdim=True)


def _use_direct_form() -> None:
    """Put the direct pooling and loss in the place of ours."""
    vars(pixel_clip).update(pool_by_masks=_pool_directly, cluster_mask_loss=direct_cluster_mask_loss)


def _measure(form: str, args: argparse.Namespace) -> dict[str, float]:
    """One form in this process."""
    torch.manual_seed(0)
    device = torch.device(args.device)
    if form == "direct":
        _use_direct_form()
    model, batch = _model(args, device), _batch(args, device)
    settings = PixelCLIPOptimSettings()
    optimizer = torch.optim.AdamW(model.parameter_groups(settings))
    parameters = [p for p in model.parameters() if p.requires_grad]
    before = peak_mib(device)

    def step() -> tuple[float, float]:
        model.update_teacher()
        loss = model(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.gradient_clip)
        optimizer.step()
        return loss.item(), norm.item()

    seconds, work, first = [], [], (0.0, 0.0)
    for index in range(args.steps):
        start, worked = time.perf_counter(), time.process_time()
        told = step()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
        work.append(time.process_time() - worked)
        first = told if index == 0 else first
    return {
        "seconds": statistics.median(seconds),
        "work": statistics.median(work),
        "peak": peak_mib(device),
        "mib": peak_mib(device) - before,
        "loss": first[0],
        "norm": first[1],
        "decoder": _decoder_alone(form, model, args, device),
    }


def _decoder_alone(form: str, model: PixelCLIP, args: argparse.Namespace, device: torch.device) -> float:
    """Seconds of decoder and loss, forward and backward, on maps that are given."""
    grid = args.size // model.student.tower.patch_size  # type: ignore[operator]
    count = args.batch * args.clusters
    maps = torch.randn(count, grid, grid, device=device).requires_grad_()
    targets = torch.rand(count, args.mask_size, args.mask_size, device=device) < 1 / args.clusters
    owners = torch.arange(args.batch, device=device).repeat_interleave(args.clusters)
    loss: Callable[..., Tensor] = direct_cluster_mask_loss if form == "direct" else cluster_mask_loss
    start = time.perf_counter()
    loss(maps, targets, owners, model.decoder).backward()
    synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    """Print both forms and their ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    numbers = {
        "size": (320, "side of the images; a multiple of 16"),
        "mask-size": (256, "side of the targets"),
        "clusters": (64, "clusters K"),
        "batch": (4, "images per step"),
        "masks": (40, "masks per image"),
        "steps": (3, "timed steps; the median is printed"),
    }
    for name, (default, told) in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=told)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--form", choices=_FORMS, help="measure one form and print JSON (used by the parent)")
    args = parser.parse_args()
    if args.form:
        print(json.dumps(_measure(args.form, args)))
        return
    print(
        f"ViT-B/16, {args.size}×{args.size}, masks {args.mask_size}×{args.mask_size}, {args.clusters} clusters, "
        f"batch {args.batch}, {args.device}, {torch.get_num_threads()} threads"
    )
    rows = {}
    for form in _FORMS:
        command = [sys.executable, __file__, "--form", form, "--device", args.device]
        for name in numbers:
            command += [f"--{name}", str(getattr(args, name.replace("-", "_")))]
        rows[form] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        row = rows[form]
        print(
            f"{form:6s} {row['seconds']:6.2f} s a step ({row['work']:.2f} s of processor time; decoder and loss alone "
            f"{row['decoder']:5.2f} s), "
            f"{row['mib']:7.0f} MiB above the model, peak {row['peak']:7.0f} MiB, loss {row['loss']:.6f}, "
            f"gradient norm {row['norm']:.5f}"
        )
    direct, ours = rows["direct"], rows["ours"]
    print(
        f"direct / ours: step {direct['seconds'] / ours['seconds']:.2f}×, decoder {direct['decoder'] / ours['decoder']:.2f}×, "
        f"memory above the model {direct['mib'] / ours['mib']:.2f}×, peak {direct['peak'] / ours['peak']:.2f}×"
    )


if __name__ == "__main__":
    main()
