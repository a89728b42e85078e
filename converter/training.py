"""One training run: batches in, a network out, with its label shift and its pseudo-labels found on the way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from converter.dataset import SAMPLING_RATE_HZ, Track
from converter.found import Answers, Decision, steps_s
from converter.network import trainable_network
from converter.sampler import REST_FRAMES, Batch, Sampler
from converter.shape import HOP_SAMPLES, LOOKAHEADS, LOOKBACKS
from edge.scoring import TOLERANCE_S, matched_pairs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge.types import FloatArray, TimeArray

WINDOW_FRAMES = 320
"""12.8 s: the walking head has most of its 15 s of past where it answers for the end of a window."""
BATCH = 64
PEAK_RATE = 6e-3
WEIGHT_DECAY = 1e-3
WALKING_WEIGHT = 0.6
"""With half as much the walking head is so unsure of some walks that the gate stays shut; with 1.0 the step head loses
precision (docs/experiments.md)."""
WARM_UP_SHARE, ALIGN_SHARE = 0.1, 0.4
ANCHOR = "awinda_hand"
"""Labels of the other sets are shifted to mark the instant that this set's labels mark."""
UNGATED = Decision(0.3, 0.24, None, LOOKAHEADS[-1], LOOKBACKS[0])
"""How a net in training finds steps: with its longest look-ahead, gate open."""
REGULAR_RUN = 6
"""Steps in a row at an even pace before a net's own finds may teach it."""
EVEN_PACE = 0.25
"""How far an interval in such a run may be from the run's median, as a share of it."""
RUN_INTERVAL_S = (0.3, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A trained network, its loss every so many steps, and the label shift it settled on, s per placement."""

    network: Any
    loss: list[tuple[int, float]]
    shift_s: dict[str, float]


def train(tracks: Sequence[Track], *, steps: int, seed: int, title: str) -> Run:
    """Train a network from scratch; the same seed gives the same network on the same machine."""
    keras.utils.set_random_seed(seed)
    network = trainable_network(len(LOOKAHEADS), len(LOOKBACKS))
    optimizer = keras.optimizers.AdamW(_schedule(steps), weight_decay=WEIGHT_DECAY, clipnorm=1.0)
    learn = _learner(network, optimizer)
    sampler = _sampler(tracks, seed, {})
    shift_s: dict[str, float] = {}
    losses: list[tuple[int, float]] = []
    recent: list[float] = []
    with ThreadPoolExecutor(1) as beside:
        coming = beside.submit(sampler.batch, BATCH)
        for step in tqdm(range(steps), title, mininterval=2.0):
            batch = coming.result()
            if step == int(ALIGN_SHARE * steps):
                shift_s = aligned(network, tracks)
                sampler = _sampler([*taught(network, tracks)], seed + 1, shift_s)
                batch = sampler.batch(BATCH)
            coming = beside.submit(sampler.batch, BATCH)
            loss = learn(*_fields(batch)).numpy()
            # The batch under way was drawn before this loss was known, on every machine alike.
            coming.result()
            sampler.remember(batch, loss)
            recent.append(float(loss.mean()))
            if len(recent) == max(1, steps // 100):
                losses.append((step + 1, round(float(np.mean(recent)), 5)))
                recent.clear()
    return Run(network, losses, shift_s)


def answers(network: Any, track: Track) -> Answers:
    """Return what the net says of every frame of a track, as the device would find it in float arithmetic."""
    rest = REST_FRAMES + -len(track.frames) % HOP_SAMPLES
    frames = np.concatenate([track.frames, np.repeat(track.frames[-1:], rest, 0)])
    step, walking = (_sigmoid(logits) for logits in network(frames[None], training=False))
    # REST_FRAMES may end within a hop, for which the walking head has no answer.
    return Answers(step[: len(walking) * HOP_SAMPLES], walking)


def aligned(network: Any, tracks: Sequence[Track]) -> dict[str, float]:
    """Return the seconds to add to the labels of each placement so that they mark the anchor set's instant of a step.

    A net that was trained on all sets answers nearly alike for all; what is left is the constant of each placement.
    """
    late_s: dict[str, list[float]] = {}
    for track in tracks:
        if track.walks and track.dataset != ANCHOR:
            found_s = _ungated_s(network, track)
            pairs = matched_pairs(track.steps_s, found_s, TOLERANCE_S)
            late_s.setdefault(track.placement, []).extend(found_s[j] - track.steps_s[i] for i, j in pairs)
    return {placement: float(np.median(values)) for placement, values in sorted(late_s.items()) if values}


def taught(network: Any, tracks: Sequence[Track]) -> list[Track]:
    """Return the tracks; those that only say where somebody walks get the net's own steps where these are regular."""
    return [_pseudo_labelled(network, track) if track.kind == "walking" else track for track in tracks]


def shifted(tracks: Sequence[Track], shift_s: Mapping[str, float]) -> list[Track]:
    """Return the tracks with their labels at the instant that a run was trained for."""
    return [replace(track, steps_s=track.steps_s + shift_s.get(track.placement, 0.0)) for track in tracks]


def _pseudo_labelled(network: Any, track: Track) -> Track:
    found_s = _ungated_s(network, track)
    trusted = np.zeros(len(found_s), bool)
    known = track.known.copy()
    time_s = np.arange(len(track.frames)) / SAMPLING_RATE_HZ
    for first, last in _regular_runs(found_s):
        trusted[first : last + 1] = True
        known |= (time_s >= found_s[first]) & (time_s <= found_s[last])
    # Walking without an even pace teaches the step head nothing: neither that there are steps nor that there are none.
    return replace(track, steps_s=found_s[trusted], known=known, pseudo=True)


def _regular_runs(found_s: TimeArray) -> list[tuple[int, int]]:
    """Return the first and last index of every run of steps at an even pace."""
    runs, first = [], 0
    for index in range(1, len(found_s) + 1):
        if index < len(found_s) and _even(np.diff(found_s[max(first, index - REGULAR_RUN) : index + 1])):
            continue
        if index - first >= REGULAR_RUN:
            runs.append((first, index - 1))
        first = index
    return runs


def _even(intervals_s: TimeArray) -> bool:
    middle_s = float(np.median(intervals_s))
    near = bool(np.all(np.abs(intervals_s - middle_s) <= EVEN_PACE * middle_s))
    return near and RUN_INTERVAL_S[0] <= middle_s <= RUN_INTERVAL_S[1]


def _ungated_s(network: Any, track: Track) -> TimeArray:
    return steps_s(answers(network, track), UNGATED)


def _sampler(tracks: Sequence[Track], seed: int, shift_s: Mapping[str, float]) -> Sampler:
    return Sampler(tracks, window_frames=WINDOW_FRAMES, rng=np.random.default_rng(seed), shift_s=shift_s)


def _schedule(steps: int) -> Any:
    warm_up = int(WARM_UP_SHARE * steps)
    return keras.optimizers.schedules.CosineDecay(
        PEAK_RATE / 10, steps - warm_up, alpha=0.005, warmup_target=PEAK_RATE, warmup_steps=warm_up
    )


def _fields(batch: Batch) -> tuple[FloatArray, ...]:
    return batch.inputs, batch.step, batch.step_weight, batch.walking, batch.walking_weight


def _learner(network: Any, optimizer: Any) -> Any:
    """Return a compiled function (fields of a batch) -> mean loss of each window [b]; it updates the network."""
    optimizer.build(network.trainable_variables)
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def learn(inputs: Any, step: Any, step_weight: Any, walking: Any, walking_weight: Any) -> Any:
        with tf.GradientTape() as tape:
            step_said, walking_said = network(inputs, training=True)
            by_step = cross_entropy(step, step_said) * step_weight
            by_walking = cross_entropy(walking, walking_said) * walking_weight
            loss = tf.reduce_sum(by_step) / (tf.reduce_sum(step_weight) + 1.0)
            loss += WALKING_WEIGHT * tf.reduce_sum(by_walking) / (tf.reduce_sum(walking_weight) + 1.0)
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        each_step = tf.reduce_sum(by_step, (1, 2)) / (tf.reduce_sum(step_weight, (1, 2)) + 1.0)
        return each_step + 0.5 * tf.reduce_sum(by_walking, (1, 2)) / (tf.reduce_sum(walking_weight, (1, 2)) + 1.0)

    return learn


def _sigmoid(logits: Any) -> FloatArray:
    probability: FloatArray = np.asarray(tf.sigmoid(logits))[0]
    return probability
