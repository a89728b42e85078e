"""A Keras model or SavedModel made ready: loaded, checked, batch and window fixed, tried on a few windows.

Imported by the child process alone: it needs TensorFlow.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from converter.saved_model import load_saved_model
from converter.sources import AGAIN, HDF5, KERAS, SAVED_MODEL
from converter.tensors import ModelTensors, Port, check_ports, signal_shape
from edge.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.types import FloatArray

TRIALS = 8
SCALES = (0.03, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Of the trial windows, which are noise of 3: whatever units a net takes, some of them wake it."""
SUFFIXES = {KERAS: (".keras",), HDF5: (".h5", ".hdf5")}
MAX_PARAMETERS = 8_000_000
LOAD_ERRORS = (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, ImportError, NotImplementedError)


def _tolerant(layer: Any) -> Any:
    """Return the layer class, deaf to arguments that Keras 2 wrote into files and Keras 3 does not know."""

    def from_config(_: Any, config: dict[str, Any]) -> Any:
        return layer(**{key: value for key, value in config.items() if key not in KERAS_2_ARGUMENTS})

    return type(layer.__name__, (layer,), {"from_config": classmethod(from_config)})


KERAS_2_ARGUMENTS = {"groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint"}
KERAS_2 = {
    layer.__name__: _tolerant(layer)
    for layer in (
        keras.layers.DepthwiseConv1D,
        keras.layers.DepthwiseConv2D,
        keras.layers.SeparableConv1D,
        keras.layers.SeparableConv2D,
    )
}


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model as it comes from its file. outputs: their names, in the model's order."""

    path: Path
    model: Any
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class FixedModel:
    """A model for batch 1 and one window length.

    model: takes a list of tensors in the order of `inputs`; gives one tensor, or a dict by name if it has state.
    signal: name and shape of the input that takes the frames; answer: name of the output that is no state.
    state: (input, output) names. shapes: of every input, by name.
    """

    path: Path
    model: Any
    inputs: tuple[str, ...]
    signal: str
    answer: str
    state: tuple[tuple[str, str], ...]
    shapes: dict[str, tuple[int, ...]]

    @property
    def window_samples(self) -> int:
        """Frames of one input."""
        shape = self.shapes[self.signal]
        return shape[1] if len(shape) > 2 else 1

    def feed(self, window: FloatArray, memory: dict[str, FloatArray]) -> dict[str, FloatArray]:
        """Return every input by name: a window [window_samples, channels] and the state's values."""
        return {self.signal: window.reshape(self.shapes[self.signal]), **memory}

    def rest(self) -> dict[str, FloatArray]:
        """Return the state after a reset: zeros."""
        return {given: np.zeros(self.shapes[given], np.float32) for given, _ in self.state}


def load(path: Path, found: str) -> LoadedModel:
    """Load a model; raises ModelError when Keras cannot, or when a weight is not finite."""
    try:
        if found == SAVED_MODEL:
            model, outputs = load_saved_model(path)
        else:
            with _rightly_named(path, found) as named:
                model = keras.saving.load_model(named, custom_objects=KERAS_2, compile=False)
            outputs = getattr(model, "output_names", [])
    except LOAD_ERRORS as error:
        if isinstance(error, ModelError):
            raise
        known = f"Keras {keras.__version__} cannot load it ({_one_line(error)})"
        raise ModelError(f"{path}: {known}; {_way_out(error)}") from error
    _check_weights(path, model)
    return LoadedModel(path, model, tuple(outputs))


@contextmanager
def _rightly_named(path: Path, found: str) -> Iterator[Path]:
    """Yield a path whose suffix says what the file is: Keras goes by that alone."""
    suffixes = SUFFIXES[found]
    if path.suffix in suffixes:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="footfall-model-") as folder:
        link = Path(folder, f"model{suffixes[0]}")
        link.symlink_to(path.resolve())
        yield link


def fix(loaded: LoadedModel, *, window_samples: int | None, state: tuple[tuple[str, str], ...]) -> FixedModel:
    """Return the model for batch 1 and a fixed window; raises ModelError when its tensors do not allow that."""
    path = loaded.path
    inputs, outputs = _ports(loaded)
    check_ports(path, inputs, outputs, state)
    signal = next(port for port in inputs if port.name not in dict(state))
    answer = next(port for port in outputs if port.name not in dict(state).values())
    shapes = {
        port.name: signal_shape(path, port, window_samples) if port is signal else _state_shape(path, port)
        for port in inputs
    }
    model = loaded.model if _is_fixed(loaded.model, shapes) else _fixed(loaded, shapes, outputs)
    return FixedModel(path, model, tuple(shapes), signal.name, answer.name, state, shapes)


def examine(fixed: FixedModel) -> ModelTensors:
    """Try the model on random windows; raises ModelError when it fails or does not answer with numbers."""
    shape = fixed.shapes[fixed.signal]
    channels = shape[2] if len(shape) > 2 else shape[1]
    rng = np.random.default_rng(0)
    windows = rng.normal(0, 3, (TRIALS, fixed.window_samples, channels)).astype(np.float32)
    try:
        given = np.stack([_answer(fixed, window) for window in windows])
    except (ValueError, TypeError, tf.errors.OpError) as error:
        window = fixed.window_samples
        raise ModelError(f"{fixed.path}: does not run on a window of {window} frames ({_one_line(error)})") from error
    return ModelTensors(
        window_samples=fixed.window_samples,
        channels=channels,
        answer=tuple(given.shape[2:]),
        sums_to_one=given.shape[-1] > 1 and bool(np.allclose(given.sum(axis=-1), 1, atol=1e-3)),
        right_context_samples=_right_context(fixed, windows),
        last_layer=fixed.answer,
        streaming=bool(fixed.state),
    )


