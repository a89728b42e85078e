"""Training on a made-up walk: it learns, and the same seed gives the same weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from converter.shape import HOP_SAMPLES, LOOKAHEADS
from tests.converter.conftest import make_track

tf = pytest.importorskip("tensorflow", reason="needs the converter's environment: pip install '.[converter,dev]'")
training = pytest.importorskip("converter.training")
pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def runs() -> list[Any]:
    tf.config.experimental.enable_op_determinism()
    tracks = [
        make_track(walking=True, seconds=120),
        make_track(walking=True, dataset="oxford_opt", seed=1),
        make_track(walking=False, dataset="wisdm_watch"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        # Seconds instead of minutes; a window is still longer than the walking head looks back.
        patch.setattr(training, "BATCH", 16)
        patch.setattr(training, "WINDOW_FRAMES", 160)
        return [training.train(tracks, steps=60, seed=4, title="test") for _ in range(2)]


def test_the_loss_falls(runs: list[Any]) -> None:
    losses = [loss for _, loss in runs[0].loss]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_the_same_seed_gives_the_same_weights(runs: list[Any]) -> None:
    first, second = (run.network.get_weights() for run in runs)
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_answers_cover_every_frame_and_tell_steps_from_rest(runs: list[Any]) -> None:
    walk, still = make_track(walking=True, seed=9), make_track(walking=False)
    found, quiet = (training.answers(runs[0].network, track) for track in (walk, still))
    assert found.step.shape[0] == found.walking.shape[0] * HOP_SAMPLES >= len(walk.frames)
    at_steps = found.step[np.rint(walk.steps_s * 25).astype(int) + LOOKAHEADS[0], 0]
    assert at_steps.mean() > quiet.step.mean() + 0.4
    assert found.walking[20:200].mean() > quiet.walking[20:200].mean() + 0.2


def test_a_set_that_is_late_is_shifted_and_the_anchor_is_not(runs: list[Any]) -> None:
    anchor, other = make_track(walking=True), make_track(walking=True, dataset="oxford_opt", seed=1)
    late = replace(other, steps_s=other.steps_s - 0.05, placement="elsewhere")
    found = training.aligned(runs[0].network, [anchor, late])
    assert set(found) == {"elsewhere"}
    same = training.aligned(runs[0].network, [replace(other, placement="elsewhere")])
    assert found["elsewhere"] - same["elsewhere"] == pytest.approx(0.05, abs=0.015)


def test_only_a_regular_walk_teaches_by_its_own_steps(runs: list[Any]) -> None:
    walk = make_track(walking=True, seed=7)
    nothing_known = replace(walk, steps_s=np.empty(0), known=np.zeros(len(walk.frames), bool))
    (taught,) = training.taught(runs[0].network, [nothing_known])
    assert taught.pseudo
    assert taught.kind == nothing_known.kind == "walking"
    if len(taught.steps_s):
        assert np.diff(taught.steps_s).min() > 0.2
    known_s = np.flatnonzero(taught.known) / 25
    assert all(known_s.min() - 0.05 <= step_s <= known_s.max() + 0.05 for step_s in taught.steps_s)


@pytest.mark.parametrize(
    ("intervals", "runs_found"),
    [([0.5] * 8, [(0, 8)]), ([0.5] * 4, []), ([0.5] * 7 + [1.4] + [0.5] * 7, [(0, 7), (8, 15)]), ([1.5] * 9, [])],
)
def test_regular_runs(intervals: list[float], runs_found: list[tuple[int, int]]) -> None:
    assert training._regular_runs(np.cumsum([0.0, *intervals])) == runs_found
