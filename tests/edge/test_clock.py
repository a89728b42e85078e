"""FIFO counts to host time: simulated sensors with wrong rates, late wake-ups, slow reads and a stall."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import RECENT_S, SampleClock
from edge.imu.drain import LEARNING_S, drain_interval_s

Times = npt.NDArray[np.float64]

NOMINAL_HZ = 100.0
START_S = 5000.0
WARM_S = 10.0


@dataclass(frozen=True)
class Read:
    """n new samples were seen by a read that ended at counted_s and took read_s."""

    samples: int
    counted_s: float
    read_s: float


def simulate(rate_error: float, *, duration_s: float = 300.0, seed: int = 1) -> tuple[Times, list[Read]]:
    """Return the true sample times of a sensor that also drifts by 200 ppm a minute, and the reads of its FIFO."""
    random = np.random.default_rng(seed)
    period_s = 1.0 / (NOMINAL_HZ * (1.0 + rate_error))
    nominal_s = np.arange(int(duration_s * NOMINAL_HZ * 1.3)) * period_s
    true = START_S + random.random() * period_s + np.cumsum(period_s * (1.0 + 200e-6 * nominal_s / 60.0))
    reads: list[Read] = []
    seen, due_s, ended_s = 0, START_S, START_S
    while due_s < START_S + duration_s:
        learning = due_s - START_S < LEARNING_S
        due_s += drain_interval_s(NOMINAL_HZ * (1.0 + rate_error), learning=learning)
        begun_s = due_s + 0.002 * random.random() + (random.exponential(0.02) if random.random() < 0.05 else 0.0)
        begun_s = max(begun_s, ended_s)
        if 200.0 < begun_s - START_S < 200.6:  # nobody was listening
            begun_s = due_s = START_S + 200.6
        read_s = 3e-4 * (1.0 + 0.3 * random.random()) + (random.exponential(0.01) if random.random() < 0.02 else 0.0)
        count = int(np.searchsorted(true, begun_s))
        ended_s = begun_s + read_s
        if count > seen:
            reads.append(Read(count - seen, ended_s, read_s))
        seen = count
    return true[:seen], reads


def stamp_all(clock: SampleClock, reads: list[Read]) -> Times:
    return np.concatenate([clock.stamp(read.samples, read.counted_s, read.read_s) for read in reads])


@pytest.mark.parametrize("rate_error", [0.0, 0.0005, 0.01, -0.01, 0.03, -0.03, 0.05, -0.05])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_within_2_ms_after_warm_up_and_monotonic_always(rate_error: float, seed: int) -> None:
    true, reads = simulate(rate_error, seed=seed)
    clock = SampleClock(NOMINAL_HZ)
    stamped = stamp_all(clock, reads)
    error = np.abs(stamped - true)
    assert (np.diff(stamped) > 0).all()
    assert error[true > START_S + WARM_S].max() < 0.002
    assert error[true > START_S + 2.0].max() < 0.003
    assert error.max() < 0.010, "the first second is never off by more than a period"
    drifted_hz = NOMINAL_HZ * (1.0 + rate_error) / (1.0 + 200e-6 * 5.0)
    assert clock.rate_hz == pytest.approx(drifted_hz, rel=2e-4)


def test_the_first_second_has_no_jumps() -> None:
    for seed in range(20):
        true, reads = simulate(0.0, duration_s=2.0, seed=seed)
        stamped = stamp_all(SampleClock(NOMINAL_HZ), reads)
        assert np.abs(np.diff(stamped) - 0.01).max() < 0.001
        assert np.abs(stamped - true).max() < 0.006


@pytest.mark.parametrize(("rate_error", "rate_hz"), [(0.19, 107.0), (-0.19, 93.0)])
def test_far_out_of_tolerance_the_rate_is_clamped_and_the_times_stay_bounded(rate_error: float, rate_hz: float) -> None:
    true, reads = simulate(rate_error)
    clock = SampleClock(NOMINAL_HZ)
    stamped = stamp_all(clock, reads)
    assert (np.diff(stamped) > 0).all()
    assert clock.rate_hz == pytest.approx(rate_hz)
    assert np.abs(stamped - true).max() < 0.05


def test_a_wider_tolerance_follows_such_a_sensor() -> None:
    true, reads = simulate(-0.19)
    clock = SampleClock(NOMINAL_HZ, tolerance=0.2)
    stamped = stamp_all(clock, reads)
    assert np.abs(stamped - true)[true > START_S + WARM_S].max() < 0.002


def test_slow_reads_are_not_believed() -> None:
    """Every third read takes 8 ms longer: believed, it would move the times by more than 2 ms."""
    true, reads = simulate(0.0, duration_s=60.0)
    slowed = [
        Read(read.samples, read.counted_s + 0.008, read.read_s + 0.008) if index % 3 == 2 else read
        for index, read in enumerate(reads)
    ]
    stamped = stamp_all(SampleClock(NOMINAL_HZ), slowed)
    assert np.abs(stamped - true)[true > START_S + WARM_S].max() < 0.002


def test_a_bus_that_became_slower_is_believed_again() -> None:
    clock = SampleClock(NOMINAL_HZ)
    for index in range(100):
        clock.stamp(10, START_S + 0.1 * index, 0.0003)
    for index in range(100, 1000):  # slower bus, and a sensor that has become 2 % slower
        clock.stamp(10, START_S + 10.0 + 0.102 * (index - 100), 0.003)
    assert clock.rate_hz == pytest.approx(10 / 0.102, rel=1e-3)


def test_uniform_within_a_block() -> None:
    clock = SampleClock(NOMINAL_HZ)
    clock.stamp(10, START_S)
    block = clock.stamp(10, START_S + 0.1034)
    np.testing.assert_allclose(np.diff(block), np.diff(block)[0], rtol=1e-6)


def test_a_new_segment_starts_at_the_nominal_rate_and_never_steps_back() -> None:
    _, reads = simulate(0.05, duration_s=30.0)
    clock = SampleClock(NOMINAL_HZ)
    last_s = stamp_all(clock, reads)[-1]
    clock.reset()
    assert clock.rate_hz == NOMINAL_HZ
    again = clock.stamp(40, last_s + 0.1)
    assert again[0] > last_s
    assert (np.diff(again) > 0).all()


def test_nothing_new_gives_nothing() -> None:
    assert SampleClock(NOMINAL_HZ).stamp(0, START_S).shape == (0,)


@given(
    blocks=st.lists(
        st.tuples(st.integers(0, 80), st.floats(0.0, 1.0), st.floats(0.0, 0.2), st.booleans()), min_size=1, max_size=40
    ),
    nominal_hz=st.sampled_from([10.0, 50.0, 100.0, 200.0]),
)
def test_monotonic_for_any_counts_at_any_times(blocks: list[tuple[int, float, float, bool]], nominal_hz: float) -> None:
    clock = SampleClock(nominal_hz)
    now_s, last_s = START_S, -np.inf
    for samples, later_s, read_s, new_segment in blocks:
        now_s += later_s
        if new_segment:
            clock.reset()
        times = clock.stamp(samples, now_s, read_s)
        assert len(times) == samples
        for time_s in times:
            assert time_s > last_s
            last_s = time_s
        assert 0.93 * nominal_hz <= clock.rate_hz * (1 + 1e-12) <= 1.07 * nominal_hz * (1 + 2e-12)


@pytest.mark.parametrize("rate_error", [0.0, 0.01, -0.03, 0.05, -0.05])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_samples_are_missed_where_none_is_missing(rate_error: float, seed: int) -> None:
    assert missed(simulate(rate_error, seed=seed)[1]) == []


@pytest.mark.parametrize("rate_error", [0.0, 0.05, -0.05])
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
@pytest.mark.parametrize("lost", [1, 2, 10])
def test_samples_that_vanish_in_silence_are_missed_soon(rate_error: float, seed: int, lost: int) -> None:
    """More than one at once; a single one as soon as a read meets the end of a period."""
    reads = simulate(rate_error, seed=seed)[1]
    robbed = next(index for index in range(200, len(reads)) if reads[index].samples > lost)
    reads[robbed] = replace(reads[robbed], samples=reads[robbed].samples - lost)
    noticed = missed(reads)[0]
    assert reads[noticed].counted_s - reads[robbed].counted_s <= (RECENT_S if lost == 1 else 0.0)
    assert noticed >= robbed


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.01), (-0.03, 0.05), (0.05, 0.19), (-0.19, 0.0)])
def test_an_oscillator_that_jumps_to_a_faster_pace_is_learnt_anew(before: float, after: float) -> None:
    """A regression alone would need half a minute; times stay bounded by the reads meanwhile."""
    first = [read for read in simulate(before, duration_s=40.0)[1] if read.samples]
    later = simulate(after, duration_s=12.0, seed=2)[1]
    shift_s = first[-1].counted_s - START_S
    clock = SampleClock(NOMINAL_HZ, tolerance=0.2)
    stamp_all(clock, first)
    for read in later:
        counted_s = read.counted_s + shift_s
        times = clock.stamp(read.samples, counted_s, read.read_s)
        assert counted_s - read.read_s - 2.0 / NOMINAL_HZ <= times[-1] <= counted_s
    assert clock.rate_hz == pytest.approx(NOMINAL_HZ * (1.0 + after), rel=2e-3)


def missed(reads: list[Read]) -> list[int]:
    """Return the reads at which samples were missed."""
    clock = SampleClock(NOMINAL_HZ)
    found = []
    for index, read in enumerate(reads):
        if clock.lacks(read.samples, read.counted_s, read.read_s):
            found.append(index)
        clock.stamp(read.samples, read.counted_s, read.read_s)
    return found
