"""The process that lowers a Keras model; started by `converter.child`, it alone imports TensorFlow."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert import mlir_quantize

from converter.calibration import WINDOWS, common_rate_hz, draw, normalised
from converter.child import BAD_INPUT, PHASE
from converter.errors import ConversionError
from converter.inferred import complete
from converter.input_range import CalibrationSummary, clipped, found_range, has_range, summarise
from converter.keras_model import FixedModel, check_answers, examine, fix, load
from converter.ranges import settled, unequal
from converter.refusals import check_layers
from converter.slim import slimmed
from converter.sources import HDF5, architecture
from converter.spec import Spec, to_document
from converter.streaming import run
from converter.variants import FLOAT16, INT8, INT16X8
from edge.errors import FootfallError

if TYPE_CHECKING:
    from converter.calibration import Calibration
    from converter.streaming import Feed
    from edge.types import FloatArray

FAILED = 1
QUANTISED_INT8 = 9
"""QUANTIZED_INT8 of TensorFlow's own enumeration of types (lite/python/types.proto)."""
PAIR_ATTEMPTS = 4
STREAM_S = 8.0
"""Length of a calibration sequence of a streaming model: what it remembers reaches back less."""
STREAMS = 24
MIN_FRAMES = 16
"""A window of fewer frames is cut, with its neighbours, from a slice this long: 200 single frames are too few."""


def _quantize(job: dict[str, Any]) -> None:
    path = Path(job["model"])
    _phase("loading the model")
    fixed = _fixed(job)
    tensors = examine(fixed)
    document, calibration = job["document"], Path(job["calibration"])
    rate_hz = common_rate_hz(calibration) if document.get("sampling_rate_hz") is None else None
    spec, assumptions = complete(document, tensors, path, rate_hz, job["where"])
    _phase("drawing calibration windows")
    spec, windows, summary, drawn = _calibration(calibration, spec, fixed)
    if document.get("input_range") is None:
        low, high = spec.input_range
        assumptions.append(f"input_range {low:g} to {high:g} (found in the recordings); change it with --input-range")
    _phase("asking the Keras model")
    answers, feeds = _asked(fixed, windows, spec)
    check_answers(fixed, answers)
    found = {f"flatbuffer_{name}": slimmed(_converted(name, fixed, feeds, spec)) for name in job["variants"]}
    facts = {
        "parameters": int(fixed.model.count_params()),
        "spec": to_document(spec),
        "assumptions": assumptions,
        "window_samples": fixed.window_samples,
        "calibration": summary.facts(),
        "calibration_sha256": drawn.sha256,
        "versions": _versions(),
    }
    arrays: dict[str, Any] = {name: np.frombuffer(flatbuffer, np.uint8) for name, flatbuffer in found.items()}
    with Path(job["outcome"]).open("wb") as file:
        np.savez(file, windows=windows, floats=answers, facts=json.dumps(facts), **arrays)


def _answer(job: dict[str, Any]) -> None:
    """Answer windows that the parent brings."""
    windows = np.load(job["windows"])
    fixed = _fixed(job | {"document": {"window_samples": windows.shape[-2], "state": job["state"]}})
    answers, _ = run(fixed, windows)
    with Path(job["outcome"]).open("wb") as file:
        np.save(file, answers)


def _fixed(job: dict[str, Any]) -> FixedModel:
    document = job["document"]
    state = tuple((pair["input"], pair["output"]) for pair in document.get("state") or ())
    path = Path(job["model"])
    if job["kind"] == HDF5 and (config := architecture(path, HDF5)) is not None:
        check_layers(path, config)
    loaded = load(path, job["kind"])
    return fix(loaded, window_samples=document.get("window_samples"), state=state)


