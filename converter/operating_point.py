"""Threshold and refractory time: chosen on people held out of training, by steps found and false steps together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter.dataset import SAMPLING_RATE_HZ, Track
from edge.detector import StepDetector
from edge.scoring import TOLERANCE_S, false_steps, matched_pairs
from edge.types import Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge.types import FloatArray, TimeArray

THRESHOLDS = tuple(round(0.20 + 0.05 * i, 2) for i in range(13))
REFRACTORIES_S = (0.20, 0.24)
"""No longer: runners take more than three steps per second."""
F1_SLACK = 0.003
"""Differences below 0.3 points mean nothing with so few people; within them fewer false steps decide."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A choice and what it gave on the people it was chosen on."""

    threshold: float
    refractory_s: float
    f1_250ms: float
    false_steps_per_hour: float


def steps_s(probability: FloatArray, threshold: float, refractory_s: float) -> TimeArray:
    """Return the times that the device's detector finds in the probabilities [n] of all frames of a recording."""
    detector = StepDetector(
        period_s=1 / SAMPLING_RATE_HZ, lookahead_s=0.0, threshold=threshold, refractory_s=refractory_s
    )
    end_s = (len(probability) - 1) / SAMPLING_RATE_HZ
    window = Window(end_s, end_s, np.empty((0, 0), np.float32))
    return np.array([step.time_s for step in detector.push(window, probability)])


def choose(tracks: Sequence[Track], probabilities: Sequence[FloatArray]) -> tuple[OperatingPoint, list[OperatingPoint]]:
    """Return the best point and all that were tried."""
    tried = [_measure(tracks, probabilities, t, r) for t in THRESHOLDS for r in REFRACTORIES_S]
    return best(tried), tried


def best(tried: Sequence[OperatingPoint]) -> OperatingPoint:
    """Return the point with the fewest false steps among those at most F1_SLACK below the top."""
    top = max(point.f1_250ms for point in tried)
    good = [point for point in tried if point.f1_250ms >= top - F1_SLACK]
    return min(good, key=lambda point: (point.false_steps_per_hour, -point.f1_250ms))


def label_shift_s(tracks: Sequence[Track], probabilities: Sequence[FloatArray], anchor: str) -> Mapping[str, float]:
    """Return the seconds to add to the labels of each placement so that they mark the anchor set's instant of a step.

    A net that was trained on all sets answers nearly alike for all; what is left is the constant of each placement.
    """
    late_s: dict[str, list[float]] = {}
    for track, probability in zip(tracks, probabilities, strict=True):
        if track.walks and track.dataset != anchor:
            found_s = steps_s(probability, THRESHOLDS[0], REFRACTORIES_S[0])
            pairs = matched_pairs(track.steps_s, found_s, TOLERANCE_S)
            late_s.setdefault(track.placement, []).extend(found_s[j] - track.steps_s[i] for i, j in pairs)
    return {placement: float(np.median(values)) for placement, values in sorted(late_s.items()) if values}


def _measure(
    tracks: Sequence[Track], probabilities: Sequence[FloatArray], threshold: float, refractory_s: float
) -> OperatingPoint:
    hits = steps = false = 0
    hours = 0.0
    for track, probability in zip(tracks, probabilities, strict=True):
        found_s = steps_s(probability, threshold, refractory_s)
        if track.walks:
            hits += len(matched_pairs(track.steps_s, found_s, TOLERANCE_S))
            steps += len(track.steps_s) + len(found_s)
        elif track.known.all():
            count, seen_hours = false_steps(track.steps_s, found_s, track.seconds)
            false, hours = false + count, hours + seen_hours
    return OperatingPoint(threshold, refractory_s, round(2 * hits / steps, 5), round(false / hours, 1))
