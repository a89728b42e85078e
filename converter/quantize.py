"""What the conversion needs from TensorFlow, asked of a process of its own (`converter.child`)."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converter import refusals, sources
from converter.child import TIMEOUT_S, run_child
from converter.spec import Spec, build_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge.types import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """What the process brings back.

    flatbuffers: by variant, without a manifest. spec: complete. assumptions: what it holds that nobody said.
    windows: [n, window_samples, channels] normalised calibration windows, not clipped to the input range, or, for a
    model with state, [n, steps, window_samples, channels]; floats: the Keras model's answers [n, …] or [n, steps, …].
    """

    flatbuffers: dict[str, bytes]
    spec: Spec
    assumptions: tuple[str, ...]
    window_samples: int
    windows: FloatArray
    floats: FloatArray
    parameters: int
    calibration: dict[str, Any]
    calibration_sha256: str
    versions: dict[str, str]


def quantize(
    model: Path,
    document: dict[str, Any],
    calibration: Path,
    *,
    variants: Sequence[str] = ("int8",),
    where: str = "",
    timeout_s: float = TIMEOUT_S,
) -> Quantized:
    """Convert in a fresh process.

    document: what spec file and command line say, complete or not; where: what complaints about it begin with. Raises
    ModelError when the model cannot be used, another FootfallError for spec and recordings, ConversionError when the
    process fails, dies or takes too long.
    """
    job = _job("quantize", model) | {"document": document, "calibration": str(calibration.resolve())}
    with run_child(job | {"variants": list(variants), "where": where}, timeout_s=timeout_s) as outcome:
        return _read(outcome, model, variants)


def keras_answers(
    model: Path, windows: FloatArray, state: Sequence[tuple[str, str]] = (), *, timeout_s: float = TIMEOUT_S
) -> FloatArray:
    """Return the Keras model's answers [n, …] to normalised windows [n, window_samples, channels].

    state: the (input, output) names of `Spec.state`; then windows are sequences [n, steps, window_samples, channels],
    each starting from zero state, and the answers [n, steps, …]. Raises as `quantize` does.
    """
    with tempfile.TemporaryDirectory(prefix="footfall-windows-") as folder:
        path = Path(folder, "windows.npy")
        np.save(path, np.asarray(windows, np.float32))
        pairs = [{"input": given, "output": answer} for given, answer in state]
        job = _job("answer", model) | {"windows": str(path), "state": pairs}
        with run_child(job, timeout_s=timeout_s) as outcome:
            answers: FloatArray = np.load(outcome)
            return answers


def _job(name: str, model: Path) -> dict[str, Any]:
    """Look at the model's file, so that what is plainly wrong is said at once, and describe the job."""
    kind = sources.kind(model)
    # A damaged .h5 can crash the HDF5 library: the child looks into that itself.
    config = None if kind == sources.HDF5 else sources.architecture(model, kind)
    if config is not None:
        refusals.check_layers(model, config)
    return {"job": name, "model": str(model.resolve()), "kind": kind}


def _read(outcome: Path, model: Path, variants: Sequence[str]) -> Quantized:
    with np.load(outcome, allow_pickle=False) as found:
        facts = json.loads(str(found["facts"]))
        return Quantized(
            flatbuffers={name: found[f"flatbuffer_{name}"].tobytes() for name in variants},
            spec=build_spec(facts["spec"], str(model)),
            assumptions=tuple(facts["assumptions"]),
            window_samples=facts["window_samples"],
            windows=found["windows"],
            floats=found["floats"],
            parameters=facts["parameters"],
            calibration=facts["calibration"],
            calibration_sha256=facts["calibration_sha256"],
            versions=facts["versions"],
        )
