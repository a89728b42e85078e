"""How each layer of an integer model uses its range: what its scale can express, and what really occurs."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.flatfile import read_flatbuffer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.flatfile import Operator, Tensor

    Array = np.ndarray[Any, np.dtype[Any]]

MOVES_ONLY = {"RESHAPE", "STRIDED_SLICE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "PAD", "PADV2", "CONCATENATION"}
"""Operators whose output holds no number that was not in their inputs: their ranges tell nothing new."""
NATURAL = {
    "RELU": (0.0, math.inf),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
    "LOGISTIC": (0.0, 1.0),
    "SOFTMAX": (0.0, 1.0),
    "TANH": (-1.0, 1.0),
    "GELU": (-0.17, math.inf),
    "HARD_SWISH": (-0.375, math.inf),
    "ELU": (-1.0, math.inf),
}
"""Bounds that the function itself has: values there have lost nothing. Of operators and of fused activations."""
UNBOUNDED = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class LayerRange:
    """Real values: low, high can be expressed; seen_low, seen_high occurred. saturated: share cut off at a limit."""

    name: str
    operator: str
    low: float
    high: float
    seen_low: float
    seen_high: float
    saturated: float


def layer_ranges(flatbuffer: bytes, inputs: Array, state: Sequence[tuple[str, str]] = ()) -> list[LayerRange]:
    """Run quantised inputs [n, …] through the plain reference kernels and watch every layer.

    state: (input, output) names of what is fed back; then inputs are sequences [n, steps, …], each from a fresh state.
    Exact integer arithmetic, so the same everywhere.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType  # noqa: PLC0415 - 0.1 s that few commands need

    model = read_flatbuffer(flatbuffer)
    if any(model.tensors[index].is_float for index in model.inputs):
        return []
    with contextlib.suppress(RuntimeError, ValueError):
        interpreter = Interpreter(
            model_content=flatbuffer,
            experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
            experimental_preserve_all_tensors=True,
            num_threads=1,
        )
        interpreter.allocate_tensors()
        entry = _entry(interpreter, state)
        watched = [("INPUT", entry, UNBOUNDED)] + [
            (operator.name, operator.outputs[0], _natural(operator))
            for operator in model.operators
            if operator.name not in MOVES_ONLY and model.tensors[operator.outputs[0]].type in ("INT8", "INT16")
        ]
        fed_back = _fed_back(interpreter, state)
        sequences = inputs if state else inputs[:, None]
        seen = _watch(interpreter, entry, [index for _, index, _ in watched], sequences, fed_back)
        names = dict.fromkeys(model.outputs, "output") | dict.fromkeys(model.inputs, "input")
        return [
            _range(
                model.tensors[index],
                names.get(index) or short_name(model.tensors[index].name),
                operator,
                seen[index],
                natural,
            )
            for operator, index, natural in watched
        ]
    return []


def _entry(interpreter: Any, state: Sequence[tuple[str, str]]) -> int:
    """Return the index of the input that is no state."""
    names = {given for given, _ in state}
    return next(int(each["index"]) for each in interpreter.get_input_details() if each["name"] not in names)


def _fed_back(interpreter: Any, state: Sequence[tuple[str, str]]) -> list[tuple[dict[str, Any], int]]:
    given = {each["name"]: each for each in interpreter.get_input_details()}
    answers = {each["name"]: int(each["index"]) for each in interpreter.get_output_details()}
    return [(given[source], answers[target]) for source, target in state]


def _watch(
    interpreter: Any,
    entry: int,
    indices: Sequence[int],
    sequences: Array,
    fed_back: Sequence[tuple[dict[str, Any], int]],
) -> dict[int, Array]:
    values: dict[int, list[Array]] = {index: [] for index in indices}
    shape = next(each["shape"] for each in interpreter.get_input_details() if each["index"] == entry)
    for sequence in sequences:
        for source, _ in fed_back:
            rest = np.full(source["shape"], source["quantization"][1], source["dtype"])
            interpreter.set_tensor(source["index"], rest)
        for given in sequence:
            interpreter.set_tensor(entry, given.reshape(shape))
            interpreter.invoke()
            for index, kept in values.items():
                kept.append(interpreter.get_tensor(index).reshape(-1))
            for source, target in fed_back:
                interpreter.set_tensor(source["index"], interpreter.get_tensor(target))
    return {index: np.concatenate(kept) for index, kept in values.items()}


def _natural(operator: Operator) -> tuple[float, float]:
    return NATURAL.get(operator.name) or NATURAL.get(operator.activation, UNBOUNDED)


def _range(tensor: Tensor, name: str, operator: str, values: Array, natural: tuple[float, float]) -> LayerRange:
    scale, zero = tensor.scale[0], (*tensor.zero_point, 0)[0]
    limits = np.iinfo(values.dtype)
    edges = (limits.min, limits.max, values.min(), values.max())
    low, high, seen_low, seen_high = (float(scale * (int(edge) - zero)) for edge in edges)
    # A relu's floor is no loss, nor is any other bound that the function itself has.
    lost = np.zeros(values.shape, bool)
    if limits.min != zero and low > natural[0] + scale:
        lost |= values == limits.min
    if high < natural[1] - scale:
        lost |= values == limits.max
    low, high, seen_low, seen_high = (float(f"{edge:.6g}") for edge in (low, high, seen_low, seen_high))
    return LayerRange(name, operator, low, high, seen_low, seen_high, round(float(lost.mean()), 6))


def short_name(name: str) -> str:
    """Return the layer's own name: `step_1/block1_relu_1/Relu;…` becomes `block1_relu`."""
    parts = name.partition(";")[0].partition(":")[0].split("/")
    layer = parts[-2] if len(parts) > 1 else parts[0].removeprefix("serving_default_")
    return layer.removesuffix("_1")
