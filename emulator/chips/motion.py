"""The recording that an emulated chip feels, and its way into 16-bit words."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    Recording = npt.NDArray[np.floating]

STANDARD_GRAVITY = 9.80665


class Motion:
    """A recording [N, 6] (m/s², rad/s; NaN becomes 0) at rate_hz, read at any instant.

    start_s: instant at which it starts, None: not yet. Before its start the first sample is felt, after its end the
    last one, unless it repeats.
    """

    def __init__(self, recording: Recording, rate_hz: float, start_s: float | None, *, repeats: bool = False) -> None:
        self.start_s = start_s
        self.repeats = repeats
        rows = np.nan_to_num(np.asarray(recording, dtype=np.float64))
        self._length, self._columns = (int(size) for size in rows.shape)
        self._flat = array("d", rows.tobytes())
        self._rate_hz = rate_hz
        self._asked: tuple[float, float | None] | None = None
        self._row: list[float] = []

    @property
    def duration_s(self) -> float:
        """Length of the recording."""
        return self._length / self._rate_hz

    def row(self, at_s: float) -> list[float]:
        """Interpolate the recording at an instant, linearly; accelerometer and gyroscope ask for the same one."""
        if self._asked != (at_s, self.start_s):
            self._asked = at_s, self.start_s
            self._row = self._interpolate(at_s)
        return self._row

    def _interpolate(self, at_s: float) -> list[float]:
        last = self._length - 1
        position = 0.0 if self.start_s is None else (at_s - self.start_s) * self._rate_hz
        if self.repeats and last:
            position = math.fmod(max(position, 0.0), last)
        position = min(max(position, 0.0), float(last))
        index = min(int(position), max(last - 1, 0))
        part = position - index
        width = self._columns
        first = self._flat[index * width : (index + 1) * width]
        after = min(index + 1, last)
        second = self._flat[after * width : (after + 1) * width]
        return [a + part * (b - a) for a, b in zip(first, second, strict=True)]


def acc_words(row: list[float], lsb_per_g: float) -> list[int]:
    """Three accelerometer words, saturated as a 16-bit output register is."""
    return [word(value / STANDARD_GRAVITY * lsb_per_g) for value in row[:3]]


def gyr_words(row: list[float], lsb_per_dps: float) -> list[int]:
    """Three gyroscope words, saturated."""
    return [word(math.degrees(value) * lsb_per_dps) for value in row[3:]]


def word(value: float) -> int:
    """Round and saturate to a signed 16-bit number."""
    whole = round(value)
    return whole if -32768 <= whole <= 32767 else -32768 if whole < 0 else 32767


COUNT_MASK = 0x0F
COUNTS = (COUNT_MASK + 1) ** 3
"""The lowest four bits of three words count so far: up to 4 milli-g at ±8 g, less than the noise of some sensors."""


def with_count(words: list[int], count: int) -> list[int]:
    """Let the lowest bits of three words carry a count, modulo COUNTS."""
    return [word & ~COUNT_MASK | count >> 4 * place & COUNT_MASK for place, word in enumerate(words)]


def count_in(words: Iterable[int]) -> int:
    """Return the count that three words carry."""
    return sum((word & COUNT_MASK) << 4 * place for place, word in enumerate(words))
