"""Builds the manifest of contract section 3, embeds it in the flatbuffer, and writes it beside the file for people."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converter.spec import UNITS, gate_document
from edge.manifest import CHECKSUM_NAME, METADATA_NAME, SCHEMA_VERSION, checksum, checksum_place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.spec import Spec
    from converter.verify import Int8Model

    Array = np.ndarray[Any, np.dtype[Any]]

SELF_TEST_STREAM = 80
"""Windows in a row of a self-test case of a model with state: more than the shipped one remembers, which is 64."""
TOLERANCE_LSB = 8
"""How far tflite-runtime may be from litert in the self-test; measured at most 5 (design, toolchain)."""
STREAM_TOLERANCE_LSB = 24
"""The same for a model with state, whose differences feed on themselves; measured at most 16 over forty windows."""


def build_manifest(
    spec: Spec,
    *,
    window_samples: int,
    provenance: dict[str, Any],
    self_test: dict[str, Any],
    quantization: str = "int8",
    state: Sequence[dict[str, str]] = (),
) -> dict[str, Any]:
    """Return the manifest; `provenance` holds keras_sha256, calibration_sha256 and converter_versions.

    state: `input` and `output` of each pair, as their tensors are named in the file.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "name": spec.name,
        "version": spec.version,
        "task": "step_detection",
        "sampling_rate_hz": spec.sampling_rate_hz,
        "window_samples": window_samples,
        "hop_samples": spec.hop_samples,
        "lookahead_samples": spec.lookahead_samples,
        "channels": [{"name": name, "unit": UNITS[name]} for name in spec.channels],
        "normalization": {"offset": list(spec.offset), "scale": list(spec.scale)},
        "state": list(state),
        "output": spec.output,
        "classes": list(spec.classes) or None,
        "threshold": spec.threshold,
        "refractory_s": spec.refractory_s,
        **({"walking": gate_document(spec)} if spec.gate else {}),
        "quantization": quantization,
        "trained_on": list(spec.trained_on),
        "metrics": spec.metrics,
        **provenance,
        "self_test": self_test,
    }


def self_test(converted: Int8Model) -> dict[str, Any]:
    """Return known answers on made-up inputs: noise, a wandering signal and a walk-like rhythm.

    Bytes are those of the tensors, int8 or whatever the variant takes. A model with state gets several windows in a
    row, from its zero point on, and answers to all of them.
    """
    windows = SELF_TEST_STREAM if converted.streaming else 1
    return {
        "tolerance_lsb": STREAM_TOLERANCE_LSB if converted.streaming else TOLERANCE_LSB,
        "cases": [_case(converted, values) for values in _made_up_inputs(converted.input_shape, windows)],
    }


def _case(converted: Int8Model, values: Array) -> dict[str, str]:
    # int16: the same signal on its finer scale. Floats: about 1 g and 1 rad/s at 32.
    given = values * 256 if converted.dtype == np.int16 else values / 32 if converted.dtype.kind == "f" else values
    given = given.astype(converted.dtype).reshape(-1, *converted.input_shape)
    converted.reset()
    return {"input": _base64(given), "output": _base64(np.stack([converted.invoke(one) for one in given]))}


def embed(flatbuffer: bytes, manifest: dict[str, Any]) -> bytes:
    """Return the `.tflite` with the manifest as Metadata `footfall.manifest`, and the file's own checksum beside it."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
    _add_metadata(model, METADATA_NAME, to_json(manifest, indent=None).encode())
    _add_metadata(model, CHECKSUM_NAME, bytes(32))
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    packed = bytearray(builder.Output())
    place = checksum_place(bytes(packed))
    assert place is not None, "just put there"
    packed[place] = checksum(bytes(packed), place)
    return bytes(packed)


def _add_metadata(model: Any, name: str, content: bytes) -> None:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(content, np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = name, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]


def to_json(manifest: dict[str, Any], indent: int | None = 2) -> str:
    """Return the manifest as JSON text."""
    separators = (",", ":") if indent is None else None
    return json.dumps(manifest, indent=indent, ensure_ascii=False, separators=separators)


def _made_up_inputs(shape: tuple[int, ...], windows: int) -> list[Array]:
    """Return int16 values -128 to 127, [samples, channels], for windows of a shape in a row.

    shape: [1, samples, channels(, 1)] or [1, channels].
    """
    rng = np.random.default_rng(0)
    samples, channels = (windows * shape[1], shape[2]) if len(shape) > 2 else (windows, shape[1])
    noise = rng.integers(-128, 128, (samples, channels))
    wander = np.cumsum(rng.integers(-9, 10, (samples, channels)), axis=0)
    # 13 frames per step, a resting 1 g of about 32 LSB on the last axis: whole numbers, so equal on every machine.
    rhythm = [
        [round(20 * math.sin(2 * math.pi * k / 13 + c) + 32 * (c == 2)) for c in range(channels)]
        for k in range(samples)
    ]
    return [np.clip(values, -128, 127).astype(np.int16) for values in (noise, wander, np.array(rhythm))]


def _base64(values: Array) -> str:
    return b64encode(np.ascontiguousarray(values).tobytes()).decode()
