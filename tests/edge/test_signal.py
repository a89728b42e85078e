"""The resampler: right values, right instants, and the same last bit for any batching."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.signal import Frames, Resampler
from edge.types import SampleBatch

MODEL_HZ = 25.0


def sine(frequency_hz: float, source_hz: float, seconds: float = 20.0) -> SampleBatch:
    time_s = np.arange(int(seconds * source_hz)) / source_hz
    wave = np.sin(2 * np.pi * frequency_hz * time_s)
    return SampleBatch(time_s, np.repeat(wave[:, None], 6, axis=1).astype(np.float32))


def resample(batch: SampleBatch, source_hz: float) -> Frames:
    return Resampler(sampling_rate_hz=MODEL_HZ, source_rate_hz=source_hz).push(batch)


@pytest.mark.parametrize("source_hz", [20.0, 26.0, 50.0, 80.0, 100.0, 119.0, 200.0])
def test_gravity_comes_out_as_gravity_at_every_source_rate(source_hz: float) -> None:
    time_s = np.arange(400) / source_hz
    rest = SampleBatch(time_s, np.full((400, 6), 9.80665, np.float32))
    frames = resample(rest, source_hz)
    np.testing.assert_allclose(frames.data, 9.80665, rtol=1e-6)
    np.testing.assert_allclose(np.diff(frames.time_s), 1 / MODEL_HZ, rtol=1e-9)


@pytest.mark.parametrize("source_hz", [50.0, 80.0, 100.0, 200.0])
@pytest.mark.parametrize("frequency_hz", [1.0, 2.0, 3.0])
def test_step_frequencies_keep_their_phase_and_nearly_their_size(source_hz: float, frequency_hz: float) -> None:
    frames = resample(sine(frequency_hz, source_hz), source_hz)
    middle = slice(10, -10)
    ideal = np.sin(2 * np.pi * frequency_hz * frames.time_s[middle])
    got = frames.data[middle, 0]
    gain = float(got @ ideal / (ideal @ ideal))
    assert 0.88 < gain < 1.01
    assert np.abs(got - gain * ideal).max() < 0.02


@pytest.mark.parametrize("frequency_hz", [20.0, 24.0, 26.0, 31.0, 45.0])
def test_what_would_alias_into_the_step_band_is_gone(frequency_hz: float) -> None:
    frames = resample(sine(frequency_hz, 100.0), 100.0)
    assert np.abs(frames.data[10:-10]).max() < 0.02


def test_a_source_slower_than_nominal_is_placed_by_its_times() -> None:
    true_hz = 95.0
    frames = resample(sine(2.0, true_hz), 100.0)
    ideal = np.sin(2 * np.pi * 2.0 * frames.time_s[10:-10])
    assert np.corrcoef(frames.data[10:-10, 0], ideal)[0, 1] > 0.999


def test_a_frame_is_known_when_its_last_sample_arrives() -> None:
    frames = resample(sine(2.0, 100.0), 100.0)
    behind_s = frames.known_s - frames.time_s
    assert behind_s.min() >= 0.1 - 1e-9
    assert behind_s.max() <= 0.1 + 1 / 100.0


def test_a_hole_within_a_segment_is_bridged_without_ringing() -> None:
    batch = sine(0.3, 100.0)
    hole = (batch.time_s > 3.0) & (batch.time_s < 3.3)
    frames = resample(SampleBatch(batch.time_s[~hole], batch.imu[~hole]), 100.0)
    ideal = np.sin(2 * np.pi * 0.3 * frames.time_s)
    assert np.abs(frames.data[5:-5, 0] - ideal[5:-5]).max() < 0.1


def test_an_absent_gyroscope_is_zero() -> None:
    batch = sine(1.0, 100.0)
    batch.imu[:, 3:] = np.nan
    resampler = Resampler(sampling_rate_hz=MODEL_HZ, source_rate_hz=100.0, columns=range(6))
    data = resampler.push(batch).data
    assert np.isfinite(data).all()
    assert not data[:, 3:].any()


def push_in_cuts(time_s: npt.NDArray[np.float64], imu: npt.NDArray[np.float32], cuts: list[int]) -> list[bytes]:
    resampler = Resampler(sampling_rate_hz=MODEL_HZ, source_rate_hz=100.0)
    edges = [0, *sorted(cuts), len(time_s)]
    parts = [resampler.push(SampleBatch(time_s[a:b], imu[a:b])) for a, b in itertools.pairwise(edges)]
    return [np.concatenate([getattr(p, name) for p in parts]).tobytes() for name in ("time_s", "known_s", "data")]


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 700), max_size=60), seed=st.integers(0, 2**32 - 1))
def test_frames_do_not_depend_on_batching(cuts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    time_s = np.cumsum(rng.uniform(0.006, 0.014, 700))
    imu = rng.normal(0, 10, (700, 6)).astype(np.float32)
    assert push_in_cuts(time_s, imu, cuts) == push_in_cuts(time_s, imu, list(range(1, 700)))
