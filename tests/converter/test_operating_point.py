"""The choice of threshold: as many steps as possible, then as few false ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from converter.dataset import SAMPLING_RATE_HZ, Track
from converter.operating_point import OperatingPoint, best, choose, label_shift_s, steps_s
from tests.converter.conftest import make_track

if TYPE_CHECKING:
    from edge.types import FloatArray


def heat(track: Track, height: float, late_s: float = 0.0) -> FloatArray:
    time_s = np.arange(len(track.frames)) / SAMPLING_RATE_HZ
    total = sum((np.exp(-0.5 * ((time_s - t - late_s) / 0.06) ** 2) for t in track.steps_s), np.zeros(len(time_s)))
    return np.asarray(height * total, np.float32)


def false_alarms(track: Track, height: float) -> FloatArray:
    probability = np.zeros(len(track.frames), np.float32)
    probability[100::50] = height
    return probability


def test_steps_are_those_of_the_device_s_detector() -> None:
    track = make_track(walking=True)
    np.testing.assert_allclose(steps_s(heat(track, 0.8), 0.4, 0.24), track.steps_s, atol=0.005)


def test_the_threshold_rises_above_false_alarms_but_not_above_steps() -> None:
    walk, still = make_track(walking=True), make_track(walking=False, dataset="wisdm_watch")
    point, tried = choose([walk, still], [heat(walk, 0.72), false_alarms(still, 0.48)])
    assert 0.48 < point.threshold <= 0.65
    assert (point.f1_250ms, point.false_steps_per_hour) == (1.0, 0.0)
    assert any(other.false_steps_per_hour > 1000 for other in tried)


def test_within_the_slack_of_the_top_fewer_false_steps_decide() -> None:
    found = {0.4: (0.990, 90), 0.45: (0.989, 60), 0.5: (0.988, 40), 0.55: (0.970, 20)}
    tried = [OperatingPoint(threshold, 0.24, f1, false) for threshold, (f1, false) in found.items()]
    assert best(tried).threshold == 0.5
    assert best(tried[-1:]).threshold == 0.55


def test_label_shift_is_found_per_placement_and_not_for_the_anchor() -> None:
    anchor, other = make_track(walking=True), make_track(walking=True, dataset="oxford_opt", seed=1)
    found = label_shift_s([anchor, other], [heat(anchor, 0.9, 0.1), heat(other, 0.9, 0.05)], "awinda_hand")
    assert found == {"somewhere": pytest.approx(0.05, abs=0.005)}
