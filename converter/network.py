"""The shipped network: a small causal convolution net, one Keras definition for training and for the device.

Every convolution is "valid": a frame of output sees `RECEPTIVE_SAMPLES` frames of input and nothing is padded. Trained
on long windows, it is exported for a fixed short window, where it answers only for the frames of the newest hop.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

CHANNELS = 3
FILTERS = 24
STEM_KERNEL = 7
KERNEL = 5
DILATIONS = (1, 2, 4, 8, 16)
"""With 16 the net sees 5.2 s, not 2.7 s: a third fewer false steps on held-out people, for 4 µs more on x86-64."""
RECEPTIVE_SAMPLES = STEM_KERNEL + (KERNEL - 1) * sum(DILATIONS)
FIRST_BIAS = -2.0
"""Steps are rare among frames; starting near their share saves the first few hundred training steps."""


def trainable_network() -> Any:
    """Return the net for windows of any length: [batch, n, 3] in g -> [batch, n - RECEPTIVE_SAMPLES + 1, 1] 0..1."""
    return _network(keras.Input((None, CHANNELS), name="acceleration"), normalised=True)


def exported_network(trained: Any, *, hop_samples: int) -> Any:
    """Return the same function for one fixed window, [1, window, 3] -> [1, hop, 1], batch norm folded into weights."""
    window_samples = RECEPTIVE_SAMPLES + hop_samples - 1
    exported = _network(keras.Input((window_samples, CHANNELS), batch_size=1, name="acceleration"), normalised=False)
    for name in _convolution_names():
        exported.get_layer(name).set_weights(_folded(trained, name))
    exported.get_layer("head").set_weights(trained.get_layer("head").get_weights())
    return exported


def _network(inputs: Any, *, normalised: bool) -> Any:
    x = _convolution(inputs, "stem", STEM_KERNEL, 1, normalised=normalised)
    for number, dilation in enumerate(DILATIONS, 1):
        # The newest frames of the input line up with the frames that a valid convolution leaves.
        past = layers.Cropping1D(((KERNEL - 1) * dilation, 0), name=f"crop{number}")(x)
        new = _convolution(x, f"block{number}", KERNEL, dilation, normalised=normalised)
        x = layers.Add(name=f"add{number}")([past, new])
    bias = keras.initializers.Constant(FIRST_BIAS)
    # A 1-wide convolution, not Dense: Dense on 3-D input is not bit-stable between ARM and x86 kernels.
    x = layers.Conv1D(1, 1, activation="sigmoid", bias_initializer=bias, name="head")(x)
    return keras.Model(inputs, x, name="step")


def _convolution(x: Any, name: str, kernel: int, dilation: int, *, normalised: bool) -> Any:
    x = layers.Conv1D(FILTERS, kernel, dilation_rate=dilation, use_bias=not normalised, name=name)(x)
    if normalised:
        x = layers.BatchNormalization(momentum=0.98, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _convolution_names() -> list[str]:
    return ["stem", *(f"block{number}" for number in range(1, len(DILATIONS) + 1))]


def _folded(trained: Any, name: str) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    (kernel,) = trained.get_layer(name).get_weights()
    norm = trained.get_layer(f"{name}_norm")
    gamma, beta, mean, variance = norm.get_weights()
    gain = gamma / np.sqrt(variance + norm.epsilon)
    return [kernel * gain, beta - mean * gain]
