"""The exported network answers as the trained one, and nothing it answers depends on frames it must not see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the converter's environment: pip install '.[converter,dev]'")
net = pytest.importorskip("converter.network")
pytestmark = pytest.mark.tf
HOP = 5


@pytest.fixture(scope="module")
def trained() -> Any:
    keras.utils.set_random_seed(5)
    network = net.trainable_network()
    rng = np.random.default_rng(5)
    for layer in network.layers:
        # Batch norm as after training: no two channels alike.
        if layer.name.endswith("_norm"):
            layer.set_weights([rng.uniform(0.5, 1.5, value.shape) for value in layer.get_weights()])
    head = network.get_layer("head")
    head.set_weights([0.3 * value for value in head.get_weights()])
    return network


def test_exported_network_equals_the_trained_one_on_every_hop(trained: Any) -> None:
    exported = net.exported_network(trained, hop_samples=HOP)
    window = net.RECEPTIVE_SAMPLES + HOP - 1
    frames = np.random.default_rng(1).normal(0, 1, (1, window + 20 * HOP, 3)).astype(np.float32)
    whole = np.asarray(trained(frames, training=False))[0]
    hops = [np.asarray(exported(frames[:, start : start + window]))[0] for start in range(0, 21 * HOP, HOP)]
    assert whole.std() > 0.03
    np.testing.assert_allclose(np.concatenate(hops), whole, atol=2e-5)


def test_exported_network_has_the_promised_form(trained: Any) -> None:
    exported = net.exported_network(trained, hop_samples=HOP)
    assert exported.input_shape == (1, net.RECEPTIVE_SAMPLES + HOP - 1, 3)
    assert exported.output_shape == (1, HOP, 1)
    assert exported.count_params() <= 20_000
    assert not any("norm" in layer.name for layer in exported.layers)
