"""Weight pruning and quantisation-aware training, as little of both as the shipped network needs.

tensorflow-model-optimization does not support Keras 3. Everything here fine-tunes the exported form of the network, in
which batch norm is folded into the weights: these are the very weights that the converter makes int8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from converter.train import BATCH, INPUT_RANGE_G

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.sampler import Sampler
    from edge.types import FloatArray

    Masks = dict[str, FloatArray]
    """0 where a weight is gone, 1 elsewhere, by the weight's path."""
    Ranges = dict[str, Any]
    """Lowest and highest value of each tensor that the int8 file holds, a tensor [2] by layer name."""
    MakeMasks = Callable[[Any, float], Masks]

INPUT = "input"
HEAD = "head"
HEAD_PRODUCT = "head without bias"
LEARNING_RATE = 5e-4
"""A twelfth of the peak rate of training: high enough to recover from pruning, low enough to keep what was learnt."""
WARM_UP_SHARE = 0.05
RAMP_SHARE, MASK_EVERY = 0.5, 10
"""Pruning reaches its goal after half of the steps (cubic ramp, Zhu and Gupta 2017), then the rest adapts."""
CALIBRATE_EVERY, CALIBRATION_BATCHES = 50, 3
BITS = 8


@dataclass(frozen=True, slots=True)
class Condition:
    """One way to fine-tune. make_masks(network, sparsity) says which weights go; quantised: train through int8."""

    name: str
    make_masks: MakeMasks | None = None
    sparsity: float = 0.0
    quantised: bool = False


def trainable_form(exported: Any) -> Any:
    """Return a copy of an exported network that takes windows of any length, [batch, n, channels]."""
    return _copy(exported, keras.Input((None, exported.input_shape[-1]), name=exported.inputs[0].name))


def exported_form(network: Any, *, window_samples: int) -> Any:
    """Return a copy for one fixed window; filters that pruning emptied are left out of it."""
    shape = (window_samples, network.input_shape[-1])
    return _without_empty_filters(_copy(network, keras.Input(shape, batch_size=1, name=network.inputs[0].name)))


def fine_tune(network: Any, condition: Condition, sampler: Sampler, *, steps: int) -> list[float]:
    """Train the network in place on the sampler's windows; returns the mean loss of each step."""
    learn = _learner(network, steps)
    probe = np.concatenate([sampler.batch(BATCH).inputs for _ in range(CALIBRATION_BATCHES)])
    masks: Masks = {}
    ranges: Ranges = {}
    losses = []
    for step in range(steps):
        share = min(1.0, step / (RAMP_SHARE * steps))
        if condition.make_masks and step % MASK_EVERY == 0:
            masks = condition.make_masks(network, condition.sparsity * (1 - (1 - share) ** 3))
            apply_masks(network, masks)
        if condition.quantised and step % CALIBRATE_EVERY == 0:
            ranges = calibrated_ranges(network, probe)
        batch = sampler.batch(BATCH)
        loss = learn(batch.inputs, batch.target, batch.weight, ranges).numpy()
        apply_masks(network, masks)
        sampler.remember(batch, loss)
        losses.append(float(loss.mean()))
    return losses


def magnitude_masks(network: Any, sparsity: float) -> Masks:
    """Mask the smallest share `sparsity` of the weights of every convolution but the head, which has only a few."""
    masks = {}
    for layer in _convolutions(network):
        size = np.abs(layer.kernel.numpy())
        gone = np.argsort(size, axis=None)[: round(sparsity * size.size)]
        mask = np.ones(size.size, np.float32)
        mask[gone] = 0
        masks[layer.kernel.path] = mask.reshape(size.shape)
    return masks


def filter_masks(network: Any, sparsity: float) -> Masks:
    """Mask whole filters, the same in every layer: the residual sums tie the channels of all layers together."""
    stem, *blocks = _convolutions(network)
    size = np.abs(stem.kernel.numpy()).sum((0, 1))
    for layer in blocks:
        size = size + np.abs(layer.kernel.numpy()).sum((0, 1)) + np.abs(layer.kernel.numpy()).sum((0, 2))
    alive = np.ones(len(size), np.float32)
    alive[np.argsort(size)[: round(sparsity * len(size))]] = 0
    masks: Masks = {stem.kernel.path: np.broadcast_to(alive, stem.kernel.shape)}
    for layer in blocks:
        masks[layer.kernel.path] = np.broadcast_to(alive[:, None] * alive, layer.kernel.shape)
    return masks | {layer.bias.path: alive for layer in (stem, *blocks)}


def apply_masks(network: Any, masks: Masks) -> None:
    """Set the masked weights to zero."""
    for weight in network.trainable_variables:
        if weight.path in masks:
            weight.assign(weight * masks[weight.path])


def fake_quantised_kernel(kernel: Any) -> Any:
    """Round a kernel to what int8 can hold: symmetric, one scale per filter; the gradient passes straight through."""
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(kernel), axis=range(len(kernel.shape) - 1)))
    # A filter of zeros has no scale of its own; any will do.
    largest = tf.maximum(largest, 1e-6)
    return tf.quantization.fake_quant_with_min_max_vars_per_channel(
        kernel, -largest, largest, num_bits=BITS, narrow_range=True
    )


