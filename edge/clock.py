"""When each FIFO sample was taken, on the host's monotonic clock.

A FIFO tells how many samples there are, not when they were taken, and the sensor's own oscillator is off by per cents.
Rules of this module:
1. The newest of the samples counted by a read was taken within one period before that read: a fact, and a hard bound.
2. An exponentially decayed regression of read time on sample count finds the rate (as Klipper does); the nominal rate
   is its prior, so that the first second is already sane. The bounds of all reads of the last seconds, carried along by
   a rate near to that one, leave a narrow interval for the newest sample, or none. The middles of these intervals are
   averaged over the rates, each by how likely it is and how much room it leaves. That is off by a period over the
   number of reads, where the mean of the regression is off by a period over its root: two reads a second suffice.
3. A read that took more than twice the best one says little about when it counted: it is not used for the regression.
4. Where those bounds contradict each other, samples were lost that nobody spoke of, or the oscillator has jumped: more
   samples than possible are a jump for sure, and the rate is learnt anew; too few are for the caller to judge.
5. Times are uniform within a block and never step back; corrections are slewed.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edge.types import TimeArray

RATE_MEMORY_S = 8.0
MEMORY_S = 16.0
"""Time constant of the regression, and how long a bound is kept: long against wake-up jitter, short against the drift
of a warming oscillator."""

RATE_SD = 1.2e-4
"""How far off the regression is: two reads a second, their phases, and a drift of 200 ppm a minute (simulated)."""
_NEAR = np.linspace(-3.0, 3.0, 17)
_LIKELY = np.exp(-0.5 * _NEAR**2)

PRIOR_RATE_SD = 0.03
"""How far off the nominal rate is expected to be: the data sheets say a few per cent."""

SLEW = 0.25
"""Spacing of emitted samples stays within ±25 % of the period, however much the estimate is corrected."""

BEST_READ_RELAXATION = 1.01
"""The best read duration is forgotten by 1 % per read, so that a bus that became slower is accepted again."""

LEARNT_S = 3.0
"""So long after the start of a segment the rate is good enough to judge counts by it."""

RECENT_READS = 10
RECENT_S = RECENT_READS * 0.65
"""How far back such a judgement looks, where the reads are 0.6 s apart: a single lost sample shows within some reads.
No longer, or a host clock that is slewed by 500 ppm would look as if samples were missing."""

LACK_SHARE = 0.4
"""Share of a period by which bounds must contradict each other before that counts."""


class SampleClock:
    """Turns "n more samples, counted at this host time" into n host-monotonic times.

    nominal_hz: the sensor's configured rate; tolerance: how far the true rate may be off (0.07 = ±7 %).
    """

    def __init__(self, nominal_hz: float, *, tolerance: float = 0.07) -> None:
        self._last_s = -math.inf
        self.retune(nominal_hz, tolerance=tolerance)

    def retune(self, nominal_hz: float, *, tolerance: float = 0.07) -> None:
        """Start a new segment with another sensor, or the same one set up anew; times still never step back."""
        self._nominal_s = 1.0 / nominal_hz
        self._tolerance = tolerance
        self._best_read_s = math.inf
        self.reset()

    def reset(self) -> None:
        """Start a new segment: the sample count restarts, the rate is relearnt, times still never step back."""
        self._running = False
        self._learn_anew()

    def _learn_anew(self) -> None:
        self._period_s = self._nominal_s
        self._count = 0
        self._since_s = math.inf
        self._weight = self._mean_count = self._mean_s = self._var = self._cov = 0.0
        self._reads: deque[tuple[int, float, float]] = deque()

    @property
    def rate_hz(self) -> float:
        """The estimated true rate, within the tolerance of the nominal one."""
        return 1.0 / self._period_s

    def lacks(self, samples: int, counted_s: float, read_s: float = 0.0) -> bool:
        """Whether a FIFO level that shows `samples` new ones lacks some, by the bounds of the last reads.

        Always False before the rate is learnt. One lost sample shows as soon as a read meets the end of a period,
        mostly at once and within some reads; two show at once. An oscillator that becomes slower at once looks so too.
        """
        latest_s, _ = self._bounds(self._count + samples, counted_s)
        return counted_s - read_s - self._period_s - latest_s > LACK_SHARE * self._period_s

    def _bounds(self, newest: int, now_s: float) -> tuple[float, float]:
        """Return the (latest, earliest) instant of a sample, by its number, that the last reads leave possible."""
        latest_s, earliest_s = math.inf, -math.inf
        if now_s - self._since_s >= LEARNT_S:
            for count, then_s, took_s in islice(reversed(self._reads), RECENT_READS):
                if then_s > now_s - RECENT_S:
                    moved_s = then_s + self._period_s * (newest - count)
                    latest_s = min(latest_s, moved_s)
                    earliest_s = max(earliest_s, moved_s - took_s - self._period_s)
        return latest_s, earliest_s

    def stamp(self, samples: int, counted_s: float, read_s: float = 0.0) -> TimeArray:
        """Return the [samples] times of the samples that a FIFO level, known at host time `counted_s`, shows to be new.

        read_s: how long reading that level took; the level was true some time within it.
        """
        if samples <= 0:
            return np.empty(0, dtype=np.float64)
        _, earliest_s = self._bounds(self._count + samples, counted_s)
        if earliest_s - counted_s > LACK_SHARE * self._period_s:
            self._learn_anew()
        self._since_s = min(self._since_s, counted_s)
        self._count += samples
        if self._is_prompt(read_s):
            self._learn(samples, counted_s)
            self._remember(counted_s, read_s)
        earliest_s = counted_s - read_s - self._period_s * (1.0 + self._tolerance)
        newest_s = min(max(self._predict(counted_s, read_s), earliest_s), counted_s)
        times = self._spread(samples, newest_s)
        self._running = True
        self._last_s = float(times[-1])
        return times

    def _is_prompt(self, read_s: float) -> bool:
        best_s = self._best_read_s
        self._best_read_s = min(read_s, best_s * BEST_READ_RELAXATION)
        return read_s <= 2.0 * best_s or self._weight == 0.0

    def _learn(self, samples: int, counted_s: float) -> None:
        """One step of the decayed regression, with the nominal period as a pseudo-observation."""
        keep = math.exp(-samples * self._nominal_s / RATE_MEMORY_S)
        self._weight = keep * self._weight + 1.0
        count_off, time_off = self._count - self._mean_count, counted_s - self._mean_s
        self._mean_count += count_off / self._weight
        self._mean_s += time_off / self._weight
        self._var = keep * self._var + count_off * (self._count - self._mean_count)
        self._cov = keep * self._cov + time_off * (self._count - self._mean_count)
        # The read comes anywhere in the period after the newest sample: variance of a uniform one, 1/12 period².
        prior = 1.0 / (12.0 * PRIOR_RATE_SD**2)
        period_s = (self._cov + prior * self._nominal_s) / (self._var + prior)
        slowest_s, fastest_s = self._nominal_s / (1.0 - self._tolerance), self._nominal_s / (1.0 + self._tolerance)
        self._period_s = min(max(period_s, fastest_s), slowest_s)

    def _remember(self, counted_s: float, read_s: float) -> None:
        self._reads.append((self._count, counted_s, read_s))
        while self._reads[0][1] < counted_s - MEMORY_S:
            self._reads.popleft()

    def _predict(self, counted_s: float, read_s: float) -> float:
        """Time of the newest sample: the mean of what the reads of the last seconds leave possible.

        [rates, 1] periods near the estimated one, [reads] bounds: [rates] intervals.
        """
        counts, then_s, took_s = np.array([*self._reads, (self._count, counted_s, read_s)]).T
        periods_s = self._period_s * (1.0 + RATE_SD * _NEAR[:, np.newaxis])
        moved_s = then_s + periods_s * (self._count - counts)
        latest_s = moved_s.min(axis=1)
        earliest_s = (moved_s - took_s - periods_s).max(axis=1)
        room_s = latest_s - earliest_s
        # Bounds that contradict each other at every rate leave nothing: then what comes nearest to an interval.
        weight = _LIKELY * room_s.clip(0.0) if (room_s > 0.0).any() else room_s == room_s.max()
        return float(np.average((earliest_s + latest_s) / 2.0, weights=weight))

    def _spread(self, samples: int, newest_s: float) -> TimeArray:
        """Uniform times that end near `newest_s` and go on from the last emitted one."""
        steps: TimeArray = np.arange(1.0, samples + 1.0)
        if not self._running:
            times = newest_s + (steps - samples) * self._period_s
            return times + max(0.0, self._last_s + self._period_s - float(times[0]))
        spacing_s = (newest_s - self._last_s) / samples
        spacing_s = min(max(spacing_s, self._period_s * (1.0 - SLEW)), self._period_s * (1.0 + SLEW))
        return self._last_s + steps * spacing_s
