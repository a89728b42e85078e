"""The pipeline: the same events for any batching, steps at both ends of a segment, nothing across a gap."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.classifier import StepClassifier
from edge.pipeline import Pipeline
from edge.recording import Recording, load
from edge.types import SampleBatch, StepEvent
from emulator.gait import simulate_walk

MODEL = Path(__file__).resolve().parents[2] / "models" / "step.tflite"


@pytest.fixture(scope="module")
def classifier() -> StepClassifier:
    return StepClassifier(MODEL)


@pytest.fixture(scope="module")
def walk() -> Recording:
    return simulate_walk(30.0, seed=3)


def steps_of(
    classifier: StepClassifier, recording: Recording, cuts: list[int], segment_from: int | None = None
) -> list[StepEvent]:
    pipeline = Pipeline(classifier, source_rate_hz=recording.sampling_rate_hz)
    edges = sorted({0, len(recording.time_s), *cuts, *([] if segment_from is None else [segment_from])})
    events: list[StepEvent] = []
    for first, end in itertools.pairwise(edges):
        segment = int(segment_from is not None and first >= segment_from)
        events += pipeline.push(SampleBatch(recording.time_s[first:end], recording.imu[first:end], segment))
    return [*events, *pipeline.finish()]


@pytest.mark.parametrize("seed", range(5))
def test_the_walk_of_make_run_is_counted_within_three_percent(classifier: StepClassifier, seed: int) -> None:
    """Seed 0 is the one that it plays; where the simulated walker stops, the model hears the feet come together."""
    walk = simulate_walk(60.0, seed=seed)
    assert walk.steps is not None
    found = steps_of(classifier, walk, [])
    assert abs(len(found) - len(walk.steps)) <= 0.03 * len(walk.steps)


def test_the_start_of_a_recording_is_no_step(classifier: StepClassifier) -> None:
    """A model's memory begins with zeros, from which the first frame at 1 g would be a knock."""
    events = [steps_of(classifier, simulate_walk(60.0, seed=seed), []) for seed in range(5)]
    assert min(found[0].time_s for found in events) > 2.0


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 3000), max_size=300))
def test_events_do_not_depend_on_batching(classifier: StepClassifier, walk: Recording, cuts: list[int]) -> None:
    assert steps_of(classifier, walk, cuts) == steps_of(classifier, walk, list(range(0, 3000, 10)))


def test_events_are_ordered_and_never_known_before_they_happen(classifier: StepClassifier, walk: Recording) -> None:
    events = steps_of(classifier, walk, [])
    times_s = [event.time_s for event in events]
    assert times_s == sorted(times_s)
    assert all(event.emitted_s >= event.time_s for event in events)
    assert max(event.emitted_s for event in events) <= walk.time_s[-1]


def test_steps_right_up_to_the_end_of_a_recording_are_counted(classifier: StepClassifier, walk: Recording) -> None:
    assert walk.steps is not None
    end = int((walk.steps[12] + 0.15) * walk.sampling_rate_hz)
    cut = Recording("cut", walk.time_s[:end], walk.imu[:end], walk.sampling_rate_hz)
    found = steps_of(classifier, cut, [])
    assert np.abs(found[-1].time_s - walk.steps[12]) < 0.25


def test_nothing_is_carried_across_a_gap(classifier: StepClassifier, walk: Recording) -> None:
    """The second segment gives what it gives alone, and the first one too."""
    middle = 1500
    both = steps_of(classifier, walk, [], segment_from=middle)
    first = Recording("first", walk.time_s[:middle], walk.imu[:middle], walk.sampling_rate_hz)
    second = Recording("second", walk.time_s[middle:], walk.imu[middle:], walk.sampling_rate_hz)
    assert both == steps_of(classifier, first, []) + steps_of(classifier, second, [])


@pytest.mark.data
def test_a_real_walk_is_the_same_live_sized_and_in_one_piece(classifier: StepClassifier, recordings_dir: Path) -> None:
    recording = load(recordings_dir / "awinda_hand" / "person_8__20230217130617.npz")
    in_one_piece = steps_of(classifier, recording, [])
    assert len(in_one_piece) > 500
    assert in_one_piece == steps_of(classifier, recording, list(range(0, len(recording.time_s), 8)))
