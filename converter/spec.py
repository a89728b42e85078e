"""The spec beside a Keras model: what its tensors mean and how its output becomes steps."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import yaml

from edge import strict_yaml
from edge.bouts import Gate
from edge.errors import UsageError
from edge.manifest import MAX_BACKFILL_S, WALKING_CLASS
from edge.types import IMU_CHANNELS

if TYPE_CHECKING:
    from pathlib import Path

    from edge.types import FloatArray

UNITS = {name: "m/s^2" if name.startswith("acc") else "rad/s" for name in IMU_CHANNELS}
OUTPUTS = ("per_sample_probability", "window_probability", "start_end_classes")
STEP_CLASSES = ("step", "start")
"""A softmax head says with which of its classes a step begins by naming it one of these."""
GATE_KEYS = {entry.name for entry in fields(Gate)}
NEEDED_GATE_KEYS = {entry.name for entry in fields(Gate) if entry.default is MISSING}
NO_RANGE = (-math.inf, math.inf)
"""The input range of a spec that leaves it to the calibration."""


@dataclass(frozen=True, slots=True)
class Spec:
    """All that a model's manifest holds besides what the conversion itself finds out.

    channels: columns of IMU_CHANNELS in the model's order; offset, scale: normalised = (SI value - offset) / scale.
    input_range: (low, high) in normalised units; values outside saturate, so it also fixes the int8 resolution.
    any_orientation: the sensor may be mounted any way up, so calibration windows are turned at random.
    classes: names along the last axis of a softmax head, empty for a single probability.
    state: (input, output) names of the Keras tensors that are fed back, empty for a model without memory.
    gate: what the device makes of the class `walking`, None for a model without one.
    """

    name: str
    version: str
    sampling_rate_hz: float
    hop_samples: int
    lookahead_samples: int
    channels: tuple[str, ...]
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    input_range: tuple[float, float]
    output: str
    threshold: float
    refractory_s: float
    any_orientation: bool = False
    trained_on: tuple[dict[str, str], ...] = ()
    metrics: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    state: tuple[tuple[str, str], ...] = ()
    gate: Gate | None = None

    @property
    def columns(self) -> list[int]:
        """Indices of the model's channels in an `imu` array."""
        return [IMU_CHANNELS.index(name) for name in self.channels]

    @property
    def step_class(self) -> int:
        """Column of the last axis that holds the probability of a step; the same as on the device."""
        return next((number for number, name in enumerate(self.classes) if name in STEP_CLASSES), 0)

    def column(self, answers: FloatArray, number: int) -> FloatArray:
        """Return one class of a model's answers [n, …], or all of them where it has but one, as a flat array."""
        flat: FloatArray = answers.reshape(-1, max(1, len(self.classes)))[:, number]
        return flat


KEYS = {entry.name for entry in fields(Spec)} - {"offset", "scale", "gate"}
KEYS |= {"normalization", "window_samples", "walking"}


_PAIR = {"input", "output"}


def load_spec(path: Path) -> Spec:
    """Read a complete spec; raises UsageError that names the file, the key, the value found and what is allowed."""
    return build_spec(read_document(path), str(path))


def read_document(path: Path) -> dict[str, Any]:
    """Read a spec that may leave keys out; raises UsageError for what is not YAML, and a key unknown or there twice."""
    try:
        document, faults = strict_yaml.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot read the spec ({error.strerror}); name one with --spec") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is no text in UTF-8 ({error.reason}); models/step.yaml is an example") from error
    if faults:
        raise UsageError(f"{path}: {faults[0]}; models/step.yaml is an example")
    if not isinstance(document, dict):
        raise UsageError(f"{path}: holds no keys; models/step.yaml is an example")
    unknown = sorted(set(map(str, document)) - KEYS)
    if unknown:
        raise UsageError(f"{path}: key {unknown[0]!r} is unknown; allowed: {', '.join(sorted(KEYS))}")
    _check_nested(path, document)
    pairs, window = document.get("state") or [], document.get("window_samples", 1)
    if not isinstance(pairs, list) or not all(isinstance(pair, dict) and set(pair) == _PAIR for pair in pairs):
        raise UsageError(f"{path}: state is {pairs!r}; allowed: a list of pairs with the keys input and output")
    if not isinstance(window, int):
        raise UsageError(f"{path}: window_samples is {window!r}; allowed: a whole number")
    return document


