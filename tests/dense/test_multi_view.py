"""Views against a plain second implementation of equations 2 to 8, whole and in tiles."""

import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.dense import build_dense
from lexiseg.dense.multi_view import (
    SINGLE_VIEW,
    FusedTiles,
    MultiView,
    View,
    mirror,
    multi_view_logits,
    render_view,
    route_through,
)
from lexiseg.errors import ConfigError
from lexiseg.ops.block_bounds import Blocks
from lexiseg.ops.class_chunks import LinearMerge
from lexiseg.ops.sliding_window import window_grid
from lexiseg.ops.window_merge import plan_axis
from support import merged_maps

PATCH = 8
SIZE = (29, 43)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def blur(images: Tensor) -> Tensor:
    """Some logits of five words, per patch, that know left from right and top from bottom."""
    ramp = torch.linspace(0, 1, images.shape[-1]) + torch.linspace(0, 2, images.shape[-2])[:, None]
    mixing = torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    return torch.einsum("kc,bchw->bkhw", mixing, F.avg_pool2d(images + ramp, PATCH))


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def by_the_equations(images: Tensor, scales: tuple[float, ...], axis: int | None) -> Tensor:
    """Mean of both views at the scale's own size, then to H×W, then the mean over scales."""
    height, width = images.shape[-2:]
    total = torch.zeros(())
    for scale in scales:
        size = (math.ceil(scale * height / PATCH) * PATCH, math.ceil(scale * width / PATCH) * PATCH)  # (2)
        scaled = resize(images, size)
        logits = resize(blur(scaled), size)  # (3), (4)
        if axis is not None:
            logits = (logits + resize(blur(scaled.flip(axis)), size).flip(axis)) / 2  # (6), (7)
        total = total + resize(logits, (height, width))
    return total / len(scales)  # (8)


