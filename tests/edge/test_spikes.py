"""Spikes of one sample are left out, whatever the batches; motion, however violent, is not touched."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.classifier import StepClassifier
from edge.pipeline import Pipeline
from edge.recording import Recording, load
from edge.spikes import SPIKE_MPS2, SpikeFilter
from edge.types import SampleBatch
from emulator.gait import simulate_walk

MODEL = Path(__file__).resolve().parents[2] / "models" / "step.tflite"


def passed(z_mps2: list[float], cuts: list[int]) -> list[float]:
    """Return which samples (by their index) get through when they come in such batches."""
    imu = np.zeros((len(z_mps2), 6), np.float32)
    imu[:, 2] = z_mps2
    spikes, found = SpikeFilter(), []
    for first, end in itertools.pairwise(sorted({0, len(z_mps2), *cuts})):
        batch = SampleBatch(np.arange(first, end, dtype=np.float64), imu[first:end])
        found += spikes.push(batch).time_s.tolist()
    return found


def step_times(classifier: StepClassifier, recording: Recording) -> list[float]:
    pipeline = Pipeline(classifier, source_rate_hz=recording.sampling_rate_hz)
    batch = SampleBatch(recording.time_s, recording.imu)
    return [event.time_s for event in (*pipeline.push(batch), *pipeline.finish())]


@pytest.mark.parametrize(
    ("z_mps2", "left_out"),
    [
        ([9.8, 9.8, 157.0, 9.8, 9.8], {2}),
        ([9.8, 9.8, -157.0, 9.8, 9.8], {2}),
        ([9.8, 157.0, -157.0, 9.8, 9.8], {1, 2}),  # each lies beyond both of its neighbours
        ([9.8, 9.8, 157.0, 157.0, 9.8, 9.8], set()),  # a limit: two in a row may be a blow
        ([9.8, 9.8 + SPIKE_MPS2 - 1, 9.8, 9.8], set()),
        ([0.0, 40.0, 80.0, 40.0, 0.0], set()),
        ([157.0, 9.8, 9.8], set()),  # a limit: the first has nothing before it
        ([9.8, 9.8, 157.0], {2}),  # it waits for the next, which never comes
    ],
)
def test_what_is_a_spike(z_mps2: list[float], left_out: set[int]) -> None:
    for cuts in ([], list(range(len(z_mps2)))):
        assert passed(z_mps2, cuts) == [i for i in range(len(z_mps2)) if i not in left_out]


@settings(max_examples=200, deadline=None)
@given(
    z_mps2=st.lists(st.sampled_from([0.0, 9.8, 30.0, 70.0, 157.0, -157.0]), min_size=1, max_size=30),
    cuts=st.lists(st.integers(0, 30), max_size=10),
)
def test_it_is_the_same_for_any_batching(z_mps2: list[float], cuts: list[int]) -> None:
    assert passed(z_mps2, [cut for cut in cuts if cut < len(z_mps2)]) == passed(z_mps2, [])


def test_a_sample_that_has_not_jumped_does_not_wait() -> None:
    spikes = SpikeFilter()
    for at_s in (0.0, 0.01, 0.02):
        assert spikes.push(SampleBatch(np.array([at_s]), np.full((1, 6), 9.8, np.float32))).time_s.tolist() == [at_s]


def with_spikes(recording: Recording, per_s: float) -> Recording:
    """Spikes of full scale, never two in a row, at random places."""
    random = np.random.default_rng(3)
    imu = recording.imu.copy()
    at: npt.NDArray[np.int64] = 2 * random.choice(
        len(imu) // 2, round(per_s * recording.time_s[-1]), replace=False
    )  # fmt: skip
    at = at[at > 0]
    imu[at[:, None], random.integers(0, 3, (len(at), 1))] = random.choice([-156.9, 156.9], (len(at), 1))
    return replace(recording, imu=imu)


def test_five_spikes_a_second_change_the_count_of_a_walk_by_none() -> None:
    """Without the filter they are 2 to 3 times as many steps."""
    classifier, walk = StepClassifier(MODEL), simulate_walk(30.0, seed=3)
    clean, noisy = step_times(classifier, walk), step_times(classifier, with_spikes(walk, 5.0))
    assert len(noisy) == len(clean) > 30
    moved_s = np.sort(np.abs(np.subtract(noisy, clean)))
    # The walk's first step is weak, and its peak a broad one.
    assert moved_s[-1] < 0.1
    assert moved_s[-2] < 0.05


@pytest.mark.data
@pytest.mark.parametrize(
    "name",
    [
        "awinda_hand/person_4__20230124152114.npz",  # the most violent of each set
        "adept_run/r01__left_ankle.npz",
        "sisfall_waist/SA01__D11_collapse_chair_R03.npz",
        "sisfall_waist/SA23__D03_jog_slow_R01.npz",
        "spsw_phone/s18__07.npz",
        "wisdm_phone/1638__R_clapping.npz",
    ],
)
def test_no_sample_of_a_real_recording_is_a_spike(recordings_dir: Path, name: str) -> None:
    recording = load(recordings_dir / name)
    batch = SampleBatch(recording.time_s, recording.imu)
    assert len(SpikeFilter().push(batch).time_s) == len(recording.time_s)
