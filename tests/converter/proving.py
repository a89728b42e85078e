"""What the tests of the proofs share: evidence about the shipped model, and ways to spoil a file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converter.manifest import embed
from converter.proofs import Evidence
from converter.verify import Int8Model
from edge.manifest import embedded_manifest
from tests.converter.conftest import SHIPPED

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.spec import Spec

    Floats = np.ndarray[Any, np.dtype[np.float32]]


def windows_like(shape: tuple[int, ...], count: int, seed: int = 0) -> Floats:
    """Return normalised windows [count, *shape[1:]]: noise, every other one wandering like a moving arm."""
    windows = np.random.default_rng(seed).normal(0, 0.4, (count, *shape[1:]))
    windows[::2] = np.cumsum(windows[::2], axis=1)
    return np.clip(windows, -4, 4).astype(np.float32)


def evidence_of(flatbuffer: bytes, spec: Spec, variant: str = "int8") -> Evidence:
    """Return evidence in which the Keras model answers as the shipped file does, plus a little noise."""
    shipped = Int8Model(SHIPPED.with_suffix(".tflite").read_bytes())
    windows = windows_like(shipped.input_shape, 30)
    answers = shipped.probabilities(windows)
    floats = answers + np.random.default_rng(1).normal(0, 0.002, answers.shape).astype(np.float32)
    return Evidence(
        variant=variant,
        flatbuffer=flatbuffer,
        spec=spec,
        windows=windows,
        floats=floats,
        keras_path=SHIPPED,
        parameters=15073,
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
    """Return the file with a DEQUANTIZE sneaked in at its end: it loads and answers, in float32."""

    def sneak(model: Any) -> None:
        graph = model.subgraphs[0]
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
        code.version = 2
        model.operatorCodes.append(code)
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.buffer = b"sneaked_in", schema.TensorType.FLOAT32, 0
        tensor.shape = graph.tensors[graph.outputs[0]].shape
        graph.tensors.append(tensor)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.inputs, operator.outputs = [int(graph.outputs[0])], [len(graph.tensors) - 1]
        graph.operators.append(operator)
        graph.outputs = [len(graph.tensors) - 1]

    return changed(flatbuffer, sneak)


def with_other_weight(flatbuffer: bytes) -> bytes:
    """Return the file with one weight of its head turned round; it loads as before."""

    def turn(model: Any) -> None:
        graph = model.subgraphs[0]
        weights = max(
            (tensor for tensor in graph.tensors if tensor.name.decode().endswith("head_1/convolution")),
            key=lambda tensor: len(model.buffers[tensor.buffer].data),
        )
        data = model.buffers[weights.buffer].data.copy()
        largest = int(np.argmax(np.abs(data.view(np.int8).astype(int))))
        data.view(np.int8)[largest] *= -1
        model.buffers[weights.buffer].data = data

    return changed(flatbuffer, turn)


def with_spec(spec: Spec, **fields: Any) -> Spec:
    """Return the spec with other fields."""
    return replace(spec, **fields)
