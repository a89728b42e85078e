"""From sensor samples to model frames: axes, anti-alias low-pass and resampling, in one step of plain numpy.

Rules of this module
- A frame depends on sample times and values alone, never on how the samples were cut into batches.
- Times are what the source's clock says; a frame is made as soon as every sample within its kernel has arrived.
- Nothing is interpolated across segments: call `reset()` at every gap.
- All segments share one grid of instants, counted from the first sample of all: what a model hears some time after a
  gap is what it would have heard without it, whenever the gap happened to end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge.types import FloatArray, SampleBatch, TimeArray

CUTOFF_PER_RATE = 0.32
"""Cut-off of the low-pass as a share of the model's rate: 8 Hz at 25 Hz. The energy of a step lies below 8 Hz."""
HALF_WIDTH_FRAMES = 2.5
"""Half of the kernel in frames of the model: 0.1 s at 25 Hz, which is also the delay of a frame behind its samples."""
MIN_HALF_WIDTH_SAMPLES = 1.5
"""A slow source still gets at least three samples under the kernel."""
ROUNDING = 1e-6
"""A sample that misses the grid by so small a share of a block lies on it."""
MIN_KERNEL_SHARE = 0.5
"""Below this share of the expected kernel mass (a hole in the samples) a frame is interpolated linearly instead."""


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Consecutive frames at the model's rate.

    time_s: [n] instant of each frame; known_s: [n] time of the sample that completed it; data: [n, channels] float32.
    """

    time_s: TimeArray
    known_s: TimeArray
    data: FloatArray


class Resampler:
    """Streams samples at any rate into frames at the model's rate, low-passed by a Hann-windowed sinc.

    sampling_rate_hz: the model's rate. source_rate_hz: the nominal rate of the source; the true times decide.
    columns: which columns of `imu` the model reads. block: every segment starts on a multiple of so many frames.
    """

    def __init__(
        self, *, sampling_rate_hz: float, source_rate_hz: float, columns: Sequence[int] = (0, 1, 2), block: int = 1
    ) -> None:
        self.sampling_rate_hz = sampling_rate_hz
        self._columns = list(columns)
        self._block = block
        self._origin_s: float | None = None
        self.retune(source_rate_hz)

    def retune(self, source_rate_hz: float) -> None:
        """Start a new segment with a source of another nominal rate, e.g. because the sensor was replaced."""
        sampling_rate_hz = self.sampling_rate_hz
        self._cutoff_hz = min(CUTOFF_PER_RATE * sampling_rate_hz, 0.45 * source_rate_hz)
        self.half_width_s = max(HALF_WIDTH_FRAMES / sampling_rate_hz, MIN_HALF_WIDTH_SAMPLES / source_rate_hz)
        # A fixed number of taps per frame keeps the order of additions, and so the last bit, independent of batching.
        self._taps = int(np.ceil(2 * self.half_width_s * source_rate_hz * 1.25)) + 2
        probe_s = np.arange(-self.half_width_s, self.half_width_s, 1 / source_rate_hz)
        self._expected_mass = float(self._kernel(probe_s).sum())
        self.reset()

    def reset(self) -> None:
        """Forget every sample: the next one starts a new segment, on the same grid."""
        self._time_s = np.empty(0)
        self._values = np.empty((0, len(self._columns)))
        self._made: int | None = None

    def push(self, batch: SampleBatch) -> Frames:
        """Return the frames that this batch completes, possibly none."""
        if len(batch.time_s) == 0:
            return Frames(np.empty(0), np.empty(0), np.empty((0, len(self._columns)), np.float32))
        if self._origin_s is None:
            self._origin_s = float(batch.time_s[0])
        if self._made is None:
            self._made = self._first_index(float(batch.time_s[0]) - self._origin_s)
        self._time_s = np.concatenate((self._time_s, batch.time_s))
        # A channel that the source lacks is zero to the model, as it was in training.
        values = np.nan_to_num(batch.imu[:, self._columns].astype(np.float64))
        self._values = np.concatenate((self._values, values))
        grid_s = self._complete_grid(self._origin_s, self._made)
        known_s = self._time_s[np.searchsorted(self._time_s, grid_s + self.half_width_s)]
        frames = Frames(grid_s, known_s, self._filtered(grid_s).astype(np.float32))
        self._made += len(grid_s)
        self._forget_used(self._origin_s + self._made / self.sampling_rate_hz)
        return frames

    def _first_index(self, since_origin_s: float) -> int:
        """Index on the grid of a segment's first frame: at its first sample, or where the next block begins."""
        blocks = since_origin_s * self.sampling_rate_hz / self._block
        return self._block * math.ceil(blocks - ROUNDING)

    def _complete_grid(self, origin_s: float, made: int) -> TimeArray:
        """Instants of the frames whose last sample has arrived."""
        newest = (self._time_s[-1] - origin_s - self.half_width_s) * self.sampling_rate_hz
        # One more than the estimate, then an exact comparison: the estimate may round either way.
        index = np.arange(made, max(made, int(np.floor(newest)) + 2))
        grid_s = origin_s + index / self.sampling_rate_hz
        complete: TimeArray = grid_s[grid_s + self.half_width_s <= self._time_s[-1]]
        return complete

    def _filtered(self, grid_s: TimeArray) -> TimeArray:
        first = np.searchsorted(self._time_s, grid_s - self.half_width_s)
        index = first[:, None] + np.arange(self._taps)
        inside = index < len(self._time_s)
        index = np.minimum(index, len(self._time_s) - 1)
        weight = self._kernel(self._time_s[index] - grid_s[:, None]) * inside
        mass = weight.sum(axis=1)
        thin = mass < MIN_KERNEL_SHARE * self._expected_mass
        weight /= np.where(thin, 1.0, mass)[:, None]
        data: TimeArray = (self._values[index] * weight[:, :, None]).sum(axis=1)
        if thin.any():
            columns = range(data.shape[1])
            data[thin] = np.stack([np.interp(grid_s[thin], self._time_s, self._values[:, c]) for c in columns], axis=1)
        return data

    def _kernel(self, offset_s: TimeArray) -> TimeArray:
        hann = 0.5 + 0.5 * np.cos(np.pi * offset_s / self.half_width_s)
        low_pass: TimeArray = np.sinc(2 * self._cutoff_hz * offset_s) * hann * (np.abs(offset_s) <= self.half_width_s)
        return low_pass

    def _forget_used(self, next_s: float) -> None:
        # One sample more than the kernel needs: linear interpolation across a hole looks one sample back.
        keep = max(0, int(np.searchsorted(self._time_s, next_s - self.half_width_s)) - 1)
        self._time_s, self._values = self._time_s[keep:], self._values[keep:]
