"""Proof that a file runs wherever it should: the same inputs through every runtime, compared byte by byte."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.runtimes import Job, Probed, probe_all
from converter.verify import Int8Model
from edge.manifest import embedded_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge.types import FloatArray

    Array = np.ndarray[Any, np.dtype[Any]]

WINDOWS = 100
"""Calibration windows compared besides the self-test."""
STATELESS_AXES = 3
FLOAT_TOLERANCE = 0.001
EXACT = "ai-edge-litert"
"""Runtimes whose name begins so must agree in every byte; tflite-runtime within the self-test's tolerance."""


def state_pairs(flatbuffer: bytes) -> tuple[tuple[str, str], ...]:
    """Return the (input, output) names of the tensors that the manifest says are fed back."""
    pairs = embedded_manifest(flatbuffer).get("state") or []
    return tuple((pair["input"], pair["output"]) for pair in pairs)


def job_for(flatbuffer: bytes, windows: FloatArray) -> tuple[Job, list[bytes]]:
    """Return the self-test cases and then windows as a job, and the bytes that the self-test expects."""
    model = Int8Model(flatbuffer, state_pairs(flatbuffer))
    cases = (embedded_manifest(flatbuffer).get("self_test") or {}).get("cases", [])
    given = [np.frombuffer(base64.b64decode(case["input"]), model.dtype) for case in cases]
    given = [values.reshape(-1, *model.input_shape) for values in given]
    # Sequences of a streaming model, laid end to end, start from a fresh state each.
    steps = windows.shape[1] if windows.ndim > STATELESS_AXES else 1
    rest = model.quantised(windows).reshape(-1, *model.input_shape)
    resets = [np.arange(len(values)) == 0 for values in given] + [np.arange(len(rest)) % steps == 0]
    expected = [base64.b64decode(case["output"]) for case in cases]
    return Job(flatbuffer, np.concatenate([*given, rest]), np.concatenate(resets), state_pairs(flatbuffer)), expected


def runtime_rows(flatbuffer: bytes, windows: FloatArray) -> list[dict[str, Any]]:
    """Return a row per runtime, oldest first: whether it loads the file, and how its answers differ from the newest."""
    job, expected = job_for(flatbuffer, windows[:WINDOWS])
    probed = probe_all(job)
    newest = next((each.outputs for each in reversed(probed) if each.outputs is not None), None)
    tolerance = (embedded_manifest(flatbuffer).get("self_test") or {}).get("tolerance_lsb", 0)
    return [row(each, newest, expected, tolerance) for each in probed]


def row(probed: Probed, newest: Array | None, expected: Sequence[bytes], tolerance_lsb: int) -> dict[str, Any]:
    """Return what one runtime did, ready for JSON. Differences are in LSB for integer outputs."""
    head: dict[str, Any] = {"name": probed.name, "tested": probed.tested, "loads": probed.loads}
    if probed.outputs is None or newest is None:
        return head | {"problem": probed.problem}
    wanted = np.frombuffer(b"".join(expected), probed.outputs.dtype)
    off = _off(probed.outputs, newest)
    # The self-test's answers come first.
    case_off = _off(probed.outputs.reshape(-1)[: wanted.size], wanted).max(initial=0)
    allowed = _allowed(probed, tolerance_lsb)
    return head | {
        "self_test_passes": bool(case_off <= allowed),
        "self_test_off_lsb": _number(case_off),
        "answers": int(off.size),
        "other_answers": int(np.count_nonzero(off)),
        "largest_difference": _number(off.max()),
        **probed.facts,
    }


def _allowed(probed: Probed, tolerance_lsb: int) -> float:
    """Return by how much a runtime's self-test may be off: exactness is promised for int8 under litert alone."""
    kind = None if probed.outputs is None else probed.outputs.dtype
    if kind == np.int8 and probed.name.startswith(EXACT):
        return 0
    return FLOAT_TOLERANCE if kind is not None and kind.kind == "f" else tolerance_lsb


def oldest(rows: Sequence[dict[str, Any]]) -> str | None:
    """Return the oldest runtime that loads the file and passes its self-test."""
    return next((each["name"] for each in rows if each["loads"] and each["self_test_passes"]), None)


def runtime_objections(variant: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return why the device would not run the int8 file; other variants are for comparison and may fail."""
    if variant != "int8":
        return []
    found = []
    for each in rows:
        if each["tested"] and not each["loads"]:
            found.append(f"int8 does not load in {each['name']}: {each['problem']}")
        elif each["loads"] and not each["self_test_passes"]:
            found.append(f"int8 answers its self-test {each['self_test_off_lsb']} LSB off in {each['name']}")
    return found


def _off(one: Array, other: Array) -> Array:
    return np.abs(one.astype(np.float64) - other.astype(np.float64))


def _number(value: Any) -> float | int:
    number = round(float(value), 6)
    return int(number) if number.is_integer() else number


def main(arguments: list[str] | None = None) -> int:
    """Print what every runtime makes of a model; returns 1 if one that was tested refuses it."""
    path = Path((sys.argv[1:] if arguments is None else arguments)[0])
    flatbuffer = path.read_bytes()
    rows = runtime_rows(flatbuffer, np.empty((0, 1, 1), np.float32))
    for each in rows:
        print(json.dumps(each, ensure_ascii=False))
    return int(bool(runtime_objections("int8", rows)))


if __name__ == "__main__":
    sys.exit(main())
