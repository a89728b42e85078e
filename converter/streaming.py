"""Runs a fixed Keras model over windows, and a streaming one over sequences of them with its state fed back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.keras_model import FixedModel
    from edge.types import FloatArray

    Feed = dict[str, FloatArray]
    Graph = Callable[[Any], Any]


def run(fixed: FixedModel, windows: FloatArray) -> tuple[FloatArray, list[Feed]]:
    """Return the model's answers and every set of inputs it was fed, by name.

    windows: normalised, [n, window_samples, channels], or [n, steps, window_samples, channels] for a streaming model,
    whose state starts at zero with each of the n sequences. Answers: [n, …] or [n, steps, …].
    """
    graph = tf.function(fixed.model, reduce_retracing=True)
    feeds: list[Feed] = []
    if not fixed.state:
        found = [_step(graph, fixed, window, {}, feeds)[0] for window in windows]
        return np.stack(found), feeds
    return np.stack([_sequence(graph, fixed, sequence, feeds) for sequence in windows]), feeds


def _sequence(graph: Graph, fixed: FixedModel, sequence: FloatArray, feeds: list[Feed]) -> FloatArray:
    memory = fixed.rest()
    answers = []
    for window in sequence:
        answer, memory = _step(graph, fixed, window, memory, feeds)
        answers.append(answer)
    return np.stack(answers)


def _step(
    graph: Graph, fixed: FixedModel, window: FloatArray, memory: Feed, feeds: list[Feed]
) -> tuple[FloatArray, Feed]:
    """Return the answer, without its batch axis, and the next state."""
    feed = fixed.feed(window, memory)
    feeds.append(feed)
    tensors = [tf.constant(feed[name]) for name in fixed.inputs]
    found = graph(tensors if len(tensors) > 1 else tensors[0])
    if not isinstance(found, dict):
        return np.asarray(found, np.float32)[0], {}
    following = {given: np.asarray(found[answer], np.float32) for given, answer in fixed.state}
    return np.asarray(found[fixed.answer], np.float32)[0], following
