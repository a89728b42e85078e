"""The simulated walker takes steps that are known, at human rates and sizes, and its two sensors agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import UsageError
from edge.recording import Recording, load, save_csv
from edge.scoring import matched_pairs
from emulator.gait import ACTIVITY_NAMES, PLACEMENTS, WALK, _bouts, _heading, _Walker, simulate_walk

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, Any]
placements = pytest.mark.parametrize("placement", PLACEMENTS)


def steps_of(walk: Recording) -> Array:
    assert walk.steps is not None
    return walk.steps


def during(walk: Recording, activity: str) -> Array:
    assert walk.activity is not None
    return np.asarray(walk.activity == ACTIVITY_NAMES.index(activity))


def norm(walk: Recording) -> Array:
    return np.asarray(np.linalg.norm(walk.imu[:, :3], axis=1))


@placements
def test_the_same_seed_is_the_same_walk(placement: str) -> None:
    first, again, other = (simulate_walk(seed=seed, placement=placement) for seed in (3, 3, 4))
    assert first.imu.tobytes() == again.imu.tobytes()
    assert steps_of(first).tobytes() == steps_of(again).tobytes()
    assert not np.array_equal(first.imu, other.imu)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    seconds=st.floats(15.0, 200.0),
    placement=st.sampled_from(sorted(PLACEMENTS)),
    cadence_spm=st.none() | st.floats(60.0, 150.0),
)
def test_steps_are_human_and_only_where_somebody_walks(
    seed: int, seconds: float, placement: str, cadence_spm: float | None
) -> None:
    walk = simulate_walk(seconds, seed, placement=placement, cadence_spm=cadence_spm)
    steps = steps_of(walk)
    interval_s = np.diff(steps)
    usual_s = 60.0 / (cadence_spm or 109.0)
    assert np.isfinite(walk.imu).all()
    assert interval_s.min() > 0.65 * usual_s
    assert 0.8 * usual_s < np.median(interval_s) < 1.2 * usual_s
    walking = ~during(walk, "standing")
    assert walking[np.searchsorted(walk.time_s, steps)].all()
    assert len(steps) == pytest.approx(walking.mean() * seconds / usual_s, rel=0.2, abs=6)


def test_the_default_walk_is_the_minute_that_was_promised() -> None:
    walk = simulate_walk()
    steps = steps_of(walk)
    assert (len(walk.time_s), walk.sampling_rate_hz, walk.steps_known) == (6000, 100.0, "all")
    assert len(steps) == 88, "a different number means that old seeds now give other walks"
    pauses = steps[:-1][np.diff(steps) > 2.0]
    assert len(pauses) == 1
    assert 30.0 < pauses[0] < 33.0
    slow, fast = (np.median(np.diff(steps[(steps > a) & (steps < b)])) for a, b in ((7.0, 19.0), (43.0, 53.0)))
    assert slow / fast == pytest.approx(1.12, abs=0.03)
    assert during(walk, "turning").sum() == 300


@placements
def test_a_file_of_it_is_a_recording_like_any_other(tmp_path: Path, placement: str) -> None:
    walk = simulate_walk(20.0, 1, placement=placement, sampling_rate_hz=104.0)
    save_csv(tmp_path / "walk.csv.gz", walk)
    loaded = load(tmp_path / "walk.csv.gz")
    assert np.array_equal(loaded.imu, walk.imu)
    np.testing.assert_allclose(np.asarray(loaded.steps), steps_of(walk), atol=1e-6)


@placements
@pytest.mark.parametrize("seed", range(4))
def test_sizes_are_those_of_real_recordings(placement: str, seed: int) -> None:
    """Limits: the range over the public hand, lower back and swinging-arm recordings, with a little to spare."""
    walk = simulate_walk(seed=seed, placement=placement)
    standing, walking = (norm(walk)[during(walk, a)] for a in ("standing", "walking"))
    resting = norm(walk)[:200]
    assert resting.std() < 0.2
    assert standing.mean() == pytest.approx(9.81, abs=1.2), "gravity, within three times the sensor's bias and scale"
    assert 0.8 < walking.std() < 4.0
    assert 4.0 < np.percentile(walking, 1) < 9.0
    assert 13.0 < np.percentile(walking, 99) < 22.0
    rate = np.linalg.norm(walk.imu[during(walk, "walking"), 3:] - walk.imu[:200, 3:].mean(axis=0), axis=1)
    assert 0.15 < np.median(rate) < 2.5


@placements
def test_the_rhythm_of_the_acceleration_is_that_of_the_steps(placement: str) -> None:
    walk = simulate_walk(seed=5, placement=placement)
    part = (walk.time_s > 42.0) & (walk.time_s < 54.0)
    power = np.abs(np.fft.rfft((norm(walk)[part] - norm(walk)[part].mean()) * np.hanning(part.sum()))) ** 2
    strongest_hz = np.fft.rfftfreq(part.sum(), 0.01)[power.argmax()]
    steps = steps_of(walk)[(steps_of(walk) > 42.0) & (steps_of(walk) < 54.0)]
    assert strongest_hz == pytest.approx(1 / np.diff(steps).mean(), rel=0.06)


@placements
@pytest.mark.parametrize("seed", range(3))
def test_gyroscope_and_accelerometer_tell_of_the_same_turn(placement: str, seed: int) -> None:
    """Half a turn about the vertical, which only the accelerometer knows."""
    walk = simulate_walk(seed=seed, placement=placement)
    up = walk.imu[:200, :3].mean(axis=0)
    up /= np.linalg.norm(up)
    bias = walk.imu[:200, 3:].mean(axis=0)
    turning = (walk.time_s > 18.0) & (walk.time_s < 25.0)
    turned_rad = ((walk.imu[turning, 3:] - bias) @ up).sum() / walk.sampling_rate_hz
    assert turned_rad == pytest.approx(np.pi, abs=0.4)


@placements
def test_no_rotation_without_a_change_of_gravity(placement: str) -> None:
    """Turn gravity by the ideal gyroscope alone: it must stay where the ideal accelerometer sees it, for 40 s."""
    time_s = np.arange(8000) / 200.0
    rng = np.random.default_rng(7)
    body = _Walker(time_s, _bouts([*WALK], 108.0, rng)[:1], _heading(time_s, [*WALK]), PLACEMENTS[placement], rng)
    force, rate = body.motion()
    gravity = force[0]
    predicted = []
    for turn in rate:
        gravity = gravity - np.cross(turn, gravity) / 200.0  # what is fixed in the world turns backwards in the sensor
        gravity *= 9.81 / np.linalg.norm(gravity)  # Euler's rule lengthens it a little
        predicted.append(gravity)
    limit = 1.2 if placement == "wrist" else 0.8  # 0.5 m/s · 1.6 rad/s in the turn; 0.6 m · (1.7 rad/s)² / 2 in the arm
    kernel = np.hanning(444) / np.hanning(444).sum()  # two strides: what the steps add averages out
    for axis in range(3):
        slow = [np.convolve(vector[:, axis], kernel, "valid") for vector in (np.array(predicted), force)]
        assert np.abs(slow[0] - slow[1]).max() < limit
    tilt = max(np.ptp(np.array(predicted)[2000:3000, axis]) for axis in range(3))
    assert (tilt > 4.0) == (placement == "wrist"), "an arm that swings by ±16° takes gravity along"


@placements
@pytest.mark.parametrize("seed", range(3))
def test_a_textbook_peak_picker_finds_the_steps(placement: str, seed: int) -> None:
    """Smooth |acc| over 0.3 s and take the tops: no step may be invisible, nor any motion look like one."""
    walk = simulate_walk(seed=seed, placement=placement)
    smooth = np.convolve(norm(walk), np.hanning(31) / np.hanning(31).sum(), "same")
    high = smooth > np.median(smooth) + 0.4
    top = (smooth[1:-1] >= smooth[:-2]) & (smooth[1:-1] > smooth[2:]) & high[1:-1]
    tops_s = walk.time_s[1:-1][top]
    tops_s = tops_s[np.diff(tops_s, prepend=-1.0) > 0.25]
    found = len(matched_pairs(steps_of(walk), tops_s, 0.25))
    assert 2 * found / (len(tops_s) + len(steps_of(walk))) > 0.95


@pytest.mark.parametrize(
    "bad", [{"seconds": 1.0}, {"seconds": float("nan")}, {"placement": "ear"}, {"cadence_spm": 400.0}]
)
def test_walks_that_nobody_takes(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="allowed are"):
        simulate_walk(**bad)
