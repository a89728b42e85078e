"""Training windows: the target marks the steps of the very frames it comes with, at the net's look-ahead."""

from __future__ import annotations

import numpy as np

from converter.sampler import Batch, Sampler
from tests.converter.conftest import make_track

WINDOW, CONTEXT, LOOKAHEAD = 200, 66, 5


def make_sampler(*, negatives: bool, seed: int = 3, shift_s: float = 0.0) -> Sampler:
    tracks = [make_track(walking=True)]
    tracks += [make_track(walking=False, dataset="wisdm_watch")] if negatives else []
    return Sampler(
        tracks,
        window_frames=WINDOW,
        context=CONTEXT,
        lookahead=LOOKAHEAD,
        rng=np.random.default_rng(seed),
        shift_s={"somewhere": shift_s},
    )


def lag_frames(batch: Batch) -> float:
    """Return by how many frames the target trails the 5 g frames of the input, beyond its own origin."""
    origin = CONTEXT - LOOKAHEAD
    lags = []
    for inputs, target in zip(batch.inputs, batch.target[:, :, 0], strict=True):
        knocks = np.linalg.norm(inputs, axis=1)[origin : origin + len(target)]
        for peak in np.flatnonzero(target > 0.9).tolist():
            first = max(0, peak - 3)
            lags.append(peak - first - int(np.argmax(knocks[first : peak + 4])))
    assert len(lags) > 100
    return float(np.mean(lags))


def test_targets_lie_on_the_steps() -> None:
    assert abs(lag_frames(make_sampler(negatives=False).batch(64))) < 0.2


def test_a_label_shift_moves_the_targets() -> None:
    assert 0.8 < lag_frames(make_sampler(negatives=False, shift_s=0.04).batch(64)) < 1.2


def test_the_same_seed_gives_the_same_batches() -> None:
    first, second = (make_sampler(negatives=True).batch(32) for _ in range(2))
    assert np.array_equal(first.inputs, second.inputs)
    assert np.array_equal(first.target, second.target)


def test_non_walkers_have_no_target_and_count() -> None:
    batch = make_sampler(negatives=True).batch(64)
    still = batch.pool == 1
    assert 0.2 < still.mean() < 0.8
    assert batch.target[still].max() < 1e-6
    assert batch.weight[still].min() == 1


def test_chunks_with_a_high_loss_are_drawn_more_often() -> None:
    sampler = make_sampler(negatives=True)
    for _ in range(20):
        batch = sampler.batch(64)
        sampler.remember(batch, np.where(batch.chunk == 0, 5.0, 0.0).astype(np.float32))
    drawn = sampler.batch(500)
    negatives = drawn.chunk[drawn.pool == 1]
    assert (negatives == 0).mean() > 0.6
