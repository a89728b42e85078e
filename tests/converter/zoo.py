"""Small networks of many shapes, as engineers bring them, and simulated recordings; run as a program it writes them.

`python -m tests.converter.zoo FOLDER` trains each for a moment on simulated walks (untrained nets answer 0.5 to
everything, and then no comparison with Keras means anything) and saves it with the options that it needs.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import layers

from edge.recording import load

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, np.dtype[np.float32]]

WINDOW = 48
RATE_HZ = 50
TRAINING_STEPS = 40
BATCH = 32
HOP = 4


@dataclass(frozen=True)
class Animal:
    """One network of the zoo.

    build: makes it. kind: `window`, `sample` (an answer per frame) or `frame` (one frame in, one answer out).
    suffix: of the file, empty for a SavedModel. options: of footfall-convert.
    """

    build: Callable[[], Any]
    kind: str = "window"
    suffix: str = ".keras"
    options: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    trained: Callable[[Any], Any] = field(default=lambda model: model)


def pointwise() -> Any:
    """Return the beginner's net: one frame of six values -> start, end or none."""
    relu = layers.Dense(32, activation="relu", name="wide")
    return keras.Sequential([keras.Input((6,)), relu, layers.Dense(3, activation="softmax", name="classes")])


def plain() -> Any:
    """Return convolutions, then one sigmoid per window."""
    return _head([layers.Conv1D(12, 5, activation="relu"), layers.Conv1D(12, 5, strides=2, activation="relu")])


def separable() -> Any:
    """Return separable convolutions with batch normalisation."""
    return _head([_separable(8), _separable(12)])


def depthwise() -> Any:
    """Return depthwise convolutions mixed by 1-wide ones."""
    body = [
        layers.DepthwiseConv1D(7, depth_multiplier=2, padding="same"),
        layers.BatchNormalization(),
        layers.ReLU(6.0),
        layers.Conv1D(12, 1, activation="relu"),
    ]
    return _head(body)


def normalised() -> Any:
    """Return batch normalisation before and after the activation."""
    body = [layers.BatchNormalization(), layers.Conv1D(12, 5, use_bias=False), layers.BatchNormalization()]
    return _head([*body, layers.ReLU()])


def max_pooling() -> Any:
    """Return max pooling, flattening and two dense layers with dropout."""
    body = [layers.Conv1D(8, 5, activation="relu"), layers.MaxPooling1D(2), layers.Conv1D(8, 3, activation="relu")]
    tail = [layers.MaxPooling1D(2), layers.Flatten(), layers.Dropout(0.2), layers.Dense(16, activation="relu")]
    return keras.Sequential([keras.Input((WINDOW, 6)), *body, *tail, layers.Dense(1, activation="sigmoid")])


def two_classes() -> Any:
    """Return a softmax over no step and step."""
    body = [layers.Conv1D(12, 5, activation="relu"), layers.GlobalMaxPooling1D(), layers.Dense(2, activation="softmax")]
    return keras.Sequential([keras.Input((WINDOW, 3)), *body])


def image_like() -> Any:
    """Return 2-D convolutions over (window, channels, 1)."""
    body = [layers.Conv2D(8, (5, 3), activation="relu"), layers.AveragePooling2D((2, 1)), layers.Conv2D(8, (3, 1))]
    tail = [layers.BatchNormalization(), layers.ReLU(), layers.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((WINDOW, 6, 1)), *body, *tail, layers.Dense(1, activation="sigmoid")])


def residual() -> Any:
    """Return residual blocks with an answer per frame."""
    given = keras.Input((WINDOW, 3))
    x = layers.Conv1D(12, 5, padding="same", activation="relu")(given)
    for _ in range(2):
        inner = layers.Conv1D(12, 5, padding="same", activation="relu")(x)
        x = layers.ReLU()(layers.Add()([x, layers.Conv1D(12, 3, padding="same")(inner)]))
    return keras.Model(given, layers.Conv1D(1, 1, activation="sigmoid")(x))


def dilated_causal() -> Any:
    """Return dilated causal convolutions for windows of any number of frames."""
    given = keras.Input((None, 3))
    x = given
    for dilation in (1, 2, 4, 8):
        x = layers.Conv1D(12, 3, dilation_rate=dilation, padding="causal", activation="relu")(x)
    return keras.Model(given, layers.Conv1D(1, 1, activation="sigmoid")(x))


def start_end() -> Any:
    """Return a softmax over start, end and none for every frame."""
    body = [layers.Conv1D(16, 9, padding="same", activation="relu"), layers.Conv1D(3, 1, activation="softmax")]
    return keras.Sequential([keras.Input((WINDOW, 6)), *body])


def newest_frames() -> Any:
    """Return valid convolutions that answer for the newest frames only."""
    body = [layers.Conv1D(12, 9, activation="relu") for _ in range(2)]
    tail = [layers.Cropping1D((24, 0)), layers.Conv1D(1, 1, activation="sigmoid")]
    return keras.Sequential([keras.Input((WINDOW, 3), batch_size=1), *body, *tail])


def attentive() -> Any:
    """Return a gate over the channels (squeeze and excite) in a functional graph."""
    given = keras.Input((WINDOW, 6))
    x = layers.Conv1D(12, 5, padding="same", activation="relu")(given)
    gate = layers.Dense(12, activation="sigmoid")(layers.GlobalAveragePooling1D()(x))
    x = layers.Multiply()([x, layers.Reshape((1, 12))(gate)])
    x = layers.Concatenate()([layers.GlobalAveragePooling1D()(x), layers.GlobalMaxPooling1D()(x)])
    return keras.Model(given, layers.Dense(1, activation="sigmoid")(x))


