"""What the benchmark scripts share: a random ViT-B/16, random words, the machine's product rate, peak memory."""

import resource
import time

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from lexiseg.clip.towers.vit import VisionTower

STUDIED = ("sclip", "sc-clip", "tg-clip")
"""The training-free methods whose speed the README shows."""

_KIB_PER_MIB = 1024


def random_tower(device: torch.device) -> VisionTower:
    """A ViT-B/16 image tower with random weights."""
    config = CLIPVisionConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        patch_size=16,
        projection_dim=512,
    )
    return VisionTower(CLIPVisionModelWithProjection(config)).eval().to(device)


def random_text(words: int, device: torch.device) -> Tensor:
    """Unit text embeddings ``(words, 512)``."""
    return F.normalize(torch.randn(words, 512, generator=torch.Generator().manual_seed(0)), dim=-1).to(device)


def product_rate(device: torch.device, tokens: int) -> float:
    """GFLOP/s of a token-by-MLP product, a ViT-B's largest: best of several, which is what a limit needs."""
    a, b = torch.randn(tokens, 768, device=device), torch.randn(3072, 768, device=device)
    best = float("inf")
    for _ in range(60):
        start = time.perf_counter()
        F.linear(a, b)
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * tokens * 768 * 3072 / best / 1e9


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_mib(device: torch.device) -> float:
    """Highest memory of this process, or of the device, so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_MIB
