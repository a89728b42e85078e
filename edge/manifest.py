"""The manifest that makes a .tflite complete by itself: its schema, and reading it with the standard library alone."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from edge.bouts import Gate
from edge.errors import ModelError
from edge.types import IMU_CHANNELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
METADATA_NAME = "footfall.manifest"
CHECKSUM_NAME = "footfall.sha256"
"""Metadata with the SHA-256 of the whole file, taken while these 32 bytes were zero."""
SCHEMA_VERSION = 1
OUTPUTS = ("per_sample_probability", "window_probability", "start_end_classes")
QUANTIZATIONS = ("int8", "int16x8", "float16", "dynamic_range")
STEP_CLASSES = ("step", "start")
"""Names of the class that counts as a step, along the last axis of a softmax head."""
WALKING_CLASS = "walking"
"""Name of the class along the last axis that holds the probability that somebody walks."""
DAMAGE = (struct.error, IndexError, UnicodeDecodeError)
"""What walking a file that is no flatbuffer runs into."""
MAX_WINDOW_SAMPLES = 4096
MAX_LOOKAHEAD_SAMPLES = 4096
MAX_LOOKAHEAD_S = 10.0
"""A model with memory that answers later than this dates its steps by guess."""
MAX_LEAST_STEPS = 20
MAX_BACKFILL_S = 60.0
LARGEST = 1e300
MAX_SHOWN = 60
"""Characters of a wrong value that a message repeats."""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Known answers: int8 input and output bytes of each case, and the LSB by which a foreign runtime may differ."""

    cases: tuple[tuple[bytes, bytes], ...]
    tolerance_lsb: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the device must know about a model besides its tensors; the fields are those of the contract, section 3.

    channels: columns of IMU_CHANNELS the model reads, in its order. A window is normalised as (x - offset) / scale.
    A per-sample output belongs to input frames [window - lookahead - hop, window - lookahead) of each window; any other
    is one answer per hop, for the newest frame minus lookahead. classes: names along the last axis of the output.
    state: (input, output) tensor names whose bytes go from one window to the next; then window equals hop.
    gate: what to make of the class `walking`, None for a model without it.
    """

    name: str
    version: str
    sampling_rate_hz: float
    window_samples: int
    hop_samples: int
    lookahead_samples: int
    channels: tuple[str, ...]
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    output: str
    classes: tuple[str, ...]
    state: tuple[tuple[str, str], ...]
    quantization: str
    threshold: float
    refractory_s: float
    gate: Gate | None
    self_test: SelfTest

    @property
    def columns(self) -> list[int]:
        """Indices of the model's channels in an `imu` array."""
        return [IMU_CHANNELS.index(name) for name in self.channels]

    @property
    def needs_gyroscope(self) -> bool:
        """Whether the model reads any but the three accelerations."""
        return max(self.columns) >= IMU_CHANNELS.index("gyr_x")

    @property
    def answers_per_hop(self) -> int:
        """Number of probabilities that one window gives."""
        return self.hop_samples if self.output == "per_sample_probability" else 1

    @property
    def answer_period_s(self) -> float:
        """Seconds between two probabilities."""
        return self.hop_samples / self.answers_per_hop / self.sampling_rate_hz

    @property
    def step_class(self) -> int:
        """Column of the last axis that holds the probability of a step."""
        return next((i for i, name in enumerate(self.classes) if name in STEP_CLASSES), 0)

    @property
    def walking_class(self) -> int | None:
        """Column of the last axis that holds the probability that somebody walks, None without a gate."""
        return None if self.gate is None else self.classes.index(WALKING_CLASS)


def embedded_manifest(flatbuffer: bytes) -> dict[str, Any]:
    """Return the manifest embedded in a .tflite; raises ModelError when there is none or the file is damaged."""
    try:
        raw = _metadata_buffer(flatbuffer, METADATA_NAME)
    except DAMAGE as error:
        raise ModelError("is not a .tflite file, or is truncated; copy or convert it again (make convert)") from error
    if raw is None:
        raise ModelError(
            f"has no '{METADATA_NAME}' metadata, so its rate, window and channels are unknown; "
            "convert it with `footfall-convert`, which embeds them"
        )
    try:
        manifest = json.loads(raw, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"has a manifest that is not JSON ({error}); convert it again (make convert)") from error
    if not isinstance(manifest, dict):
        raise ModelError("has a manifest that is not a JSON object; convert it again (make convert)")
    return manifest


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object; ValueError where it says the same twice, for nobody knows which one was meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{_short(next(name for name in names if names.count(name) > 1))} stands twice in an object")
    return found


