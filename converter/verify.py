"""Proof that a converted file is fit: nothing float, nothing custom, and the answers of its Keras model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.errors import ConversionError
from converter.flatfile import FlatModel, read_flatbuffer
from edge.runtime import open_interpreter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge.types import FloatArray

    Array = np.ndarray[Any, np.dtype[Any]]

INTEGERS = {"int8": {"INT8", "INT32", "INT64", "BOOL"}, "int16x8": {"INT8", "INT16", "INT32", "INT64", "BOOL"}}
"""Types that a tensor may have in the variants that claim to be integer; the other variants claim nothing."""
MAX_MEAN_DIFFERENCE = 0.02
MAX_DISAGREEMENT = 0.03
"""Share of answers on different sides of the threshold; the shipped model has 0.007 and loses 0.1 points of F1."""
MAX_LOST = 0.3
MIN_POSITIVES = 30
"""Steps are rare: a file that never finds one still agrees in 97 % of frames. So, of MIN_POSITIVES or more answers that
either model calls a step, at most that share may be one model's alone; the shipped model has 0.04."""
ERROR_BINS = np.round(np.arange(-0.205, 0.2051, 0.01), 3)
"""Edges of the histogram of int8 minus float; what lies beyond is counted in the outermost bins."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Answers of the converted file minus those of the Keras model, over all answers to the windows.

    disagreement: share of answers on different sides of the threshold. histogram: counts between ERROR_BINS.
    positives: answers at or above the threshold of either model; lost: share of these that only one of them gives.
    """

    frames: int
    mean: float
    largest: float
    disagreement: float
    histogram: tuple[int, ...] = ()
    positives: int = 0
    lost: float = 0.0


class Int8Model:
    """A converted file under the runtime of the device; despite the name, of any variant.

    state: (input, output) tensor names that are fed back, reset by `reset()`.
    """

    def __init__(self, flatbuffer: bytes, state: Sequence[tuple[str, str]] = ()) -> None:
        self._interpreter, self.runtime = open_interpreter(flatbuffer)
        inputs = {detail["name"]: detail for detail in self._interpreter.get_input_details()}
        outputs = {detail["name"]: detail for detail in self._interpreter.get_output_details()}
        self._state = [(inputs.pop(source), outputs.pop(target)) for source, target in state]
        (given,), (answer,) = inputs.values(), outputs.values()
        self.input_shape = tuple(int(n) for n in given["shape"])
        self.dtype = np.dtype(given["dtype"])
        self.input_scale, self.input_zero = _quantisation(given)
        self.output_scale, self.output_zero = _quantisation(answer)
        self._input, self._output = given["index"], answer["index"]
        self.reset()

    @property
    def streaming(self) -> bool:
        """Whether it has state."""
        return bool(self._state)

    def reset(self) -> None:
        """Put a streaming model's state to its zero point."""
        for source, _ in self._state:
            start = np.full(source["shape"], source["quantization"][1], source["dtype"])
            self._interpreter.set_tensor(source["index"], start)

    def invoke(self, values: Array) -> Array:
        """Run once on values of the input's dtype and shape; a state is carried over to the next call."""
        self._interpreter.set_tensor(self._input, values.reshape(self.input_shape))
        self._interpreter.invoke()
        answer: Array = self._interpreter.get_tensor(self._output)
        for source, target in self._state:
            self._interpreter.set_tensor(source["index"], self._interpreter.get_tensor(target["index"]))
        return answer

    def quantised(self, windows: FloatArray) -> Array:
        """Return normalised windows as the values that the input takes, clipped to their range."""
        if self.dtype.kind == "f":
            return windows.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        scaled = np.rint(windows / self.input_scale) + self.input_zero
        clipped: Array = np.clip(scaled, limits.min, limits.max).astype(self.dtype)
        return clipped

    def probabilities(self, windows: FloatArray) -> FloatArray:
        """Return the answers [n, …] 0..1 to normalised windows [n, window, channels].

        A streaming model takes sequences [n, steps, window, channels], each from a fresh state; answers [n, steps, …].
        """
        values = self.quantised(windows)
        if not self._state:
            return np.concatenate([self.dequantised(self.invoke(one)) for one in values])
        return np.stack([self._sequence(sequence) for sequence in values])

    def _sequence(self, values: Array) -> FloatArray:
        self.reset()
        return np.concatenate([self.dequantised(self.invoke(one)) for one in values])

    def dequantised(self, answer: Array) -> FloatArray:
        """Return an output as real numbers."""
        real: FloatArray = (answer.astype(np.float32) - self.output_zero) * np.float32(self.output_scale)
        return real


