"""Training windows: the target marks the steps of the very frames it comes with, at the net's look-ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from converter.dataset import NOBODY, SOMEBODY
from converter.sampler import WARM_UP_FRAMES, WARM_UP_HOPS, Batch, Pool, Sampler
from converter.shape import HOP_SAMPLES, LOOKAHEADS, LOOKBACKS
from tests.converter.conftest import make_track

WINDOW = 200


def make_sampler(*, negatives: bool, seed: int = 3, shift_s: float = 0.0) -> Sampler:
    tracks = [make_track(walking=True)]
    tracks += [make_track(walking=False, dataset="wisdm_watch")] if negatives else []
    return Sampler(
        tracks,
        window_frames=WINDOW,
        rng=np.random.default_rng(seed),
        shift_s={"somewhere": shift_s},
    )


def lag_frames(batch: Batch, answer: int) -> float:
    """Return by how many frames the target of one answer trails the 5 g frames of the input."""
    lags = []
    for inputs, target in zip(batch.inputs, batch.step[:, :, answer], strict=True):
        knocks = np.linalg.norm(inputs, axis=1)
        for peak in np.flatnonzero(target > 0.9).tolist():
            if peak >= WARM_UP_FRAMES + LOOKAHEADS[answer]:
                first = peak - LOOKAHEADS[answer] - 3
                lags.append(peak - first - int(np.argmax(knocks[first : first + 7])))
    assert len(lags) > 100
    return float(np.mean(lags))


@pytest.mark.parametrize("answer", range(len(LOOKAHEADS)))
def test_targets_trail_the_steps_by_their_look_ahead(answer: int) -> None:
    lag = lag_frames(make_sampler(negatives=False).batch(64), answer)
    assert abs(lag - LOOKAHEADS[answer]) < 0.2


def test_a_label_shift_moves_the_targets() -> None:
    lag = lag_frames(make_sampler(negatives=False, shift_s=0.04).batch(64), 1)
    assert 0.8 < lag - LOOKAHEADS[1] < 1.2


@pytest.mark.parametrize("answer", range(len(LOOKBACKS)))
def test_the_walking_target_trails_by_its_look_back(answer: int) -> None:
    """One walker who stops in the middle of the track, at a whole hop."""
    track = make_track(walking=True)
    stop = HOP_SAMPLES * 100
    walking = np.where(np.arange(len(track.frames)) < stop, SOMEBODY, NOBODY).astype(np.int8)
    half = replace(track, walking=walking, frames=np.full_like(track.frames, 0.5) + 2 * walking[:, None])
    sampler = Sampler([half], window_frames=WINDOW, rng=np.random.default_rng(1), shift_s={})
    lags = []
    for _ in range(20):
        batch = sampler.batch(16)
        for inputs, target, weight in zip(batch.inputs, batch.walking, batch.walking_weight, strict=True):
            ends = np.flatnonzero((target[:-1, answer] > target[1:, answer]) & (weight[:-1, answer] > 0))
            jump = np.linalg.norm(np.diff(inputs, axis=0), axis=1)
            if len(ends) and jump.max() > 0.5:
                lags.append(ends[0] + 1 - (np.argmax(jump) + 1) / HOP_SAMPLES)
    assert len(lags) > 10
    assert abs(np.median(lags) - LOOKBACKS[answer]) < 0.7


def test_the_first_instants_are_not_asked_for() -> None:
    batch = make_sampler(negatives=True).batch(32)
    assert batch.step_weight[:, :WARM_UP_FRAMES].max() == 0
    assert batch.walking_weight[:, :WARM_UP_HOPS].max() == 0
    for column, hops in enumerate(LOOKBACKS):
        assert batch.walking_weight[:, :hops, column].max(initial=0) == 0
    assert batch.walking_weight.mean() > 0.5


def test_the_same_seed_gives_the_same_batches() -> None:
    first, second = (make_sampler(negatives=True).batch(32) for _ in range(2))
    assert np.array_equal(first.inputs, second.inputs)
    assert np.array_equal(first.step, second.step)
    assert np.array_equal(first.walking, second.walking)


def test_non_walkers_have_no_target_and_count() -> None:
    batch = make_sampler(negatives=True).batch(64)
    still = batch.pool == 1
    assert 0.2 < still.mean() < 0.8
    assert batch.step[still].max() < 1e-6
    assert batch.walking[still].max() == 0
    assert set(np.unique(batch.step_weight[still])) == {0.0, 1.0}


def test_chunks_with_a_high_loss_are_drawn_more_often() -> None:
    sampler = make_sampler(negatives=True)
    for _ in range(20):
        batch = sampler.batch(64)
        sampler.remember(batch, np.where(batch.chunk == 0, 5.0, 0.0).astype(np.float32))
    drawn = sampler.batch(500)
    negatives = drawn.chunk[drawn.pool == 1]
    assert (negatives == 0).mean() > 0.6


def test_the_first_and_last_step_of_a_walk_weigh_more() -> None:
    track = make_track(walking=True)
    step = np.arange(len(track.steps_s))
    paused = replace(track, steps_s=track.steps_s[(step < 20) | (step > 30)])
    pool = Pool([paused], {})
    heavy = np.flatnonzero(pool.known > 1) / 25
    for end in (0, 19, 20, len(paused.steps_s) - 1):
        assert np.abs(heavy - paused.steps_s[end]).min() < 0.05
    assert all(np.abs(paused.steps_s[[0, 19, 20, -1]] - at_s).min() < 0.16 for at_s in heavy)
