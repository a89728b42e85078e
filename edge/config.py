"""config.yaml: what may stand in it, and frozen sections to read it from.

Each key is one field below: its default as YAML would hold it, the rule it must pass and its comment in the shipped
file, which `python -m edge.config` prints. The validator knows no key by name. Relative paths in the file are taken
from the file's directory, relative paths in the environment from the current one.
"""

# ruff: noqa: RUF009  key() makes a dataclass field, as field() does
from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import yaml

from edge import strict_yaml
from edge.config_names import misspelt_variable, names_below, unknown
from edge.errors import ConfigError
from edge.machine import default_outbox_path, host_device_id, unreadable
from edge.rules import (
    Address,
    Bus,
    Choice,
    FilePath,
    Flag,
    Host,
    Hosts,
    Matrix,
    Number,
    Optional,
    Problem,
    Rotation,
    Rule,
    Speed,
    Text,
    Whole,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SENSOR_TYPES = (
    "auto", "mpu6050", "mpu6500", "mpu9250", "mpu9255", "icm42688", "icm20948", "bmi160", "bmi270", "lsm6ds3",
    "lsm6dsox", "ism330dhcx", "lsm6dso32", "lsm9ds1", "replay",
)  # fmt: skip
# Names of one family are accepted alike: boards sold as one part carry another, and WHO_AM_I tells which.
SENSOR_ADDRESSES = (0x68, 0x69, 0x6A, 0x6B)
ENV_PREFIX = "FOOTFALL__"
_PACKAGE_ROOT = Path(__file__).resolve().parent.parent
_MAX_FILE_CHARACTERS = 1_000_000
_MAX_PROBLEMS_IN_A_LINE = 20
_TOPIC = Text(r"(?!\$)[^+#\0/]+(/[^+#\0/]+)*", "a topic without + and #, no / at either end, no $ in front")
_ID = Text(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", "lower-case letters, digits and inner hyphens (a-z, 0-9, -)", 64)


def key(default: object, rule: Rule, doc: str, *, derived: Callable[[Mapping[str, str]], object] | None = None) -> Any:
    """One key: its default in YAML's terms, its rule, its comment.

    derived: makes the value out of the environment variables where YAML says null.
    """
    metadata = {"default": default, "rule": rule, "doc": doc, "derived": derived}
    if derived is not None:
        return field(default_factory=lambda: derived(os.environ), metadata=metadata)
    return field(default=rule(default), metadata=metadata)


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
    backend: str = key(
        "i2c", Choice(("i2c", "iio")), "i2c; iio: the kernel's own driver and its buffer, where the INT pin is wired"
    )
    bus: int | Path = key(1, Bus(), "I2C bus: a number (1 is /dev/i2c-1) or the path of a device node")
    address: int | None = key(
        None,
        Optional(Address(SENSOR_ADDRESSES), "all are tried"),
        "0x68 or 0x69 (InvenSense, Bosch), 0x6a or 0x6b (ST); null = try all that fit",
    )
    accept_unknown_id: bool = key(
        False,
        Flag(),
        "use a chip with an unknown WHO_AM_I (a clone) as if it were the one in type; auto: an MPU-6050",
    )
    sampling_rate_hz: float = key(100, Number(20, 200), "samples per second; the nearest rate the chip has is taken")
    firmware: Path | None = key(
        None,
        Optional(FilePath(must_exist=True), "where the kernel keeps firmware"),
        "of a BMI270: its 8 kB configuration; null = /lib/firmware/bmi270-init-data.fw",
    )
    recording: Path | None = key(
        None, Optional(FilePath(must_exist=True), "none"), "the file that type replay plays (.npz, .csv, .csv.gz)"
    )
    replay_speed: float | None = key(1, Speed(), "of type replay: a factor of real time, or max")
    mount_matrix: Matrix = key(
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]], Rotation(), "rotation from the chip's axes to the device's"
    )


@dataclass(frozen=True, slots=True)
class Model:
    """What recognises the steps."""

    path: Path = key(
        "models/step.tflite",
        FilePath(must_exist=True),
        "int8 .tflite; looked for beside this file, then where Footfall is installed",
    )
    int8_only: bool = key(True, Flag(), "false also runs int16x8, float16 and dynamic-range models, which cost more")


@dataclass(frozen=True, slots=True)
class Tls:
    """How the broker proves who it is."""

    ca_file: Path | None = key(
        None,
        Optional(FilePath(must_exist=True), "no TLS"),
        "CA certificate (PEM); null = no TLS; public CAs: /etc/ssl/certs/ca-certificates.crt",
    )
    cert_file: Path | None = key(
        None, Optional(FilePath(must_exist=True), "none"), "our own certificate (PEM), where the broker wants one"
    )
    key_file: Path | None = key(
        None, Optional(FilePath(must_exist=True), "it is in cert_file"), "its private key, without a passphrase"
    )


