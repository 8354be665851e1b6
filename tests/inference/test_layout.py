"""Where windows lie, by hand; sizes of work are bounded, and what is beyond the bounds is refused from sizes alone."""

import dataclasses

import pytest
import torch

from lexiseg.dense.multi_view import MultiView
from lexiseg.errors import ConfigError, DataError
from lexiseg.inference import layout as layout_module
from lexiseg.inference.layout import WindowLayout, lay_out
from lexiseg.inference.memory import memory_of_a_photograph
from lexiseg.inference.protocol import CASCADE, TRAINING_FREE, InferenceProtocol


@pytest.mark.parametrize(
    ("source", "working"),
    [
        ((512, 8192), (512, 8192)),  # exactly the limit
        ((100, 800), (512, 4096)),  # a published size: no photograph of a benchmark is touched
        ((500, 8001), (512, 8192)),  # 8193.02 otherwise
        ((1, 3000), (3, 8192)),
        ((3000, 1), (8192, 3)),
        ((1, 20011), (1, 8192)),  # 0.41 rounds to a row all the same
    ],
)
def test_the_long_side_is_bounded(source, working):
    layout = lay_out(source, CASCADE, patch_size=16)
    assert layout.source == source
    assert layout.windows[0].working == working
    windows = layout.windows[0].windows
    assert (windows.tops[-1] + windows.height, windows.lefts[-1] + windows.width) == working


@pytest.mark.parametrize(
    ("source", "changed", "message"),
    [
        ((3000, 4000), {"max_windows": 5}, "read in 6 windows, where the protocol allows 5"),
        ((6007, 6011), {"short_side": None, "window": None, "stride": None}, "windows of 141376 patches, where at most 32768"),
        ((20011, 20021), {"short_side": None}, "be worked on at 20011x20021, which is too large"),
        ((1, 200003), {}, r"need 6\.9 GiB to bring 73 windows back"),
    ],
)  # fmt: skip
def test_work_beyond_the_bounds_is_refused(source, changed, message):
    protocol = dataclasses.replace(TRAINING_FREE, **changed)
    with pytest.raises(DataError, match=f"{source[0]}x{source[1]} pixels .*{message}"):
        lay_out(source, protocol, patch_size=16)


def test_a_view_that_is_far_too_large_is_refused_before_its_windows_are_counted(monkeypatch):
    monkeypatch.setattr(layout_module, "window_grid", lambda *_: pytest.fail("counted"))
    protocol = dataclasses.replace(TRAINING_FREE, views=MultiView(scales=(1e9,)))
    with pytest.raises(DataError, match="too large; crop it, or set a smaller short_side or scale"):
        lay_out((43, 61), protocol, patch_size=16)


def test_bounds_are_settings():
    with pytest.raises(ConfigError, match="short_side 9000 is above long_side 8192; raise long_side as well"):
        InferenceProtocol(short_side=9000)
    with pytest.raises(ConfigError, match="max_windows: expected at least 1, got 0"):
        InferenceProtocol(max_windows=0)
    with pytest.raises(ConfigError, match="long_side: expected a whole number, got None"):
        InferenceProtocol(long_side=None)
    assert InferenceProtocol(short_side=9000, long_side=9000).short_side == 9000


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:128] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
    ],
)
def test_memory_that_ran_out_is_told(error):
    with (
        pytest.raises(DataError, match="not enough memory for a photograph of this size"),
        memory_of_a_photograph(),
    ):
        raise error


def test_other_errors_stay_themselves():
    with pytest.raises(RuntimeError, match="something else"), memory_of_a_photograph():
        raise RuntimeError("something else")


WINDOWS = InferenceProtocol(short_side=22, window=13, stride=7)


def test_windows_by_hand():
    """31×47 becomes 22×33; windows of 13 every 7 pixels, the last flush with the border; patches of 4 pad them to 16."""
    (layout,) = lay_out((31, 47), WINDOWS, 4).windows
    assert (layout.source, layout.working) == ((31, 47), (22, 33))
    assert (layout.windows.tops, layout.windows.lefts) == ((0, 7, 9), (0, 7, 14, 20))
    assert (layout.windows.height, layout.windows.width) == (13, 13)
    assert layout.padded == (16, 16)