def check_answers(fixed: FixedModel, answers: FloatArray) -> None:
    """Raise ModelError unless these answers to real windows are probabilities."""
    if not np.isfinite(answers).all():
        raise ModelError(f"{fixed.path}: answers NaN or infinity to real windows; train it again with a lower rate")
    low, high = float(answers.min()), float(answers.max())
    if low < -1e-3 or high > 1.001:
        raise ModelError(
            f"{fixed.path}: output '{fixed.answer}' answers {low:.2f} to {high:.2f}; allowed: probabilities, 0 to 1; "
            "end the model with activation='sigmoid' or 'softmax'"
        )


def _answer(fixed: FixedModel, window: FloatArray) -> FloatArray:
    return np.asarray(_found(fixed, _tensors(fixed, window)), np.float32)


def _tensors(fixed: FixedModel, window: FloatArray) -> list[Any]:
    feed = fixed.feed(window, fixed.rest())
    return [tf.constant(feed[name]) for name in fixed.inputs]


def _found(fixed: FixedModel, tensors: list[Any]) -> Any:
    found = fixed.model(tensors if len(tensors) > 1 else tensors[0])
    return found[fixed.answer] if isinstance(found, dict) else found


def _right_context(fixed: FixedModel, windows: FloatArray) -> int:
    """Return how many frames after its own one an answer per frame depends on; 0 for answers per window.

    windows: [n, window_samples, channels] noise, tried at several sizes: a relu that is asleep at one of them would
    hide what its layer sees.
    """
    frames = fixed.window_samples
    changed = np.zeros(frames, bool)
    ask = tf.function(lambda values: _found(fixed, values), reduce_retracing=True)
    rng = np.random.default_rng(1)
    for scale in SCALES:
        for window in scale * windows:
            other = window.copy()
            other[-1] += rng.normal(0, 9 * scale, other[-1].shape)
            before, after = (np.asarray(ask(_tensors(fixed, values))) for values in (window, other))
            if before.ndim < 2 or before.shape[1] != frames:
                return 0
            changed |= (before != after).reshape(frames, -1).any(axis=1)
    return int(frames - 1 - np.argmax(changed)) if changed.any() else 0


def _ports(loaded: LoadedModel) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    try:
        inputs, outputs = loaded.model.inputs, keras.tree.flatten(loaded.model.outputs)
    except (AttributeError, ValueError):
        inputs = outputs = None
    if not inputs or not outputs:
        raise ModelError(
            f"{loaded.path}: was never built, its input shape is unknown; begin it with "
            "keras.Input((window, channels)) and save it again"
        )
    answers = loaded.outputs if len(loaded.outputs) == len(outputs) else [_made_by(tensor) for tensor in outputs]
    return (
        tuple(_port(_made_by(tensor), tensor) for tensor in inputs),
        tuple(_port(name, tensor) for name, tensor in zip(answers, outputs, strict=True)),
    )


def _made_by(tensor: Any) -> str:
    return str(tensor._keras_history.operation.name)  # noqa: SLF001 - the only way to the name of an Input


def _port(name: str, tensor: Any) -> Port:
    return Port(name, tuple(tensor.shape), keras.backend.standardize_dtype(tensor.dtype))


def _state_shape(path: Path, port: Port) -> tuple[int, ...]:
    if None in port.shape[1:]:
        raise ModelError(f"{path}: state '{port.name}' has shape {port.shape}; allowed: every axis but the batch fixed")
    return (1, *(int(n or 1) for n in port.shape[1:]))


def _is_fixed(model: Any, shapes: dict[str, tuple[int, ...]]) -> bool:
    if isinstance(getattr(model, "output", None), dict):
        return False
    return len(shapes) == 1 and tuple(model.inputs[0].shape) == next(iter(shapes.values()))


def _fixed(loaded: LoadedModel, shapes: dict[str, tuple[int, ...]], outputs: tuple[Port, ...]) -> Any:
    given = [keras.Input(batch_shape=shape, name=name) for name, shape in shapes.items()]
    try:
        found = keras.tree.flatten(loaded.model(given if len(given) > 1 else given[0]))
    except (ValueError, TypeError) as error:
        raise ModelError(f"{loaded.path}: cannot take {list(shapes.values())} ({_one_line(error)})") from error
    answers = {port.name: tensor for port, tensor in zip(outputs, found, strict=True)}
    return keras.Model(given, answers if len(given) > 1 else found[0])


def _check_weights(path: Path, model: Any) -> None:
    count = 0
    for weight in model.weights:
        values = np.asarray(weight)
        count += values.size
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            wrong = int(values.size - np.isfinite(values).sum())
            name = getattr(weight, "path", weight.name)
            raise ModelError(
                f"{path}: weight '{name}' holds NaN or infinity in {wrong} of {values.size} values; "
                "train it again, with a lower learning rate or clipnorm"
            )
    if count > MAX_PARAMETERS:
        raise ModelError(f"{path}: has {count:,} parameters; allowed: {MAX_PARAMETERS:,}; use fewer filters")


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def _way_out(error: BaseException) -> str:
    text = str(error)
    if "nknown layer" in text or "could not locate" in text.lower():
        return "build it from keras.layers only, or model.export() it and convert that folder"
    if "recognized keyword" in text or "deserialize" in text.lower():
        return "it was saved by another Keras: model.export() it there and convert that folder"
    return AGAIN
