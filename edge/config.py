"""config.yaml: what may stand in it, and frozen sections to read it from.

Each key is one field below: its default as YAML would hold it, the rule it must pass and its comment in the shipped
file, which `python -m edge.config` prints. The validator knows no key by name. Relative paths in the file are taken
from the file's directory, relative paths in the environment from the current one.
"""

# ruff: noqa: RUF009  key() makes a dataclass field, as field() does
from __future__ import annotations

import difflib
import hashlib
import json
import re
import socket
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import yaml

from edge import strict_yaml
from edge.errors import ConfigError
from edge.rules import (
    Address,
    Bus,
    Choice,
    FilePath,
    Flag,
    Matrix,
    Number,
    Optional,
    Problem,
    Rotation,
    Rule,
    Speed,
    Text,
    Whole,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SENSOR_TYPES = ("auto", "mpu6050", "mpu6500", "mpu9250", "mpu9255", "replay")
# The four MPU names are accepted alike: boards sold as one carry another, and WHO_AM_I tells which.
ENV_PREFIX = "FOOTFALL__"
_PACKAGE_ROOT = Path(__file__).resolve().parent.parent
_HOST = Text(r"[^\s/@]+", "a host name or an address")
_TOPIC = Text(r"(?!\$)[^+#\0/]+(/[^+#\0/]+)*", "a topic without + and #, no / at either end, no $ in front")
_ID = Text(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", "lower-case letters, digits and inner hyphens (a-z, 0-9, -)")


def key(default: object, rule: Rule, doc: str, *, derived: Any = None) -> Any:
    """One key: its default in YAML's terms, its rule, its comment; `derived` makes the default when YAML says null."""
    metadata = {"default": default, "rule": rule, "doc": doc, "derived": derived}
    if derived is not None:
        return field(default_factory=derived, metadata=metadata)
    return field(default=rule(default), metadata=metadata)


def host_device_id() -> str:
    """Take the host name, made to fit a device id: `Anna's Pi.local` becomes `anna-s-pi`."""
    name = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().split(".")[0].lower()).strip("-")
    return name or "footfall"


@dataclass(frozen=True, slots=True)
class Device:
    """Who this is."""

    id: str = key(
        None, Optional(_ID, "from the host name"), "part of every topic; null = the host name", derived=host_device_id
    )


@dataclass(frozen=True, slots=True)
class Sensor:
    """Where the samples come from."""

    type: str = key("auto", Choice(SENSOR_TYPES), f"{', '.join(SENSOR_TYPES)}; auto asks the chip who it is")
    bus: int | Path = key(1, Bus(), "I2C bus: a number (1 is /dev/i2c-1) or the path of a device node")
    address: int | None = key(
        None, Optional(Address((0x68, 0x69)), "both are tried"), "0x68, or 0x69 with AD0 high; null = try both"
    )
    accept_unknown_id: bool = key(
        False, Flag(), "use a chip that answers with an unknown WHO_AM_I as if it were an MPU-6050 (some clones)"
    )
    sampling_rate_hz: float = key(100, Number(20, 200), "samples per second; the nearest rate the chip has is taken")
    recording: Path | None = key(
        None, Optional(FilePath(), "none"), "the file that type replay plays (.npz, .csv, .csv.gz)"
    )
    replay_speed: float | None = key(1, Speed(), "of type replay: a factor of real time, or max")
    mount_matrix: Matrix = key(
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]], Rotation(), "rotation from the chip's axes to the device's"
    )


@dataclass(frozen=True, slots=True)
class Model:
    """What recognises the steps."""

    path: Path = key(
        "models/step.tflite", FilePath(), "int8 .tflite; looked for beside this file, then where Footfall is installed"
    )
    int8_only: bool = key(True, Flag(), "false also runs int16x8, float16 and dynamic-range models, which cost more")


@dataclass(frozen=True, slots=True)
class Tls:
    """How the broker proves who it is."""

    ca_file: Path | None = key(
        None,
        Optional(FilePath(), "no TLS"),
        "CA certificate (PEM); null = no TLS; public CAs: /etc/ssl/certs/ca-certificates.crt",
    )


@dataclass(frozen=True, slots=True)
class Mqtt:
    """Where the steps go."""

    host: str = key("localhost", _HOST, "the broker")
    port: int = key(1883, Whole(1, 65535), "1883, or 8883 as is usual with TLS")
    base_topic: str = key("footfall/{device_id}", _TOPIC, "every topic starts with it; {device_id} is filled in")
    username: str | None = key(None, Optional(Text(r"[^\0]+", "text"), "none"), "null = anonymous")
    password_file: Path | None = key(
        None,
        Optional(FilePath(), "none"),
        "its first line is the password; null = systemd credential footfall.mqtt-password, if there is one",
    )
    keepalive_s: int = key(30, Whole(5, 3600), "a silent broker is given up after 1.5 times this")
    live_age_s: float = key(30, Number(1, 86400), "older steps are sent to .../batch as late, not to .../step")
    home_assistant: bool = key(
        False, Flag(), "accepted, but WITHOUT EFFECT so far: Home Assistant discovery comes with a later version"
    )
    tls: Tls = field(default_factory=Tls)