def _calibration(root: Path, spec: Spec, fixed: FixedModel) -> tuple[Spec, FloatArray, CalibrationSummary, Calibration]:
    window = fixed.window_samples
    if fixed.state:
        frames, count = int(np.ceil(STREAM_S * spec.sampling_rate_hz / window)) * window, STREAMS
    else:
        frames, count = -(-MIN_FRAMES // window) * window, WINDOWS
    drawn = draw(root, spec, frames, count)
    windows = normalised(drawn, spec)
    if not has_range(spec):
        spec = replace(spec, input_range=found_range(windows))
    windows = windows.reshape(len(windows), -1, window, len(spec.channels))
    summary = summarise(drawn, windows.reshape(-1, window, len(spec.channels)), spec, window_samples=window)
    return spec, windows if fixed.state else windows.reshape(-1, *windows.shape[2:]), summary, drawn


def _asked(fixed: FixedModel, windows: FloatArray, spec: Spec) -> tuple[FloatArray, list[Feed]]:
    """Return the answers to the windows as they are, and what the quantiser is fed: as the int8 input saturates them.

    Asked clipped windows, Keras would agree with an int8 input that cuts off the most of every value.
    """
    answers, feeds = run(fixed, windows)
    representative = clipped(windows, spec)
    if not np.array_equal(representative, windows):
        _, feeds = run(fixed, representative)
    return answers, feeds


def _converted(variant: str, fixed: FixedModel, feeds: list[Feed], spec: Spec) -> bytes:
    _phase(f"converting to {variant}")
    converter = tf.lite.TFLiteConverter.from_keras_model(fixed.model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant == FLOAT16:
        converter.target_spec.supported_types = [tf.float16]
    if variant in (INT8, INT16X8):
        # By name where there are several; a lone one is fed by place, whatever TensorFlow made of its name.
        samples = feeds if fixed.state else [list(feed.values()) for feed in feeds]
        converter.representative_dataset = lambda: iter(samples)
    if variant == INT16X8:
        ops = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [ops]
        converter.inference_input_type = converter.inference_output_type = tf.int16
    if variant == INT8:
        return _int8(converter, spec)
    flatbuffer: bytes = converter.convert()
    if variant == INT16X8 and unequal(flatbuffer, spec.state):
        raise ConversionError("int16x8 gives a state's input and output different scales; leave int16x8 out")
    return flatbuffer


def _int8(converter: Any, spec: Spec) -> bytes:
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    # Stop between calibration and quantisation: the ranges are to be settled in between.
    converter._experimental_calibrate_only = True  # noqa: SLF001 - no public switch exists (TF 2.21)
    calibrated: bytes = converter.convert()
    widened: list[tuple[float, float]] = []
    for _ in range(PAIR_ATTEMPTS):
        quantised: bytes = mlir_quantize(
            settled(calibrated, spec.input_range, spec.state, widened),
            fully_quantize=True,
            inference_type=QUANTISED_INT8,
            input_data_type=tf.int8,
            output_data_type=tf.int8,
            # Window heads are bit-equal in every runtime without it (design, toolchain).
            disable_per_channel_for_dense_layers=True,
        )
        widened = unequal(quantised, spec.state)
        if not widened:
            return quantised
    pairs = ", ".join(f"{given}={answer}" for given, answer in spec.state)
    raise ConversionError(
        f"a state's input and output got different int8 scales ({pairs}); "
        "let the state output be a plain Cropping1D or activation of what the state input joins"
    )


def _versions() -> dict[str, str]:
    names = {"tensorflow": "tensorflow-cpu", "keras": "keras", "ai-edge-litert": "ai-edge-litert"}
    return {name: version(package) for name, package in names.items()}


def _phase(text: str) -> None:
    print(f"{PHASE}{text}", flush=True)


def _explained(error: Exception) -> str:
    """Return one line; of TensorFlow's pages, the operators that have no int8 kernel."""
    text = str(error).strip()
    missing = sorted(set(re.findall(r"'?(tf\.\w+|tfl\.\w+)'? op ", text)))
    if missing:
        return f"no int8 kernel for {', '.join(missing)}; replace the layer that uses it"
    lines = [line for line in text.splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[0].strip()[:300]}"


def _main(job_path: str) -> int:
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    complaint = Path(job["complaint"])
    try:
        {"quantize": _quantize, "answer": _answer}[job["job"]](job)
    except (FootfallError, ConversionError) as error:
        complaint.write_text(str(error), encoding="utf-8")
        return BAD_INPUT if isinstance(error, FootfallError) else FAILED
    except Exception as error:  # noqa: BLE001 - whatever the converter raises becomes one line in the parent
        complaint.write_text(_explained(error), encoding="utf-8")
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