@pytest.mark.parametrize("scales", [(0.75, 1.25), (1.0,), (1.0, 0.75, 1.25)])
@pytest.mark.parametrize(("flip", "axis"), [("none", None), ("horizontal", -1), ("vertical", -2)])
def test_equals_the_equations(images, scales: tuple[float, ...], flip: str, axis: int | None) -> None:
    fused = multi_view_logits(images, blur, MultiView(scales=scales, flip=flip), patch_size=PATCH)
    expected = by_the_equations(images, scales, axis)
    # Scales of which neither side keeps its size are interpolated twice here and once there.
    torch.testing.assert_close(fused, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_one_view_on_the_grid_is_the_model_bit_for_bit(tiny_clip) -> None:
    encoder = build_dense("sc-clip", VisionTower(tiny_clip).eval())
    images = torch.randn(2, 3, 24, 56, generator=torch.Generator().manual_seed(1))
    text = F.normalize(torch.randn(4, 16, generator=torch.Generator().manual_seed(2)), dim=1)
    fused = multi_view_logits(images, lambda x: encoder(x, text), SINGLE_VIEW, patch_size=PATCH)
    assert torch.equal(fused, resize(encoder(images, text), (24, 56)))
    assert render_view(images, SINGLE_VIEW.plan((24, 56), PATCH)[0]) is images


def test_planned_views() -> None:
    assert MultiView().plan((336, 448), 16) == (
        View(0.75, (256, 336)),
        View(0.75, (256, 336), "horizontal"),
        View(1.25, (432, 560)),
        View(1.25, (432, 560), "horizontal"),
    )
    assert MultiView(scales=(0.1,), flip="none").plan((3, 400), 16) == (View(0.1, (16, 48)),)
    assert MultiView(scales=(1.1,), flip="none").plan((160, 320), 16) == (
        View(1.1, (176, 352)),
    )  # 11.000000000000002


def test_mirror_is_its_own_inverse(images) -> None:
    for flip in ("none", "horizontal", "vertical"):
        assert torch.equal(mirror(mirror(images, flip), flip), images)
    assert torch.equal(mirror(images, "horizontal")[..., 0], images[..., -1])


def test_plain_and_mirrored_share_a_batch(images) -> None:
    sizes: list[tuple[int, ...]] = []
    multi_view_logits(
        images, lambda x: (sizes.append(tuple(x.shape)), blur(x))[1], MultiView(), patch_size=PATCH
    )
    assert sizes == [(4, 3, 24, 40), (4, 3, 40, 56)]


def test_other_fusions_by_hand(images) -> None:
    plan = MultiView(scales=(1.0,)).plan(SIZE, PATCH)
    plain, mirrored = (
        resize(mirror(resize(blur(render_view(images, view)), view.size), view.flip), SIZE) for view in plan
    )
    largest = MultiView(scales=(1.0,), fusion="maximum")
    fused = multi_view_logits(images, blur, largest, patch_size=PATCH)
    torch.testing.assert_close(fused, torch.maximum(plain, mirrored))

    def entropy(logits: Tensor) -> Tensor:
        p = (3 * logits).softmax(dim=1)
        return -(p * p.log()).sum(dim=1, keepdim=True) / math.log(5)

    weights = torch.stack([-entropy(plain), -entropy(mirrored)]).softmax(dim=0)
    fused = multi_view_logits(
        images, blur, MultiView(scales=(1.0,), fusion="entropy"), patch_size=PATCH, sharpness=3.0
    )
    torch.testing.assert_close(fused, weights[0] * plain + weights[1] * mirrored, rtol=1e-4, atol=1e-5)
    middle = float(entropy(plain).median())
    unsure = MultiView(scales=(1.0,), flip="uncertain", uncertain_above=middle)
    fused = multi_view_logits(images, blur, unsure, patch_size=PATCH, sharpness=3.0)
    expected = torch.where(entropy(plain) > middle, (plain + mirrored) / 2, plain)
    assert torch.isclose(fused, expected, atol=1e-5).double().mean() > 0.999
    assert not torch.allclose(fused, plain)


@dataclass
class Maps:
    """Whole maps ``(K, H, W)`` as a tile source."""

    maps: Tensor

    def tile(self, rows: slice, columns: slice, words: slice) -> Tensor:
        return self.maps[words, rows, columns].transpose(0, 1)

    def bounds(self, blocks: Blocks, words: slice) -> tuple[Tensor, Tensor]:
        lower = [blocks.lowest(maps) for maps in self.maps[words]]
        upper = [-blocks.lowest(-maps) for maps in self.maps[words]]
        return torch.stack(lower, -1), torch.stack(upper, -1)


@pytest.mark.parametrize(
    "views",
    [
        MultiView(),
        MultiView(flip="vertical"),
        MultiView(flip="none", scales=(0.5, 1.0, 2.0)),
        MultiView(fusion="maximum"),
        MultiView(fusion="entropy"),
        MultiView(flip="uncertain", uncertain_above=0.9),
    ],
)
def test_tiles_equal_whole_maps(images, views: MultiView) -> None:
    image = images[:1]
    expected = multi_view_logits(image, blur, views, patch_size=PATCH)[0]
    sources = [
        Maps(resize(resize(blur(render_view(image, view)), view.size), SIZE)[0])
        for view in views.plan(SIZE, PATCH)
    ]
    fused = FusedTiles(views, sources, size=SIZE, words=5, words_at_once=2)
    for rows in (slice(0, 10), slice(10, 29)):
        for columns in (slice(0, 43), slice(17, 20)):
            for words in (slice(0, 3), slice(3, 5)):
                ours = fused.tile(rows, columns, words)
                torch.testing.assert_close(
                    ours, expected[words, rows, columns].transpose(0, 1), rtol=1e-4, atol=1e-5
                )


@pytest.mark.parametrize("fusion", ["mean", "maximum"])
@pytest.mark.parametrize("flip", ["none", "horizontal", "vertical"])
def test_fused_scores_lie_between_the_fused_bounds(fusion, flip) -> None:
    """And of one block per pixel the bounds are the scores."""
    views = MultiView(flip=flip, fusion=fusion)
    random = torch.Generator().manual_seed(6)
    sources = [Maps(torch.randn(5, *SIZE, generator=random)) for _ in views.plan(SIZE, PATCH)]
    fused = FusedTiles(views, sources, size=SIZE, words=5)
    tile = fused.tile(slice(0, SIZE[0]), slice(0, SIZE[1]), slice(1, 4)).transpose(1, 2)
    for bound in fused.bounds(Blocks.of(SIZE, 1), slice(1, 4)):
        assert torch.equal(bound, tile)
    blocks = Blocks.of(SIZE, 6)
    lower, upper = fused.bounds(blocks, slice(1, 4))
    for word in range(3):
        assert (lower[..., word] <= blocks.lowest(tile[..., word])).all()
        assert (upper[..., word] >= -blocks.lowest(-tile[..., word])).all()


def test_views_that_compare_words_know_no_bounds() -> None:
    sources = [Maps(torch.zeros(3, *SIZE))] * 4
    for views in (MultiView(fusion="entropy"), MultiView(flip="uncertain")):
        assert FusedTiles(views, sources, size=SIZE, words=3).bounds(Blocks.of(SIZE, 7), slice(0, 3)) is None


def test_tiles_of_one_view_are_its_own() -> None:
    maps = torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(0))
    fused = FusedTiles(SINGLE_VIEW, [Maps(maps)], size=SIZE, words=3)
    part = (slice(2, 9), slice(5, 6), slice(1, 3))
    assert torch.equal(fused.tile(*part), Maps(maps).tile(*part))
    with pytest.raises(ValueError, match="expected 4 tile sources, one per view, got 1"):
        FusedTiles(MultiView(), [Maps(maps)], size=SIZE, words=3)