def check_sum(flatbuffer: bytes) -> None:
    """Raise ModelError if the file carries its own checksum and that is not right; a file without one passes."""
    try:
        place = checksum_place(flatbuffer)
    except DAMAGE as error:
        raise ModelError("is not a .tflite file, or is truncated; copy or convert it again (make convert)") from error
    if place is not None and flatbuffer[place] != checksum(flatbuffer, place):
        raise ModelError("is damaged: its bytes do not fit its SHA-256; copy or convert it again (make convert)")


def checksum_place(flatbuffer: bytes) -> slice | None:
    """Return where the file keeps its checksum, None where it has none."""
    at = _metadata_position(flatbuffer, CHECKSUM_NAME)
    size = hashlib.sha256().digest_size
    return None if at is None or len(_bytes_at(flatbuffer, at)) != size else slice(at + 4, at + 4 + size)


def checksum(flatbuffer: bytes, place: slice) -> bytes:
    """Return the SHA-256 of the file with zeros at the checksum's own place."""
    digest = hashlib.sha256(flatbuffer[: place.start])
    digest.update(bytes(place.stop - place.start))
    digest.update(flatbuffer[place.stop :])
    return digest.digest()


def parse_manifest(document: dict[str, Any]) -> Manifest:
    """Check a manifest's fields and their ranges; raises ModelError that names the first field that is wrong."""
    version = document.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise ModelError(
            f"manifest schema_version is {_short(version)}; this Footfall reads {SCHEMA_VERSION}; convert again"
        )
    if document.get("task") != "step_detection":
        raise ModelError(f"manifest task is {_short(document.get('task'))}; allowed: 'step_detection'")
    manifest = _build(document)
    _check_ranges(manifest)
    return manifest


def _build(document: dict[str, Any]) -> Manifest:
    normalization = _take(document, "normalization", _object)
    self_test = _take(document, "self_test", _object)
    cases = _take(self_test, "cases", _list_of(_object), "self_test.")
    state = _take(document, "state", _list_of(_object)) if document.get("state") is not None else ()
    channels = _take(document, "channels", _list_of(_object))
    return Manifest(
        **{name: _take(document, name, kind) for name, kind in _DIRECT.items()},
        channels=tuple(_take(channel, "name", _text, "channels.") for channel in channels),
        offset=_take(normalization, "offset", _list_of(_number), "normalization."),
        scale=_take(normalization, "scale", _list_of(_number), "normalization."),
        classes=_take(document, "classes", _list_of(_text)) if document.get("classes") is not None else (),
        state=tuple((_take(pair, "input", _text, "state."), _take(pair, "output", _text, "state.")) for pair in state),
        quantization=_take({"quantization": "int8"} | document, "quantization", _text),
        gate=None if document.get("walking") is None else _gate(_take(document, "walking", _object)),
        self_test=SelfTest(
            tuple(
                (_take(case, "input", _base64, "self_test.cases."), _take(case, "output", _base64, "self_test.cases."))
                for case in cases
            ),
            _take(self_test, "tolerance_lsb", _whole, "self_test."),
        ),
    )


def _gate(entry: dict[str, Any]) -> Gate:
    known = [field.name for field in fields(Gate)]
    if unknown := sorted(set(entry) - set(known)):
        raise ModelError(f"manifest walking has an unknown field {_short(unknown[0])}; allowed: {', '.join(known)}")
    levels = {name: _take(entry, name, _number, "walking.") for name in ("on", "off", "backfill_s")}
    others = [name for name in ("first", "last", "patience_s") if entry.get(name) is not None]
    optional = {name: _take(entry, name, _number, "walking.") for name in others}
    return Gate(**levels, **optional, least=_take({"least": 0} | entry, "least", _whole, "walking."))


