"""How each layer of an integer model uses its range: what its scale can express, and what really occurs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.flatfile import read_flatbuffer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.flatfile import Tensor

    Array = np.ndarray[Any, np.dtype[Any]]

MOVES_ONLY = {"RESHAPE", "STRIDED_SLICE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "PAD", "PADV2", "CONCATENATION"}
"""Operators whose output holds no number that was not in their inputs: their ranges tell nothing new."""


@dataclass(frozen=True, slots=True)
class LayerRange:
    """Real values: low, high can be expressed; seen_low, seen_high occurred. saturated: share at either limit."""

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
        watched = [("INPUT", entry)] + [
            (operator.name, operator.outputs[0])
            for operator in model.operators
            if operator.name not in MOVES_ONLY and model.tensors[operator.outputs[0]].type in ("INT8", "INT16")
        ]
        fed_back = _fed_back(interpreter, state)
        sequences = inputs if state else inputs[:, None]
        seen = _watch(interpreter, entry, [index for _, index in watched], sequences, fed_back)
        names = dict.fromkeys(model.outputs, "output") | dict.fromkeys(model.inputs, "input")
        return [
            _range(
                model.tensors[index], names.get(index) or short_name(model.tensors[index].name), operator, seen[index]
            )
            for operator, index in watched
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


def _range(tensor: Tensor, name: str, operator: str, values: Array) -> LayerRange:
    scale, zero = tensor.scale[0], (*tensor.zero_point, 0)[0]
    limits = np.iinfo(values.dtype)
    edges = (limits.min, limits.max, values.min(), values.max())
    low, high, seen_low, seen_high = (round(float(scale * (int(edge) - zero)), 5) for edge in edges)
    # A relu's floor is no loss: only a limit that is not the zero of the tensor counts.
    at_limit = (values == limits.max) | ((values == limits.min) & (limits.min != zero))
    saturated = round(float(at_limit.mean()), 6)
    return LayerRange(name, operator, low, high, seen_low, seen_high, saturated)


def short_name(name: str) -> str:
    """Return the layer's own name: `step_1/block1_relu_1/Relu;…` becomes `block1_relu`."""
    parts = name.partition(";")[0].partition(":")[0].split("/")
    layer = parts[-2] if len(parts) > 1 else parts[0].removeprefix("serving_default_")
    return layer.removesuffix("_1")
