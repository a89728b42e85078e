"""Keras -> full int8, in a process of its own: the TensorFlow converter can abort, and names leak between models.

`quantize()` starts `python -m converter.lowering`, the only part of a conversion that imports TensorFlow.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converter.errors import ConversionError
from edge.errors import ModelError

if TYPE_CHECKING:
    from edge.types import FloatArray

TIMEOUT_S = 600
BAD_INPUT = 2
"""Exit code of the process when what it was given is wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """What the process brings back.

    flatbuffer: the int8 model without a manifest. windows, floats: calibration windows and the Keras model's answers.
    """

    flatbuffer: bytes
    windows: FloatArray
    floats: FloatArray
    parameters: int
    strata: dict[str, int]
    calibration_sha256: str
    versions: dict[str, str]


def quantize(keras_path: Path, spec_path: Path, calibration: Path) -> Quantized:
    """Convert in a fresh process.

    Raises ModelError when the `.keras` file cannot be used, ConversionError when the process dies.
    """
    _check_archive(keras_path)
    with tempfile.TemporaryDirectory(prefix="footfall-convert-") as folder:
        outcome, complaint = Path(folder, "outcome.npz"), Path(folder, "complaint.txt")
        paths = [str(path.resolve()) for path in (keras_path, spec_path, calibration, outcome, complaint)]
        command = [sys.executable, "-m", "converter.lowering", *paths]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": ""}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
        try:
            done = subprocess.run(command, env=environment, capture_output=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise ConversionError(f"{keras_path}: the conversion took more than {TIMEOUT_S} s and was ended") from error
        if done.returncode:
            _complain(keras_path, done, complaint)
        return _read_outcome(outcome)


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            missing = {"config.json", "model.weights.h5"} - set(archive.namelist())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); name a .keras file with --model") from error
    except (zipfile.BadZipFile, EOFError) as error:
        raise ModelError(f"{path}: is not a .keras file, or is truncated; save it again with model.save()") from error
    if damaged or missing:
        what = f"damaged in {damaged}" if damaged else f"without {', '.join(sorted(missing))}"
        raise ModelError(f"{path}: is a .keras file {what}; save it again with model.save()")


def _complain(path: Path, done: subprocess.CompletedProcess[bytes], complaint: Path) -> None:
    if done.returncode == BAD_INPUT and complaint.exists():
        raise ModelError(complaint.read_text(encoding="utf-8"))
    if complaint.exists():
        raise ConversionError(f"{path}: the conversion failed: {complaint.read_text(encoding='utf-8')}")
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
    raise ConversionError(f"{path}: the TensorFlow converter died ({how}): {last}")


def _read_outcome(path: Path) -> Quantized:
    with np.load(path, allow_pickle=False) as found:
        return Quantized(
            flatbuffer=found["flatbuffer"].tobytes(),
            windows=found["windows"],
            floats=found["floats"],
            parameters=int(found["parameters"]),
            strata={str(name): int(count) for name, count in zip(found["strata"], found["strata_counts"], strict=True)},
            calibration_sha256=str(found["calibration_sha256"]),
            versions={str(name): str(value) for name, value in found["versions"]},
        )
