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
from tests.edge.memory import HOP_S, memory_s

MODEL = Path(__file__).resolve().parents[2] / "models" / "step.tflite"


@pytest.fixture(scope="module")
def classifier() -> StepClassifier:
    return StepClassifier(MODEL)


@pytest.fixture(scope="module")
def walk() -> Recording:
    return simulate_walk(40.0, seed=3)


def truth(recording: Recording) -> list[float]:
    assert recording.steps is not None
    return list(recording.steps)


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
    """The second segment gives what it gives alone, and the first one too; it begins where a hop does."""
    middle = 1504
    late_s = walk.time_s + np.where(np.arange(len(walk.time_s)) < middle, 0.0, 10 * 0.08)
    torn = Recording("torn", late_s, walk.imu, walk.sampling_rate_hz)
    both = steps_of(classifier, torn, [], segment_from=middle)
    first = Recording("first", late_s[:middle], walk.imu[:middle], walk.sampling_rate_hz)
    second = Recording("second", late_s[middle:], walk.imu[middle:], walk.sampling_rate_hz)
    alone = steps_of(classifier, first, []) + steps_of(classifier, second, [])
    assert [step.confidence for step in both] == [step.confidence for step in alone]
    assert [step.time_s for step in both] == pytest.approx([step.time_s for step in alone], abs=1e-9)


def test_a_walk_goes_on_across_short_gaps_and_no_step_is_counted_inside_one(
    classifier: StepClassifier, walk: Recording
) -> None:
    """A burst that fails every two seconds loses the steps in it, not the walk."""
    pipeline = Pipeline(classifier, source_rate_hz=walk.sampling_rate_hz)
    phase_s = (walk.time_s - 1.0) % 2.0
    lost = (walk.time_s > 1.0) & (phase_s < 0.15)
    segments = np.cumsum(np.diff(lost.astype(int), prepend=0) == -1)
    found: list[float] = []
    for segment in range(int(segments[-1]) + 1):
        here = ~lost & (segments == segment)
        batch = SampleBatch(walk.time_s[here], walk.imu[here], segment)
        found += [step.time_s for step in pipeline.push(batch)]
    found += [step.time_s for step in pipeline.finish()]
    steps = truth(walk)
    outside = [step for step in steps if step < 1.0 or (step - 1.0) % 2.0 >= 0.15]
    assert not [step for step in found if step > 1.01 and 0.0 < (step - 1.0) % 2.0 < 0.14]
    missed = [step for step in outside if not np.any(np.abs(np.array(found) - step) <= 0.25)]
    assert len(missed) <= 0.1 * len(outside), missed
    assert len(found) <= len(steps)


def test_hours_of_gaps_at_rest_are_not_kept(classifier: StepClassifier) -> None:
    pipeline = Pipeline(classifier, source_rate_hz=50.0)
    rest = np.tile(np.array([0.0, 0.0, 9.81, 0.0, 0.0, 0.0], np.float32), (85, 1))
    for segment in range(120):
        time_s = 2.0 * segment + np.arange(len(rest)) / 50.0
        assert list(pipeline.push(SampleBatch(time_s, rest, segment))) == []
    assert len(pipeline._holes) <= pipeline.tail_s / 2.0 + 2


@pytest.mark.parametrize("ended", [1531, 1537, 1540, 1600])
def test_a_gap_is_forgotten_when_the_memory_of_the_model_is_over(
    classifier: StepClassifier, walk: Recording, ended: int
) -> None:
    """From then on windows and answers are, bit for bit, those of the same walk without the gap."""

    def heard(*batches: SampleBatch) -> list[tuple[float, bytes, bytes, float | None]]:
        found: list[tuple[float, bytes, bytes, float | None]] = []
        pipeline = Pipeline(
            classifier,
            source_rate_hz=walk.sampling_rate_hz,
            observe=lambda window, answer: found.append(
                (window.time_s, window.data.tobytes(), answer.step.tobytes(), answer.walking)
            ),
        )
        for batch in batches:
            list(pipeline.push(batch))
        return [one for one in found if one[0] >= float(walk.time_s[ended]) + memory_s(classifier)]

    whole = heard(SampleBatch(walk.time_s, walk.imu))
    torn = heard(
        SampleBatch(walk.time_s[:1500], walk.imu[:1500]),
        SampleBatch(walk.time_s[ended:], walk.imu[ended:], segment=1),
    )
    classifier.reset()
    assert len(whole) >= 100
    assert torn == whole


def test_the_memory_is_that_of_the_tensors(classifier: StepClassifier) -> None:
    """What two models with different pasts are told alike makes them alike within that time, and not much sooner."""
    one, other = classifier, StepClassifier(MODEL)
    random = np.random.default_rng(5)

    def noise() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return random.normal(0.0, 10.0, (2, 3)).astype(np.float32)

    for _ in range(250):
        one.infer(noise())
        other.infer(noise())
    last_different = 0
    for hop in range(1, 251):
        heard = noise()
        first, second = one.infer(heard), other.infer(heard)
        if first.walking != second.walking or (first.step != second.step).any():
            last_different = hop
    one.reset()
    hops = memory_s(one) / HOP_S
    assert 0.5 * hops < last_different <= hops


@pytest.mark.data
def test_a_real_walk_is_the_same_live_sized_and_in_one_piece(classifier: StepClassifier, recordings_dir: Path) -> None:
    recording = load(recordings_dir / "awinda_hand" / "person_8__20230217130617.npz")
    in_one_piece = steps_of(classifier, recording, [])
    assert len(in_one_piece) > 500
    assert in_one_piece == steps_of(classifier, recording, list(range(0, len(recording.time_s), 8)))