def streamed() -> Any:
    """Return the net that `streaming` is made of, as it is trained: over whole windows."""
    names = ("first", "second", "head")
    return keras.Sequential([keras.Input((WINDOW, 3)), *(_stream_layer(name) for name in names)])


def streaming(trained: Any) -> Any:
    """Return a net that takes HOP new frames and its own past, and gives both back."""
    new = keras.Input((HOP, 3), name="new")
    pasts = [keras.Input((4, 3), name="past_input"), keras.Input((8, 12), name="past_first")]
    x, following = new, []
    for name, past in zip(("first", "second"), pasts, strict=True):
        joined = layers.Concatenate(axis=1, name=f"{name}_joined")([past, x])
        following.append(layers.Cropping1D((HOP, 0), name=f"{past.name}_next")(joined))
        x = _valid(trained.get_layer(name))(joined)
    return keras.Model([new, *pasts], [trained.get_layer("head")(x), *following])


def _stream_layer(name: str) -> Any:
    if name == "head":
        return layers.Conv1D(1, 1, activation="sigmoid", name=name)
    dilation = 1 if name == "first" else 2
    return layers.Conv1D(12, 5, padding="causal", dilation_rate=dilation, activation="relu", name=name)


def _valid(layer: Any) -> Any:
    config = layer.get_config() | {"padding": "valid"}
    made = layers.Conv1D.from_config(config)
    made.build((None, None, layer.kernel.shape[1]))
    made.set_weights(layer.get_weights())
    return made


def _separable(filters: int) -> Any:
    body = [layers.SeparableConv1D(filters, 5, use_bias=False), layers.BatchNormalization(), layers.ReLU()]
    return keras.Sequential(body)


def _head(body: list[Any]) -> Any:
    tail = [layers.GlobalAveragePooling1D(), layers.Dense(1, activation="sigmoid")]
    return keras.Sequential([keras.Input((WINDOW, 6)), *body, *tail])


STATE = "past_input=past_input_next,past_first=past_first_next"
ZOO = {
    "pointwise": Animal(pointwise, "frame", classes=("start", "end", "none")),
    "plain": Animal(plain, options=("--variants", "int8,int16x8,float16,dynamic_range")),
    "separable": Animal(separable),
    "depthwise": Animal(depthwise),
    "normalised": Animal(normalised, suffix=".h5"),
    "max_pooling": Animal(max_pooling, options=("--units", "g")),
    "two_classes": Animal(two_classes, classes=("none", "step")),
    "image_like": Animal(image_like),
    "residual": Animal(residual, "sample"),
    "dilated_causal": Animal(dilated_causal, "sample", options=("--window", str(WINDOW))),
    "start_end": Animal(start_end, "sample", classes=("start", "end", "none")),
    "newest_frames": Animal(newest_frames, "sample"),
    "attentive": Animal(attentive, suffix=""),
    "streaming": Animal(streamed, "sample", options=("--state", STATE), trained=streaming),
}


def main(folder: Path) -> None:
    """Train and save every animal into a folder that holds recordings; write `zoo.json` beside them."""
    walks = [load(path) for path in sorted(folder.glob("recordings/*.npz"))]
    shown = {}
    for name, animal in ZOO.items():
        keras.utils.set_random_seed(7)
        model = animal.build()
        _train(model, animal, walks, in_g="g" in animal.options)
        path = folder / f"{name}{animal.suffix}"
        finished = animal.trained(model)
        if animal.suffix:
            finished.save(path)
        else:
            finished.export(path, verbose=False)
        shown[name] = {"path": str(path), "options": list(animal.options)}
    (folder / "zoo.json").write_text(json.dumps(shown), encoding="utf-8")


def _train(model: Any, animal: Animal, walks: list[Any], *, in_g: bool) -> None:
    rng = np.random.default_rng(3)
    loss = "sparse_categorical_crossentropy" if animal.classes else "binary_crossentropy"
    model.compile(keras.optimizers.Adam(0.01), loss)
    shape = tuple(model.inputs[0].shape[1:])
    frames = 1 if animal.kind == "frame" else WINDOW
    channels = shape[0] if animal.kind == "frame" else shape[1]
    answered = model.outputs[0].shape[1] if animal.kind == "sample" else None
    for _ in range(TRAINING_STEPS):
        inputs, contact, walking = _batch(walks, frames, rng)
        gravity = np.where((np.arange(channels) < 3) & in_g, 9.80665, 1.0)
        inputs = (inputs[..., :channels] / gravity).astype(np.float32)
        target = walking if animal.kind == "window" else _target(animal, contact, answered)
        model.train_on_batch(inputs.reshape(BATCH, *(n or frames for n in shape)), target)


def _batch(walks: list[Any], frames: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return windows [b, frames, 6], whether each frame is at an initial contact, and whether each window walks."""
    inputs, targets, walking = [], [], []
    for _ in range(BATCH):
        walk = walks[rng.integers(len(walks))]
        start = int(rng.integers(len(walk.imu) - frames))
        inputs.append(walk.imu[start : start + frames])
        time_s = walk.time_s[start : start + frames]
        distance_s = np.abs(time_s[:, None] - walk.steps[None]).min(axis=1)
        targets.append(distance_s < 0.06)
        walking.append([walk.activity_names[walk.activity[start + frames // 2]] == "walking"])
    return np.stack(inputs), np.stack(targets).astype(np.float32), np.array(walking, np.float32)


def _target(animal: Animal, contact: Array, answered: int | None) -> Array:
    if animal.kind == "frame":
        return np.where(contact[:, :1] > 0, 0, 2)
    if animal.classes:
        return np.where(contact[..., None] > 0, 0, 2)
    target: Array = contact[:, -(answered or contact.shape[1]) :, None]
    return target


if __name__ == "__main__":
    main(Path(sys.argv[1]))
