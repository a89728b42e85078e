"""The last raw seconds of the sensor, kept in memory for whoever asks for them over MQTT."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from edge.types import IMU_CHANNELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.types import FloatArray, SampleBatch, TimeArray

LONGEST_S = 10.0
"""2000 samples at the fastest rate that may be configured: 100 KB."""
_MOST_SAMPLES = 4096  # whatever the source's clock says
_SAMPLES_PER_PART = 50


class Recent:
    """Remembers the last LONGEST_S of samples; keeps the batches' own arrays, which nobody changes."""

    def __init__(self) -> None:
        self._batches: deque[SampleBatch] = deque()
        self._samples = 0

    def keep(self, batch: SampleBatch) -> None:
        """Remember a batch and forget what has become too old."""
        if len(batch.time_s) == 0:
            return
        self._batches.append(batch)
        self._samples += len(batch.time_s)
        oldest_s = batch.time_s[-1] - LONGEST_S
        while len(self._batches) > 1 and (self._batches[0].time_s[-1] < oldest_s or self._samples > _MOST_SAMPLES):
            self._samples -= len(self._batches.popleft().time_s)

    def parts(self, seconds: float, *, wall_offset_s: float) -> Iterator[dict[str, object]]:
        """Yield the last `seconds` as JSON values of at most 50 samples each, the oldest first; at least one.

        wall_offset_s: what makes epoch seconds of a sample's time. Each part: part, parts, channels, t0 (ms since the
        epoch), dt_ms [n], imu [n][6] in m/s² and rad/s, null where the source lacks a channel.
        """
        time_s, imu = self._last(seconds)
        count = max(1, math.ceil(len(time_s) / _SAMPLES_PER_PART))
        for part in range(count):
            block = slice(part * _SAMPLES_PER_PART, (part + 1) * _SAMPLES_PER_PART)
            yield {"part": part + 1, "parts": count, **_written(time_s[block], imu[block], wall_offset_s)}

    def _last(self, seconds: float) -> tuple[TimeArray, FloatArray]:
        """Return times [n] and samples [n, 6]; copies, so that they stay what they are until the last part is sent."""
        if not self._batches:
            return np.empty(0), np.empty((0, len(IMU_CHANNELS)), np.float32)
        time_s = np.concatenate([batch.time_s for batch in self._batches])
        imu = np.concatenate([batch.imu for batch in self._batches])
        asked = time_s > time_s[-1] - seconds
        return time_s[asked], imu[asked]


def _written(time_s: TimeArray, imu: FloatArray, wall_offset_s: float) -> dict[str, object]:
    first_s = float(time_s[0]) if len(time_s) else None
    return {
        "channels": list(IMU_CHANNELS),
        "t0": None if first_s is None else round((first_s + wall_offset_s) * 1000.0),
        "dt_ms": [round((one - time_s[0]) * 1000.0, 2) for one in time_s.tolist()],
        "imu": [[round(value, 4) if math.isfinite(value) else None for value in row] for row in imu.tolist()],
    }
