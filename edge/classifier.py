"""A model file, proven at load, and the one thing it does: a window in, step probabilities out."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edge.errors import ModelError
from edge.manifest import Manifest, check_sum, embedded_manifest, parse_manifest
from edge.runtime import RUNTIMES, open_interpreter

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.types import FloatArray

MAX_MODEL_BYTES = 16 * 1024 * 1024
RUNTIME_FAULTS = (RuntimeError, ValueError, SystemError, OverflowError)
"""What the runtimes raise over a file that they could load but not run."""
INTEGER_TYPES = (np.dtype(np.int8), np.dtype(np.int16))


class Answer(NamedTuple):
    """What a model says of one window.

    step: [answers_per_hop] probability of a step, 0..1; which instants they belong to is said by Manifest.
    walking: probability that somebody walks, 0..1; None from a model that does not say.
    """

    step: FloatArray
    walking: float | None = None


class StepClassifier:
    """Runs a .tflite on windows: quantise with clipping -> invoke -> dequantise.

    path: a .tflite with an embedded manifest. int8_only: refuse every other kind of quantisation.
    observe: called with the seconds of each inference.
    Raises ModelError when the file is missing or damaged, when its manifest does not fit its tensors, or when the
    self-test answers with other bytes than the converter saw.
    """

    def __init__(
        self, path: str | Path, *, int8_only: bool = True, observe: Callable[[float], None] | None = None
    ) -> None:
        self.path = Path(path)
        self._observe = observe
        try:
            flatbuffer = _read(self.path)
            self.sha256 = hashlib.sha256(flatbuffer).hexdigest()
            check_sum(flatbuffer)  # before the runtime sees it: a damaged file can make the runtime abort
            self.manifest: Manifest = parse_manifest(embedded_manifest(flatbuffer))
            _check_quantization(self.manifest, int8_only=int8_only)
            self._interpreter, self.runtime = open_interpreter(flatbuffer)
            self._bind(self.manifest, int8_only=int8_only)
            self._self_test()
        except ModelError as error:
            raise ModelError(f"model {self.path}: {error}") from error
        except RUNTIME_FAULTS as error:
            problem = str(error).strip().splitlines() or [repr(error)]
            raise ModelError(f"model {self.path}: does not run ({problem[0]}); copy or convert it again") from error

    def infer(self, window: FloatArray) -> Answer:
        """Return what one more window tells.

        window: [window_samples, channels] SI units, finite. A model with state expects the windows of a segment in
        order, and reset() between two.
        """
        self._quantise(window)
        began_s = time.perf_counter()
        answer = self._invoke()[self._answer]
        if self._observe is not None:
            self._observe(time.perf_counter() - began_s)
        probability = (answer.astype(np.float32) - self._out_zero) * self._out_scale
        walking = None if self._walking_class is None else float(probability[-1, self._walking_class])
        return Answer(probability[:, self._step_class], walking)

    def reset(self) -> None:
        """Forget the state: the next window starts a new segment."""
        for detail, _ in self._state:
            rest = np.full(detail["shape"], detail["quantization"][1], detail["dtype"])
            self._interpreter.set_tensor(detail["index"], rest)

    def invoke_floor(self) -> None:
        """Run the bare model once on the last input: the floor `footfall bench` compares with."""
        self._interpreter.invoke()

    def _quantise(self, window: FloatArray) -> None:
        np.multiply(window, self._gain, out=self._scaled)
        np.add(self._scaled, self._shift, out=self._scaled)
        if self._limits is not None:
            np.rint(self._scaled, out=self._scaled)
            # astype(int8) wraps around: a hard knock would turn into its opposite without this clip.
            np.clip(self._scaled, *self._limits, out=self._scaled)
        self._given.reshape(self._scaled.shape)[:] = self._scaled

    def _invoke(self) -> np.ndarray[Any, np.dtype[Any]]:
        """Run on `_given`, carry the state over, return every answer, [answers, classes]."""
        self._interpreter.set_tensor(self._input, self._given)
        self._interpreter.invoke()
        answer = self._interpreter.get_tensor(self._output)
        for detail, source in self._state:
            self._interpreter.set_tensor(detail["index"], self._interpreter.get_tensor(source))
        flat: np.ndarray[Any, np.dtype[Any]] = answer.reshape(-1, self._classes)
        return flat

    def _bind(self, manifest: Manifest, *, int8_only: bool) -> None:
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._state = _state_pairs(manifest, inputs, outputs)
        given, answer = _remaining(inputs, outputs, manifest)
        for role, detail in (("input", given), ("output", answer)):
            _check_type(role, detail, int8_only=int8_only)
        _check_shape("input", given, _input_shapes(manifest))
        self._classes = max(1, len(manifest.classes))
        self._step_class, self._walking_class = manifest.step_class, manifest.walking_class
        _check_shape("output", answer, _output_shapes(manifest))
        self._input, self._output = given["index"], answer["index"]
        self._scale_input(manifest, given)
        self._out_scale, self._out_zero = (np.float32(value) for value in _affine(answer))
        # A per-sample head answers for every frame, or only for the new ones; the new ones end at the look-ahead.
        answers = int(np.prod(answer["shape"])) // self._classes
        whole = answers > manifest.answers_per_hop
        end = answers - manifest.lookahead_samples if whole else answers
        self._answer = slice(end - manifest.answers_per_hop, end)
        self.reset()

    def _scale_input(self, manifest: Manifest, given: dict[str, Any]) -> None:
        in_scale, in_zero = _affine(given)
        scale = np.asarray(manifest.scale, np.float64) * in_scale
        self._gain = (1 / scale).astype(np.float32)
        self._shift = (in_zero - np.asarray(manifest.offset) / scale).astype(np.float32)
        self._scaled = np.zeros((manifest.window_samples, len(manifest.channels)), np.float32)
        self._given = np.zeros(given["shape"], given["dtype"])
        limits = np.iinfo(given["dtype"]) if self._given.dtype in INTEGER_TYPES else None
        self._limits = None if limits is None else (limits.min, limits.max)

    def _self_test(self) -> None:
        test = self.manifest.self_test
        # Only integers are the same on every machine; a float model may be off by its own rounding.
        exact = self.runtime == RUNTIMES[0] and self.manifest.quantization == "int8"
        allowed = 0 if exact else test.tolerance_lsb
        for number, (given, expected) in enumerate(test.cases, 1):
            answer = self._replayed(number, given)
            if len(expected) != answer.nbytes:
                raise ModelError(f"self_test case {number} has {len(expected)} output bytes, not {answer.nbytes}")
            off = _largest_difference(answer.reshape(-1), np.frombuffer(expected, answer.dtype))
            if not off <= allowed:
                raise ModelError(
                    f"self_test case {number} is off by {off:g} LSB under {self.runtime}; allowed: {allowed}; "
                    "the file or the runtime is damaged: copy the model again, then reinstall the runtime"
                )
        self.reset()

    def _replayed(self, number: int, given: bytes) -> np.ndarray[Any, np.dtype[Any]]:
        """Return the raw answers to one window or, for a model with state, to several in a row."""
        size = self._given.nbytes
        if not given or len(given) % size or (len(given) > size and not self._state):
            raise ModelError(f"self_test case {number} has {len(given)} input bytes, not {size}")
        self.reset()
        answers = []
        for window in np.frombuffer(given, self._given.dtype).reshape(-1, *self._given.shape):
            self._given = window.copy()
            answers.append(self._invoke())
        return np.concatenate(answers)


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if not path.is_file() or size > MAX_MODEL_BYTES:
            raise ModelError(f"is no file of at most {MAX_MODEL_BYTES} bytes; set model.path to a .tflite")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}; set model.path to a .tflite") from error


def _check_quantization(manifest: Manifest, *, int8_only: bool) -> None:
    if int8_only and manifest.quantization != "int8":
        raise ModelError(f"is {manifest.quantization}, not int8; convert it to int8, or set model.int8_only: false")


def _state_pairs(
    manifest: Manifest, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]
) -> list[tuple[dict[str, Any], int]]:
    """Return (input detail, output index) of each state tensor; its bytes go back as they are, so both must agree."""
    given, answers = {d["name"]: d for d in inputs}, {d["name"]: d for d in outputs}
    pairs = []
    for into, out in manifest.state:
        if into not in given or out not in answers:
            raise ModelError(f"manifest state names {into!r} and {out!r}; the tensors are {[*given, *answers]}")
        a, b = given[into], answers[out]
        same = list(a["shape"]) == list(b["shape"]) and a["dtype"] == b["dtype"] and _affine(a) == _affine(b)
        if not same:
            raise ModelError(f"state {into!r} and {out!r} differ in shape, type or scale; convert the model again")
        pairs.append((a, b["index"]))
    return pairs


def _remaining(
    inputs: list[dict[str, Any]], outputs: list[dict[str, Any]], manifest: Manifest
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the one input and the one output that are no state."""
    into, out = {pair[0] for pair in manifest.state}, {pair[1] for pair in manifest.state}
    given, answers = [d for d in inputs if d["name"] not in into], [d for d in outputs if d["name"] not in out]
    if len(given) != 1 or len(answers) != 1:
        raise ModelError(f"has {len(given)} inputs and {len(answers)} outputs besides its state; allowed: one of each")
    return given[0], answers[0]