def test_windows_of_views_reach_the_photograph_through_the_unscaled_image(images) -> None:
    """Sliding windows inside every view, merged by matrices, against whole maps resized step by step."""
    image, source, views = images[:1], (37, 51), MultiView()
    merges, steps = [], []
    for view in views.plan(SIZE, PATCH):
        rendered = render_view(image, view)
        grid = window_grid(view.size, 24, 16)
        windows = torch.cat([rendered[..., t:b, x:r] for t, x, b, r in grid.boxes])
        logits = blur(windows)
        axes = [
            route_through(
                plan_axis(starts=starts, window=24, padded=24, patches=3, working=working, source=working),
                middle,
                target,
            )
            for starts, working, middle, target in zip(
                (grid.tops, grid.lefts), view.size, SIZE, source, strict=True
            )
        ]
        merges.append(LinearMerge(logits, *axes))
        total, count = torch.zeros(1, 5, *view.size), torch.zeros(view.size)
        for (top, left, bottom, right), part in zip(grid.boxes, resize(logits, (24, 24)), strict=True):
            total[0, :, top:bottom, left:right] += part
            count[top:bottom, left:right] += 1
        steps.append(resize(mirror(total / count, view.flip), SIZE))
    fused = FusedTiles(views, merges, size=source, words=5)
    expected = resize(torch.stack(steps).mean(dim=0), source)[0]
    torch.testing.assert_close(merged_maps(fused, source, 5), expected, rtol=1e-4, atol=1e-5)


def test_which_fusions_need_all_words() -> None:
    assert not MultiView().compares_words
    assert not MultiView(flip="none", fusion="entropy").compares_words
    assert MultiView(fusion="entropy").compares_words
    assert MultiView(flip="uncertain").compares_words


def test_settings_that_no_image_satisfies() -> None:
    for settings, message in (
        ({"scales": ()}, "views.scales: expected at least one number"),
        ({"scales": (1.0, 0.0)}, "views.scales: expected above 0, got 0.0"),
        ({"scales": (1.0, float("nan"))}, "views.scales: expected a finite number, got nan"),
        ({"scales": ("1",)}, r"views.scales: expected a list of numbers, got \('1',\)"),
        ({"scales": 1.0}, "views.scales: expected a list of numbers, got 1.0"),
        ({"uncertain_above": float("nan")}, "views.uncertain_above: expected a finite number, got nan"),
        ({"uncertain_above": "0.5"}, "views.uncertain_above: expected a number, got '0.5'"),
        (
            {"flip": "diagonal"},
            "views.flip: expected one of none, horizontal, vertical, uncertain, got 'diag",
        ),
        ({"fusion": "product"}, "views.fusion: expected one of mean, entropy, maximum, got 'product'"),
    ):
        with pytest.raises(ConfigError, match=message):
            MultiView(**settings)
    with pytest.raises(ConfigError, match="set fusion=mean, not maximum"):
        MultiView(flip="uncertain", fusion="maximum")
