"""Proof that a converted file is fit: nothing float, nothing custom, and the answers of its Keras model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converter.errors import ConversionError
from edge.runtime import open_interpreter

if TYPE_CHECKING:
    from edge.types import FloatArray

    Int8Array = np.ndarray[Any, np.dtype[np.int8]]

FLOAT_TYPES = {schema.TensorType.FLOAT32, schema.TensorType.FLOAT16, schema.TensorType.FLOAT64}
MAX_MEAN_DIFFERENCE = 0.02
MAX_DISAGREEMENT = 0.03
"""Share of frames on different sides of the threshold; the shipped model has 0.014 and loses 0.1 points of F1."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Probabilities of the int8 file minus those of the Keras model, over all frames of the windows."""

    frames: int
    mean: float
    largest: float
    disagreement: float


class Int8Model:
    """The converted file under the runtime of the device."""

    def __init__(self, flatbuffer: bytes) -> None:
        self._interpreter, self.runtime = open_interpreter(flatbuffer)
        (given,), (answer,) = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.input_shape = tuple(int(n) for n in given["shape"])
        self.input_scale, self.input_zero = given["quantization"]
        self.output_scale, self.output_zero = answer["quantization"]
        self._input, self._output = given["index"], answer["index"]

    def invoke(self, values: Int8Array) -> Int8Array:
        """Run once on int8 values of the input's shape."""
        self._interpreter.set_tensor(self._input, values.reshape(self.input_shape))
        self._interpreter.invoke()
        answer: Int8Array = self._interpreter.get_tensor(self._output)
        return answer

    def probabilities(self, windows: FloatArray) -> FloatArray:
        """Return the answers [n, …] 0..1 to normalised windows [n, window_samples, channels]."""
        scaled = np.rint(windows / self.input_scale) + self.input_zero
        quantised = np.clip(scaled, -128, 127).astype(np.int8)
        answers = np.concatenate([self.invoke(values) for values in quantised])
        probabilities: FloatArray = (answers.astype(np.float32) - self.output_zero) * np.float32(self.output_scale)
        return probabilities


def operators(flatbuffer: bytes) -> Counter[str]:
    """Return how often each operator occurs; raises ConversionError if one is custom or touches a float tensor."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    found: Counter[str] = Counter()
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            if code.customCode:
                raise ConversionError(
                    f"operator {code.customCode.decode()} is custom; the device runs built-in ones only"
                )
            name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            for index in (*operator.inputs, *operator.outputs):
                if index >= 0 and graph.tensors[index].type in FLOAT_TYPES:
                    tensor = graph.tensors[index].name.decode()
                    raise ConversionError(
                        f"operator {name} uses the float tensor '{tensor}'; every tensor must be int8"
                    )
            found[name] += 1
    return found


def difference(int8: FloatArray, floats: FloatArray, threshold: float) -> Difference:
    """Compare probabilities of both models on the same windows."""
    int8, floats = int8.reshape(-1), floats.reshape(-1)
    off = np.abs(int8 - floats)
    disagreement = float(np.mean((int8 >= threshold) != (floats >= threshold)))
    return Difference(len(off), float(off.mean()), float(off.max()), disagreement)


def check_difference(found: Difference) -> None:
    """Raise ConversionError when the int8 file does not answer like its Keras model."""
    checks = (
        (found.mean <= MAX_MEAN_DIFFERENCE, "mean difference", found.mean, MAX_MEAN_DIFFERENCE),
        (found.disagreement <= MAX_DISAGREEMENT, "share of other decisions", found.disagreement, MAX_DISAGREEMENT),
    )
    for fine, what, value, limit in checks:
        if not fine:
            raise ConversionError(
                f"int8 and Keras differ: {what} {value:.4f} (allowed {limit}); "
                "calibrate on recordings like those of training, or accept it with --force"
            )
