"""Models that must be refused; `python -m tests.converter.bad_models FOLDER` writes them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = (32, 6)
HUGE = 24_000


class Mine(layers.Layer):  # type: ignore[misc]
    """A layer of the engineer's own."""

    def call(self, values: Any) -> Any:
        """Double."""
        return values * 2


def net(
    *body: Any, shape: tuple[int | None, ...] = SHAPE, activation: str | None = "sigmoid", dtype: Any = None
) -> Any:
    """Return a Sequential with a one-value head."""
    head = [layers.Flatten(), layers.Dense(1, activation=activation, name="head")]
    return keras.Sequential([keras.Input(shape, dtype=dtype, name="imu"), *body, *head])


def two_inputs() -> Any:
    """Return a net with an accelerometer input and a gyroscope input."""
    inputs = [keras.Input((32, 3), name=name) for name in ("acc", "gyr")]
    joined = layers.Flatten()(layers.Concatenate()(inputs))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="head")(joined))


def streaming() -> Any:
    """Return a net with a state that nobody named."""
    new, past = keras.Input((4, 3), name="new"), keras.Input((6, 3), name="past")
    joined = layers.Concatenate(axis=1)([past, new])
    following = layers.Cropping1D((4, 0), name="past_next")(joined)
    return keras.Model([new, past], [layers.Conv1D(1, 7, activation="sigmoid", name="p")(joined), following])


def with_nan() -> Any:
    """Return a net whose training diverged."""
    model = net(layers.Conv1D(4, 3, name="first"))
    kernel, bias = model.get_layer("first").get_weights()
    kernel[0, 0, 0] = np.nan
    model.get_layer("first").set_weights([kernel, bias])
    return model


class Reaching(tf.Module):  # type: ignore[misc]
    """A graph that computes, and does something else besides."""

    def __init__(self, besides: Callable[[Any], Any]) -> None:
        super().__init__()
        self._besides = besides

    @tf.function(input_signature=[tf.TensorSpec((None, *SHAPE), tf.float32, name="imu")])  # type: ignore[untyped-decorator]
    def serve(self, imu: Any) -> Any:
        """Answer with the mean."""
        with tf.control_dependencies([self._besides(imu)]):
            return {"step": tf.sigmoid(tf.reduce_mean(imu, axis=(1, 2), keepdims=True)[..., 0])}


def write_graphs(folder: Path) -> None:
    """Write SavedModels that reach out; `written*` beside them would be the proof that they could."""
    written = str(folder / "written")
    besides: dict[str, Callable[[Any], Any]] = {
        "writes": lambda _: tf.io.write_file(written, "x"),
        "reads": lambda _: tf.io.read_file("/etc/hostname"),
        "globs": lambda _: tf.io.matching_files("/etc/*"),
        "prints": lambda imu: tf.print(imu, output_stream=f"file://{written}.txt"),
        "saves": lambda imu: tf.raw_ops.SaveV2(
            prefix=f"{written}.ckpt", tensor_names=["imu"], shape_and_slices=[""], tensors=[imu]
        ),
        "pythons": lambda imu: tf.py_function(lambda x: x, [imu], tf.float32),
    }
    for name, besides_it in besides.items():
        module = Reaching(besides_it)
        tf.saved_model.save(module, folder / name, signatures={"serving_default": module.serve})


def main(folder: Path) -> None:
    """Write them all."""
    write_graphs(folder)
    models = {
        "gru.keras": net(layers.GRU(4, name="memory")),
        "lstm.h5": net(layers.Bidirectional(layers.LSTM(4), name="memory")),
        "upsampling.keras": net(layers.UpSampling1D(2, name="up")),
        "lambda.keras": net(layers.Lambda(lambda x: x * 2, name="doubled")),
        "custom.keras": net(Mine(name="mine")),
        "custom.h5": net(Mine(name="mine")),
        "norm.keras": net(layers.LayerNormalization(name="norm")),
        "elu.keras": net(layers.Conv1D(4, 3, activation="elu", name="first")),
        "double.keras": net(layers.Conv1D(4, 3, dtype="float64", name="first")),
        "mixed.keras": net(layers.Conv1D(4, 3, dtype=keras.DTypePolicy("mixed_float16"), name="first")),
        "mixed.h5": net(layers.Conv1D(4, 3, dtype=keras.DTypePolicy("mixed_float16"), name="first")),
        "empty.keras": keras.Sequential([]),
        "nan.keras": with_nan(),
        "rank.keras": net(shape=(32, 6, 4)),
        "flat.keras": net(shape=(192,)),
        "integers.keras": net(dtype="int32"),
        "logits.keras": net(activation=None),
        "any_window.keras": keras.Sequential([keras.Input((None, 3), name="imu"), layers.Conv1D(1, 1)]),
        "two_inputs.keras": two_inputs(),
        "streaming.keras": streaming(),
        "huge.keras": net(layers.Flatten(), layers.Dense(HUGE)),
        "good.keras": net(layers.Conv1D(4, 3)),
    }
    for name, model in models.items():
        model.save(folder / name)
    net(layers.GRU(4)).export(folder / "gru_graph", verbose=False)
    models["good.keras"].save_weights(folder / "only.weights.h5")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
