"""The gate: steps wait until somebody walks, then all of the bout go; what was no walking never does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bouts import BoutGate, Gate, Peak

GATE = Gate(on=0.9, off=0.2, backfill_s=4.0, first=0.2, last=0.2)
HOP_S = 0.2


def run(
    walking: list[float], step_every_hops: int = 2, patience_s: float | None = None
) -> tuple[list[float], list[float]]:
    """Feed a step every so many hops; return the instants released after a wait and those that passed at once."""
    gate = BoutGate(replace(GATE, patience_s=patience_s))
    held: list[float] = []
    live: list[float] = []
    for hop, probability in enumerate(walking):
        newest_s = hop * HOP_S
        peaks = [Peak(newest_s - 0.1, 0.8)] if hop % step_every_hops == 0 else []
        released, passed = gate.push(peaks, probability, newest_s)
        held += [peak.time_s for peak in released]
        live += [peak.time_s for peak in passed]
    return held, live


def test_nothing_passes_while_nobody_walks() -> None:
    assert run([0.89] * 100) == ([], [])


def test_the_start_of_a_bout_is_released_when_it_is_confirmed_and_the_rest_passes() -> None:
    held, live = run([0.0] * 10 + [0.95] + [0.5] * 9)
    assert held == pytest.approx([-0.1, 0.3, 0.7, 1.1, 1.5, 1.9])
    assert live == pytest.approx([2.3, 2.7, 3.1, 3.5])


def test_what_waited_longer_than_the_back_fill_time_is_dropped() -> None:
    held, _ = run([0.0] * 50 + [0.95])
    assert min(held) >= 50 * HOP_S - GATE.backfill_s
    assert len(held) == 10


@pytest.mark.parametrize(
    ("before", "oldest_s"),
    [
        ([0.2] * 100, 10.0),  # a walk was possible all the while: all that is younger than the patience
        ([0.0] * 80 + [0.2] * 20, 15.8 - 4.0),  # and its start had the back-fill time to become so
        ([0.2] * 95 + [0.19] + [0.2] * 4, 19.0 - 4.0),  # a walk that was none in between begins there
        ([0.19] * 100, 19.8 - 4.0),  # no walk until now: as without patience, but for a hop
    ],
)
def test_while_a_walk_is_possible_its_steps_wait_for_longer(before: list[float], oldest_s: float) -> None:
    held, live = run([*before, 0.95], patience_s=10.0)
    assert live == []
    assert oldest_s - 1e-9 <= min(held) < oldest_s + 3 * HOP_S
    assert np.diff(held) == pytest.approx(2 * HOP_S)


def test_a_bout_ends_below_off_and_not_before() -> None:
    _, live = run([0.95] + [0.2] * 9 + [0.19] + [0.5] * 10)
    assert live == pytest.approx([0.3, 0.7, 1.1, 1.5])


def test_a_new_segment_forgets_what_waited() -> None:
    gate = BoutGate(GATE)
    gate.push([Peak(0.1, 0.8)], 0.0, 0.2)
    gate.reset()
    assert gate.push([], 0.95, 0.4) == ([], [])


@pytest.mark.parametrize(
    ("weak_s", "released_s"),
    [
        ([0.5], [0.5, 1.0, 1.5]),
        ([0.0, 0.5], [0.5, 1.0, 1.5]),  # only one step can be the first
        ([0.8], [1.0, 1.5]),  # too close to be a step of its own
        ([-0.3], [1.0, 1.5]),  # too far to belong to this walk
        ([1.2], [1.0, 1.5]),  # not the first
        ([], [1.0, 1.5]),
    ],
)
def test_a_weak_step_right_before_the_first_strong_one_is_the_first(
    weak_s: list[float], released_s: list[float]
) -> None:
    gate = BoutGate(GATE)
    assert gate.push([Peak(1.0, 0.8), Peak(1.5, 0.8)], 0.0, 1.6, [Peak(time_s, 0.25) for time_s in weak_s]) == ([], [])
    released, live = gate.push([], 0.95, 1.8)
    assert [peak.time_s for peak in released] == released_s
    assert live == []


@pytest.mark.parametrize(
    ("weak_s", "released_s"),
    [
        ([2.0], [2.0]),
        ([2.0, 2.5], [2.0]),  # only one step can be the last
        ([1.7], []),  # too close to be a step of its own
        ([2.8], []),  # too far to belong to this walk
        ([1.2], []),  # not the last
        ([], []),
    ],
)
def test_a_weak_step_right_after_the_last_strong_one_is_the_last(weak_s: list[float], released_s: list[float]) -> None:
    gate = BoutGate(GATE)
    gate.push([Peak(1.0, 0.8)], 0.95, 1.1)
    gate.push([Peak(1.5, 0.8)], 0.9, 1.6, [Peak(time_s, 0.25) for time_s in weak_s if time_s < 1.5])
    assert gate.push([], 0.2, 2.9, [Peak(time_s, 0.25) for time_s in weak_s if time_s > 1.5]) == ([], [])
    released, live = gate.push([], 0.1, 3.0)
    assert [peak.time_s for peak in released] == released_s
    assert live == []
    assert gate.push([], 0.95, 3.2) == ([], []), "once"


def test_an_hour_of_weak_steps_alone_keeps_none_of_them() -> None:
    gate = BoutGate(GATE)
    gate.push([Peak(1.0, 0.8)], 0.95, 1.1)
    for second in range(2, 3600):
        assert gate.push([], 0.5, second + 0.9, [Peak(second + 0.5, 0.25)]) == ([], [])
    assert len(gate._weak) == 0
    assert gate.push([], 0.1, 3601.0) == ([], [])


def test_a_last_step_older_than_the_back_fill_time_is_dropped_as_a_first_one_is() -> None:
    gate = BoutGate(GATE)
    gate.push([Peak(1.0, 0.8)], 0.95, 1.1)
    gate.push([], 0.5, 2.1, [Peak(2.0, 0.25)])
    for tenth in range(22, 70):
        gate.push([], 0.5, tenth / 10)
    assert gate.push([], 0.1, 2.0 + GATE.backfill_s + 0.1) == ([], [])


@pytest.mark.parametrize("same_hop", [True, False])
def test_no_step_is_as_near_to_a_weak_last_one_as_no_two_steps_are(*, same_hop: bool) -> None:
    gate = BoutGate(GATE)
    gate.push([Peak(1.0, 0.8)], 0.95, 1.1)
    gate.push([], 0.5, 1.8, [Peak(1.6, 0.25)])
    near, far = Peak(1.75, 0.8), Peak(2.2, 0.8)
    ended, _ = gate.push([near] if same_hop else [], 0.1, 2.0)
    begun, _ = gate.push([far] if same_hop else [near, far], 0.95, 2.3)
    # A strong one that is known in time is rather a step than the weak one; later the weak one has been published.
    assert (ended, begun) == (([], [near, far]) if same_hop else ([Peak(1.6, 0.25)], [far]))


def test_the_last_step_of_a_bout_that_was_all_held_back_counts_too() -> None:
    gate = BoutGate(GATE)
    gate.push([Peak(1.0, 0.8), Peak(1.5, 0.8)], 0.0, 1.6)
    assert gate.push([], 0.95, 1.8)[0] == [Peak(1.0, 0.8), Peak(1.5, 0.8)]
    gate.push([], 0.5, 2.1, [Peak(2.0, 0.25)])
    assert gate.push([], 0.1, 3.0)[0] == [Peak(2.0, 0.25)]


@pytest.mark.parametrize(("first", "last"), [(0.2, None), (None, 0.2), (0.2, 0.3), (0.3, 0.2)])
def test_a_weak_step_must_reach_what_is_asked_of_its_place(first: float | None, last: float | None) -> None:
    gate = BoutGate(Gate(on=0.9, off=0.2, backfill_s=4.0, first=first, last=last))
    weak = [Peak(0.5, 0.25), Peak(2.0, 0.25)]
    gate.push([Peak(1.0, 0.8), Peak(1.5, 0.8)], 0.0, 1.6, weak[:1])
    begun, _ = gate.push([], 0.95, 1.8)
    gate.push([], 0.5, 2.1, weak[1:])
    ended, _ = gate.push([], 0.1, 3.0)
    assert (weak[0] in begun, ended == weak[1:]) == (first == 0.2, last == 0.2)


def test_a_bout_needs_its_least_number_of_steps_and_then_releases_all() -> None:
    gate = BoutGate(Gate(on=0.9, off=0.2, backfill_s=4.0, least=3))
    assert gate.push([Peak(1.0, 0.8), Peak(1.5, 0.8)], 0.95, 1.6) == ([], [])
    released, live = gate.push([Peak(2.0, 0.8)], 0.95, 2.1)
    assert ([peak.time_s for peak in released], live) == ([1.0, 1.5, 2.0], [])
    assert gate.push([Peak(2.5, 0.8)], 0.5, 2.6) == ([], [Peak(2.5, 0.8)])


def test_steps_of_long_ago_are_released_with_a_bout_but_do_not_make_one() -> None:
    gate = BoutGate(Gate(on=0.9, off=0.2, backfill_s=4.0, least=3, patience_s=20.0))
    for time_s in (1.0, 1.5, 10.0, 10.5):
        assert gate.push([Peak(time_s, 0.8)], 0.95, time_s + 0.1) == ([], [])
    released, _ = gate.push([Peak(11.0, 0.8)], 0.95, 11.1)
    assert [peak.time_s for peak in released] == [1.0, 1.5, 10.0, 10.5, 11.0]


def test_weak_steps_alone_are_no_walk_and_those_of_an_old_wait_are_forgotten() -> None:
    gate = BoutGate(GATE)
    gate.push([], 0.0, 1.0, [Peak(0.9, 0.25)])
    assert gate.push([], 0.95, 1.2) == ([], [])
    gate.push([], 0.1, 1.4)
    gate.push([Peak(1.6, 0.8)], 0.1, 1.8)
    released, _ = gate.push([], 0.95, 2.0)
    assert [peak.time_s for peak in released] == [1.6]


@given(walking=st.lists(st.floats(0, 1), max_size=60), every=st.integers(1, 4), patience_s=st.sampled_from([None, 8.0]))
def test_every_step_goes_once_at_most_and_in_order(walking: list[float], every: int, patience_s: float | None) -> None:
    gate = BoutGate(replace(GATE, patience_s=patience_s))
    out: list[float] = []
    for hop, probability in enumerate(walking):
        peaks = [Peak(hop * HOP_S, 0.8)] if hop % every == 0 else []
        weak = [Peak(hop * HOP_S + 0.1, 0.3)]
        released, passed = gate.push(peaks, probability, hop * HOP_S, weak)
        out += [peak.time_s for peak in (*released, *passed)]
    assert out == sorted(set(out))
