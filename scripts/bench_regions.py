"""Seconds and peak memory from regions to labels as the vocabulary grows, beside the plain form.

    python scripts/bench_regions.py                       # SAN at 640×640, FC-CLIP ConvNeXt-L at 800×1333; 171 and 847 classes
    python scripts/bench_regions.py --models san --classes 20 171 847 10000

The plain form holds every mask at the photograph's size, then every class: sigmoid of the upsampled logits, one product with
the scores, the largest. Random weights, photograph and words. Each line is measured in a process of its own; memory is above
that of a process that only finds the regions. The arithmetic: N regions, K classes, P pixels; the product takes 2·N·K·P
operations in either form, the plain one holds (N + K)·P numbers.
"""

import argparse
import json
import subprocess
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPTextConfig, ConvNextConfig

from bench_support import peak_mib, product_rate, random_text, random_tower
from lexiseg.clip.towers.convnext import ConvNextClip, ConvNextTower
from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.segmenter import Segmenter
from lexiseg.inference.words import EmbeddedWords
from lexiseg.models.fc_clip import FCClip
from lexiseg.models.region_model import RegionModel
from lexiseg.models.san import SAN
from lexiseg.types import ClassWords

SIZES = {"san": (640, 640), "fc_clip": (800, 1333)}
_TOKENS = 1024


def build(name: str) -> RegionModel:
    """A model at its published size, its weights random."""
    torch.manual_seed(0)
    device = torch.device("cpu")
    if name == "san":
        return SAN(random_tower(device)).eval()
    vision = ConvNextConfig(depths=[3, 3, 27, 3], hidden_sizes=[192, 384, 768, 1536], num_stages=4)
    text = CLIPTextConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=1, projection_dim=768)
    return FCClip(ConvNextTower(ConvNextClip(vision, text, head_width=1536, image_size=320))).eval()


def measure(name: str, classes: int, form: str) -> dict[str, float]:
    """One line in this process; 0 classes: the regions alone."""
    model, (height, width) = build(name), SIZES[name]
    text = random_text(max(classes, 1), torch.device("cpu"))
    text = F.normalize(torch.nn.functional.pad(text, (0, model.tower.embed_dim - text.shape[1])), dim=-1)
    vocabulary = Vocabulary.from_names([f"class {index}" for index in range(len(text))])
    protocol = InferenceProtocol(
        name="bench", activation="scores", window=None, stride=None, padding="bottom_right", seen_penalty=0.0
    )
    words = EmbeddedWords(vocabulary, TextEmbeddings(text, torch.arange(len(text))))
    segmenter = Segmenter(model, words, protocol)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    start = time.perf_counter()
    encoded = segmenter.encode(image)
    encode_seconds = time.perf_counter() - start
    start = time.perf_counter()
    if classes and form == "plain":
        plain(model, encoded.batches[0].state, text, (height, width))
    elif classes:
        segmenter.segment_encoded(encoded, scores=False)
    return {
        "mib": peak_mib(torch.device("cpu")),
        "seconds": time.perf_counter() - start,
        "encode": encode_seconds,
        "regions": float(model.settings.queries),
        "rate": product_rate(torch.device("cpu"), _TOKENS),
    }


@torch.inference_mode()
def plain(model: RegionModel, state: object, text: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Labels ``(H, W)`` with every mask and every class at full size."""
    named = model.classify(state, ClassWords.plain(text))
    stride = model.patch_size
    padded = tuple(-(-side // stride) * stride for side in size)
    masks = F.interpolate(named.masks, size=padded, mode="bilinear")[0, :, : size[0], : size[1]].sigmoid()
    return torch.einsum("nk,nhw->khw", named.scores[0], masks).argmax(0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--classes", type=int, nargs="*", default=[171, 847])
    parser.add_argument("--json", nargs=3, metavar=("MODEL", "CLASSES", "FORM"), help="measure one line here")
    args = parser.parse_args()
    if args.json:
        name, classes, form = args.json
        print(json.dumps(measure(name, int(classes), form)))
        return
    print(
        "| model | classes | form | MiB above the regions | seconds | times the product alone | regions s |"
    )
    print("| --- | ---: | --- |" + " ---: |" * 4)
    for name in args.models:
        alone = ask(name, 0, "tiles")["mib"]
        for classes in args.classes:
            for form in ("plain", "tiles"):
                row = ask(name, classes, form)
                height, width = SIZES[name]
                floor = 2e-9 * row["regions"] * classes * height * width / row["rate"]
                print(
                    f"| {name}, {height}×{width} | {classes} | {form} | {row['mib'] - alone:.0f} | "
                    f"{row['seconds']:.2f} | {row['seconds'] / floor:.2f} | {row['encode']:.1f} |",
                    flush=True,
                )


def ask(name: str, classes: int, form: str) -> dict[str, float]:
    """Measure one line in a fresh process."""
    command = [sys.executable, __file__, "--json", name, str(classes), form]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


if __name__ == "__main__":
    main()
