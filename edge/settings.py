"""The settings: every key of config.yaml is one field here, in frozen sections to read it from.

A field holds its default as YAML would, the rule it must pass and its comment in the shipped file; edge.config reads,
checks and prints by these alone.
"""

# ruff: noqa: RUF009  key() makes a dataclass field, as field() does
from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path  # noqa: TC003  get_type_hints reads the annotations
from typing import TYPE_CHECKING, Any

from edge.machine import default_outbox_path, host_device_id
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
    Rotation,
    Rule,
    Speed,
    Text,
    Whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SENSOR_TYPES = (
    "auto", "mpu6050", "mpu6500", "mpu9250", "mpu9255", "icm42688", "icm20948", "bmi160", "bmi270", "lsm6ds3",
    "lsm6dsox", "ism330dhcx", "lsm6dso32", "lsm9ds1", "replay",
)  # fmt: skip
# Names of one family are accepted alike: boards sold as one part carry another, and WHO_AM_I tells which.
SENSOR_ADDRESSES = (0x68, 0x69, 0x6A, 0x6B)
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
