"""The choice of threshold and gate: as few wrong steps in an ordinary day as possible."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pytest

from converter.dataset import SAMPLING_RATE_HZ, Track
from converter.found import Answers, Decision, steps_s
from converter.operating_point import (
    DAY_SHAKEN_H,
    LOOKAHEAD,
    SHAKEN,
    OperatingPoint,
    best,
    choose,
    load_point,
    measure,
)
from converter.shape import HOP_SAMPLES, LOOKAHEADS, LOOKBACKS
from edge.bouts import Gate
from tests.converter.conftest import make_track

if TYPE_CHECKING:
    from pathlib import Path


HOP_S = HOP_SAMPLES / SAMPLING_RATE_HZ


def answers(track: Track, *, steps: float, walking: float) -> Answers:
    """Return what a net might say: bumps of a height at every step of a track, and the same walking throughout."""
    frames = len(track.frames) // HOP_SAMPLES * HOP_SAMPLES
    time_s = np.arange(frames) / SAMPLING_RATE_HZ
    at_s = track.steps_s if len(track.steps_s) else np.arange(3.0, 50.0, 0.5)
    heat = [
        sum((np.exp(-0.5 * ((time_s - t - late / SAMPLING_RATE_HZ) / 0.06) ** 2) for t in at_s), np.zeros(frames))
        for late in LOOKAHEADS
    ]
    said = np.full((frames // HOP_SAMPLES, len(LOOKBACKS)), walking, np.float32)
    return Answers((steps * np.stack(heat, 1)).astype(np.float32), said)


@pytest.mark.parametrize("lookahead", LOOKAHEADS)
def test_steps_are_those_of_the_device_s_detector(lookahead: int) -> None:
    track = make_track(walking=True)
    said = answers(track, steps=0.8, walking=0.99)
    for gate, expected in ((None, track.steps_s), (Gate(0.9, 0.2, 4.0), track.steps_s), (Gate(0.995, 0.2, 4.0), [])):
        found = steps_s(said, Decision(0.4, 0.24, gate, lookahead, LOOKBACKS[1]))
        np.testing.assert_allclose(found, np.asarray(expected, float), atol=0.006)


def test_the_gate_shuts_out_what_the_threshold_cannot() -> None:
    walk, still = make_track(walking=True), make_track(walking=False, dataset="wisdm_watch")
    said = [answers(walk, steps=0.7, walking=0.99), answers(still, steps=0.7, walking=0.93)]
    point, tried = choose([walk, still], said, HOP_S)
    assert point.gate.on > 0.93
    assert (point.f1_250ms, point.false_steps_per_hour, point.wrong_per_day) == (1.0, 0.0, 0.0)
    assert any(other.false_steps_per_hour > 1000 for other in tried)


def test_the_back_fill_reaches_beyond_the_look_back() -> None:
    walk = make_track(walking=True)
    _, tried = choose([walk], [answers(walk, steps=0.8, walking=0.99)], HOP_S)
    assert all(point.gate.backfill_s > point.lookback * HOP_S for point in tried)
    assert {point.lookback for point in tried} == set(LOOKBACKS[1:3])


def test_a_day_weighs_missed_ends_of_walks_and_invented_steps() -> None:
    def wrong(missed: float, invented: float, first: float, last: float, false: float) -> float:
        gate = Gate(0.9, 0.2, 4.0)
        return OperatingPoint(0.3, 0.24, gate, 5, 0.99, missed, invented, first, last, false, 0.0).wrong_per_day

    assert wrong(0, 0, 1, 1, 0) == 0
    assert wrong(0.01, 0, 1, 1, 0) == pytest.approx(45)
    assert wrong(0, 0.01, 1, 1, 0) == pytest.approx(50)
    assert wrong(0, 0, 0.9, 0.8, 0) == pytest.approx(75)
    assert wrong(0, 0, 1, 1, 10) == pytest.approx(80)


def test_of_points_alike_the_one_that_invents_least_is_taken() -> None:
    def point(threshold: float, missed: float) -> OperatingPoint:
        return OperatingPoint(threshold, 0.24, Gate(0.9, 0.2, 4.0), 5, 0.99, missed, 0.0, 1.0, 1.0, 0.0, 0.0)

    tried = [point(0.3, 0.0100), point(0.4, 0.0102), point(0.4, 0.0101), point(0.5, 0.0200)]
    assert best(tried) == tried[2]
    assert best(tried[:1] + tried[3:]) == tried[0]


def test_steps_missed_inside_a_walk_and_steps_invented_are_told_apart() -> None:
    walk = make_track(walking=True)
    said = answers(walk, steps=0.7, walking=0.99)
    said.step[: int(walk.steps_s[0] * SAMPLING_RATE_HZ) + 12] = 0.0  # the first step is not heard
    gate = Gate(0.9, 0.2, 4.0)
    heard = measure([walk], [said], 0.4, gate, LOOKBACKS[1])
    assert (heard.missed_inside, heard.invented, heard.first_step_recall, heard.last_step_recall) == (0, 0, 0, 1)


def test_a_point_survives_its_file(tmp_path: Path) -> None:
    point = OperatingPoint(0.3, 0.24, Gate(0.9, 0.2, 4.0, 0.15), 5, 0.99, 0.01, 0.02, 0.9, 0.9, 1.0, 2.0)
    path = tmp_path / "x.train.json"
    path.write_text(json.dumps({"chosen": asdict(point) | {"wrong_per_day": 1.0}}), encoding="utf-8")
    assert load_point(path) == point
    assert LOOKAHEAD in LOOKAHEADS


def test_people_who_are_shaken_weigh_by_their_own_hours() -> None:
    walk, still = make_track(walking=True), make_track(walking=False, dataset=SHAKEN)
    said = [answers(walk, steps=0.7, walking=0.99), answers(still, steps=0.7, walking=0.99)]
    point = measure([walk, still], said, 0.4, Gate(0.9, 0.2, 4.0), LOOKBACKS[1])
    assert point.false_steps_per_hour == 0.0
    assert point.shaken_steps_per_hour > 1000
    assert point.wrong_per_day == pytest.approx(DAY_SHAKEN_H * point.shaken_steps_per_hour)
