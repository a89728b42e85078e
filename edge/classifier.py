"""A model file, proven at load, and the one thing it does: a window in, step probabilities out."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import ModelError
from edge.manifest import Manifest, embedded_manifest, parse_manifest
from edge.runtime import RUNTIMES, open_interpreter

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.types import FloatArray

MAX_MODEL_BYTES = 16 * 1024 * 1024


class StepClassifier:
    """Runs a fully int8 .tflite on windows: quantise with clipping -> invoke -> dequantise.

    path: a .tflite with an embedded manifest. observe: called with the seconds of each inference.
    Raises ModelError when the file is missing or damaged, when its
    manifest does not fit its tensors, or when the self-test answers with other bytes than the converter saw.
    """

    def __init__(self, path: str | Path, *, observe: Callable[[float], None] | None = None) -> None:
        self.path = Path(path)
        self._observe = observe
        try:
            flatbuffer = _read(self.path)
            self.sha256 = hashlib.sha256(flatbuffer).hexdigest()
            self.manifest: Manifest = parse_manifest(embedded_manifest(flatbuffer))
            self._interpreter, self.runtime = open_interpreter(flatbuffer)
            self._bind(self.manifest)
            self._self_test()
        except ModelError as error:
            raise ModelError(f"model {self.path}: {error}") from error

    def probability(self, window: FloatArray) -> FloatArray:
        """Return the step probability of each new frame.

        window: [window_samples, channels] SI units, finite. Returns [hop_samples] 0..1, for input frames
        [window - lookahead - hop, window - lookahead).
        """
        np.multiply(window, self._gain, out=self._scaled)
        np.add(self._scaled, self._shift, out=self._scaled)
        np.rint(self._scaled, out=self._scaled)
        # astype(int8) wraps around: a hard knock would turn into its opposite without this clip.
        np.clip(self._scaled, -128, 127, out=self._scaled)
        self._quantised[0] = self._scaled
        began_s = time.perf_counter()
        answer = self._invoke(self._quantised)[self._answer]
        if self._observe is not None:
            self._observe(time.perf_counter() - began_s)
        return (answer.astype(np.float32) - self._out_zero) * self._out_scale

    def invoke_floor(self) -> None:
        """Run the bare model once on the last input: the floor `footfall bench` compares with."""
        self._interpreter.invoke()

    def _invoke(self, quantised: np.ndarray[Any, np.dtype[np.int8]]) -> np.ndarray[Any, np.dtype[np.int8]]:
        self._interpreter.set_tensor(self._input, quantised)
        self._interpreter.invoke()
        output: np.ndarray[Any, np.dtype[np.int8]] = self._interpreter.get_tensor(self._output)
        return output.reshape(-1)

    def _bind(self, manifest: Manifest) -> None:
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ModelError(f"has {len(inputs)} inputs and {len(outputs)} outputs; allowed: one of each")
        shape = (1, manifest.window_samples, len(manifest.channels))
        _check_tensor("input", inputs[0], (shape,))
        lengths = (manifest.hop_samples, manifest.window_samples)
        _check_tensor("output", outputs[0], tuple(s for n in lengths for s in ((1, n, 1), (1, n))))
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]
        in_scale, in_zero = inputs[0]["quantization"]
        self._out_scale, self._out_zero = (np.float32(value) for value in outputs[0]["quantization"])
        scale = np.asarray(manifest.scale, np.float64) * in_scale
        self._gain = (1 / scale).astype(np.float32)
        self._shift = (in_zero - np.asarray(manifest.offset) / scale).astype(np.float32)
        self._scaled = np.zeros(shape[1:], np.float32)
        self._quantised = np.zeros(shape, np.int8)
        # A per-frame head answers for every frame, or only for the new ones; the new ones end at the look-ahead.
        whole = int(np.prod(outputs[0]["shape"])) == manifest.window_samples
        end = manifest.window_samples - manifest.lookahead_samples if whole else manifest.hop_samples
        self._answer = slice(end - manifest.hop_samples, end)

    def _self_test(self) -> None:
        test = self.manifest.self_test
        allowed = 0 if self.runtime == RUNTIMES[0] else test.tolerance_lsb
        for number, (given, expected) in enumerate(test.cases, 1):
            if len(given) != self._quantised.size:
                raise ModelError(f"self_test case {number} has {len(given)} input bytes, not {self._quantised.size}")
            answer = self._invoke(np.frombuffer(given, np.int8).reshape(self._quantised.shape))
            if len(expected) != answer.size:
                raise ModelError(f"self_test case {number} has {len(expected)} output bytes, not {answer.size}")
            off = int(np.abs(answer.astype(np.int16) - np.frombuffer(expected, np.int8)).max())
            if off > allowed:
                raise ModelError(
                    f"self_test case {number} is off by {off} LSB under {self.runtime}; allowed: {allowed}; "
                    "the file or the runtime is damaged: copy the model again, then reinstall the runtime"
                )


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if not path.is_file() or size > MAX_MODEL_BYTES:
            raise ModelError(f"is no file of at most {MAX_MODEL_BYTES} bytes; set model.path to a .tflite")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}; set model.path to a .tflite") from error


def _check_tensor(role: str, detail: dict[str, Any], shapes: tuple[tuple[int, ...], ...]) -> None:
    found = tuple(int(n) for n in detail["shape"])
    if np.dtype(detail["dtype"]) != np.int8:
        raise ModelError(f"{role} is {np.dtype(detail['dtype'])}, not int8; convert it with `footfall-convert`")
    if found not in shapes:
        raise ModelError(f"{role} has shape {list(found)}, its manifest says {[list(s) for s in shapes]}")
    if not detail["quantization"][0] > 0:
        raise ModelError(f"{role} has no quantisation scale; convert it with `footfall-convert`")