def _take(entry: dict[str, Any], name: str, kind: Callable[[Any], T], within: str = "") -> T:
    """Return one field as its kind; raises ModelError with the field's full name."""
    if name not in entry:
        raise ModelError(f"manifest has no field '{within}{name}'; convert the model again (make convert)")
    try:
        return kind(entry[name])
    except (TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"manifest {within}{name} is {_short(entry[name])}; allowed: {error}") from error


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= MAX_SHOWN else f"{shown[: MAX_SHOWN - 1]}…"


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("an object")
    return value


def _list_of(kind: Callable[[Any], T]) -> Callable[[Any], tuple[T, ...]]:
    def convert(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise TypeError("a list")
        try:
            return tuple(kind(each) for each in value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"a list, each of it {error}") from error

    return convert


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        raise ValueError("a finite number")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST or value % 1:
        raise ValueError("a whole number")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        # It goes out on MQTT as JSON, which half a surrogate pair would make invalid.
        raise ValueError("text that can be printed")
    return value


def _base64(value: Any) -> bytes:
    try:
        return base64.b64decode(_text(value), validate=True)
    except ValueError as error:
        raise ValueError("base64") from error


_DIRECT: dict[str, Callable[[Any], Any]] = {
    "name": _text,
    "version": _text,
    "sampling_rate_hz": _number,
    "window_samples": _whole,
    "hop_samples": _whole,
    "lookahead_samples": _whole,
    "output": _text,
    "threshold": _number,
    "refractory_s": _number,
}


def _check_ranges(manifest: Manifest) -> None:
    window, hop, lookahead = manifest.window_samples, manifest.hop_samples, manifest.lookahead_samples
    farthest_back = int(min(MAX_LOOKAHEAD_SAMPLES, MAX_LOOKAHEAD_S * manifest.sampling_rate_hz))
    farthest = farthest_back if manifest.state else window - manifest.answers_per_hop
    channels = len(manifest.channels)
    unknown = sorted(set(manifest.channels) - set(IMU_CHANNELS))
    checks = (
        (1 <= manifest.sampling_rate_hz <= 400, "sampling_rate_hz", manifest.sampling_rate_hz, "1 to 400"),
        (1 <= window <= MAX_WINDOW_SAMPLES, "window_samples", window, f"1 to {MAX_WINDOW_SAMPLES}"),
        (1 <= hop <= window, "hop_samples", hop, f"1 to window_samples ({window})"),
        (0 <= lookahead <= farthest, "lookahead_samples", lookahead, f"0 to {farthest}"),
        (not manifest.state or window == hop, "hop_samples", hop, f"window_samples ({window}) for a model with state"),
        (channels > 0 and not unknown, "channels", list(manifest.channels), ", ".join(IMU_CHANNELS)),
        (len(set(manifest.channels)) == channels, "channels", list(manifest.channels), "each at most once"),
        (len(manifest.offset) == channels, "normalization.offset", manifest.offset, f"{channels} numbers"),
        (len(manifest.scale) == channels, "normalization.scale", manifest.scale, f"{channels} numbers"),
        (all(1e-6 < value < 1e6 for value in manifest.scale), "normalization.scale", manifest.scale, "1e-6 to 1e6"),
        (all(abs(value) < 1e6 for value in manifest.offset), "normalization.offset", manifest.offset, "finite"),
        (manifest.output in OUTPUTS, "output", manifest.output, ", ".join(OUTPUTS)),
        (manifest.quantization in QUANTIZATIONS, "quantization", manifest.quantization, ", ".join(QUANTIZATIONS)),
        (_names_one_step_class(manifest), "classes", list(manifest.classes), "one of them 'step' or 'start'"),
        (0 < manifest.threshold < 1, "threshold", manifest.threshold, "between 0 and 1"),
        (0 < manifest.refractory_s <= 2, "refractory_s", manifest.refractory_s, "above 0, at most 2"),
        (
            0 <= manifest.self_test.tolerance_lsb <= 32,
            "self_test.tolerance_lsb",
            manifest.self_test.tolerance_lsb,
            "0 to 32",
        ),
        (bool(manifest.self_test.cases), "self_test.cases", 0, "at least one case"),
    )
    _require(checks)
    if manifest.gate is not None:
        _require(_gate_checks(manifest, manifest.gate))


def _require(checks: Iterable[tuple[bool, str, object, str]]) -> None:
    for fine, name, found, allowed in checks:
        if not fine:
            raise ModelError(f"manifest {name} is {found!r}; allowed: {allowed}")


def _gate_checks(manifest: Manifest, gate: Gate) -> tuple[tuple[bool, str, object, str], ...]:
    named = manifest.classes.count(WALKING_CLASS) == 1
    # A step is known so long after it was made; a gate that keeps none for longer lets none go.
    known_s = (manifest.lookahead_samples + manifest.hop_samples) / manifest.sampling_rate_hz
    weak = f"none, or above 0, at most threshold ({manifest.threshold:g})"
    return (
        (named, "classes", list(manifest.classes), f"with `walking` set, one of them '{WALKING_CLASS}'"),
        (0 < gate.off <= gate.on < 1, "walking", {"on": gate.on, "off": gate.off}, "0 < off <= on < 1"),
        (
            known_s < gate.backfill_s <= MAX_BACKFILL_S,
            "walking.backfill_s",
            gate.backfill_s,
            f"above {known_s:g} (look-ahead and hop), at most {MAX_BACKFILL_S:g}",
        ),
        (
            gate.patience_s is None or gate.backfill_s <= gate.patience_s <= MAX_BACKFILL_S,
            "walking.patience_s",
            gate.patience_s,
            f"none, or walking.backfill_s ({gate.backfill_s:g}) to {MAX_BACKFILL_S:g}",
        ),
        (gate.first is None or 0 < gate.first <= manifest.threshold, "walking.first", gate.first, weak),
        (gate.last is None or 0 < gate.last <= manifest.threshold, "walking.last", gate.last, weak),
        (0 <= gate.least <= MAX_LEAST_STEPS, "walking.least", gate.least, f"0 to {MAX_LEAST_STEPS}"),
    )


def _names_one_step_class(manifest: Manifest) -> bool:
    count = sum(name in STEP_CLASSES for name in manifest.classes)
    return count == 1 or (not manifest.classes and manifest.output != "start_end_classes")


def _metadata_buffer(data: bytes, name: str) -> bytes | None:
    position = _metadata_position(data, name)
    return None if position is None else _bytes_at(data, position)


def _metadata_position(data: bytes, name: str) -> int | None:
    """Walk the flatbuffer Model table (schema.fbs): metadata is its field 6, buffers its field 4."""
    if data[4:8] != b"TFL3":
        raise IndexError("no TFL3 file identifier")
    model = _indirect(data, 0)
    for entry in _vector(data, model, 6):
        name_at = _field(data, entry, 0)
        if name_at is None or _bytes_at(data, _indirect(data, name_at)).decode() != name:
            continue
        index_at = _field(data, entry, 1)
        index = struct.unpack_from("<I", data, index_at)[0] if index_at is not None else 0
        buffer_at = _field(data, _vector(data, model, 4)[index], 0)
        return None if buffer_at is None else _indirect(data, buffer_at)
    return None


def _indirect(data: bytes, position: int) -> int:
    offset: int = struct.unpack_from("<I", data, position)[0]
    return position + offset


def _field(data: bytes, table: int, number: int) -> int | None:
    vtable = table - struct.unpack_from("<i", data, table)[0]
    size = struct.unpack_from("<H", data, vtable)[0]
    if vtable < 0 or 4 + 2 * number >= size:
        return None
    offset = struct.unpack_from("<H", data, vtable + 4 + 2 * number)[0]
    return table + offset if offset else None


def _vector(data: bytes, table: int, number: int) -> list[int]:
    """Positions of the tables in a vector-of-tables field."""
    at = _field(data, table, number)
    if at is None:
        return []
    start = _indirect(data, at)
    (count,) = struct.unpack_from("<I", data, start)
    if count > len(data):
        raise IndexError("vector longer than the file")
    return [_indirect(data, start + 4 + 4 * i) for i in range(count)]


def _bytes_at(data: bytes, position: int) -> bytes:
    (length,) = struct.unpack_from("<I", data, position)
    if position + 4 + length > len(data):
        raise IndexError("buffer longer than the file")
    return data[position + 4 : position + 4 + length]
