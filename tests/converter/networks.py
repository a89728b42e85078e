"""Networks with random weights, quantised by TensorFlow alone: `python -m tests.converter.networks NAME OUT.tflite`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

SHAPE = (64, 6)


def window_head() -> list[Any]:
    """Return separable convolutions and a dense head."""
    return [
        layers.SeparableConv1D(16, 5, padding="same", activation="relu"),
        layers.SeparableConv1D(16, 5, strides=2, activation="relu"),
        layers.GlobalAveragePooling1D(),
        layers.Dense(8, activation="relu"),
        layers.Dense(1, activation="sigmoid"),
    ]


def pooled() -> list[Any]:
    """Return convolutions with both kinds of pooling."""
    return [
        layers.Conv1D(12, 3, padding="same", activation="relu"),
        layers.MaxPooling1D(2),
        layers.Conv1D(12, 3, padding="same"),
        layers.AveragePooling1D(3, padding="same"),
        layers.Flatten(),
        layers.Dense(1, activation="sigmoid"),
    ]


def main(name: str, output: str) -> None:
    """Build, quantise and write one network."""
    keras.utils.set_random_seed(1)
    body = {"window_head": window_head, "pooled": pooled}[name]()
    model = keras.Sequential([keras.Input(SHAPE, batch_size=1), *body])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    samples = np.random.default_rng(0).normal(0, 1, (40, 1, *SHAPE)).astype(np.float32)
    converter.representative_dataset = lambda: ([window] for window in samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    Path(output).write_bytes(converter.convert())


if __name__ == "__main__":
    main(*sys.argv[1:])
