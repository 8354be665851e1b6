"""The small golden cases of methods that stand on more than a CLIP's patches: LaVG, GroupViT, CorrCLIP, Trident.

What other models would give them (masks, a second tower's features, SAM's attention and answers) follows `rule` as well.
"""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from rule import drawn, drawn_bytes, image, tiny_clip, weight, words
from torch import Tensor

from groupvit_files import HEADS, groupvit, original_state
from lexiseg.clip.formats.groupvit import groupvit_from_original
from lexiseg.clip.towers.groupvit import GroupVitTower
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.dense import build_dense
from lexiseg.masks.segment_anything_attention import LastAttention
from lexiseg.ops.normalized_cut import cut_objects, cut_vector, patch_graph
from lexiseg.ops.prompted_refinement import Prompts, RefinementSettings, redraw, settle
from lexiseg.ops.region_ids import one_label_per_region

Outputs = Iterator[tuple[str, Tensor]]

CLASSES, IMAGES, HEIGHT, WIDTH = 7, 2, 48, 64


def masks(name: str, count: int = 3) -> Tensor:
    """Overlapping blobs ``(count, H, W)`` that leave some pixels to nobody."""
    coarse = drawn(f"{name} masks", count, 1, 3, 4)
    return F.interpolate(coarse, size=(HEIGHT, WIDTH), mode="bilinear")[:, 0] > 0.3


def second_tower(images: Tensor) -> Tensor:
    """Features on a grid of its own, in place of a second vision model's."""
    return torch.cat([F.avg_pool2d(images, 4), F.avg_pool2d(images.square(), 4)], dim=1)


@torch.no_grad()
def lavg(background_words: int) -> Outputs:
    """Logits at pixels, matched against whole masks; with the rule for a background of two words or without."""
    encoder = build_dense("lavg", VisionTower(tiny_clip()), background_words=background_words)
    regions = torch.stack([encoder.region_map(masks(f"lavg {index}")) for index in range(IMAGES)])
    state = encoder.encode(image("lavg", HEIGHT, WIDTH, IMAGES), regions)
    yield "features", state.features
    yield "means", state.means
    yield "owners", state.owners
    yield "logits", encoder.decode(state, words(CLASSES)).logits


def lavg_cuts() -> Outputs:
    """The graph of patches, the vector of its first cut, and the masks of three cuts."""
    coarse = F.interpolate(drawn("cut features", 1, 6, 2, 3), size=(9, 13), mode="bilinear")[0]
    features = (coarse + 0.1 * drawn("cut noise", 6, 9, 13)).double().numpy()
    weights = patch_graph(features.reshape(6, -1), threshold=0.2)
    yield "degree", torch.from_numpy(weights.sum(axis=1))
    yield "vector", torch.from_numpy(cut_vector(weights)).float()
    yield "masks", torch.from_numpy(cut_objects(features, threshold=0.2, most=3))


@torch.no_grad()
def group_vit() -> Outputs:
    """Groups of patches, and the words of pixels with and without a background."""
    shapes = {name: tuple(tensor.shape) for name, tensor in original_state(groupvit()).items()}
    state = {name: weight(name, shape) for name, shape in shapes.items()}
    state |= {name: value.abs() + 0.5 for name, value in state.items() if name.endswith("running_var")}
    state["logit_scale"] = torch.tensor(math.log(20.0))
    model = groupvit_from_original(state, vision_heads=HEADS, text_heads=2)
    tower = GroupVitTower(model).eval()
    for title, settings in {"plain": {}, "background": {"top": 3, "background_threshold": 0.4}}.items():
        encoder = build_dense("groupvit", tower, **settings)
        found = encoder.encode(image("groups", HEIGHT, WIDTH, IMAGES))
        if not settings:
            yield "maps", found.groups.maps
            yield "groups", found.groups.embeddings
            yield "image", found.groups.image
            yield "features", encoder.features(found)
        yield f"{title} values", encoder.decode(found, words(CLASSES)).logits