@dataclass(frozen=True, slots=True)
class Mqtt:
    """Where the steps go."""

    host: str = key("localhost", Host(), "the broker")
    port: int = key(1883, Whole(1, 65535), "1883, or 8883 as is usual with TLS")
    base_topic: str = key("footfall/{device_id}", _TOPIC, "every topic starts with it; {device_id} is filled in")
    fallback_hosts: tuple[tuple[str, int | None], ...] = key(
        [],
        Hosts(),
        "other brokers (HOST or HOST:PORT) in order of preference, for the time while mqtt.host is away",
    )
    username: str | None = key(None, Optional(Text(r".+", "text"), "none"), "null = anonymous")
    password_file: Path | None = key(
        None,
        Optional(FilePath(must_exist=True), "none"),
        "its first line is the password; null = systemd credential footfall.mqtt-password, if there is one",
    )
    keepalive_s: int = key(30, Whole(5, 3600), "a silent broker is given up after 1.5 times this")
    live_age_s: float = key(30, Number(1, 86400), "older steps are sent to .../batch as late, not to .../step")
    home_assistant: bool = key(
        False, Flag(), "announce the device to Home Assistant; switched off again, it is removed there"
    )
    commands: bool = key(
        True, Flag(), "answer ping, info, reset-today and snapshot on .../cmd/+; false = not even listen"
    )
    batch_s: float = key(0, Number(0, 3600), "fleets: all steps of so many seconds in one .../batch; 0 = each at once")
    first_connect_within_s: float = key(
        0, Number(0, 3600), "fleets: the first connection comes at a random moment within so many seconds"
    )
    tls: Tls = field(default_factory=Tls)


@dataclass(frozen=True, slots=True)
class Outbox:
    """Where steps wait until the broker has acknowledged them."""

    path: Path = key(
        None,
        Optional(FilePath(), "where this user keeps state"),
        "SQLite file with the lifetime total; null = footfall/outbox.db in /var/lib (root) or ~/.local/state (others); "
        "under systemd $STATE_DIRECTORY/outbox.db",
        derived=default_outbox_path,
    )
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
        more = len(problems) - _MAX_PROBLEMS_IN_A_LINE
        told = [*map(str, problems[:_MAX_PROBLEMS_IN_A_LINE]), *([f"and {more} more"] if more > 0 else [])]
        raise ConfigError(f"{name}: {count}{'; '.join(told)}")
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
    wrong = {problem.path for problem in problems}
    given = {name: one for name, one in given.items() if one.where not in wrong}
    config = _resolve(_build(Config, "", {name: values[name] for name in given}, environ), path, given)
    problems += _missing_files(config, given)
    return (None if problems else config), problems


def _contradictions(values: Mapping[str, object]) -> Iterator[Problem]:
    if values.get("sensor.type") == "replay" and values.get("sensor.recording") is None:
        yield Problem("sensor.recording", "null", "a path, because sensor.type is replay")
    if values.get("mqtt.password_file") is not None and values.get("mqtt.username") is None:
        yield Problem("mqtt.username", "null", "text, because mqtt.password_file is set")
    if values.get("mqtt.tls.cert_file") is not None and values.get("mqtt.tls.ca_file") is None:
        yield Problem("mqtt.tls.ca_file", "null", "a path, because mqtt.tls.cert_file is set")
    if values.get("mqtt.tls.key_file") is not None and values.get("mqtt.tls.cert_file") is None:
        yield Problem("mqtt.tls.cert_file", "null", "a path, because mqtt.tls.key_file is set")


def _missing_files(config: Config, given: Mapping[str, _Given]) -> Iterator[Problem]:
    """Yield the files that somebody named and nobody can read; a daemon would look as if the broker were gone."""
    for name, one in given.items():
        rule = _inner(_keys()[name].metadata["rule"])
        if name == "outbox.path" and os.path.isdir(config.outbox.path):  # noqa: PTH112  Path's may raise
            yield Problem(one.where, f"{shown(str(config.outbox.path), 300)} (a directory)", "the path of a file in it")
        if not isinstance(rule, FilePath) or not rule.must_exist:
            continue
        if name == "sensor.recording" and config.sensor.type != "replay":
            continue
        path: object = config
        for part in name.split("."):
            path = getattr(path, part)
        if isinstance(path, Path) and (reason := unreadable(path)):
            yield Problem(one.where, f"{shown(str(path), 300)} ({reason})", "a file that can be read")


def _inner(rule: Rule) -> Rule:
    return rule.rule if isinstance(rule, Optional) else rule


