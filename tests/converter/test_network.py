"""The exported, streaming network is the trained one: hop by hop, state fed back, it answers the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converter.shape import CLASSES, HOP_SAMPLES

keras = pytest.importorskip("keras", reason="needs the converter's environment: pip install '.[converter,dev]'")
net = pytest.importorskip("converter.network")
pytestmark = pytest.mark.tf
STEP_ANSWER, WALKING_ANSWER = 1, 2


@pytest.fixture(scope="module")
def trained() -> Any:
    keras.utils.set_random_seed(5)
    network = net.trainable_network(3, 4)
    rng = np.random.default_rng(5)
    for layer in network.layers:
        # Batch norm as after training: no two channels alike.
        if layer.name.endswith("_norm"):
            layer.set_weights([rng.uniform(0.5, 1.5, value.shape) for value in layer.get_weights()])
    for name in ("step", "walking"):
        head = network.get_layer(name)
        head.set_weights([0.1 * value for value in head.get_weights()])
    return network


@pytest.fixture(scope="module")
def exported(trained: Any) -> Any:
    return net.exported_network(trained, step_answer=STEP_ANSWER, walking_answer=WALKING_ANSWER)


def streamed(exported: Any, frames: Any) -> Any:
    """Return [n, 2] probabilities, the state starting at zero and fed back."""
    shapes = {tensor.name: tuple(tensor.shape) for tensor in exported.inputs}
    memory = {given: np.zeros(shapes[given], np.float32) for given, _ in net.state()}
    answers = []
    for start in range(0, len(frames), HOP_SAMPLES):
        feed = {"acceleration": frames[None, start : start + HOP_SAMPLES], **memory}
        found = exported([feed[tensor.name] for tensor in exported.inputs])
        memory = {given: np.asarray(found[answer]) for given, answer in net.state()}
        answers.append(np.asarray(found["probability"])[0])
    return np.concatenate(answers)


def test_hop_by_hop_it_equals_the_trained_one_on_the_whole(trained: Any, exported: Any) -> None:
    frames = np.random.default_rng(1).normal(0, 1, (90 * HOP_SAMPLES, 3)).astype(np.float32)
    step, walking = (1 / (1 + np.exp(-np.asarray(logits)[0])) for logits in trained(frames[None], training=False))
    found = streamed(exported, frames)
    assert step[:, STEP_ANSWER].std() > 0.03
    assert walking[:, WALKING_ANSWER].std() > 0.01
    np.testing.assert_allclose(found[:, 0], step[:, STEP_ANSWER], atol=2e-5)
    np.testing.assert_allclose(found[:, 1], np.repeat(walking[:, WALKING_ANSWER], HOP_SAMPLES), atol=2e-5)


def test_exported_network_has_the_promised_form(exported: Any) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in exported.output.items()}
    assert shapes["probability"] == (1, HOP_SAMPLES, len(CLASSES))
    given = {tensor.name: tuple(tensor.shape) for tensor in exported.inputs}
    assert given["acceleration"] == (1, HOP_SAMPLES, 3)
    assert all(given[into] == shapes[out] for into, out in net.state())
    assert len(net.state()) == len(given) - 1
    assert not any("norm" in layer.name for layer in exported.layers)


def test_no_answer_depends_on_frames_to_come(trained: Any) -> None:
    frames = np.random.default_rng(2).normal(0, 1, (1, 400, 3)).astype(np.float32)
    other = frames.copy()
    other[:, 300:] += 5.0
    (before, slow), (after, other_slow) = (trained(values, training=False) for values in (frames, other))
    assert np.array_equal(np.asarray(before)[:, :300], np.asarray(after)[:, :300])
    assert np.array_equal(np.asarray(slow)[:, : 300 // HOP_SAMPLES], np.asarray(other_slow)[:, : 300 // HOP_SAMPLES])
    assert not np.array_equal(np.asarray(before)[:, 300:], np.asarray(after)[:, 300:])
