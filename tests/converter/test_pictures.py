"""The pictures of a report show what they are for, whatever the figures."""

from __future__ import annotations

import pytest

from converter.pictures import _layers

figures = pytest.importorskip("matplotlib.figure", reason="needs the converter's environment")


def layer(high: float) -> dict[str, object]:
    half = {"low": -high, "high": high, "seen_low": 0.0, "seen_high": high / 2}
    return {"name": "x", "operator": "ADD", "saturated": 0.0, **half}


def test_a_layer_of_a_huge_range_hides_no_other() -> None:
    figure = figures.Figure()
    _layers(figure, [layer(1.0), layer(1e7), layer(1e-6)])
    (axis,) = figure.axes
    occurs = [patch for patch in axis.patches if patch.get_height() < 0.5]
    assert [patch.get_x() for patch in occurs] == pytest.approx([50.0] * 3)
    assert [patch.get_width() for patch in occurs] == pytest.approx([25.0] * 3)
    assert [text.get_text().strip() for text in axis.texts] == ["-1 to 1", "-1e+07 to 1e+07", "-1e-06 to 1e-06"]
