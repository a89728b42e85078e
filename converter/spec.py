"""The spec beside a `.keras` file: what its tensors mean and how its output becomes steps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import yaml

from edge.errors import UsageError
from edge.types import IMU_CHANNELS

if TYPE_CHECKING:
    from pathlib import Path

UNITS = {name: "m/s^2" if name.startswith("acc") else "rad/s" for name in IMU_CHANNELS}
OUTPUTS = ("per_sample_probability",)


@dataclass(frozen=True, slots=True)
class Spec:
    """All that a model's manifest holds besides what the conversion itself finds out.

    channels: columns of IMU_CHANNELS in the model's order; offset, scale: normalised = (SI value - offset) / scale.
    input_range: (low, high) in normalised units; values outside saturate, so it also fixes the int8 resolution.
    any_orientation: the sensor may be mounted any way up, so calibration windows are turned at random.
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


KEYS = {entry.name for entry in fields(Spec)} - {"offset", "scale"} | {"normalization"}


def load_spec(path: Path) -> Spec:
    """Read a spec; raises UsageError that names the file, the key, the value found and what is allowed."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot read the spec ({error.strerror}); name one with --spec") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first_line = str(error).splitlines()[0]
        raise UsageError(f"{path}: is not YAML ({first_line}); models/step.yaml is an example") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path}: holds no keys; models/step.yaml is an example")
    try:
        spec = _build(document)
        _check(spec)
    except KeyError as error:
        raise UsageError(f"{path}: key {error} is missing; models/step.yaml is an example") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path}: {error}") from error
    return spec


def save_spec(spec: Spec, path: Path) -> None:
    """Write a spec that `load_spec` reads back."""
    document = asdict(spec)
    document["channels"] = [{"name": name, "unit": UNITS[name]} for name in spec.channels]
    document["normalization"] = {"offset": list(document.pop("offset")), "scale": list(document.pop("scale"))}
    document["input_range"] = list(spec.input_range)
    document["trained_on"] = list(spec.trained_on)
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")


def _build(document: dict[str, Any]) -> Spec:
    unknown = sorted(set(document) - KEYS)
    if unknown:
        raise ValueError(f"key {unknown[0]!r} is unknown; allowed: {', '.join(sorted(KEYS))}")
    normalization = document["normalization"]
    low, high = document["input_range"]
    return Spec(
        name=str(document["name"]),
        version=str(document["version"]),
        sampling_rate_hz=float(document["sampling_rate_hz"]),
        hop_samples=int(document["hop_samples"]),
        lookahead_samples=int(document["lookahead_samples"]),
        channels=tuple(str(channel["name"]) for channel in document["channels"]),
        offset=tuple(float(value) for value in normalization["offset"]),
        scale=tuple(float(value) for value in normalization["scale"]),
        input_range=(float(low), float(high)),
        output=str(document["output"]),
        threshold=float(document["threshold"]),
        refractory_s=float(document["refractory_s"]),
        any_orientation=bool(document.get("any_orientation", False)),
        trained_on=tuple(document.get("trained_on") or ()),
        metrics=dict(document.get("metrics") or {}),
    )


def _check(spec: Spec) -> None:
    unknown = sorted(set(spec.channels) - set(IMU_CHANNELS))
    count = len(spec.channels)
    checks = (
        (count > 0 and not unknown, "channels", list(spec.channels), f"names among {', '.join(IMU_CHANNELS)}"),
        (len(spec.offset) == count, "normalization.offset", list(spec.offset), f"{count} numbers"),
        (len(spec.scale) == count, "normalization.scale", list(spec.scale), f"{count} numbers"),
        (all(value > 0 for value in spec.scale), "normalization.scale", list(spec.scale), "above 0"),
        (spec.input_range[0] < spec.input_range[1], "input_range", list(spec.input_range), "[low, high]"),
        (1 <= spec.sampling_rate_hz <= 400, "sampling_rate_hz", spec.sampling_rate_hz, "1 to 400"),
        (spec.hop_samples >= 1, "hop_samples", spec.hop_samples, "1 or more"),
        (spec.lookahead_samples >= 0, "lookahead_samples", spec.lookahead_samples, "0 or more"),
        (spec.output in OUTPUTS, "output", spec.output, ", ".join(OUTPUTS)),
        (0 < spec.threshold < 1, "threshold", spec.threshold, "between 0 and 1"),
        (0 < spec.refractory_s <= 2, "refractory_s", spec.refractory_s, "above 0, at most 2"),
    )
    for fine, key, found, allowed in checks:
        if not fine:
            raise ValueError(f"{key} is {found!r}; allowed: {allowed}")
