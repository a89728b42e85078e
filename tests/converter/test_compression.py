"""Pruned weights stay zero, fake quantisation is what int8 does, and both leave a network that can be exported."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.classifier import StepClassifier
from edge.runtime import open_interpreter
from tests.converter.conftest import SHIPPED, make_track

tf = pytest.importorskip("tensorflow", reason="needs the converter's environment: pip install '.[converter,dev]'")
keras = pytest.importorskip("keras")
compression = pytest.importorskip("converter.experiments.compression")
sampler = pytest.importorskip("converter.sampler")
pytestmark = pytest.mark.tf
CONTEXT, WINDOW = 130, 135


@pytest.fixture(scope="module")
def exported() -> Any:
    return keras.saving.load_model(SHIPPED, compile=False)


@pytest.fixture
def network(exported: Any) -> Any:
    return compression.trainable_form(exported)


@pytest.fixture
def windows() -> Any:
    tracks = [make_track(walking=True), make_track(walking=False, dataset="wisdm_watch")]
    rng = np.random.default_rng(3)
    return sampler.Sampler(tracks, window_frames=CONTEXT + 30, context=CONTEXT, lookahead=5, rng=rng, shift_s={})


def _tuned(network: Any, windows: Any, **settings_: Any) -> Any:
    before = network.get_weights()
    losses = compression.fine_tune(network, compression.Condition("test", **settings_), windows, steps=24)
    assert np.isfinite(losses).all()
    assert not all(np.array_equal(a, b) for a, b in zip(before, network.get_weights(), strict=True))
    return compression.exported_form(network, window_samples=WINDOW)


def test_layer_by_layer_answers_are_the_networks_own(network: Any) -> None:
    frames = np.random.default_rng(1).normal(0, 1, (2, WINDOW + 9, 3)).astype(np.float32)
    np.testing.assert_allclose(compression.answers(network, frames), network(frames), atol=1e-6)


def test_fake_quantised_answers_follow_the_int8_file_where_its_floats_do_not(network: Any) -> None:
    walk = make_track(walking=True, seconds=80).frames
    windows = np.stack([walk[start : start + WINDOW] for start in range(0, len(walk) - WINDOW, 5)])
    classifier = StepClassifier(SHIPPED.with_suffix(".tflite"))
    int8 = np.stack([classifier.probability(window * np.float32(9.80665)) for window in windows])
    fake = compression.int8_answers(network, windows, _file_ranges()).numpy()[..., 0]
    floats = network(windows).numpy()[..., 0]
    assert np.abs(fake - int8).mean() < 0.6 * np.abs(floats - int8).mean()


def _file_ranges() -> dict[str, Any]:
    """Read the ranges of the shipped file's tensors, by the names that the converter makes of layers' names."""
    interpreter, _ = open_interpreter(SHIPPED.with_suffix(".tflite").read_bytes())
    names = {f"{name}[_0-9]*/": name for name in ("stem_relu", *_numbered("block{}_relu"), *_numbered("add{}"))}
    names |= {"acceleration": compression.INPUT, "head[_0-9]*/Add": compression.HEAD}
    names |= {"head[_0-9]*/convolution/Squeeze": compression.HEAD_PRODUCT}
    ranges = {}
    for detail in interpreter.get_tensor_details():
        scale, zero = detail["quantization"]
        for pattern, name in names.items():
            if re.search(pattern, detail["name"]) and detail["dtype"] == np.int8:
                ranges[name] = tf.constant([(-128 - zero) * scale, (127 - zero) * scale], tf.float32)
    return ranges


def _numbered(name: str) -> list[str]:
    return [name.format(number) for number in range(1, 6)]


def test_pruned_weights_are_zero_after_fine_tuning(network: Any, windows: Any) -> None:
    tuned = _tuned(network, windows, make_masks=compression.magnitude_masks, sparsity=0.8)
    for name in ("stem", "block1", "block5"):
        assert np.mean(tuned.get_layer(name).kernel.numpy() == 0) == pytest.approx(0.8, abs=0.002)
    assert np.all(tuned.get_layer("head").kernel.numpy() != 0)


def test_pruned_filters_are_left_out_of_the_export_and_change_no_answer(network: Any, windows: Any) -> None:
    tuned = _tuned(network, windows, make_masks=compression.filter_masks, sparsity=1 / 3)
    assert tuned.get_layer("block3").kernel.shape == (5, 16, 16)
    assert tuned.get_layer("head").kernel.shape == (1, 16, 1)
    frames = np.random.default_rng(2).normal(0, 1, (1, WINDOW, 3)).astype(np.float32)
    np.testing.assert_allclose(tuned(frames), network(frames), atol=1e-5)


def test_quantisation_aware_training_leaves_the_networks_form(exported: Any, network: Any, windows: Any) -> None:
    tuned = _tuned(network, windows, quantised=True)
    assert tuned.input_shape == exported.input_shape
    assert [weight.shape for weight in tuned.weights] == [weight.shape for weight in exported.weights]


@given(low=st.floats(-8, 0), high=st.floats(0.1, 8), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_fake_quantised_tensor_is_within_half_a_step_inside_its_range(low: float, high: float, seed: int) -> None:
    step = (high - low) / 255
    values = np.random.default_rng(seed).uniform(low + step, high - step, 200).astype(np.float32)
    rounded = compression.fake_quantised_tensor(values, tf.constant([low, high])).numpy()
    assert np.abs(rounded - values).max() <= step / 2 * 1.01
    assert len(np.unique(np.rint(rounded / step))) <= 256


def test_a_fake_quantised_kernel_has_255_symmetric_values_for_each_filter() -> None:
    kernel = np.random.default_rng(0).normal(0, [0.1, 1, 10], (5, 7, 3)).astype(np.float32)
    rounded = compression.fake_quantised_kernel(tf.constant(kernel)).numpy()
    step = np.abs(kernel).max((0, 1)) / 127
    assert np.all(np.abs(rounded - kernel) <= step / 2 * 1.01)
    np.testing.assert_allclose(rounded / step, np.rint(rounded / step), atol=1e-3)


def test_the_gradient_passes_straight_through_rounding_and_stops_where_it_clips() -> None:
    values = tf.constant([0.3, 1.4, -0.7])
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = tf.reduce_sum(compression.fake_quantised_tensor(values, tf.constant([-1.0, 1.0])))
    np.testing.assert_array_equal(tape.gradient(total, values), [1, 0, 1])
