"""Builds the manifest of contract section 3, embeds it in the flatbuffer, and writes it beside the file for people."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converter.spec import UNITS
from edge.manifest import METADATA_NAME, SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.spec import Spec

    Int8Array = np.ndarray[Any, np.dtype[np.int8]]

TOLERANCE_LSB = 8
"""How far tflite-runtime may be from litert in the self-test; measured at most 5 (design, toolchain)."""


def build_manifest(
    spec: Spec, *, window_samples: int, provenance: dict[str, Any], self_test: dict[str, Any]
) -> dict[str, Any]:
    """Return the manifest; `provenance` holds keras_sha256, calibration_sha256 and converter_versions."""
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
        "state": [],
        "output": spec.output,
        "threshold": spec.threshold,
        "refractory_s": spec.refractory_s,
        "trained_on": list(spec.trained_on),
        "metrics": spec.metrics,
        **provenance,
        "self_test": self_test,
    }


def self_test(shape: tuple[int, ...], invoke: Callable[[Int8Array], Int8Array]) -> dict[str, Any]:
    """Return known answers on made-up inputs: noise, a wandering signal and a walk-like rhythm."""
    cases = [given.reshape(shape) for given in _made_up_inputs(shape)]
    return {
        "tolerance_lsb": TOLERANCE_LSB,
        "cases": [{"input": _base64(given), "output": _base64(invoke(given))} for given in cases],
    }


def embed(flatbuffer: bytes, manifest: dict[str, Any]) -> bytes:
    """Return the `.tflite` with the manifest as Metadata buffer `footfall.manifest`."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(to_json(manifest, indent=None).encode(), np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def to_json(manifest: dict[str, Any], indent: int | None = 2) -> str:
    """Return the manifest as JSON text."""
    separators = (",", ":") if indent is None else None
    return json.dumps(manifest, indent=indent, ensure_ascii=False, separators=separators)


def _made_up_inputs(shape: tuple[int, ...]) -> list[Int8Array]:
    rng = np.random.default_rng(0)
    samples, channels = shape[1], shape[2]
    noise = rng.integers(-128, 128, (samples, channels))
    wander = np.cumsum(rng.integers(-9, 10, (samples, channels)), axis=0)
    # 13 frames per step, a resting 1 g of about 32 LSB on the last axis: whole numbers, so equal on every machine.
    rhythm = [
        [round(20 * math.sin(2 * math.pi * k / 13 + c) + 32 * (c == 2)) for c in range(channels)]
        for k in range(samples)
    ]
    return [np.clip(values, -128, 127).astype(np.int8) for values in (noise, wander, np.array(rhythm))]


def _base64(values: Int8Array) -> str:
    return b64encode(np.ascontiguousarray(values).tobytes()).decode()
