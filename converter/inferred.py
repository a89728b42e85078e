"""Completes a spec: what the user left unsaid follows from the model's tensors, and every assumption is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from converter.spec import Spec, build_spec
from edge.errors import FootfallError, ModelError, UsageError
from edge.types import IMU_CHANNELS

if TYPE_CHECKING:
    from pathlib import Path

    from converter.tensors import ModelTensors

HOPS_PER_WINDOW = 5
RATE_HZ = 50.0
THRESHOLD = 0.5
REFRACTORY_S = 0.2
USUAL_CHANNELS = {3: IMU_CHANNELS[:3], 6: IMU_CHANNELS}
USUAL_CLASSES = {2: ("none", "step"), 3: ("start", "end", "none")}


@dataclass
class _Draft:
    """A document under completion, with the sentence for each value that nobody said."""

    document: dict[str, Any]
    assumptions: list[str] = field(default_factory=list)

    def assume(self, key: str, value: Any, why: str, how: str) -> None:
        """Set a missing key and note it."""
        if self.document.get(key) is None:
            self.document[key] = value
            shown = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            self.assumptions.append(f"{key} {shown} ({why}); change it with {how}")


def complete(
    document: dict[str, Any], tensors: ModelTensors, path: Path, rate_hz: float | None, where: str = ""
) -> tuple[Spec, list[str]]:
    """Return the whole spec and what was assumed, one sentence each.

    document: what the spec file and the command line say. rate_hz: that of all calibration recordings, if one.
    where: begins complaints about the document; by default the model's path. Raises ModelError when the tensors fit no
    kind of output or channels, UsageError for values that are out of range or of the wrong kind.
    """
    try:
        return _complete(document, tensors, path, rate_hz, where or str(path))
    except FootfallError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise UsageError(f"{where or path}: {error}; models/step.yaml is an example") from error


def _complete(
    document: dict[str, Any], tensors: ModelTensors, path: Path, rate_hz: float | None, where: str
) -> tuple[Spec, list[str]]:
    draft = _Draft({key: value for key, value in document.items() if value is not None})
    draft.document.setdefault("name", path.name.split(".")[0])
    draft.document.setdefault("version", "0")
    _channels(draft, tensors, path)
    _rate(draft, rate_hz)
    frames = _output(draft, tensors, path)
    _timing(draft, tensors, frames)
    draft.assume("threshold", THRESHOLD, "the middle", "--threshold")
    draft.assume("refractory_s", REFRACTORY_S, "nobody takes more than 5 steps a second", "--refractory-s")
    spec = build_spec(draft.document, where)
    _check_fit(spec, tensors, path, frames)
    return spec, draft.assumptions


def _channels(draft: _Draft, tensors: ModelTensors, path: Path) -> None:
    count = tensors.channels
    if draft.document.get("channels") is None and count not in USUAL_CHANNELS:
        raise ModelError(f"{path}: takes {count} channels; name them, like --channels {','.join(IMU_CHANNELS[:count])}")
    draft.assume("channels", USUAL_CHANNELS.get(count), f"the model takes {count}", "--channels")
    named = len(draft.document["channels"])
    if named != count:
        raise ModelError(f"{path}: takes {count} channels, its spec names {named}; allowed: {count}")
    unit = {"offset": [0.0] * count, "scale": [1.0] * count}
    if draft.document.get("normalization") is None:
        draft.document["normalization"] = unit
        draft.assumptions.append(
            "inputs in m/s^2 and rad/s as they are (nothing else was said); for a model that takes g say --units g, "
            "for anything else --normalization-scale and --normalization-offset"
        )
    given = draft.document["normalization"]
    draft.document["normalization"] = {key: _each(given.get(key), named, unit[key]) for key in unit}


def _each(values: Any, count: int, default: list[float]) -> list[float]:
    """One number is for every channel, two are for accelerometer and gyroscope."""
    if values is None:
        return default
    listed = [values] if isinstance(values, (int, float)) else list(values)
    if len(listed) == 1:
        return [float(listed[0])] * count
    if len(listed) == 2 and count == len(IMU_CHANNELS):
        return [float(value) for value in listed for _ in range(3)]
    return [float(value) for value in listed]


def _rate(draft: _Draft, rate_hz: float | None) -> None:
    if rate_hz is None:
        draft.assume("sampling_rate_hz", RATE_HZ, "the recordings have several rates", "--sampling-rate-hz")
    else:
        draft.assume("sampling_rate_hz", rate_hz, "that of the recordings", "--sampling-rate-hz")


def _output(draft: _Draft, tensors: ModelTensors, path: Path) -> int:
    """Settle output and classes; return for how many frames the model answers, 0 for one answer per window."""
    shape = tensors.answer
    frames, count = _frames_and_classes(tensors, path)
    if count > 1 and draft.document.get("classes") is None:
        if not tensors.sums_to_one:
            raise ModelError(
                f"{path}: gives {count} values in '{tensors.last_layer}' that do not sum to 1; end it with a softmax, "
                "or name them with --classes"
            )
        if count not in USUAL_CLASSES:
            raise ModelError(f"{path}: gives {count} classes; name them with --classes, one of them 'step' or 'start'")
        draft.assume("classes", list(USUAL_CLASSES[count]), f"a softmax of {count}", "--classes")
    classes = draft.document.get("classes") or ()
    if len(classes) not in (0, count) or (count > 1 and not classes):
        raise ModelError(f"{path}: gives {shape}; --classes names {len(classes)}; allowed: {count} names")
    whole = "start_end_classes" if "start" in classes else "window_probability"
    kind = "per_sample_probability" if frames else whole
    draft.assume("output", kind, f"the model gives {shape}", "--output-kind")
    return frames


def _frames_and_classes(tensors: ModelTensors, path: Path) -> tuple[int, int]:
    shape, window = tensors.answer, tensors.window_samples
    allowed = f"(1), (classes), (frames), (frames, 1) or (frames, classes) with at most {window} frames"
    if len(shape) > 2 or not all(shape):
        raise ModelError(f"{path}: gives {shape} in '{tensors.last_layer}'; allowed: {allowed}")
    if len(shape) == 2:
        frames, count = shape if shape[0] > 1 or tensors.streaming else (0, shape[1])
    elif not shape or shape[0] == 1:
        frames, count = 0, 1
    elif shape[0] != window and (tensors.sums_to_one or shape[0] <= max(USUAL_CLASSES)):
        frames, count = 0, shape[0]
    else:
        frames, count = shape[0], 1
    if window == 1:
        frames = 0
    if frames > window:
        raise ModelError(f"{path}: gives {shape} in '{tensors.last_layer}'; allowed: {allowed}")
    return frames, count


def _timing(draft: _Draft, tensors: ModelTensors, frames: int) -> None:
    window = tensors.window_samples
    if tensors.streaming:
        draft.assume("hop_samples", window, "a model with state takes new frames only", "--hop-samples")
    elif 0 < frames < window:
        draft.assume("hop_samples", frames, f"the model answers for {frames} frames", "--hop-samples")
    else:
        hop = max(1, window // HOPS_PER_WINDOW)
        draft.assume("hop_samples", hop, f"a fifth of the window of {window}", "--hop-samples")
    hop = int(draft.document["hop_samples"])
    if frames == window and not tensors.streaming:
        wanted = tensors.right_context_samples
        lookahead = wanted if wanted < window // 2 else 0
        draft.assume(
            "lookahead_samples",
            max(0, min(lookahead, window - hop)),
            f"an answer depends on {wanted} later frames",
            "--lookahead-samples",
        )
    draft.assume("lookahead_samples", 0, "an answer is for the newest frame", "--lookahead-samples")


def _check_fit(spec: Spec, tensors: ModelTensors, path: Path, frames: int) -> None:
    window, hop = tensors.window_samples, spec.hop_samples
    farthest = window - (hop if frames else 1)
    per_sample = spec.output == "per_sample_probability"
    checks = (
        (hop <= window, f"hop_samples is {hop}", f"1 to the window, {window}"),
        (not tensors.streaming or hop == window, f"hop_samples is {hop}", f"{window}, as a model with state"),
        (
            tensors.streaming or spec.lookahead_samples <= farthest,
            f"lookahead_samples is {spec.lookahead_samples}",
            f"at most {farthest}",
        ),
        (
            frames in (0, hop, window),
            f"the model answers {(1, *tensors.answer)}",
            f"answers for {hop} frames (hop_samples) or {window} (the window)",
        ),
        (per_sample == bool(frames), f"output is {spec.output}", _kinds(frames)),
    )
    for fine, found, allowed in checks:
        if not fine:
            raise ModelError(f"{path}: {found}; allowed by the model and its spec: {allowed}")


def _kinds(frames: int) -> str:
    return "per_sample_probability" if frames else "window_probability or start_end_classes"
