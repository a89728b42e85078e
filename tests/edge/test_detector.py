"""The peak picker: one event per maximum, at its sub-frame instant, never two within the refractory time."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bouts import Gate
from edge.detector import StepDetector
from edge.types import StepEvent, Window

RATE_HZ, LOOKAHEAD = 25.0, 5


def detect(probability: npt.NDArray[np.floating], hop: int = 5, threshold: float = 0.4) -> list[StepEvent]:
    """Feed probabilities whose frame k lies at k / 25 s, in hops."""
    detector = StepDetector(
        period_s=1 / RATE_HZ, lookahead_s=LOOKAHEAD / RATE_HZ, threshold=threshold, refractory_s=0.24
    )
    events: list[StepEvent] = []
    for start in range(0, len(probability) - hop + 1, hop):
        newest_s = (start + hop - 1 + LOOKAHEAD) / RATE_HZ
        window = Window(newest_s, newest_s + 0.1, np.empty((0, 3), np.float32))
        events += detector.push(window, probability[start : start + hop].astype(np.float32))
    return events


def bumps(at_s: list[float], frames: int = 250, height: float = 0.9) -> npt.NDArray[np.floating]:
    time_s = np.arange(frames) / RATE_HZ
    total = sum(height * np.exp(-0.5 * ((time_s - t) / 0.06) ** 2) for t in at_s)
    return np.asarray(total, np.float32)


def test_each_bump_is_one_step_at_its_own_instant() -> None:
    at_s = [1.013, 1.52, 2.031, 2.549, 3.06]
    events = detect(bumps(at_s))
    assert [e.time_s for e in events] == pytest.approx(at_s, abs=0.006)
    assert all(e.confidence > 0.8 for e in events)


def test_a_step_is_known_one_frame_and_the_rest_of_a_hop_after_its_look_ahead() -> None:
    (event,) = detect(bumps([2.0]))
    assert 0.1 + LOOKAHEAD / RATE_HZ <= event.emitted_s - event.time_s <= 0.1 + (LOOKAHEAD + 1 + 5) / RATE_HZ


def test_below_the_threshold_nothing_happens() -> None:
    assert detect(bumps([1.0, 2.0], height=0.39)) == []


def test_of_two_maxima_within_the_refractory_time_the_first_stands() -> None:
    events = detect(bumps([1.0, 1.2, 2.0]))
    assert [round(e.time_s, 1) for e in events] == [1.0, 2.0]


def test_a_plateau_is_one_step() -> None:
    probability = np.zeros(50, np.float32)
    probability[20:25] = 0.996
    assert len(detect(probability)) == 1


def test_cadence_follows_the_steps_and_is_unknown_for_the_first_of_a_bout() -> None:
    events = detect(bumps([1.0, 1.5, 2.0, 2.5, 6.0, 6.6]))
    cadences = [e.cadence_spm for e in events]
    assert cadences[0] is None
    assert cadences[1:4] == pytest.approx([120, 120, 120], abs=2)
    assert cadences[4] is None
    assert cadences[5] == pytest.approx(100, abs=2)


@given(
    st.lists(st.integers(0, 255), min_size=60, max_size=60),
    st.sampled_from([1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30]),
)
def test_events_do_not_depend_on_the_hop_and_respect_the_refractory_time(levels: list[int], hop: int) -> None:
    probability = np.asarray(levels, np.float32) / 256
    times_s = [e.time_s for e in detect(probability, hop)]
    # The detector answers frame k only after frame k + 1, so a hop that divides the length sees all but the last.
    assert times_s == pytest.approx([e.time_s for e in detect(probability, 1)])
    assert all(b - a >= 0.24 - 1e-9 for a, b in itertools.pairwise(times_s))


def test_behind_a_gate_steps_wait_for_the_bout_and_say_so() -> None:
    detector = StepDetector(
        period_s=1 / RATE_HZ, lookahead_s=0.0, threshold=0.4, refractory_s=0.24, gate=Gate(0.9, 0.2, 4.0)
    )
    probability = bumps([1.0, 1.5, 2.0, 2.5, 3.0])
    events: list[StepEvent] = []
    for hop in range(len(probability) // 5):
        newest_s = (5 * hop + 4) / RATE_HZ
        walking = 0.95 if newest_s > 2.2 else 0.1
        window = Window(newest_s, newest_s + 0.1, np.empty((0, 3), np.float32))
        events += detector.push(window, probability[5 * hop : 5 * hop + 5], walking)
    assert [e.time_s for e in events] == pytest.approx([1.0, 1.5, 2.0, 2.5, 3.0], abs=0.01)
    assert [e.backfilled for e in events] == [True, True, True, False, False]
    assert len({e.emitted_s for e in events[:3]}) == 1
    assert events[2].cadence_spm == pytest.approx(120, abs=2)


@pytest.mark.parametrize(("first", "found_s"), [(None, [1.5, 2.0]), (0.2, [1.0, 1.5, 2.0]), (0.6, [1.5, 2.0])])
def test_the_first_step_of_a_walk_may_be_weaker(first: float | None, found_s: list[float]) -> None:
    detector = StepDetector(
        period_s=1 / RATE_HZ, lookahead_s=0.0, threshold=0.4, refractory_s=0.24, gate=Gate(0.9, 0.2, 4.0, first)
    )
    probability = 0.3 * bumps([1.0, 2.6]) + bumps([1.5, 2.0])
    events: list[StepEvent] = []
    for hop in range(len(probability) // 5):
        newest_s = (5 * hop + 4) / RATE_HZ
        window = Window(newest_s, newest_s + 0.1, np.empty((0, 3), np.float32))
        events += detector.push(window, probability[5 * hop : 5 * hop + 5], 0.95 if newest_s > 2.2 else 0.1)
    assert [e.time_s for e in events] == pytest.approx(found_s, abs=0.01)


def test_without_a_word_on_walking_a_gate_stays_shut() -> None:
    detector = StepDetector(
        period_s=1 / RATE_HZ, lookahead_s=0.0, threshold=0.4, refractory_s=0.24, gate=Gate(0.9, 0.2, 4.0)
    )
    window = Window(9.96, 10.0, np.empty((0, 3), np.float32))
    assert list(detector.push(window, bumps([1.0, 2.0]))) == []
