"""Probabilities in, step events out: a streaming peak picker with a refractory time."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING

from edge.types import StepEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.types import FloatArray, Window

CADENCE_STEPS = 5
"""Cadence is the median interval over this many steps: one doubled or missed step does not move it."""
MAX_STEP_INTERVAL_S = 2.0
"""Two steps farther apart belong to different walking bouts (30 steps per minute is slower than anyone walks)."""


class StepDetector:
    """Finds the maxima of the probability that reach `threshold`, at least `refractory_s` apart.

    period_s: between two probabilities. lookahead_s: how far the newest probability lies behind the newest frame.
    Probability k is a step when p[k] >= threshold, p[k] >= p[k-1] and p[k] > p[k+1]; a parabola through the three gives
    its instant to a fraction of a period. Of two maxima closer than `refractory_s` the first one stands: it has been
    published already.
    """

    def __init__(self, *, period_s: float, lookahead_s: float, threshold: float, refractory_s: float) -> None:
        self._period_s = period_s
        self._lookahead_s = lookahead_s
        self._threshold = threshold
        self._refractory_s = refractory_s
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next probability starts a new segment."""
        self._before, self._middle = 0.0, 0.0
        self._steps_s: deque[float] = deque(maxlen=CADENCE_STEPS)

    def push(self, window: Window, probability: FloatArray) -> Iterator[StepEvent]:
        """Yield the steps that the window's [n] probabilities reveal, in order of time."""
        newest_s = window.time_s - self._lookahead_s
        values = probability.tolist()
        for index, after in enumerate(values):
            before, middle = self._before, self._middle
            self._before, self._middle = middle, after
            if middle < self._threshold or middle < before or middle <= after:
                continue
            middle_s = newest_s - (len(values) - index) * self._period_s
            time_s = middle_s + _vertex(before, middle, after) * self._period_s
            if not self._steps_s or time_s - self._steps_s[-1] >= self._refractory_s:
                yield self._event(time_s, window.known_s, middle)

    def _event(self, time_s: float, known_s: float, confidence: float) -> StepEvent:
        if self._steps_s and time_s - self._steps_s[-1] > MAX_STEP_INTERVAL_S:
            self._steps_s.clear()
        self._steps_s.append(time_s)
        return StepEvent(time_s, known_s, confidence, self._cadence_spm())

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
