"""What an attack found once must stay mended: rhythm without steps, slow walks, and gaps, with the shipped model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converter.gaps import counted_with_gaps
from converter.robustness import counted, imitations, rhythms
from edge.classifier import StepClassifier
from edge.pipeline import Pipeline
from edge.types import SampleBatch
from emulator.gait import simulate_walk

# What sways in a narrow band at a walker's pace, and a hand that shakes at one, is counted: models/MODEL_CARD.md.
IMITATIONS = {name: imu for name, imu in imitations() if name.startswith(("noise 1.0-2.5 Hz", "hand 1.5 Hz"))}
RHYTHMS = dict(rhythms()) | IMITATIONS
RATE_HZ = 100.0


@pytest.fixture(scope="module")
def classifier() -> StepClassifier:
    return StepClassifier(Path(__file__).parents[2] / "models" / "step.tflite")


@pytest.mark.parametrize("name", RHYTHMS)
def test_a_vehicle_or_a_machine_walks_no_step(classifier: StepClassifier, name: str) -> None:
    imu = RHYTHMS[name]
    pipeline = Pipeline(classifier, source_rate_hz=RATE_HZ)
    time_s = np.arange(len(imu)) / RATE_HZ
    assert [*pipeline.push(SampleBatch(time_s, imu)), *pipeline.finish()] == []


def test_walks_at_their_own_pace_and_slower_are_counted(classifier: StepClassifier) -> None:
    walks = [simulate_walk(60.0, seed=seed) for seed in range(3)]
    for pace in (1.0, 0.7):
        row = counted(walks, classifier, pace, 1.0)
        assert abs(row.counted / row.true - 1) < 0.1, (pace, row)


def test_a_burst_that_fails_every_two_seconds_costs_no_walk(classifier: StepClassifier) -> None:
    walk = simulate_walk(60.0, seed=3)
    assert walk.steps is not None
    assert len(counted_with_gaps(walk, classifier, 0.15, 2.0)) > 0.85 * len(walk.steps)
