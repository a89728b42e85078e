"""What a Keras model takes and gives, without Keras: shapes, names, and what a few trial windows showed."""

from __future__ import annotations

from dataclasses import dataclass

from edge.errors import ModelError
from edge.types import IMU_CHANNELS

MAX_WINDOW_SAMPLES = 4096
MAX_CHANNELS = len(IMU_CHANNELS)
FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output. shape: with the batch axis; None is an axis of any length."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class ModelTensors:
    """Everything about a model that its spec can be inferred from, once batch and window are fixed.

    window_samples, channels: of the one input that is no state. answer: shape of the one output that is no state,
    without the batch axis. sums_to_one: its last axis is a distribution. right_context_samples: how many frames after
    its own an answer still depends on. last_layer: named in complaints.
    """

    window_samples: int
    channels: int
    answer: tuple[int, ...]
    sums_to_one: bool
    right_context_samples: int
    last_layer: str
    streaming: bool = False


def signal_shape(path: object, port: Port, window_samples: int | None) -> tuple[int, ...]:
    """Return the fixed shape [1, …] of the input that takes the frames.

    window_samples: what the spec or the command line says, or None. Raises ModelError for a shape no window fits.
    """
    shape = port.shape[1:]
    allowed = "(window, channels), (window, channels, 1) or, one frame at a time, (channels)"
    wrong = f"{path}: input '{port.name}' takes {shape}; allowed: {allowed}; put a keras.layers.Reshape in front of it"
    if port.dtype not in FLOATS:
        raise ModelError(f"{path}: input '{port.name}' takes {port.dtype}; allowed: float32 (m/s^2, rad/s, scaled)")
    if len(shape) == 1:
        shape = (1, *shape)
    elif len(shape) == 3 and shape[2] != 1:
        raise ModelError(wrong)
    if len(shape) not in (2, 3) or shape[1] is None or not 1 <= shape[1] <= MAX_CHANNELS:
        raise ModelError(wrong)
    window = _window(path, port.name, shape[0], window_samples)
    return (1, *((window,) if len(port.shape) > 2 else ()), *(int(n or 1) for n in shape[1:]))


def _window(path: object, name: str, found: int | None, wanted: int | None) -> int:
    if found is None and wanted is None:
        raise ModelError(
            f"{path}: input '{name}' takes windows of any length; give one with --window or `window_samples` in a spec"
        )
    if found is not None and wanted not in (None, found):
        raise ModelError(f"{path}: input '{name}' takes windows of {found} frames; --window says {wanted}")
    window = int(found or wanted or 0)
    if not 1 <= window <= MAX_WINDOW_SAMPLES:
        raise ModelError(f"{path}: a window has {window} frames; allowed: 1 to {MAX_WINDOW_SAMPLES}")
    return window


def check_ports(
    path: object, inputs: tuple[Port, ...], outputs: tuple[Port, ...], state: tuple[tuple[str, str], ...]
) -> None:
    """Raise ModelError unless exactly one input and one output remain besides the pairs that are fed back."""
    by_name = [{port.name: port for port in ports} for ports in (inputs, outputs)]
    for pair in state:
        for role, name, ports in zip(("input", "output"), pair, by_name, strict=True):
            if name not in ports:
                raise ModelError(f"{path}: state {role} '{name}' does not exist; its {role}s: {', '.join(ports)}")
        given, answer = by_name[0][pair[0]], by_name[1][pair[1]]
        if given.shape[1:] != answer.shape[1:]:
            shapes = f"state {pair[0]} has shape {given.shape}, {pair[1]} {answer.shape}"
            raise ModelError(f"{path}: {shapes}; allowed: equal ones")
    left = [len(ports) - len(state) for ports in (inputs, outputs)]
    if left != [1, 1]:
        names = [", ".join(port.name for port in ports) for ports in (inputs, outputs)]
        raise ModelError(
            f"{path}: has {len(inputs)} inputs ({names[0]}) and {len(outputs)} outputs ({names[1]}), {len(state)} "
            f"state pairs; allowed: one of each besides the pairs; {_advice(inputs, outputs)}"
        )


def _advice(inputs: tuple[Port, ...], outputs: tuple[Port, ...]) -> str:
    """Name the pairs that shapes suggest."""
    free = list(outputs)
    pairs: list[str] = []
    for port in inputs:
        twin = next((other for other in free if other.shape == port.shape), None)
        if twin is not None and len(pairs) < len(inputs) - 1:
            free.remove(twin)
            pairs.append(f"{port.name}={twin.name}")
    if not pairs and len(outputs) > 1:
        last = " or ".join(f"keras.Model(model.inputs, model.get_layer('{port.name}').output)" for port in outputs[:2])
        return f"save a model with the step output alone, like {last}"
    if not pairs:
        return "join the inputs into one (keras.layers.Concatenate)"
    return f"name what is fed back, perhaps --state {','.join(pairs)}"
