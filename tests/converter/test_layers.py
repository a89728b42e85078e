"""A layer is at its limit where values were cut off, not where its function ends by nature."""

from __future__ import annotations

import math

import numpy as np
import pytest

from converter.flatfile import Tensor
from converter.layers import NATURAL, UNBOUNDED, _range


def saturated(natural: tuple[float, float], scale: float, zero: int) -> float:
    """Return the share at the limits of values half of which are at either."""
    tensor = Tensor(0, "x", (4,), "INT8", (scale,), (zero,), 0, None)
    return _range(tensor, "x", "ANY", np.array([-128, -128, 127, 127], np.int8), natural).saturated


@pytest.mark.parametrize(
    ("natural", "scale", "zero", "share"),
    [
        (UNBOUNDED, 0.1, 0, 1.0),
        (UNBOUNDED, 0.1, -128, 0.5),  # the floor of a relu is the zero of the tensor
        (NATURAL["GELU"], 0.17 / 10, -118, 0.5),
        (NATURAL["LOGISTIC"], 1 / 256, -128, 0.0),
        (NATURAL["TANH"], 1 / 128, 0, 0.0),
        (NATURAL["TANH"], 0.5 / 128, 0, 1.0),
        (NATURAL["RELU6"], 6 / 255, -128, 0.0),
        (NATURAL["RELU6"], 3 / 255, -128, 0.5),
        ((-math.inf, 0.0), 0.1, 0, 0.5),
    ],
)
def test_what_is_at_a_limit(natural: tuple[float, float], scale: float, zero: int, share: float) -> None:
    assert saturated(natural, scale, zero) == share


def test_a_range_far_below_one_is_not_rounded_away() -> None:
    tensor = Tensor(0, "x", (1,), "INT8", (1e-9,), (0,), 0, None)
    found = _range(tensor, "x", "ANY", np.array([5], np.int8), UNBOUNDED)
    assert (found.high, found.seen_high) == (1.27e-7, 5e-9)