@pytest.mark.parametrize(
    ("changes", "tops", "lefts"),
    [
        ({"stride": None}, (0, 9), (0, 13, 20)),
        ({"window": None, "stride": None}, (0,), (0,)),
        ({"short_side": None}, (0, 7, 14, 18), (0, 7, 14, 21, 28, 34)),
    ],
)
def test_every_size_of_the_protocol_counts(changes, tops, lefts):
    (layout,) = lay_out((31, 47), dataclasses.replace(WINDOWS, **changes), 4).windows
    assert (layout.windows.tops, layout.windows.lefts) == (tops, lefts)


def test_every_view_has_windows_of_its_own():
    layout = lay_out(
        (31, 47), dataclasses.replace(WINDOWS, views=MultiView(scales=(0.5, 1.0), flip="none")), 4
    )
    assert [view.size for view in layout.views] == [(12, 20), (24, 36)]
    small, large = layout.windows
    assert (small.windows.tops, small.windows.lefts) == ((0,), (0, 7))
    assert (large.windows.tops, large.windows.lefts) == ((0, 7, 11), (0, 7, 14, 21, 23))
    assert small.by_way_of == large.by_way_of == (22, 33)


def made_bytes(layout, grid):
    """Of all matrices on the way: from windows to the view, from there to the photograph, and both at once."""
    device, total = torch.device("cpu"), 0
    axes = dataclasses.replace(layout, by_way_of=None).axes(grid, device), layout.axes(grid, device)
    for axis, (plain, whole) in enumerate(zip(*axes, strict=True)):
        middle = (layout.by_way_of or layout.source)[axis]
        if layout.working[axis] != middle:
            total += 4 * middle * layout.working[axis]
        if layout.by_way_of is not None and middle != layout.source[axis]:
            total += 4 * layout.source[axis] * middle
            if layout.working[axis] != middle:
                total += whole.resample.numel() * whole.resample.element_size()
        columns = len(plain.starts) * grid[axis]
        total += 4 * columns * (layout.working[axis] + layout.source[axis])
    return total


@pytest.mark.parametrize("views", [{}, {"views": MultiView(scales=(0.75, 1.0, 1.25))}])
def test_merging_is_estimated_with_every_matrix_on_the_way(views):
    for layout in lay_out((311, 477), dataclasses.replace(WINDOWS, **views), 4).windows:
        assert layout.merging_bytes() == made_bytes(layout, (4, 4))


def test_views_are_counted_together(monkeypatch):
    protocol = dataclasses.replace(WINDOWS, views=MultiView(scales=(0.75, 1.0, 1.25)))
    sizes = {windows: windows.merging_bytes() for windows in lay_out((311, 477), protocol, 4).windows}
    assert len(sizes) == 3, "a view and its mirror image lie alike"
    monkeypatch.setattr("lexiseg.inference.layout._MERGING_BYTES", sum(sizes.values()))
    lay_out((311, 477), protocol, 4)
    monkeypatch.setattr("lexiseg.inference.layout._MERGING_BYTES", sum(sizes.values()) - 1)
    with pytest.raises(DataError, match="GiB to bring .* windows back"):
        lay_out((311, 477), protocol, 4)


def test_a_view_and_its_mirror_image_share_their_matrices(monkeypatch):
    layout = lay_out((31, 47), dataclasses.replace(WINDOWS, views=MultiView(scales=(0.5, 1.0))), 4)
    made = []
    original = WindowLayout.axes
    monkeypatch.setattr(
        WindowLayout, "axes", lambda self, *given: made.append(self) or original(self, *given)
    )
    logits = tuple(torch.rand(len(windows.windows), 3, 4, 4) for windows in layout.windows)
    layout.merge(logits, "linear", 1.0).tile(slice(0, 31), slice(0, 47), slice(0, 3))
    assert len(layout.windows) == 4
    assert len(made) == 2
