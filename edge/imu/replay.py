"""A recording played as if it were a sensor, as fast as possible or at a chosen speed."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import numpy as np

from edge.errors import UsageError
from edge.imu.status import SensorState, SensorStatus
from edge.recording import Recording, load
from edge.types import IMU_CHANNELS, BatchFlag, SampleBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

GAP_PERIODS = 3.0
GAP_S = 0.1
"""A hole longer than both is a gap; a shorter one is jitter, which a resampler bridges without inventing a step."""

HEARTBEAT_S = 0.25
"""Longest sleep, hence how soon close() is noticed: a flag, because an Event must not be set in a signal handler."""

BATCH_S = 0.1


class ReplayImu:
    """An Imu whose samples come from a recording; the samples and their times are the same at every speed.

    speed: 1.0 is real time by the monotonic clock, None is as fast as the consumer takes them.
    batch_samples: most samples in one batch; by default 0.1 s of them, as a FIFO would give.
    origin_s: time stamp of the recording's start: 0.0 keeps the recording's own times, None is the instant at which
    the first batch is asked for, which makes them host-monotonic as those of a real sensor.
    now, sleep: the clock that paces.
    Raises RecordingError if the file is not a recording, UsageError for a speed or batch size that cannot be.
    """

    def __init__(
        self,
        recording: Recording | str | Path,
        *,
        speed: float | None = None,
        batch_samples: int | None = None,
        origin_s: float | None = 0.0,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        if speed is not None and not 0.0 < speed < float("inf"):
            raise UsageError(f"replay speed is {speed}; allowed is a number above 0, or 'max'")
        if batch_samples is not None and batch_samples < 1:
            raise UsageError(f"replay batch_samples is {batch_samples}; allowed is 1 or more")
        self.recording = recording if isinstance(recording, Recording) else load(recording)
        self.name = f"replay of {self.recording.name}"
        self.sampling_rate_hz = self.recording.sampling_rate_hz
        self._speed = speed
        self._batch_samples = batch_samples or max(1, round(BATCH_S * self.sampling_rate_hz))
        self._origin_s = origin_s
        self._now, self._sleep = now, sleep
        self._closed = False
        self.hardware_total: int | None = None  # a recording has no pedometer
        self._counters = {"gaps": 0, "gap_samples": 0}

    def batches(self) -> Iterator[SampleBatch]:
        """All samples in order, none twice; while it waits, an empty batch every 0.25 s."""
        start_s = self._now()
        origin_s = start_s if self._origin_s is None else self._origin_s
        present = ~np.isnan(self.recording.imu[:, :3]).any(axis=1)
        time_s, imu = self.recording.time_s[present], self.recording.imu[present]
        for segment, (first, end) in enumerate(_segments(time_s, self.sampling_rate_hz)):
            for begin in range(first, end, self._batch_samples):
                block = slice(begin, min(begin + self._batch_samples, end))
                for _ in self._wait_until(start_s, float(time_s[block.stop - 1])):
                    yield _heartbeat(max(0, segment - (begin == first)), begin)
                if self._closed:
                    return
                flags = BatchFlag.NONE
                if segment and begin == first:
                    flags = BatchFlag.GAP_BEFORE
                    self._count_gap(float(time_s[begin] - time_s[begin - 1]))
                yield SampleBatch(time_s[block] + origin_s, imu[block], segment, begin, flags=flags)

    def counters(self) -> dict[str, int]:
        """Count the gaps met so far, and the samples that they lack."""
        return dict(self._counters)

    def status(self) -> SensorStatus:
        """Return that it runs: a recording has no other state."""
        return SensorStatus(SensorState.RUNNING, self.name, self.sampling_rate_hz)

    def close(self) -> None:
        """End batches(), also while it waits; safe in a signal handler."""
        self._closed = True

    def _count_gap(self, hole_s: float) -> None:
        self._counters["gaps"] += 1
        self._counters["gap_samples"] += round(hole_s * self.sampling_rate_hz) - 1

    def _wait_until(self, start_s: float, recording_s: float) -> Iterator[None]:
        """Sleep until an instant of the recording has come; yields whenever a heartbeat is due."""
        if self._speed is None:
            return
        due_s = start_s + recording_s / self._speed
        while not self._closed and (left_s := due_s - self._now()) > 0:
            self._sleep(min(left_s, HEARTBEAT_S))
            if left_s > HEARTBEAT_S:
                yield


def _segments(time_s: npt.NDArray[np.float64], sampling_rate_hz: float) -> list[tuple[int, int]]:
    """Half-open index ranges without a gap inside."""
    limit_s = max(GAP_S, GAP_PERIODS / sampling_rate_hz)
    starts = [0, *(np.flatnonzero(np.diff(time_s) > limit_s) + 1).tolist(), len(time_s)]
    return list(itertools.pairwise(starts))


def _heartbeat(segment: int, sequence: int) -> SampleBatch:
    return SampleBatch(np.empty(0), np.empty((0, len(IMU_CHANNELS)), np.float32), segment, sequence)