def _input_shapes(manifest: Manifest) -> list[tuple[int, ...]]:
    window, channels = manifest.window_samples, len(manifest.channels)
    flat = [(1, channels)] if window == 1 else []
    return [(1, window, channels), (1, window, channels, 1), *flat]


def _output_shapes(manifest: Manifest) -> list[tuple[int, ...]]:
    classes = max(1, len(manifest.classes))
    if manifest.output != "per_sample_probability":
        return [(1, classes), (1, 1, classes), *([(1,)] if classes == 1 else [])]
    lengths = sorted({manifest.hop_samples, manifest.window_samples})
    bare = [(1, length) for length in lengths] if classes == 1 else []
    return [*((1, length, classes) for length in lengths), *bare]


def _check_type(role: str, detail: dict[str, Any], *, int8_only: bool) -> None:
    found = np.dtype(detail["dtype"])
    allowed = [np.dtype(np.int8)] if int8_only else [*INTEGER_TYPES, np.dtype(np.float32)]
    if found not in allowed:
        names = ", ".join(str(kind) for kind in allowed)
        raise ModelError(f"{role} is {found}; allowed: {names}; convert it with `footfall-convert`")
    if found in INTEGER_TYPES and not detail["quantization"][0] > 0:
        raise ModelError(f"{role} has no quantisation scale; convert it with `footfall-convert`")


def _check_shape(role: str, detail: dict[str, Any], shapes: list[tuple[int, ...]]) -> None:
    found = tuple(int(n) for n in detail["shape"])
    if found not in shapes:
        raise ModelError(f"{role} has shape {list(found)}; its manifest allows {[list(shape) for shape in shapes]}")


def _affine(detail: dict[str, Any]) -> tuple[float, int]:
    """Return (scale, zero point); a float tensor is what it is."""
    scale, zero = detail["quantization"]
    return (float(scale), int(zero)) if np.dtype(detail["dtype"]) in INTEGER_TYPES else (1.0, 0)


def _largest_difference(answer: np.ndarray[Any, np.dtype[Any]], expected: np.ndarray[Any, np.dtype[Any]]) -> float:
    """Return the largest difference in LSB; of floats in 1/256, which is an LSB of an int8 probability."""
    difference = float(np.abs(answer.astype(np.float64) - expected).max())
    return difference if answer.dtype in INTEGER_TYPES else 256 * difference
