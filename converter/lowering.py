"""The process that lowers a Keras model to int8; started by `converter.quantize`, it alone imports TensorFlow.

Ranges found in calibration are rounded to three digits, so that the last bits of another CPU's floating point cannot
change the file; the input's range is the spec's, not what the recordings happened to hold.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flatbuffers
import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from tensorflow.lite.python.convert import mlir_quantize

from converter.calibration import calibration_windows
from converter.quantize import BAD_INPUT
from converter.spec import Spec, load_spec
from edge.errors import FootfallError, ModelError

if TYPE_CHECKING:
    from edge.types import FloatArray

FAILED = 1
SIGNIFICANT_DIGITS = 3


def _job(keras_path: Path, spec_path: Path, calibration: Path, outcome: Path) -> None:
    spec = load_spec(spec_path)
    model = _load(keras_path)
    window_samples = _window_samples(keras_path, model, spec)
    drawn = calibration_windows(calibration, spec, window_samples)
    flatbuffer = _int8(_calibrated(model, drawn.windows), spec)
    np.savez(
        outcome,
        flatbuffer=np.frombuffer(flatbuffer, np.uint8),
        windows=drawn.windows,
        floats=np.concatenate([np.asarray(model(window[None])) for window in drawn.windows]),
        parameters=model.count_params(),
        strata=list(drawn.strata),
        strata_counts=list(drawn.strata.values()),
        calibration_sha256=drawn.sha256,
        versions=list(_versions().items()),
    )


def _load(path: Path) -> Any:
    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise ModelError(f"{path}: Keras cannot load it ({first_line}); save it again with model.save()") from error


def _window_samples(path: Path, model: Any, spec: Spec) -> int:
    """Check the model's tensors against its spec and return its window."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(
            f"{path}: has {len(model.inputs)} inputs and {len(model.outputs)} outputs; allowed: one of each"
        )
    given, answer = tuple(model.inputs[0].shape), tuple(model.outputs[0].shape)
    if len(given) != 3 or given[1] is None or given[2] != len(spec.channels):
        allowed = f"(1, window_samples, {len(spec.channels)}) with a fixed window"
        raise ModelError(f"{path}: takes {given}; allowed by its spec: {allowed}")
    window = int(given[1])
    if len(answer) < 2 or answer[1] not in (spec.hop_samples, window) or np.prod(answer[2:]) != 1:
        raise ModelError(f"{path}: answers {answer}; allowed by its spec: (1, {spec.hop_samples} or {window}, 1)")
    return window


def _calibrated(model: Any, windows: FloatArray) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([window[None]] for window in windows)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    # Stop between calibration and quantisation: the ranges are to be rounded in between.
    converter._experimental_calibrate_only = True  # noqa: SLF001 - no public switch exists (TF 2.21)
    calibrated: bytes = converter.convert()
    return calibrated


def _int8(calibrated: bytes, spec: Spec) -> bytes:
    quantized: bytes = mlir_quantize(
        _rounded(calibrated, spec),
        fully_quantize=True,
        inference_type=schema.TensorType.INT8,
        input_data_type=tf.int8,
        output_data_type=tf.int8,
        # Window heads are bit-equal in every runtime without it (design, toolchain).
        disable_per_channel_for_dense_layers=True,
    )
    return quantized


def _rounded(calibrated: bytes, spec: Spec) -> bytes:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(calibrated, 0))
    graph = model.subgraphs[0]
    for index, tensor in enumerate(graph.tensors):
        found = tensor.quantization
        if found is None or found.min is None or len(found.min) != 1:
            continue
        low, high = spec.input_range if index in graph.inputs else (_round(found.min[0]), _round(found.max[0]))
        found.min, found.max = [low], [high]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _round(value: float) -> float:
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def _versions() -> dict[str, str]:
    names = {"tensorflow": "tensorflow-cpu", "keras": "keras", "ai-edge-litert": "ai-edge-litert"}
    return {name: version(package) for name, package in names.items()}


def _main(arguments: list[str]) -> int:
    keras_path, spec_path, calibration, outcome, complaint = (Path(argument) for argument in arguments)
    try:
        _job(keras_path, spec_path, calibration, outcome)
    except FootfallError as error:
        complaint.write_text(str(error), encoding="utf-8")
        return BAD_INPUT
    except Exception as error:  # noqa: BLE001 - whatever the converter raises becomes one line in the parent
        lines = str(error).strip().splitlines() or [""]
        complaint.write_text(f"{type(error).__name__}: {lines[0]}", encoding="utf-8")
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
