"""Proof from the file itself: integer throughout, what it costs, and how its answers differ from those of Keras."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.errors import ConversionError
from converter.flatfile import FlatModel, read_flatbuffer
from converter.runtime_proof import state_pairs
from converter.verify import INTEGERS, Difference, Int8Model, check_difference, difference, not_integer
from edge.manifest import WALKING_CLASS

if TYPE_CHECKING:
    from converter.spec import Spec
    from edge.types import FloatArray

LABELS = {
    "int8": "int8: weights, activations and arithmetic are integers",
    "int16x8": "int8 weights, int16 activations: integers throughout",
    "float16": "not integer: float16 weights, arithmetic in float32",
    "dynamic_range": "not integer: int8 weights, activations in float32",
}
WEIGHTS = {"int8": "INT8", "int16x8": "INT8", "float16": "FLOAT16", "dynamic_range": "INT8"}
"""The type of the weights that gives each variant its name."""


def file_facts(variant: str, flatbuffer: bytes, spec: Spec, windows: FloatArray, floats: FloatArray) -> dict[str, Any]:
    """Return what a file is and how far its answers to windows are from `floats`, ready for JSON."""
    model = read_flatbuffer(flatbuffer)
    converted = Int8Model(flatbuffer, state_pairs(flatbuffer))
    answers = converted.probabilities(windows)
    return {
        "label": _label(variant, model),
        "sha256": hashlib.sha256(flatbuffer).hexdigest(),
        "size_bytes": len(flatbuffer),
        "float_tensors": _touched_floats(model),
        "custom_operators": [operator.name for operator in model.operators if operator.custom],
        "operators": model.operator_versions,
        "stored_numbers": model.stored,
        "macs": model.total_macs,
        "live_bytes": model.live_bytes,
        "input": _input(spec, converted),
        "against_keras": _rounded(_steps(spec, answers, floats)),
        "outputs": _per_output(spec, answers, floats),
    }


def file_objections(variant: str, flatbuffer: bytes, spec: Spec, windows: FloatArray, floats: FloatArray) -> list[str]:
    """Return why a file that claims to be integer is not fit; float variants are labelled instead."""
    if variant not in INTEGERS:
        return []
    model = read_flatbuffer(flatbuffer)
    found = [f"{variant}: operator {each.name} is custom" for each in model.operators if each.custom]
    found += [f"{variant}: {line}" for line in not_integer(model, variant)]
    if not found:
        answers = Int8Model(flatbuffer, state_pairs(flatbuffer)).probabilities(windows)
        decided = {"": _steps(spec, answers, floats)}
        if spec.gate is not None:
            decided[f" about {WALKING_CLASS}"] = _one(spec, spec.classes.index(WALKING_CLASS), answers, floats)
        for what, each in decided.items():
            try:
                check_difference(each, what)
            except ConversionError as error:
                found.append(str(error))
    return found


def _label(variant: str, model: FlatModel) -> str:
    """Return what the file is; TensorFlow leaves small layers as they were, whatever it was asked for."""
    if WEIGHTS[variant] not in model.stored:
        return (
            f"not {variant} in fact: no weight is {WEIGHTS[variant].lower()}; its layers are too small to gain from it"
        )
    return LABELS[variant]


def _touched_floats(model: FlatModel) -> list[str]:
    touched = sorted({index for operator in model.operators for index in (*operator.inputs, *operator.outputs)})
    return [model.tensors[index].name for index in touched if index >= 0 and model.tensors[index].is_float]


def _input(spec: Spec, converted: Int8Model) -> dict[str, Any] | None:
    """Return what each channel can express, in SI units; None for a float input."""
    if converted.dtype.kind == "f":
        return None
    limits = np.iinfo(converted.dtype)
    low, high = ((int(edge) - converted.input_zero) * converted.input_scale for edge in (limits.min, limits.max))
    return {
        name: {
            "low": round(low * scale + offset, 3),
            "high": round(high * scale + offset, 3),
            "resolution": round(converted.input_scale * scale, 5),
        }
        for name, offset, scale in zip(spec.channels, spec.offset, spec.scale, strict=True)
    }


def _per_output(spec: Spec, answers: FloatArray, floats: FloatArray) -> dict[str, Any]:
    """Return the difference of each output by itself: every class of a softmax head, or the one probability."""
    names = spec.classes or ("probability",)
    return {name: _rounded(_one(spec, number, answers, floats)) for number, name in enumerate(names)}


def _steps(spec: Spec, answers: FloatArray, floats: FloatArray) -> Difference:
    """Return the difference that decides: among several classes, the easy ones would hide lost steps."""
    return _one(spec, spec.step_class, answers, floats)


def _one(spec: Spec, number: int, answers: FloatArray, floats: FloatArray) -> Difference:
    walks = spec.gate is not None and spec.classes[number] == WALKING_CLASS
    threshold = spec.gate.on if spec.gate is not None and walks else spec.threshold
    return difference(spec.column(answers, number), spec.column(floats, number), threshold)


def _rounded(found: Difference) -> dict[str, Any]:
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in asdict(found).items()}