@torch.no_grad()
def corrclip(*, merged: bool) -> Outputs:
    """Features and logits inside regions, joined where they are alike or not; labels by the most frequent in a region."""
    distance = 0.4 if merged else None
    encoder = build_dense(
        "corrclip",
        VisionTower(tiny_clip()),
        proxy=second_tower,
        merge_distance=distance,
        spatial_blocks=2,
    )
    regions = torch.stack([encoder.region_map(masks(f"corrclip {index}")) for index in range(IMAGES)])
    state = encoder.encode(image("corrclip", HEIGHT, WIDTH, IMAGES), regions)
    yield "regions", regions
    yield "features", state.features
    logits = encoder.decode(state, words(CLASSES)).logits
    yield "logits", logits
    labels = F.interpolate(logits, size=(HEIGHT, WIDTH), mode="bilinear").argmax(1)
    yield "labels", torch.stack([one_label_per_region(*pair) for pair in zip(labels, regions, strict=True)])


def sam_attention(picture: object) -> LastAttention:
    """Of two heads over a grid of 6 by 8."""
    del picture
    grid, heads, channels = (6, 8), 2, 5
    values = drawn("sam values", heads, grid[0] * grid[1], channels)
    scores = values @ values.mT
    return LastAttention(iter(scores.softmax(-1)), values, grid)


@torch.no_grad()
def trident() -> Outputs:
    """Two windows spliced together, spread over a photograph by attention; labels drawn anew by answers to prompts."""
    encoder = build_dense(
        "trident",
        VisionTower(tiny_clip()),
        proxy=lambda images: F.avg_pool2d(images, 8),
        sam=sam_attention,
        likeness=0.5,
    )
    parts = encoder.encode(image("trident", HEIGHT, WIDTH, IMAGES))
    text = words(CLASSES)
    yield "logits of windows", encoder.decode(encoder.bind(parts, text), text).logits
    picture = drawn_bytes("trident picture", HEIGHT, 2 * WIDTH, 3)
    state = encoder.gather([parts], lambda maps: torch.cat(list(maps), dim=-1), picture)
    yield "features", state.features
    yield "logits", encoder.decode(state, text).logits
    coarse = 4 * drawn("trident maps", 1, CLASSES, 3, 5)
    yield from _redrawn(F.interpolate(coarse, size=(HEIGHT, 2 * WIDTH), mode="bilinear").softmax(1)[0])


def _redrawn(maps: Tensor) -> Outputs:
    """Prompts of every class, and what answers by rule make of the labels."""
    asked: list[Prompts] = []

    def answer(prompts: Prompts) -> tuple[Tensor, Tensor]:
        name, count = f"answer {len(asked)}", len(prompts.points)
        asked.append(prompts)
        coarse = drawn(name, 1, count, 4, 6)
        logits = F.interpolate(coarse, size=maps.shape[-2:], mode="bilinear")[0]
        return logits, 0.5 + 0.5 * drawn(f"{name} quality", count).abs().clamp(max=1)

    settings = RefinementSettings(threshold=0.05)
    labels, classes = maps.argmax(0), len(maps)

    def map_of(index: int) -> Tensor:
        return maps[index]

    redrawn = redraw(labels, map_of, classes, answer, side=1024, mask_side=256, settings=settings)
    assert redrawn is not None
    for index, prompts in enumerate(asked):
        yield f"points {index}", prompts.points
        yield f"boxes {index}", prompts.boxes
    final, scores = settle(redrawn, labels, map_of, classes, restore_failed=True)
    yield "labels", final
    yield "scores", scores


GUIDED: dict[str, Callable[[], Outputs]] = {
    "reading-lavg": lambda: lavg(0),
    "reading-lavg-background": lambda: lavg(2),
    "lavg-cuts": lavg_cuts,
    "reading-groupvit": group_vit,
    "reading-corrclip": lambda: corrclip(merged=True),
    "reading-corrclip-apart": lambda: corrclip(merged=False),
    "reading-trident": trident,
}
"""Every case by the name of its file."""
