"""What the tests of the proofs share: evidence about a model, and ways to spoil its file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converter.flatfile import read_flatbuffer
from converter.manifest import embed
from converter.proofs import Evidence
from converter.runtime_proof import state_pairs
from converter.spec import load_spec
from converter.verify import Int8Model
from edge.manifest import embedded_manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.spec import Spec

    Floats = np.ndarray[Any, np.dtype[np.float32]]

HOPS = 80
"""Of a sequence for a model with state: what the shipped one remembers of its past is 64 at the longest."""


def opened(flatbuffer: bytes) -> Int8Model:
    """Return the file under the device's runtime, with the state that its manifest tells of."""
    return Int8Model(flatbuffer, state_pairs(flatbuffer))


def windows_like(shape: tuple[int, ...], count: int, seed: int = 0) -> Floats:
    """Return normalised windows [count, *shape[1:]]: noise, every other one wandering like a moving arm."""
    windows = np.random.default_rng(seed).normal(0, 0.4, (count, *shape[1:]))
    windows[::2] = np.cumsum(windows[::2], axis=1)
    return np.clip(windows, -4, 4).astype(np.float32)


def windows_for(flatbuffer: bytes, count: int) -> Floats:
    """Return such windows [count, …] for a model, or, if it has state, sequences of them [count, HOPS, …]."""
    model = opened(flatbuffer)
    if not model.streaming:
        return windows_like(model.input_shape, count)
    window, channels = model.input_shape[1:]
    return windows_like((1, HOPS * window, channels), count).reshape(count, HOPS, window, channels)


def evidence_of(keras_path: Path, variant: str = "int8") -> Evidence:
    """Return evidence on the file beside a Keras model, in which that answers as the file does, plus a little noise."""
    flatbuffer = keras_path.with_suffix(".tflite").read_bytes()
    windows = windows_for(flatbuffer, 30)
    answers = opened(flatbuffer).probabilities(windows)
    return Evidence(
        variant=variant,
        flatbuffer=flatbuffer,
        spec=load_spec(keras_path.with_suffix(".yaml")),
        windows=windows,
        floats=answers + np.random.default_rng(1).normal(0, 0.002, answers.shape).astype(np.float32),
        keras_path=keras_path,
        parameters=12_345,
        calibration={"windows": 30},
    )


def changed(flatbuffer: bytes, change: Callable[[Any], None]) -> bytes:
    """Return the file with its object tree changed."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
    change(model)
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def with_manifest(flatbuffer: bytes, **fields: Any) -> bytes:
    """Return the file with other manifest fields."""
    manifest = embedded_manifest(flatbuffer) | fields

    def forget(model: Any) -> None:
        model.metadata = [entry for entry in model.metadata if not entry.name.decode().startswith("footfall.")]

    return embed(changed(flatbuffer, forget), manifest)


def with_float_output(flatbuffer: bytes) -> bytes:
    """Return the file with a DEQUANTIZE sneaked in after its answer: it loads and answers, in float32."""
    states = {target.encode() for _, target in state_pairs(flatbuffer)}

    def sneak(model: Any) -> None:
        graph = model.subgraphs[0]
        place = next(n for n, index in enumerate(graph.outputs) if graph.tensors[index].name not in states)
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
        code.version = 2
        model.operatorCodes.append(code)
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.buffer = b"sneaked_in", schema.TensorType.FLOAT32, 0
        tensor.shape = graph.tensors[graph.outputs[place]].shape
        graph.tensors.append(tensor)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.inputs, operator.outputs = [int(graph.outputs[place])], [len(graph.tensors) - 1]
        graph.operators.append(operator)
        graph.outputs = [len(graph.tensors) - 1 if n == place else int(i) for n, i in enumerate(graph.outputs)]

    return changed(flatbuffer, sneak)


def with_other_weight(flatbuffer: bytes) -> bytes:
    """Return the file with the largest weight of its step head, the last convolution, turned round; it still loads."""
    convolutions = [operator for operator in read_flatbuffer(flatbuffer).operators if operator.name == "CONV_2D"]

    def turn(model: Any) -> None:
        weights = model.subgraphs[0].tensors[convolutions[-1].inputs[1]]
        data = model.buffers[weights.buffer].data.copy()
        largest = int(np.argmax(np.abs(data.view(np.int8).astype(int))))
        data.view(np.int8)[largest] *= -1
        model.buffers[weights.buffer].data = data

    return changed(flatbuffer, turn)


def with_spec(spec: Spec, **fields: Any) -> Spec:
    """Return the spec with other fields."""
    return replace(spec, **fields)
