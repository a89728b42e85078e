"""A `.tflite` file taken apart: its tensors, operators with versions, and what can be counted from their shapes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

ALIGNMENT_BYTES = 64
"""TFLite's arena starts every tensor at a multiple of this (tensorflow/lite/util.h, kDefaultTensorAlignment)."""
ITEM_BYTES = {
    "FLOAT64": 8, "INT64": 8, "UINT64": 8, "FLOAT32": 4, "INT32": 4, "UINT32": 4, "FLOAT16": 2, "BFLOAT16": 2,
    "INT16": 2, "UINT16": 2, "INT8": 1, "UINT8": 1, "BOOL": 1,
}  # fmt: skip
FLOAT_TYPES = {"FLOAT16", "BFLOAT16", "FLOAT32", "FLOAT64", "COMPLEX64", "COMPLEX128"}


def _names(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


_TYPES = _names(schema.TensorType)
_OPERATORS = _names(schema.BuiltinOperator)
_ACTIVATIONS = _names(schema.ActivationFunctionType)

# Multiply-accumulates from the shapes of: output, first input, second input (weights), third input.
_MACS: dict[str, Callable[[list[tuple[int, ...]]], int]] = {
    "CONV_2D": lambda shape: prod(shape[0]) * prod(shape[2][1:]),
    "DEPTHWISE_CONV_2D": lambda shape: prod(shape[0]) * prod(shape[2][1:3]),
    "FULLY_CONNECTED": lambda shape: prod(shape[0]) * shape[2][-1],
    "TRANSPOSE_CONV": lambda shape: prod(shape[3]) * prod(shape[2][:3]),
    "BATCH_MATMUL": lambda shape: prod(shape[0]) * shape[1][-1],
}


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One tensor. scale, zero_point: of the quantisation, one per channel along `axis`, empty if it has none.

    data: the bytes of a constant, None for what is computed.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    type: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int
    data: bytes | None

    @property
    def is_float(self) -> bool:
        """Whether its numbers are floating point."""
        return self.type in FLOAT_TYPES

    @property
    def size_bytes(self) -> int:
        """Bytes of its values."""
        return prod(self.shape) * ITEM_BYTES.get(self.type, 1)

    @property
    def values(self) -> np.ndarray[Any, Any]:
        """A constant's values in its shape; raises ValueError for a computed tensor."""
        if self.data is None:
            raise ValueError(f"tensor '{self.name}' is computed, not constant")
        return np.frombuffer(self.data, np.dtype(self.type.lower())).reshape(self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """One operator. inputs, outputs: tensor indices, -1 for an optional input left out; options: by their name."""

    name: str
    version: int
    custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]

    @property
    def activation(self) -> str:
        """The fused activation, NONE if there is none."""
        return _ACTIVATIONS.get(self.options.get("fusedActivationFunction", 0), "NONE")


@dataclass(frozen=True, slots=True, eq=False)
class FlatModel:
    """The one graph of a model: tensors by index, operators in the order they run."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    size_bytes: int

    @property
    def operator_versions(self) -> dict[str, int]:
        """How often each operator occurs, as `{"CONV_2D v3": 7}`, sorted."""
        names = [f"{operator.name} v{operator.version}" for operator in self.operators]
        return {name: names.count(name) for name in sorted(set(names))}

    @property
    def stored(self) -> dict[str, int]:
        """Numbers in the constants that the arithmetic reads, by type: weights and biases, without shapes and axes."""
        found: dict[str, int] = {}
        for tensor in self.tensors:
            if tensor.data is not None and (tensor.scale or tensor.is_float):
                found[tensor.type] = found.get(tensor.type, 0) + prod(tensor.shape)
        return dict(sorted(found.items()))

    def macs(self, operator: Operator) -> int:
        """Multiply-accumulates of one inference, from shapes; 0 for operators that do none."""
        if operator.name not in _MACS:
            return 0
        shapes = [self.tensors[index].shape for index in (*operator.outputs[:1], *operator.inputs[:3])]
        return _MACS[operator.name](shapes)

    @property
    def total_macs(self) -> int:
        """Multiply-accumulates of one inference of the whole graph."""
        return sum(self.macs(operator) for operator in self.operators)

    @property
    def live_bytes(self) -> int:
        """The most bytes of computed tensors alive at once, each rounded up to the arena's alignment.

        A lower bound of the arena: kernels add scratch space, and a planner cannot always pack without holes.
        """
        born: dict[int, int] = dict.fromkeys(self.inputs, 0)
        last: dict[int, int] = dict.fromkeys(self.outputs, len(self.operators))
        for when, operator in enumerate(self.operators):
            for index in operator.outputs:
                born.setdefault(index, when)
            for index in operator.inputs:
                last[index] = max(last.get(index, 0), when)
        alive = [0] * (len(self.operators) + 1)
        for index, start in born.items():
            padded = -(-self.tensors[index].size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
            for when in range(start, max(last.get(index, start), start) + 1):
                alive[when] += padded
        return max(alive)


def read_flatbuffer(flatbuffer: bytes) -> FlatModel:
    """Take a `.tflite` apart; raises ModelError if it is none, or has more than one graph."""
    if flatbuffer[4:8] != b"TFL3":
        raise ModelError("is not a .tflite file, or is truncated; copy or convert it again (make convert)")
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
        graphs = list(model.subgraphs)
        if len(graphs) == 1:
            return _taken_apart(model, graphs[0], len(flatbuffer))
    except Exception as error:  # struct.error, IndexError, AttributeError, MemoryError …: all mean damage
        raise ModelError("is a damaged .tflite file; copy or convert it again (make convert)") from error
    raise ModelError(f"has {len(graphs)} graphs; allowed: one (no control flow)")


def _taken_apart(model: Any, graph: Any, size_bytes: int) -> FlatModel:
    """Return the graph; raises IndexError or the like when an index points nowhere."""
    found = FlatModel(
        tensors=tuple(_tensor(index, tensor, model.buffers) for index, tensor in enumerate(graph.tensors)),
        operators=tuple(_operator(operator, model.operatorCodes) for operator in graph.operators),
        inputs=tuple(map(int, graph.inputs)),
        outputs=tuple(map(int, graph.outputs)),
        size_bytes=size_bytes,
    )
    used = {*found.inputs, *found.outputs, *(i for each in found.operators for i in (*each.inputs, *each.outputs))}
    if not used <= set(range(-1, len(found.tensors))) or not all(each.outputs for each in found.operators):
        raise IndexError("an operator reads or writes a tensor that is not there")
    _ = found.total_macs, found.live_bytes, found.stored  # shapes too small for their operator
    return found


def _tensor(index: int, tensor: Any, buffers: Any) -> Tensor:
    found = tensor.quantization
    data = buffers[tensor.buffer].data
    has_scale = found is not None and found.scale is not None
    return Tensor(
        index=index,
        name=(tensor.name or b"").decode(errors="replace"),
        shape=tuple(map(int, tensor.shape if tensor.shape is not None else ())),
        type=_TYPES.get(tensor.type, f"TYPE_{tensor.type}"),
        scale=tuple(map(float, found.scale)) if has_scale else (),
        zero_point=tuple(map(int, found.zeroPoint)) if has_scale and found.zeroPoint is not None else (),
        axis=int(found.quantizedDimension) if found is not None else 0,
        data=None if data is None or len(data) == 0 else bytes(bytearray(data)),
    )


def _operator(operator: Any, codes: Any) -> Operator:
    code = codes[operator.opcodeIndex]
    custom = bool(code.customCode)
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    return Operator(
        name=code.customCode.decode(errors="replace") if custom else _OPERATORS.get(builtin, f"BUILTIN_{builtin}"),
        version=int(code.version),
        custom=custom,
        inputs=tuple(map(int, operator.inputs if operator.inputs is not None else ())),
        outputs=tuple(map(int, operator.outputs if operator.outputs is not None else ())),
        options=dict(vars(operator.builtinOptions)) if operator.builtinOptions is not None else {},
    )
