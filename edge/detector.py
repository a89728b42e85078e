"""Probabilities in, step events out: a streaming peak picker with a refractory time, and a gate behind it."""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING

from edge.bouts import BoutGate, Peak
from edge.types import StepEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.bouts import Gate
    from edge.types import FloatArray, Window

CADENCE_STEPS = 5
"""Cadence is the median interval over this many steps: one doubled or missed step does not move it."""
MAX_STEP_INTERVAL_S = 2.0
"""Two steps farther apart belong to different walking bouts (30 steps per minute is slower than anyone walks)."""


class StepDetector:
    """Finds the maxima of the probability that reach `threshold`, at least `refractory_s` apart.

    period_s: between two probabilities. lookahead_s: how far the newest probability lies behind the newest frame.
    gate: holds steps back until somebody walks (edge.bouts), for a model that says so; None lets every step pass.
    Probability k is a step when p[k] >= threshold, p[k] >= p[k-1] and p[k] > p[k+1]; a parabola through the three gives
    its instant to a fraction of a period. Of two maxima closer than `refractory_s` the first one stands: it may have
    been published already.
    """

    def __init__(
        self, *, period_s: float, lookahead_s: float, threshold: float, refractory_s: float, gate: Gate | None = None
    ) -> None:
        self._period_s = period_s
        self._lookahead_s = lookahead_s
        self._threshold = threshold
        self._refractory_s = refractory_s
        self._gate = None if gate is None else BoutGate(gate)
        self._weakest = threshold if gate is None else min(gate.weakest, threshold)
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next probability starts a new segment."""
        self._before, self._middle = 0.0, 0.0
        self._last_s = -math.inf
        self._steps_s: deque[float] = deque(maxlen=CADENCE_STEPS)
        if self._gate is not None:
            self._gate.reset()

    def push(self, window: Window, probability: FloatArray, walking: float | None = None) -> Iterator[StepEvent]:
        """Yield the steps that the window's [n] probabilities reveal, in order of time.

        walking: probability that somebody walks; needed if there is a gate.
        """
        peaks, weak = self._peaks(window.time_s - self._lookahead_s, probability.tolist())
        held: list[Peak] = []
        if self._gate is not None:
            held, peaks = self._gate.push(peaks, 0.0 if walking is None else walking, window.time_s, weak)
        for peak in held:
            yield self._event(peak, window.known_s, backfilled=True)
        for peak in peaks:
            yield self._event(peak, window.known_s, backfilled=False)

    def _peaks(self, newest_s: float, values: list[float]) -> tuple[list[Peak], list[Peak]]:
        """Return the maxima that reach the threshold, and those that reach only what a walk's ends must."""
        found, weak = [], []
        for index, after in enumerate(values):
            before, middle = self._before, self._middle
            self._before, self._middle = middle, after
            if middle < self._weakest or middle < before or middle <= after:
                continue
            middle_s = newest_s - (len(values) - index) * self._period_s
            time_s = middle_s + _vertex(before, middle, after) * self._period_s
            if time_s - self._last_s < self._refractory_s:
                continue
            if middle < self._threshold:
                weak.append(Peak(time_s, middle))
                continue
            self._last_s = time_s
            found.append(Peak(time_s, middle))
        return found, weak

    def _event(self, peak: Peak, known_s: float, *, backfilled: bool) -> StepEvent:
        if self._steps_s and peak.time_s - self._steps_s[-1] > MAX_STEP_INTERVAL_S:
            self._steps_s.clear()
        self._steps_s.append(peak.time_s)
        return StepEvent(peak.time_s, known_s, peak.confidence, self._cadence_spm(), backfilled)

    def _cadence_spm(self) -> float | None:
        times_s = list(self._steps_s)
        intervals_s = [b - a for a, b in pairwise(times_s)]
        return 60.0 / _median(intervals_s) if intervals_s else None


def _median(values: list[float]) -> float:
    """Return the median; the statistics module would cost the device half a megabyte."""
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _vertex(before: float, middle: float, after: float) -> float:
    """Position of a parabola's top relative to the middle of three equidistant points, -0.5 to 0.5."""
    curvature = before - 2 * middle + after
    return 0.0 if curvature >= 0 else max(-0.5, min(0.5, 0.5 * (before - after) / curvature))