def _check_nested(path: Path, document: dict[str, Any]) -> None:
    """Raise UsageError for what would otherwise be ignored or misread: keys, units, and texts in place of values."""
    scaling = document.get("normalization")
    if scaling is not None and not (isinstance(scaling, dict) and set(scaling) <= {"offset", "scale"}):
        raise UsageError(f"{path}: normalization is {scaling!r}; allowed: the keys offset and scale")
    for entry in document.get("channels") or []:
        if isinstance(entry, dict) and (not set(entry) <= {"name", "unit"} or "name" not in entry):
            raise UsageError(f"{path}: channels has {entry!r}; allowed: the keys name and unit")
        unit = UNITS.get(str(entry.get("name"))) if isinstance(entry, dict) else None
        if unit is not None and entry.get("unit", unit) != unit:
            raise UsageError(
                f"{path}: channel {entry['name']} has unit {entry['unit']!r}; allowed: {unit}; for a model that takes "
                "g leave it so and say normalization: {scale: [9.80665, …]}"
            )
    for key, kind, allowed in _KINDS:
        value = document.get(key)
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise UsageError(f"{path}: {key} is {value!r}; allowed: {allowed}")
    edges = document.get("input_range")
    if edges is not None and (len(edges) != 2 or not all(isinstance(edge, (int, float)) for edge in edges)):
        raise UsageError(f"{path}: input_range is {edges!r}; allowed: [low, high]")
    sets = document.get("trained_on") or []
    if not all(isinstance(entry, dict) for entry in sets):
        raise UsageError(f"{path}: trained_on is {sets!r}; allowed: a list of keys with texts, as in models/step.yaml")
    try:
        json.dumps(document, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: holds a value that is neither text nor finite number ({error})") from error


_NUMBER = ((int, float), "a number")
_KINDS = (
    ("name", (str, int, float), "a text"),
    ("version", (str, int, float), "a text"),
    ("channels", list, "a list of names"),
    ("classes", list, "a list of names"),
    ("sampling_rate_hz", *_NUMBER),
    ("threshold", *_NUMBER),
    ("refractory_s", *_NUMBER),
    ("hop_samples", int, "a whole number"),
    ("lookahead_samples", int, "a whole number"),
    ("any_orientation", bool, "true or false"),
    ("input_range", list, "[low, high]"),
    ("output", str, ", ".join(OUTPUTS)),
    ("trained_on", list, "a list"),
    ("metrics", dict, "keys with numbers"),
)


def build_spec(document: dict[str, Any], where: str) -> Spec:
    """Return the spec that a complete document says; raises UsageError that begins with `where`."""
    try:
        spec = _build(document)
        _check(spec)
    except KeyError as error:
        raise UsageError(f"{where}: key {error} is missing; models/step.yaml is an example") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{where}: {error}") from error
    return spec


def to_document(spec: Spec) -> dict[str, Any]:
    """Return plain lists, numbers and texts that `build_spec` reads back."""
    document = asdict(spec)
    document["channels"] = [{"name": name, "unit": UNITS[name]} for name in spec.channels]
    document["normalization"] = {"offset": list(document.pop("offset")), "scale": list(document.pop("scale"))}
    document["input_range"] = list(spec.input_range)
    document["trained_on"] = list(spec.trained_on)
    document["classes"] = list(spec.classes)
    document["state"] = [{"input": given, "output": answer} for given, answer in spec.state]
    document.pop("gate")
    document["walking"] = gate_document(spec)
    return {key: value for key, value in document.items() if value or key not in ("classes", "state", "walking")}


def gate_document(spec: Spec) -> dict[str, float] | None:
    """Return the gate as manifest and spec state it, without what is at its default; None for a model without one."""
    if spec.gate is None:
        return None
    usual = {entry.name: entry.default for entry in fields(Gate)}
    return {key: value for key, value in asdict(spec.gate).items() if value != usual[key]}


def save_spec(spec: Spec, path: Path) -> None:
    """Write a spec that `load_spec` reads back."""
    text = yaml.safe_dump(to_document(spec), sort_keys=False, allow_unicode=True, width=120)
    path.write_text(text, encoding="utf-8")


def _build(document: dict[str, Any]) -> Spec:
    normalization = document["normalization"]
    low, high = document.get("input_range") or NO_RANGE
    return Spec(
        name=str(document["name"]),
        version=str(document["version"]),
        sampling_rate_hz=float(document["sampling_rate_hz"]),
        hop_samples=int(document["hop_samples"]),
        lookahead_samples=int(document["lookahead_samples"]),
        channels=tuple(_channel(channel) for channel in document["channels"]),
        offset=tuple(float(value) for value in normalization["offset"]),
        scale=tuple(float(value) for value in normalization["scale"]),
        input_range=(float(low), float(high)),
        output=str(document["output"]),
        threshold=float(document["threshold"]),
        refractory_s=float(document["refractory_s"]),
        any_orientation=bool(document.get("any_orientation", False)),
        trained_on=tuple(document.get("trained_on") or ()),
        metrics=dict(document.get("metrics") or {}),
        classes=tuple(str(name) for name in document.get("classes") or ()),
        state=tuple((str(pair["input"]), str(pair["output"])) for pair in document.get("state") or ()),
        gate=_gate(document.get("walking")),
    )


def _gate(entry: Any) -> Gate | None:
    if entry is None:
        return None
    if not isinstance(entry, dict) or not NEEDED_GATE_KEYS <= set(entry) <= GATE_KEYS:
        raise ValueError(f"walking is {entry!r}; allowed: the keys {', '.join(sorted(GATE_KEYS))}")
    least = int(entry.get("least", 0))
    return Gate(**{key: float(value) for key, value in entry.items() if key != "least"}, least=least)


def _channel(entry: Any) -> str:
    return str(entry["name"] if isinstance(entry, dict) else entry)


def _check(spec: Spec) -> None:
    unknown = sorted(set(spec.channels) - set(IMU_CHANNELS))
    count = len(spec.channels)
    checks = (
        (count > 0 and not unknown, "channels", list(spec.channels), f"names among {', '.join(IMU_CHANNELS)}"),
        (len(set(spec.channels)) == count, "channels", list(spec.channels), "each at most once"),
        (len(spec.offset) == count, "normalization.offset", list(spec.offset), f"{count} numbers"),
        (len(spec.scale) == count, "normalization.scale", list(spec.scale), f"{count} numbers"),
        (all(0 < value < math.inf for value in spec.scale), "normalization.scale", list(spec.scale), "finite, above 0"),
        (all(map(math.isfinite, spec.offset)), "normalization.offset", list(spec.offset), "finite numbers"),
        (spec.input_range[0] < spec.input_range[1], "input_range", list(spec.input_range), "[low, high]"),
        (1 <= spec.sampling_rate_hz <= 400, "sampling_rate_hz", spec.sampling_rate_hz, "1 to 400"),
        (spec.hop_samples >= 1, "hop_samples", spec.hop_samples, "1 or more"),
        (spec.lookahead_samples >= 0, "lookahead_samples", spec.lookahead_samples, "0 or more"),
        (spec.output in OUTPUTS, "output", spec.output, ", ".join(OUTPUTS)),
        (_names_a_step(spec), "classes", list(spec.classes), f"none, or names with {_step_class(spec)!r} among them"),
        (not (spec.any_orientation and count % 3), "any_orientation", True, "only with whole triples of channels"),
        (0 < spec.threshold < 1, "threshold", spec.threshold, "between 0 and 1"),
        (0 < spec.refractory_s <= 2, "refractory_s", spec.refractory_s, "above 0, at most 2"),
        (_says_who_walks(spec), "walking", spec.gate, f"with a class '{WALKING_CLASS}', 0 < off <= on < 1, 0 to 60 s"),
    )
    for fine, key, found, allowed in checks:
        if not fine:
            raise ValueError(f"{key} is {found!r}; allowed: {allowed}")


def _names_a_step(spec: Spec) -> bool:
    if not spec.classes:
        return spec.output != "start_end_classes"
    wanted = ("start",) if spec.output == "start_end_classes" else STEP_CLASSES
    return len(set(spec.classes) & set(wanted)) == 1 and len(set(spec.classes)) == len(spec.classes) > 1


def _says_who_walks(spec: Spec) -> bool:
    gate = spec.gate
    if gate is None:
        return True
    longest_s = gate.backfill_s if gate.patience_s is None else gate.patience_s
    in_order = 0 < gate.off <= gate.on < 1 and 0 <= gate.backfill_s <= longest_s <= MAX_BACKFILL_S
    return in_order and WALKING_CLASS in spec.classes


def _step_class(spec: Spec) -> str:
    return "start" if spec.output == "start_end_classes" else "step"
