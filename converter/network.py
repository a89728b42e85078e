"""The shipped network: one causal convolution net with two heads, one Keras definition for training and for the device.

The step head says where in time feet touch; the walking head, on a slower track with a longer past, says whether this
is walking at all. Every convolution looks back only. Trained on long windows that begin with zeros, it is exported as
the step of a stream: the frames of one hop go in, and what each convolution must remember of the past goes in and out
as state that begins with zeros. Both forms are the same function (tests/converter/test_network.py).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from converter.shape import CHANNELS, HOP_SAMPLES, SHAPE, Shape

FIRST_BIAS = -2.0
"""Steps are rare among frames; starting near their share saves the first few hundred training steps."""


def trainable_network(step_answers: int, walking_answers: int, shape: Shape = SHAPE) -> Any:
    """Return the net for windows of any whole number of hops.

    [batch, n, 3] in g -> logits [batch, n, step_answers] and [batch, n / HOP_SAMPLES, walking_answers]: each column
    answers for another look-ahead, the device needs one of each.
    """
    inputs = keras.Input((None, CHANNELS), name="acceleration")
    x = _trained(inputs, "stem", shape.filters, shape.stem_kernel, 1)
    for number, dilation in enumerate(shape.dilations, 1):
        y = _trained(x, f"block{number}", shape.filters, shape.kernel, dilation)
        x = layers.Add()([x, layers.Dropout(shape.dropout)(y)])
    step = layers.Conv1D(step_answers, 1, bias_initializer=keras.initializers.Constant(FIRST_BIAS), name="step")(x)
    x = layers.AveragePooling1D(HOP_SAMPLES)(x)
    x = _trained(x, "slow", shape.walking_filters, 1, 1)
    for number, dilation in enumerate(shape.walking_dilations, 1):
        y = _trained(x, f"slow{number}", shape.walking_filters, shape.walking_kernel, dilation)
        x = layers.Add()([x, layers.Dropout(shape.dropout)(y)])
    return keras.Model(inputs, [step, layers.Conv1D(walking_answers, 1, name="walking")(x)], name="step")


def exported_network(trained: Any, *, step_answer: int, walking_answer: int, shape: Shape = SHAPE) -> Any:
    """Return the same function as the step of a stream, batch norm folded into weights, one column of each head.

    Inputs acceleration [1, HOP_SAMPLES, 3] and every `*_past`; outputs [1, HOP_SAMPLES, 2], the probabilities named in
    CLASSES, and every `*_next`, which goes back in as the `*_past` of the next hop.
    """
    x = keras.Input((HOP_SAMPLES, CHANNELS), batch_size=1, name="acceleration")
    stream = _Stream({"acceleration": x})
    x = stream.convolution(x, "stem", shape.filters, shape.stem_kernel, 1)
    for number, dilation in enumerate(shape.dilations, 1):
        y = stream.convolution(x, f"block{number}", shape.filters, shape.kernel, dilation)
        x = layers.Add(name=f"add{number}")([x, y])
    # A 1-wide convolution, not Dense: Dense on 3-D input is not bit-stable between ARM and x86 kernels.
    step = layers.Conv1D(1, 1, activation="sigmoid", name="step")(x)
    x = layers.AveragePooling1D(HOP_SAMPLES, name="pool")(x)
    x = stream.convolution(x, "slow", shape.walking_filters, 1, 1)
    for number, dilation in enumerate(shape.walking_dilations, 1):
        y = stream.convolution(x, f"slow{number}", shape.walking_filters, shape.walking_kernel, dilation)
        x = layers.Add(name=f"slow_add{number}")([x, y])
    walking = layers.Conv1D(1, 1, activation="sigmoid", name="walking")(x)
    # One output: every frame of the hop has the same walking probability. Both have a sigmoid's fixed int8 scale.
    walking = layers.Concatenate(axis=1, name="each_frame")([walking] * HOP_SAMPLES)
    answer = layers.Concatenate(axis=-1, name="probability")([step, walking])
    exported = keras.Model(list(stream.inputs.values()), {"probability": answer, **stream.states}, name="step")
    for name in convolutions(shape):
        exported.get_layer(name).set_weights(_folded(trained, name))
    for name, column in (("step", step_answer), ("walking", walking_answer)):
        kernel, bias = trained.get_layer(name).get_weights()
        exported.get_layer(name).set_weights([kernel[..., column : column + 1], bias[column : column + 1]])
    return exported


def state(shape: Shape = SHAPE) -> tuple[tuple[str, str], ...]:
    """Return the (input, output) names of everything that an exported net must be fed back."""
    one_wide = ("slow",)
    return tuple((f"{name}_past", f"{name}_next") for name in convolutions(shape) if name not in one_wide)


def convolutions(shape: Shape = SHAPE) -> list[str]:
    """Return the names of all convolutions but the heads."""
    blocks = [f"block{number}" for number in range(1, len(shape.dilations) + 1)]
    slow = [f"slow{number}" for number in range(1, len(shape.walking_dilations) + 1)]
    return ["stem", *blocks, "slow", *slow]


def _trained(x: Any, name: str, filters: int, kernel: int, dilation: int) -> Any:
    x = layers.Conv1D(filters, kernel, dilation_rate=dilation, padding="causal", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(momentum=0.98, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


class _Stream:
    """Collects what a net in streaming form is fed and gives back, while it is built layer by layer."""

    def __init__(self, inputs: dict[str, Any]) -> None:
        self.inputs = inputs
        self.states: dict[str, Any] = {}

    def convolution(self, x: Any, name: str, filters: int, kernel: int, dilation: int) -> Any:
        """Return a convolution of what it remembers and the frames x, [1, n, …] -> [1, n, filters]."""
        past = (kernel - 1) * dilation
        if past:
            given = f"{name}_past"
            self.inputs[given] = keras.Input((past, x.shape[-1]), batch_size=1, name=given)
            x = layers.Concatenate(axis=1, name=f"{name}_join")([self.inputs[given], x])
            # The newest `past` frames are what the next hop needs of this one.
            self.states[f"{name}_next"] = layers.Cropping1D((x.shape[1] - past, 0), name=f"{name}_next")(x)
        x = layers.Conv1D(filters, kernel, dilation_rate=dilation, name=name)(x)
        return layers.ReLU(name=f"{name}_relu")(x)


def _folded(trained: Any, name: str) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    (kernel,) = trained.get_layer(name).get_weights()
    norm = trained.get_layer(f"{name}_norm")
    gamma, beta, mean, variance = norm.get_weights()
    gain = gamma / np.sqrt(variance + norm.epsilon)
    return [kernel * gain, beta - mean * gain]