def _value(rule: Rule, given: _Given, problems: list[Problem]) -> object:
    try:
        value = rule(given.value)
    except ValueError as error:
        import difflib  # noqa: PLC0415  a config without faults has no use for it

        inner = _inner(rule)
        words = inner.words if isinstance(inner, Choice) else ()
        found = inner.shown(given.value) if isinstance(inner, Address) else shown(given.value)
        nearest = difflib.get_close_matches(found.strip("'").lower(), words, n=1)
        hint = str(error) or (f"did you mean {nearest[0]}?" if nearest else "")
        problems.append(Problem(given.where, found, rule.allowed, hint))
        return given.value
    return given.directory / value if isinstance(value, Path) else value


Section = TypeVar("Section")


def _build(section: type[Section], prefix: str, values: Mapping[str, object], environ: Mapping[str, str]) -> Section:
    """Fill the section's fields, and those of the sections in it, with what was given."""
    hints = get_type_hints(section)
    chosen: dict[str, object] = {}
    for one in fields(section):  # type: ignore[arg-type]  # every section is a dataclass
        path = prefix + one.name
        if is_dataclass(hints[one.name]):
            chosen[one.name] = _build(hints[one.name], f"{path}.", values, environ)
        elif one.metadata["derived"] and values.get(path) is None:
            chosen[one.name] = one.metadata["derived"](environ)
        elif path in values:
            chosen[one.name] = values[path]
    return section(**chosen)


def _resolve(config: Config, path: Path | None, given: Mapping[str, _Given]) -> Config:
    """Fill in what depends on other values or on the place: the topic's device id, the model's directory."""
    topic = config.mqtt.base_topic.replace("{device_id}", config.device.id)
    model = config.model.path
    if "model.path" not in given and path is not None:
        model = path.absolute().parent / model
    shipped = _PACKAGE_ROOT / str(_keys()["model.path"].metadata["default"])
    if not model.is_absolute() or (unreadable(model) and model.parts[-2:] == shipped.parts[-2:]):
        model = shipped
    return replace(config, mqtt=replace(config.mqtt, base_topic=topic), model=replace(config.model, path=model))


def _from_file(path: Path, problems: list[Problem]) -> Iterator[tuple[str, _Given]]:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_FILE_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds bytes that are not UTF-8"
        problems.append(Problem("", f"cannot be read: {reason}", "", "give the path of a YAML file"))
        return
    if len(text) > _MAX_FILE_CHARACTERS:
        problems.append(Problem("", "cannot be read: too large for a config file", "", "give the path of a YAML file"))
        return
    tree, faults = strict_yaml.parse(text)
    problems += faults
    yield from _leaves(tree, "", path.absolute().parent, problems)


def _leaves(tree: object, prefix: str, directory: Path, problems: list[Problem]) -> Iterator[tuple[str, _Given]]:
    """Walk the sections of a YAML tree down to the keys; an empty section is one where nothing is changed."""
    if tree is None:
        return
    if not isinstance(tree, dict):
        problems.append(
            Problem(prefix.rstrip(".") or "file", shown(tree), "a section: " + ", ".join(names_below(prefix, _keys())))
        )
        return
    for name, value in tree.items():
        path = prefix + (name if isinstance(name, str) else shown(name))
        if "." in str(name) and path in _keys():
            below = f"{path.rpartition('.')[0].replace('.', ': ')}:"
            problems.append(Problem(path, "a name with a dot", "", f"write {path.rpartition('.')[2]} below {below}"))
        elif path in _keys():
            yield path, _Given(value, path, directory)
        elif names_below(f"{path}.", _keys()):
            yield from _leaves(value, f"{path}.", directory, problems)
        else:
            problems.append(unknown(path, str(name), prefix, _keys()))


def _from_environment(environ: Mapping[str, str], problems: list[Problem]) -> Iterator[tuple[str, _Given]]:
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENV_PREFIX):
            problems += misspelt_variable(variable, ENV_PREFIX, _keys())
            continue
        path = variable.removeprefix(ENV_PREFIX).lower().replace("__", ".")
        if below := names_below(f"{path}.", _keys()):
            names = ", ".join(f"{variable}__{one}".upper() for one in below)
            problems.append(Problem(variable, "a section", "", f"set its keys: {names}"))
            continue
        if path not in _keys():
            problems.append(unknown(variable, path, "", _keys()))
            continue
        rule = _keys()[path].metadata["rule"]
        # Text rules take the variable as it is (empty: null), the others read it as YAML; null is null in both.
        is_null = not text or (text == "null" and isinstance(rule, Optional))
        value, faults = (None if is_null else text, []) if rule.is_text else strict_yaml.parse(text)
        if faults:
            problems.append(Problem(variable, shown(text), rule.allowed))
        else:
            yield path, _Given(value, variable, Path.cwd())


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
