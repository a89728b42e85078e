"""A replayed recording gives every sample once, with its own times, at any speed and in any batches."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import RecordingError, UsageError
from edge.imu.replay import HEARTBEAT_S, ReplayImu
from edge.recording import Recording, save_csv
from edge.types import BatchFlag, SampleBatch

if TYPE_CHECKING:
    from pathlib import Path


def recording(time_s: np.ndarray[Any, Any] | None = None, samples: int = 250, rate_hz: float = 100.0) -> Recording:
    times = np.arange(samples) / rate_hz if time_s is None else time_s
    imu = np.random.default_rng(1).normal(0, 1, (len(times), 6)).astype(np.float32)
    imu[:, 2] += 9.81
    return Recording(name="walk", time_s=times, imu=imu, sampling_rate_hz=rate_hz)


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.time_s = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time_s += seconds


def joined(batches: list[SampleBatch]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return np.concatenate([b.time_s for b in batches]), np.concatenate([b.imu for b in batches])


@settings(deadline=None)
@given(
    samples=st.integers(1, 400), batch=st.none() | st.integers(1, 500), speed=st.sampled_from([None, 0.5, 1.0, 50.0])
)
def test_every_sample_once_whatever_the_speed(samples: int, batch: int | None, speed: float | None) -> None:
    source, clock = recording(samples=samples), Clock()
    imu = ReplayImu(source, speed=speed, batch_samples=batch, now=clock.now, sleep=clock.sleep)
    batches = list(imu.batches())
    time_s, values = joined(batches)
    assert time_s.tobytes() == source.time_s.tobytes()
    assert values.tobytes() == source.imu.tobytes()
    assert {b.segment for b in batches} == {0}
    full = [b for b in batches if len(b.time_s)]
    assert [b.sequence for b in full] == list(np.cumsum([0, *(len(b.time_s) for b in full)])[:-1])
    assert imu.counters() == {"gaps": 0, "gap_samples": 0}


@pytest.mark.parametrize("speed", [0.5, 1.0, 4.0])
def test_samples_arrive_when_they_are_due(speed: float) -> None:
    clock = Clock()
    imu = ReplayImu(recording(), speed=speed, origin_s=None, now=clock.now, sleep=clock.sleep)
    for batch in imu.batches():
        if len(batch.time_s):
            assert clock.time_s == pytest.approx(1000.0 + (batch.time_s[-1] - 1000.0) / speed)
    assert clock.time_s == pytest.approx(1000.0 + 2.49 / speed)
    assert len(batch.time_s) == 10, "0.1 s, as a FIFO gives"


def test_max_speed_never_sleeps() -> None:
    clock = Clock()
    assert len(list(ReplayImu(recording(), now=clock.now, sleep=clock.sleep).batches())) == 25
    assert clock.slept == []


def test_origin_moves_the_times_and_nothing_else() -> None:
    plain, moved = (joined(list(ReplayImu(recording(), origin_s=origin).batches())) for origin in (0.0, 5000.0))
    np.testing.assert_array_equal(plain[0] + 5000.0, moved[0])
    assert plain[1].tobytes() == moved[1].tobytes()


@pytest.mark.parametrize(
    ("rate_hz", "hole_s", "is_gap"),
    [(100.0, 0.09, False), (100.0, 0.12, True), (20.0, 0.12, False), (20.0, 0.16, True)],
)
def test_a_hole_longer_than_three_periods_and_a_tenth_is_a_gap(rate_hz: float, hole_s: float, is_gap: bool) -> None:
    times = np.arange(100) / rate_hz
    times[40:] += hole_s - 1 / rate_hz
    imu = ReplayImu(recording(times, rate_hz=rate_hz), batch_samples=7)
    batches = list(imu.batches())
    assert [b.segment for b in batches] == sorted(b.segment for b in batches)
    assert batches[-1].segment == is_gap
    lost = round(hole_s * rate_hz) - 1
    assert imu.counters() == ({"gaps": 1, "gap_samples": lost} if is_gap else {"gaps": 0, "gap_samples": 0})
    assert joined(batches)[0].tobytes() == times.tobytes()
    marked = [b for b in batches if b.flags & BatchFlag.GAP_BEFORE]
    assert [b.sequence for b in marked] == ([40] if is_gap else [])


def test_samples_without_acceleration_are_a_hole() -> None:
    source = recording()
    source.imu[50, 0] = np.nan  # one lost sample: bridged
    source.imu[100:130, :3] = np.nan  # 0.3 s lost: a gap
    batches = list(ReplayImu(source).batches())
    time_s, values = joined(batches)
    assert len(time_s) == 250 - 31
    assert not np.isnan(values).any()
    assert {b.segment for b in batches} == {0, 1}
    assert next(b for b in batches if b.segment == 1).time_s[0] == 1.3


def test_heartbeats_bridge_a_long_gap() -> None:
    times = np.concatenate([np.arange(50) / 100, 5.0 + np.arange(50) / 100])
    clock = Clock()
    imu = ReplayImu(recording(times), speed=1.0, now=clock.now, sleep=clock.sleep)
    seen = [(clock.time_s, batch) for batch in imu.batches()]
    instants = np.array([at for at, _ in seen])
    assert np.diff(instants).max() <= HEARTBEAT_S + 1e-9
    empty = [b for _, b in seen if not len(b.time_s)]
    assert len(empty) >= 16
    assert {(b.segment, b.sequence, b.imu.shape) for b in empty} == {(0, 50, (0, 6))}


def test_close_wakes_a_waiting_reader() -> None:
    imu = ReplayImu(recording(), speed=0.001)
    reader = threading.Thread(target=lambda: list(imu.batches()))
    closer = threading.Timer(0.1, imu.close)
    begin_s = time.monotonic()
    reader.start()
    closer.start()
    reader.join(5.0)
    closer.join()
    assert not reader.is_alive()
    assert time.monotonic() - begin_s < 0.8


def test_real_time_by_the_real_clock() -> None:
    begin_s = time.monotonic()
    stamps = joined(list(ReplayImu(recording(samples=40), speed=1.0, origin_s=None).batches()))[0]
    end_s = time.monotonic()
    assert begin_s <= stamps[0]
    assert stamps[-1] <= end_s
    assert 0.39 <= end_s - begin_s < 2.0


def test_from_a_file(tmp_path: Path) -> None:
    save_csv(tmp_path / "walk.csv", recording())
    imu = ReplayImu(tmp_path / "walk.csv")
    assert imu.sampling_rate_hz == 100.0
    assert "walk" in imu.name
    assert joined(list(imu.batches()))[1].tobytes() == recording().imu.tobytes()
    with pytest.raises(RecordingError, match="no such file"):
        ReplayImu(tmp_path / "other.csv")


@pytest.mark.parametrize(
    "bad", [{"speed": 0.0}, {"speed": -1.0}, {"speed": float("nan")}, {"speed": float("inf")}, {"batch_samples": 0}]
)
def test_settings_that_cannot_be(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"replay .* allowed is"):
        ReplayImu(recording(), **bad)