def _quantisation(detail: dict[str, Any]) -> tuple[float, int]:
    scale, zero = detail["quantization"]
    return (float(scale), int(zero)) if scale else (1.0, 0)


def operators(flatbuffer: bytes, variant: str = "int8") -> Counter[str]:
    """Return how often each operator occurs.

    Raises ConversionError if one is custom, or touches a tensor that is not integer in a variant that claims to be.
    """
    model = read_flatbuffer(flatbuffer)
    found: Counter[str] = Counter()
    for operator in model.operators:
        if operator.custom:
            raise ConversionError(f"operator {operator.name} is custom; the device runs built-in ones only")
        found[operator.name] += 1
    offender = next(not_integer(model, variant), None)
    if offender is not None:
        raise ConversionError(offender)
    return found


def not_integer(model: FlatModel, variant: str) -> Iterator[str]:
    """Yield one line for every tensor that touches an operator and breaks the variant's claim to be integer."""
    if variant not in INTEGERS:
        return
    allowed = INTEGERS[variant]
    seen: set[int] = set()
    for operator in model.operators:
        for index in (*operator.inputs, *operator.outputs):
            if index < 0 or index in seen or model.tensors[index].type in allowed:
                continue
            seen.add(index)
            tensor = model.tensors[index]
            kind = "float" if tensor.is_float else tensor.type
            yield (
                f"operator {operator.name} uses the {kind} tensor '{tensor.name}'; "
                f"every tensor of a file that claims {variant} must be one of {', '.join(sorted(allowed))}"
            )


def difference(int8: FloatArray, floats: FloatArray, threshold: float) -> Difference:
    """Compare answers of both models to the same windows."""
    int8, floats = int8.reshape(-1), floats.reshape(-1)
    off = int8 - floats
    counts, _ = np.histogram(np.clip(off, ERROR_BINS[0], ERROR_BINS[-1]), ERROR_BINS)
    size = np.abs(off)
    ours, theirs = int8 >= threshold, floats >= threshold
    positives, other = int((ours | theirs).sum()), int((ours ^ theirs).sum())
    lost = other / positives if positives else 0.0
    found = (float(size.mean()), float(size.max()), other / len(off))
    return Difference(len(off), *found, tuple(map(int, counts)), positives, lost)


def check_difference(found: Difference, about: str = "") -> None:
    """Raise ConversionError when the int8 file does not answer like its Keras model. about: which answers, if named."""
    checks = (
        (found.mean <= MAX_MEAN_DIFFERENCE, "mean difference", found.mean, MAX_MEAN_DIFFERENCE),
        (found.disagreement <= MAX_DISAGREEMENT, "share of other decisions", found.disagreement, MAX_DISAGREEMENT),
        (
            found.positives < MIN_POSITIVES or found.lost <= MAX_LOST,
            "share of other decisions where either says step",
            found.lost,
            MAX_LOST,
        ),
    )
    for fine, what, value, limit in checks:
        if not fine:
            raise ConversionError(
                f"int8 and Keras differ{about}: {what} {value:.4f} (allowed {limit}); "
                "calibrate on recordings like those of training, or accept it with --force"
            )
