"""Training on a made-up walk: it learns, and the same seed gives the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.converter.conftest import make_track

tf = pytest.importorskip("tensorflow", reason="needs the converter's environment: pip install '.[converter,dev]'")
training = pytest.importorskip("converter.train")
pytestmark = [pytest.mark.tf, pytest.mark.slow]


@pytest.fixture(scope="module")
def runs() -> list[Any]:
    tf.config.experimental.enable_op_determinism()
    tracks = [
        make_track(walking=True, seconds=120),
        make_track(walking=True, dataset="oxford_opt", seed=1),
        make_track(walking=False, dataset="wisdm_watch"),
    ]
    return [training.train(tracks, steps=60, seed=4, title="test") for _ in range(2)]


def test_the_loss_falls(runs: list[Any]) -> None:
    losses = [loss for _, loss in runs[0].loss]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_the_same_seed_gives_the_same_weights(runs: list[Any]) -> None:
    first, second = (run.network.get_weights() for run in runs)
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_probabilities_cover_every_frame_and_know_steps_from_rest(runs: list[Any]) -> None:
    walk, still = make_track(walking=True, seed=9), make_track(walking=False)
    found, quiet = (training.probabilities(runs[0].network, track) for track in (walk, still))
    assert found.shape == (len(walk.frames),)
    at_steps = found[np.rint(walk.steps_s * 25).astype(int)]
    assert at_steps.mean() > quiet.mean() + 0.2
