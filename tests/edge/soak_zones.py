"""Which steps of two runs must be the same, and which are not, for tests.edge.soak_faults.

A gap takes with it what was decided by samples inside it, and nothing else:
- before it, steps whose look-ahead, or the wait for their bout to be confirmed, reaches into it (Pipeline.tail_s);
- after it, everything within the model's memory (tests.edge.memory), which began anew; and as long again as a bout may
  wait to be confirmed, come what may (its `backfill_s`), because the gate's state began anew too: a bout that was
  under way must be confirmed once more.
All of these are lengths that the model file states, none was chosen to fit a result.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge.classifier import StepClassifier
from edge.pipeline import Pipeline
from tests.edge.memory import memory_s

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MATCH_S = 0.2
"""Nearer than two steps can be (0.24 s is the shipped refractory time), so no step passes for another: of two
near-equal maxima the phase of the model's grid decides which is found, see test_daemon."""


MARGIN = 0.05
"""A step with so little more than a threshold is a marginal one. After a gap the sample clock knows the times anew, to
2 ms, and such a difference moves the model's answers by some hundredths where they are steep: it may be found in one of
two runs and not in the other."""


@dataclass(frozen=True)
class Margins:
    """How much of what surrounds a gap is not compared, s."""

    before_s: float
    after_s: float

    @classmethod
    def of(cls, model: Path) -> Margins:
        """Read them from a model file."""
        classifier = StepClassifier(model)
        pipeline = Pipeline(classifier, source_rate_hz=100.0)
        gate = classifier.manifest.gate
        return cls(pipeline.tail_s, memory_s(classifier) + (0.0 if gate is None else gate.backfill_s))


def hidden(gaps: Sequence[float], margins: Margins) -> list[tuple[float, float]]:
    """Return the times around the reported gaps in which steps are not compared."""
    zones: list[tuple[float, float]] = []
    for began_s, ended_s in zip(gaps[::2], gaps[1::2], strict=True):
        start_s, end_s = began_s - margins.before_s, ended_s + margins.after_s
        if zones and start_s <= zones[-1][1]:
            zones[-1] = (zones[-1][0], end_s)
        else:
            zones.append((start_s, end_s))
    return zones


def outside(steps_s: np.ndarray, zones: list[tuple[float, float]]) -> np.ndarray:
    """Return the steps that lie in none of the zones."""
    edges = np.array([edge for zone in zones for edge in zone])
    kept = steps_s[np.searchsorted(edges, steps_s) % 2 == 0]
    return np.asarray(kept)


def is_marginal(confidences: np.ndarray, model: Path) -> np.ndarray:
    """Say which steps have passed a threshold of the model by so little that another run need not find them."""
    manifest = StepClassifier(model).manifest
    gate = manifest.gate
    levels = [manifest.threshold, *(level for level in (gate and gate.first, gate and gate.last) if level)]
    above = confidences[:, np.newaxis] - np.array(levels)
    return np.asarray(((above > -1e-6) & (above < MARGIN)).any(axis=1))


def differences(expected_s: np.ndarray, found_s: np.ndarray) -> tuple[list[float], list[float]]:
    """Return the times of the (missing, surplus) steps; one step matches one other within MATCH_S, in order of time."""
    expected, found = deque(expected_s.tolist()), deque(found_s.tolist())
    missing: list[float] = []
    surplus: list[float] = []
    while expected and found:
        ahead_s = found[0] - expected[0]
        if abs(ahead_s) <= MATCH_S:
            expected.popleft()
            found.popleft()
        elif ahead_s > 0:
            missing.append(expected.popleft())
        else:
            surplus.append(found.popleft())
    return [*missing, *expected], [*surplus, *found]