@dataclass(frozen=True, slots=True)
class Outbox:
    """Where steps wait until the broker has acknowledged them."""

    path: Path = key("/var/lib/footfall/outbox.db", FilePath(), "SQLite file; also holds the lifetime total")
    max_age_h: float = key(720, Number(1, 87600), "older steps are dropped unsent, and counted")
    max_bytes: int = key(33554432, Whole(65536, 2**40), "beyond this the oldest are dropped (about 115 bytes a step)")


@dataclass(frozen=True, slots=True)
class Health:
    """What the device says about itself."""

    interval_s: float = key(60, Number(5, 86400), "seconds between two messages on .../health")


@dataclass(frozen=True, slots=True)
class Logging:
    """What goes to standard error, and so to the journal."""

    level: str = key("info", Choice(("debug", "info", "warning", "error")), "debug, info, warning, error")
    format: str = key("text", Choice(("text", "json")), "text, or json: one object per line")


@dataclass(frozen=True, slots=True)
class Config:
    """All sections."""

    device: Device = field(default_factory=Device)
    sensor: Sensor = field(default_factory=Sensor)
    model: Model = field(default_factory=Model)
    mqtt: Mqtt = field(default_factory=Mqtt)
    outbox: Outbox = field(default_factory=Outbox)
    health: Health = field(default_factory=Health)
    logging: Logging = field(default_factory=Logging)

    def fingerprint(self) -> str:
        """12 hex digits that change whenever a setting does; secrets are not in here, so neither in there."""
        text = json.dumps(asdict(self), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class _Given:
    """A value somebody wrote, where they wrote it and what its relative paths refer to."""

    value: object
    where: str
    directory: Path


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Read the file (None: defaults only) and the environment on top; ConfigError names every problem."""
    config, problems = _read(path, environ)
    if config is None:
        name = str(path) if path else "the environment"
        count = f"{len(problems)} errors: " if len(problems) > 1 else ""
        raise ConfigError(f"{name}: {count}{'; '.join(map(str, problems))}")
    return config


def check(path: Path, environ: Mapping[str, str]) -> list[Problem]:
    """Every problem at once; empty when the file is fine."""
    return _read(path, environ)[1]


def render() -> str:
    """Write the shipped config.yaml: every key with its default and one comment."""
    lines = [
        "# Footfall's settings, each with its default. Delete what you do not change: an empty file is valid.",
        "# `footfall check-config FILE` finds mistakes. Environment variables win: FOOTFALL__MQTT__HOST=broker.lan",
    ]
    section: tuple[str, ...] = ()
    for path, one in _keys().items():
        *parents, name = path.split(".")
        for depth in range(len(parents)):
            if section[: depth + 1] != tuple(parents[: depth + 1]):
                lines += [""] * (depth == 0) + [f"{'  ' * depth}{parents[depth]}:"]
        section = tuple(parents)
        text = yaml.safe_dump(one.metadata["default"], default_flow_style=True, width=1000).split("\n...")[0].strip()
        # YAML would read {device_id} as a mapping only at the start of a value; safe_dump quotes where it must.
        lines.append(f"{'  ' * len(parents) + f'{name}: {text}':<44}  # {one.metadata['doc']}")
    return "\n".join(lines) + "\n"


def _read(path: Path | None, environ: Mapping[str, str]) -> tuple[Config | None, list[Problem]]:
    problems: list[Problem] = []
    given = dict(_from_file(path, problems)) if path is not None else {}
    given.update(_from_environment(environ, problems))
    values = {name: _value(_keys()[name].metadata["rule"], one, problems) for name, one in given.items()}
    problems += _contradictions(values)
    if problems:
        return None, problems
    return _resolve(_build(Config, "", values), path, given), []


def _contradictions(values: Mapping[str, object]) -> Iterator[Problem]:
    if values.get("sensor.type") == "replay" and values.get("sensor.recording") is None:
        yield Problem("sensor.recording", "null", "a path, because sensor.type is replay")
    if values.get("mqtt.password_file") is not None and values.get("mqtt.username") is None:
        yield Problem("mqtt.username", "null", "text, because mqtt.password_file is set")


def _value(rule: Rule, given: _Given, problems: list[Problem]) -> object:
    try:
        value = rule(given.value)
    except ValueError as error:
        words = rule.words if isinstance(rule, Choice) else ()
        nearest = difflib.get_close_matches(str(given.value).lower(), words, n=1)
        hint = str(error) or (f"did you mean {nearest[0]}?" if nearest else "")
        problems.append(Problem(given.where, _shown(given.value), rule.allowed, hint))
        return given.value
    return given.directory / value if isinstance(value, Path) else value


Section = TypeVar("Section")


def _build(section: type[Section], prefix: str, values: Mapping[str, object]) -> Section:
    """Fill the section's fields, and those of the sections in it, with what was given."""
    hints = get_type_hints(section)
    chosen: dict[str, object] = {}
    for one in fields(section):  # type: ignore[arg-type]  # every section is a dataclass
        path = prefix + one.name
        if is_dataclass(hints[one.name]):
            chosen[one.name] = _build(hints[one.name], f"{path}.", values)
        elif path in values and not (values[path] is None and one.metadata["derived"]):
            chosen[one.name] = values[path]
    return section(**chosen)


def _resolve(config: Config, path: Path | None, given: Mapping[str, _Given]) -> Config:
    """Fill in what depends on other values or on the place: the topic's device id, the model's directory."""
    topic = config.mqtt.base_topic.replace("{device_id}", config.device.id)
    model = config.model.path
    if "model.path" not in given and path is not None:
        model = path.absolute().parent / model
    shipped = _PACKAGE_ROOT / str(_keys()["model.path"].metadata["default"])
    if not model.is_absolute() or (not model.exists() and model.parts[-2:] == shipped.parts[-2:]):
        model = shipped
    return replace(config, mqtt=replace(config.mqtt, base_topic=topic), model=replace(config.model, path=model))


def _from_file(path: Path, problems: list[Problem]) -> Iterator[tuple[str, _Given]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "bytes that are not UTF-8"
        problems.append(Problem(str(path), str(reason), "a readable YAML file"))
        return
    tree, faults = strict_yaml.parse(text)
    problems += faults
    yield from _leaves(tree, "", path.absolute().parent, problems)


def _leaves(tree: object, prefix: str, directory: Path, problems: list[Problem]) -> Iterator[tuple[str, _Given]]:
    """Walk the sections of a YAML tree down to the keys; an empty section is one where nothing is changed."""
    if tree is None:
        return
    if not isinstance(tree, dict):
        problems.append(Problem(prefix.rstrip(".") or "file", _shown(tree), "a section: " + ", ".join(_names(prefix))))
        return
    for name, value in tree.items():
        path = f"{prefix}{name}"
        if path in _keys():
            yield path, _Given(value, path, directory)
        elif _names(f"{path}."):
            yield from _leaves(value, f"{path}.", directory, problems)
        else:
            problems.append(_unknown(path, str(name), prefix))


def _from_environment(environ: Mapping[str, str], problems: list[Problem]) -> Iterator[tuple[str, _Given]]:
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENV_PREFIX):
            continue
        path = variable.removeprefix(ENV_PREFIX).lower().replace("__", ".")
        if path not in _keys():
            problems.append(_unknown(variable, path, ""))
            continue
        yield path, _Given(_environment_value(text, _keys()[path].metadata["rule"]), variable, Path.cwd())


def _environment_value(text: str, rule: Rule) -> object:
    """Text rules take the variable as it is (empty: null), the others read it as YAML."""
    if rule.is_text:
        return text or None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _unknown(where: str, name: str, prefix: str) -> Problem:
    candidates = _names(prefix) if prefix or "." not in name else list(_keys())
    nearest = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
    if nearest:
        return Problem(where, "an unknown name", ", ".join(candidates), f"did you mean {prefix}{nearest[0]}?")
    elsewhere = [path for path in _keys() if path.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
    hint = f"did you mean {elsewhere[0]}?" if elsewhere else ""
    return Problem(where, "an unknown name", ", ".join(candidates), hint)


def _names(prefix: str) -> list[str]:
    """List the keys and sections right below a prefix such as `mqtt.`; none where there is no such section."""
    below = (path.removeprefix(prefix).split(".")[0] for path in _keys() if path.startswith(prefix))
    return list(dict.fromkeys(below))


def _shown(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "a section"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


@cache
def _keys() -> dict[str, Any]:
    """Every key's dataclass field by its path, in the order of the shipped file."""

    def walk(section: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        hints = get_type_hints(section)
        for one in fields(section):
            if is_dataclass(hints[one.name]):
                yield from walk(hints[one.name], f"{prefix}{one.name}.")
            else:
                yield prefix + one.name, one

    return dict(walk(Config, ""))


if __name__ == "__main__":
    print(render(), end="")
