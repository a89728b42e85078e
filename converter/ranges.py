"""The ranges in a calibrated flatbuffer: rounded, the input's as the spec says, those of state pairs made equal.

An operator that only moves numbers about (a concatenation, a slice) has one scale for all that goes in and out, and
the quantiser takes that of its output; so whatever such operators join to the input or to a state gets one range here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from converter.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNIFICANT_DIGITS = 3
"""The last bits of another CPU's floating point must not change the file."""

_OPERATOR = schema.BuiltinOperator
MOVERS = {
    _OPERATOR.CONCATENATION, _OPERATOR.RESHAPE, _OPERATOR.STRIDED_SLICE, _OPERATOR.SLICE, _OPERATOR.PAD,
    _OPERATOR.TRANSPOSE, _OPERATOR.SPLIT, _OPERATOR.SPLIT_V, _OPERATOR.PACK, _OPERATOR.UNPACK, _OPERATOR.EXPAND_DIMS,
    _OPERATOR.SQUEEZE, _OPERATOR.GATHER, _OPERATOR.MAX_POOL_2D, _OPERATOR.REVERSE_V2, _OPERATOR.TILE,
}  # fmt: skip

PROBABILITY = (0.0, 255 / 256)
"""What sigmoid and softmax give in int8, by TFLite's specification: what is made of them needs no other scale."""

Range = tuple[float, float]
State = tuple[tuple[str, str], ...]


def state_tensors(flatbuffer: bytes, state: State) -> list[dict[str, str]]:
    """Return the names that the pairs' tensors have in the file."""
    model = _unpacked(flatbuffer)
    tensors = model.subgraphs[0].tensors
    return [
        {"input": tensors[given].name.decode(), "output": tensors[answer].name.decode()}
        for given, answer in _pairs(model, state)
    ]


def settled(calibrated: bytes, input_range: Range, state: State, widened: Sequence[Range] = ()) -> bytes:
    """Return the calibrated flatbuffer with its final ranges.

    widened: (low, high) of each state pair, from `unequal`, when a first attempt left a pair unequal.
    """
    model = _unpacked(calibrated)
    graph = model.subgraphs[0]
    for tensor in graph.tensors:
        if (found := _range(tensor)) is not None:
            _set(tensor, (_round(found[0]), _round(found[1])))
    pairs = _pairs(model, state)
    signal = _signal(graph, pairs)
    _set(graph.tensors[signal], input_range)
    for number, (given, answer) in enumerate(pairs):
        for index in (given, answer) if widened else ():
            _set(graph.tensors[index], widened[number])
    for start in ({signal}, *(set(pair) for pair in pairs)):
        joined = _joined(model, start, pairs)
        ranges = [found for index in joined if (found := _range(graph.tensors[index])) is not None]
        union = (min(low for low, _ in ranges), max(high for _, high in ranges))
        for index in joined:
            _set(graph.tensors[index], union)
    for number in _probabilities(model):
        for index in _joined(model, {number}, pairs):
            _set(graph.tensors[index], PROBABILITY)
    return _packed(model)


def _probabilities(model: Any) -> list[int]:
    """Return the outputs of operators whose int8 kernels know one scale alone."""
    return [
        int(operator.outputs[0])
        for operator in model.subgraphs[0].operators
        if _code(model, operator) in (_OPERATOR.LOGISTIC, _OPERATOR.SOFTMAX)
    ]


def _code(model: Any, operator: Any) -> int:
    code = model.operatorCodes[operator.opcodeIndex]
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def _joined(model: Any, start: set[int], pairs: list[tuple[int, int]]) -> set[int]:
    """Return the tensors that share their numbers with those of `start`: through movers, or fed back as a state."""
    graph = model.subgraphs[0]
    links = [set(pair) for pair in pairs]
    for operator in graph.operators:
        if _code(model, operator) in MOVERS:
            around = (*operator.inputs, *operator.outputs)
            links.append({int(index) for index in around if index >= 0 and _range(graph.tensors[index]) is not None})
    found, size = set(start), 0
    while size != len(found):
        size = len(found)
        for link in links:
            found |= link if found & link else set()
    return found


def unequal(quantised: bytes, state: State) -> list[Range]:
    """Return one range for each state pair that holds both sides', or nothing if all pairs are equal already."""
    model = _unpacked(quantised)
    tensors = model.subgraphs[0].tensors
    pairs = [[_quantisation(tensors[index]) for index in pair] for pair in _pairs(model, state)]
    if all(given == answer for given, answer in pairs):
        return []
    ranges = [[_span(*side) for side in pair] for pair in pairs]
    return [(min(low for low, _ in both), max(high for _, high in both)) for both in ranges]


def _span(scale: float, zero: int) -> Range:
    return (-128 - zero) * scale, (127 - zero) * scale


def _quantisation(tensor: Any) -> tuple[float, int]:
    found = tensor.quantization
    return float(found.scale[0]), int(found.zeroPoint[0])


def _pairs(model: Any, state: State) -> list[tuple[int, int]]:
    if not state:
        return []
    signature = model.signatureDefs[0]
    inputs, outputs = ({_text(e.name): e.tensorIndex for e in side} for side in (signature.inputs, signature.outputs))
    try:
        return [(inputs[given], outputs[answer]) for given, answer in state]
    except KeyError as error:
        raise ConversionError(f"the converter lost the state tensor {error}; give it another name") from error


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _signal(graph: Any, pairs: list[tuple[int, int]]) -> int:
    states = {given for given, _ in pairs}
    return next(int(index) for index in graph.inputs if index not in states)


def _range(tensor: Any) -> Range | None:
    found = tensor.quantization
    if found is None or found.min is None or len(found.min) != 1:
        return None
    return float(found.min[0]), float(found.max[0])


def _set(tensor: Any, found: Range) -> None:
    if tensor.quantization is None:
        tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.min, tensor.quantization.max = [found[0]], [found[1]]


def _round(value: float) -> float:
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def _unpacked(flatbuffer: bytes) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))


def _packed(model: Any) -> bytes:
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
