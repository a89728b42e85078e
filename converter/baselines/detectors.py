"""Three step counters and one bout gate: signals in, step times out.

Each keeps what makes its kind: the band-pass counter answers at once; the windowed one looks half a window ahead and
has the better peaks; the firmware one wants a full swing through zero and, gated, a run of regular steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from converter.baselines.signals import RATE_HZ, Signal, band_pass, moving

if TYPE_CHECKING:
    import numpy.typing as npt

DEVIATION_WINDOW_S = 0.8
"""Walk detection by standard deviation: a window of one to two steps."""
MIN_INTERVAL_S = 0.25
FIRMWARE_ORDER = 4


class Detector(Protocol):
    """Finds steps."""

    def steps_s(self, magnitude: Signal) -> Signal:
        """Return the sorted times, s, of the steps in |acc| [n], m/s² at RATE_HZ."""


@dataclass(frozen=True, slots=True)
class BandPassPeaks:
    """Maxima of the band-passed magnitude above a threshold, the first of two that are too close. Causal."""

    low_hz: float
    high_hz: float
    threshold_m_s2: float
    refractory_s: float

    def steps_s(self, magnitude: Signal) -> Signal:
        """See Detector; the filter's delay at walking cadence is taken off."""
        swing, delay_s = band_pass(magnitude, self.low_hz, self.high_hz)
        tops_s = (_maxima(swing, swing > self.threshold_m_s2) / RATE_HZ - delay_s).tolist()
        kept_s: list[float] = []
        for time_s in tops_s:
            if not kept_s or time_s - kept_s[-1] >= self.refractory_s:
                kept_s.append(time_s)
        return np.array(kept_s)


@dataclass(frozen=True, slots=True)
class WindowedPeaks:
    """Brajdic & Harle, "Walk detection and step counting on unconstrained smartphones", UbiComp 2013.

    A step is a frame that is the largest of the window around it, after a centred moving average, wherever the standard
    deviation says that somebody walks: their best pair. It looks half of both windows ahead, about 0.5 s.
    """

    average_s: float
    peak_window_s: float
    deviation_m_s2: float

    def steps_s(self, magnitude: Signal) -> Signal:
        """See Detector."""
        smooth = moving(magnitude, self.average_s, np.mean)
        walks = moving(magnitude, DEVIATION_WINDOW_S, np.std) > self.deviation_m_s2
        largest = smooth >= moving(smooth, self.peak_window_s, np.max)
        return _maxima(smooth, largest & walks) / RATE_HZ


@dataclass(frozen=True, slots=True)
class FirmwareCounter:
    """What pedometer firmware does: a narrow causal band-pass, and a step for each swing from below to above.

    The magnitude must pass -threshold before +threshold counts again, so a step needs a whole cycle. The idea is that
    of the counters in Espruino's and similar firmware; with a BoutGate it behaves like them.
    """

    low_hz: float
    high_hz: float
    threshold_m_s2: float

    def steps_s(self, magnitude: Signal) -> Signal:
        """See Detector; the time of a step is that of the upward passage, less the filter's delay."""
        swing, delay_s = band_pass(magnitude, self.low_hz, self.high_hz, FIRMWARE_ORDER)
        side = np.where(swing > self.threshold_m_s2, 1, np.where(swing < -self.threshold_m_s2, -1, 0))
        outside = np.flatnonzero(side)
        rising = outside[1:][np.diff(side[outside]) > 0]
        # The passage lies between two frames: its part of the way from one to the other.
        before, after = swing[rising - 1], swing[rising]
        passed = rising - (after - self.threshold_m_s2) / np.maximum(after - before, 1e-9)
        return passed / RATE_HZ - delay_s


@dataclass(frozen=True, slots=True)
class BoutGate:
    """Holds steps back until `run` of them came at regular intervals, then counts them all, until a pause.

    Regular: MIN_INTERVAL_S to max_interval_s, and within `tolerance` (a share) of the interval before.
    """

    run: int
    tolerance: float
    max_interval_s: float

    def passed_s(self, steps_s: Signal) -> Signal:
        """Return the steps that count, with their own times, s."""
        counted: list[float] = []
        held: list[float] = []
        walks = False
        for time_s in steps_s.tolist():
            pauses = bool(held) and time_s - held[-1] > self.max_interval_s
            walks = walks and not pauses
            held = [time_s] if pauses else [*self._regular(held, time_s), time_s]
            if walks:
                counted.append(time_s)
            elif len(held) >= self.run:
                walks = True
                counted += held
            if walks:
                held = held[-2:]
        return np.array(counted)

    def _regular(self, held: list[float], time_s: float) -> list[float]:
        """Return the end of the run that the step at time_s carries on."""
        if not held or time_s - held[-1] < MIN_INTERVAL_S:
            return []
        if len(held) == 1:
            return held
        before_s, now_s = held[-1] - held[-2], time_s - held[-1]
        return held if abs(now_s - before_s) <= self.tolerance * before_s else held[-1:]


@dataclass(frozen=True, slots=True)
class Gated:
    """A detector behind a gate."""

    detector: Detector
    gate: BoutGate

    def steps_s(self, magnitude: Signal) -> Signal:
        """See Detector."""
        return self.gate.passed_s(self.detector.steps_s(magnitude))


def _maxima(signal: Signal, allowed: npt.NDArray[np.bool_]) -> Signal:
    """Return where the signal has allowed local maxima, in frames, to a fraction of one by a parabola."""
    if len(signal) < 3:
        return np.empty(0)
    before, middle, after = signal[:-2], signal[1:-1], signal[2:]
    top = np.flatnonzero((middle >= before) & (middle > after) & allowed[1:-1])
    curvature = before[top] - 2 * middle[top] + after[top]
    vertex = 0.5 * (before[top] - after[top]) / np.where(curvature < 0, curvature, -1.0)
    shift: Signal = np.where(curvature < 0, np.clip(vertex, -0.5, 0.5), 0.0)
    return top + 1 + shift
