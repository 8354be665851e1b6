"""Where windows lie for a photograph and a protocol, by hand."""

from dataclasses import replace

import pytest

from lexiseg.dense.multi_view import MultiView
from lexiseg.inference.layout import lay_out
from lexiseg.inference.protocol import InferenceProtocol

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
    (layout,) = lay_out((31, 47), replace(WINDOWS, **changes), 4).windows
    assert (layout.windows.tops, layout.windows.lefts) == (tops, lefts)


def test_every_view_has_windows_of_its_own():
    layout = lay_out((31, 47), replace(WINDOWS, views=MultiView(scales=(0.5, 1.0), flip="none")), 4)
    assert [view.size for view in layout.views] == [(12, 20), (24, 36)]
    small, large = layout.windows
    assert (small.windows.tops, small.windows.lefts) == ((0,), (0, 7))
    assert (large.windows.tops, large.windows.lefts) == ((0, 7, 11), (0, 7, 14, 21, 23))
    assert small.by_way_of == large.by_way_of == (22, 33)