def fake_quantised_tensor(values: Any, low_high: Any) -> Any:
    """Round and clip activations to the 256 values of an int8 tensor with this range, a tensor [2] that holds 0."""
    return tf.quantization.fake_quant_with_min_max_vars(values, low_high[0], low_high[1], num_bits=BITS)


def calibrated_ranges(network: Any, inputs: FloatArray) -> Ranges:
    """Return the ranges as the converter finds them: the extremes over some windows, the input's from the spec."""
    found: Ranges = {}

    def note(name: str, values: Any) -> Any:
        found[name] = tf.stack([tf.minimum(tf.reduce_min(values), 0.0), tf.maximum(tf.reduce_max(values), 1e-6)])
        return values

    answers(network, np.clip(inputs, *INPUT_RANGE_G), tensor=note)
    return found | {INPUT: tf.constant(INPUT_RANGE_G)}


def answers(
    network: Any,
    inputs: Any,
    *,
    kernel: Callable[[Any], Any] = lambda kernel: kernel,
    tensor: Callable[[str, Any], Any] = lambda _name, values: values,
) -> Any:
    """Run the network layer by layer.

    kernel: called on every kernel before use; tensor: on every tensor that the int8 file holds, by layer name.
    """
    values = {id(network.inputs[0]): tensor(INPUT, tf.convert_to_tensor(inputs))}
    for layer in network.layers[1:]:
        given = layer.input
        found = [values[id(one)] for one in given] if isinstance(given, list) else values[id(given)]
        if isinstance(layer, layers.Conv1D):
            product = keras.ops.conv(found, kernel(layer.kernel.value), dilation_rate=layer.dilation_rate[0])
            # Only what a ReLU follows is fused into one operator; the head is three, with a tensor after each.
            whole = layer.name != HEAD
            found = product + layer.bias if whole else tensor(HEAD, tensor(HEAD_PRODUCT, product) + layer.bias)
            found = layer.activation(found)
        else:
            found = layer(found)
            found = tensor(layer.name, found) if isinstance(layer, layers.ReLU | layers.Add) else found
        values[id(layer.output)] = found
    return values[id(network.outputs[0])]


def int8_answers(network: Any, inputs: Any, ranges: Ranges) -> Any:
    """Return the network's answers as if every kernel and tensor were int8."""

    def rounded(name: str, values: Any) -> Any:
        return fake_quantised_tensor(values, ranges[name])

    return answers(network, inputs, kernel=fake_quantised_kernel, tensor=rounded)


def _learner(network: Any, steps: int) -> Any:
    """Return a compiled function (inputs, target, weight, ranges or {}) -> mean loss of each window [b]."""
    warm_up = int(WARM_UP_SHARE * steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        LEARNING_RATE / 10, steps - warm_up, alpha=0.01, warmup_target=LEARNING_RATE, warmup_steps=warm_up
    )
    optimizer = keras.optimizers.Adam(schedule, clipnorm=1.0)
    optimizer.build(network.trainable_variables)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def learn(inputs: Any, target: Any, weight: Any, ranges: Ranges) -> Any:
        with tf.GradientTape() as tape:
            answer = int8_answers(network, inputs, ranges) if ranges else network(inputs)
            each = keras.losses.binary_crossentropy(target, answer) * weight[..., 0]
            loss = tf.reduce_sum(each) / (tf.reduce_sum(weight) + 1.0)
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return tf.reduce_sum(each, 1) / (tf.reduce_sum(weight, (1, 2)) + 1.0)

    return learn


def _convolutions(network: Any) -> list[Any]:
    return [layer for layer in network.layers if isinstance(layer, layers.Conv1D) and layer.name != HEAD]


def _copy(network: Any, inputs: Any) -> Any:
    copy = keras.models.clone_model(network, input_tensors=inputs)
    copy.set_weights(network.get_weights())
    return copy


def _without_empty_filters(exported: Any) -> Any:
    used = sum(np.abs(layer.kernel.numpy()).sum((0, 1)) for layer in _convolutions(exported)) > 0
    if used.all():
        return exported
    names = [layer.name for layer in _convolutions(exported)]

    def narrow(layer: Any) -> Any:
        fewer = {"filters": int(used.sum())} if layer.name in names else {}
        return type(layer).from_config({**layer.get_config(), **fewer})

    inputs = keras.Input(batch_shape=exported.input_shape, name=exported.inputs[0].name)
    narrowed = keras.models.clone_model(exported, input_tensors=inputs, clone_function=narrow)
    for layer in narrowed.layers:
        values = exported.get_layer(layer.name).get_weights() if layer.weights else []
        layer.set_weights(
            [_sliced(value, np.shape(weight), used) for value, weight in zip(values, layer.weights, strict=True)]
        )
    return narrowed


def _sliced(value: FloatArray, shape: tuple[int, ...], used: Any) -> FloatArray:
    """Keep only the used channels along every axis that is too long."""
    for axis, length in enumerate(shape):
        if value.shape[axis] != length:
            value = value.compress(used, axis)
    return value
