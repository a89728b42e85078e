"""The I2C adapter and what answers on it: found by reading identity registers, and nothing else."""

from __future__ import annotations

import errno
import grp
import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

from edge.doctor import adapter
from edge.doctor.finding import Finding, fail, ok, user_name, warn
from edge.doctor.identity import ADDRESSES, READS, Answer, ask, is_of_type
from edge.errors import ImuError
from edge.holders import holders
from edge.imu.bus import SmbusBus, bus_path, explain_access, scan_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge.doctor.finding import Context
    from edge.holders import Holder
    from edge.settings import Sensor

AREA = "bus"
LIMIT_S = 30.0
STUCK = (errno.ETIMEDOUT, errno.EAGAIN)
ABSENT = (errno.EREMOTEIO, errno.ENXIO, errno.EIO)
WIRES = "VCC to 3V3 (pin 1), GND to GND (pin 6), SDA to pin 3, SCL to pin 5"


def check(context: Context) -> Iterator[Finding]:
    """Find the adapter, who uses it, and which chips answer; decide whether a measurement makes sense."""
    sensor = context.config.sensor
    if sensor.type == "replay":
        yield from _recording(sensor)
        return
    path = bus_path(sensor.bus)
    if (refusal := _unusable(path, context)) is not None:
        yield refusal
        return
    yield ok(AREA, f"{path} can be opened{adapter.describe(path, context.root)}")
    yield from adapter.speed(path, sensor.sampling_rate_hz, context.root)
    users = holders(path, context.root / "proc")
    yield from _users(users, path)
    answers = scan(path)
    yield from _answers(answers, sensor, path, context)
    chosen = _chosen(answers, sensor)
    may_have_it = any(one.daemon for one in users)
    context.sensor_ready = chosen is not None and not may_have_it
    if chosen is not None and may_have_it:
        yield warn(
            AREA,
            "not measured: the daemon reads the sensor, and a second reader would take its samples away",
            "see the daemon's own figures on …/health, or `sudo systemctl stop footfall` and run doctor again",
        )


def scan(path: str) -> list[Answer]:
    """Ask every address at which an IMU may sit; stops where the bus itself is stuck. Raises ImuError."""
    bus = SmbusBus(path)
    try:
        answers: list[Answer] = []
        for address in ADDRESSES:
            answers.append(ask(address, lambda at, register: bus.read_registers(at, register)[0], lambda: bus.retries))
            stuck = [one for one in answers if one.error is not None and one.error.errno in STUCK]
            if len(stuck) == 2:  # a time-out may take a second: two say enough
                break
        return answers
    finally:
        bus.close()


def _recording(sensor: Sensor) -> Iterator[Finding]:
    from edge.recording import load  # noqa: PLC0415  a live sensor needs no recording formats

    assert sensor.recording is not None, "the config was checked"
    recording = load(sensor.recording)
    yield ok(
        AREA,
        f"sensor.type is replay: {sensor.recording} holds {recording.duration_s:.0f} s at "
        f"{recording.sampling_rate_hz:g} Hz; no bus is used",
    )


def _unusable(path: str, context: Context) -> Finding | None:
    """Return why the bus cannot be opened, with what to do on this machine; None where it can."""
    try:
        SmbusBus(path).close()
    except ImuError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno == errno.ENOENT:
            return fail(AREA, f"there is no I2C bus at {path}", adapter.how_to_enable(context.root))
        if isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM):
            return fail(AREA, f"user {user_name()!r} may not open {path}", _permission_advice(path))
        what, _, advice = str(error).partition(": ")
        return fail(AREA, what, advice)
    except ImportError as error:
        return fail(AREA, f"smbus2 cannot be imported ({error})", "run `pip install smbus2`, or install Footfall again")
    return None


def _permission_advice(path: str) -> str:
    try:
        group = grp.getgrgid(Path(path).stat().st_gid).gr_name
    except (OSError, KeyError):
        group = "i2c"
    user = user_name()
    try:
        member = group in {grp.getgrgid(gid).gr_name for gid in os.getgrouplist(user, pwd.getpwnam(user).pw_gid)}
    except KeyError:
        member = False
    if group == "root":
        return f"{path} belongs to root alone: install systemd/udev of Footfall, or run `sudo chgrp i2c {path}`"
    if member:
        return f"{user} is in the group {group}, but this session began before that: log out and in again"
    return f"run `sudo usermod -aG {group} {user}`, then log out and in again"


def _users(users: Sequence[Holder], path: str) -> Iterator[Finding]:
    for one in users:
        if one.daemon:
            knows = "reads the sensor" if one.certain else "is running as another user, and so may read the sensor"
            yield ok(AREA, f"the Footfall daemon (process {one.pid}) {knows}")
        else:
            yield warn(
                AREA,
                f"another program has {path} open (process {one.pid}: {one.command})",
                "two readers of one sensor take each other's samples: stop it",
            )


def _chosen(answers: Sequence[Answer], sensor: Sensor) -> Answer | None:
    """Return the chip that the daemon would take."""
    for answer in answers:
        if sensor.address in (None, answer.address) and answer.error is None:
            identity = answer.identity
            if identity is not None and is_supported(identity.driver) and is_of_type(identity, sensor.type):
                return answer
            if identity is None and sensor.accept_unknown_id and _plausible(answer):
                return answer
    return None


def is_supported(driver: str | None) -> bool:
    """Whether this Footfall reads such a chip."""
    from edge.settings import SENSOR_TYPES  # noqa: PLC0415  only here

    return driver in SENSOR_TYPES


def _plausible(answer: Answer) -> bool:
    return all(value not in (0x00, 0xFF) for _, value in answer.values[:1])


def _answers(answers: Sequence[Answer], sensor: Sensor, path: str, context: Context) -> Iterator[Finding]:
    said: list[Finding] = []
    for answer in answers:
        said += [one for one in _answer(answer, path, sensor, context) if one not in said]  # a stuck bus is one trouble
    yield from said
    if all(one.error is not None and one.error.errno in ABSENT for one in answers):
        yield _nothing(path, context)
        return
    usable = [one for one in answers if one.identity is not None and is_supported(one.identity.driver)]
    if sensor.address is not None and usable and sensor.address not in {one.address for one in usable}:
        there = ", ".join(f"{one.address:#04x}" for one in usable)
        yield fail(
            AREA,
            f"sensor.address is {sensor.address:#04x}, but the sensor answers at {there}",
            f"set sensor.address to {usable[0].address:#04x} or null; the pin AD0 (SA0, SDO) chooses the address",
        )
    elif usable and not any(is_of_type(one.identity, sensor.type) for one in usable if one.identity is not None):
        yield fail(
            AREA,
            f"sensor.type is {sensor.type}, which is not what answers",
            "set sensor.type to auto",
        )
    elif sensor.address is None and len(usable) > 1:
        there = ", ".join(f"{one.address:#04x}" for one in usable)
        yield warn(
            AREA,
            f"{len(usable)} sensors answer ({there}); the one at {usable[0].address:#04x} is used",
            f"set sensor.address to say which one is meant, for instance {usable[-1].address:#04x}",
        )


def _answer(answer: Answer, path: str, sensor: Sensor, context: Context) -> Iterator[Finding]:
    """Say what one address did; an address where nothing is, is nothing to talk about."""
    where = f"{answer.address:#04x} on {path}"
    if answer.error is not None:
        if answer.error.errno not in ABSENT:
            yield _refused(answer, answer.error, path, context)
        return
    if answer.unsteady:
        yield fail(
            AREA,
            f"{where} gives different identities from one read to the next",
            f"the signal is bad: shorten the wires, keep them from motors, check GND; {adapter.SLOWER}",
        )
        return
    yield _named(answer, where, sensor)
    if answer.retries:
        yield warn(
            AREA,
            f"{answer.retries} of {READS + answer.retries} reads of {where} had to be repeated",
            f"the line is marginal: shorten the wires, add pull-ups of 2.2 to 4.7 kΩ; {adapter.SLOWER}",
        )


def _named(answer: Answer, where: str, sensor: Sensor) -> Finding:
    value = answer.values[-1][1]
    who = f"WHO_AM_I {value:#04x}"
    identity = answer.identity
    if identity is not None and is_supported(identity.driver):
        return ok(AREA, f"{identity.part} at {where} ({who}){f': {identity.note}' if identity.note else ''}")
    if identity is not None:
        return fail(
            AREA,
            f"{identity.part} at {where} ({who}), which this Footfall does not read",
            "see docs/new-sensor.md: a chip of a known family is one table row",
        )
    if answer.values[0][1] in (0x00, 0xFF):
        level = "low" if answer.values[0][1] == 0 else "high"
        return fail(
            AREA,
            f"{where} acknowledges but every identity reads {answer.values[0][1]:#04x}: the data line stays {level}",
            "check SDA and its pull-up, and that the part gets its voltage "
            f"(a 1.8 V part needs a level shifter): {WIRES}",
        )
    if sensor.accept_unknown_id:
        return warn(
            AREA,
            f"{where} answers with an unknown identity ({_pairs(answer)}), taken as an MPU-6050 (accept_unknown_id)",
            "look at the measurement below: only if gravity and noise are right, it is one",
        )
    return fail(
        AREA,
        f"{where} answers with an unknown identity ({_pairs(answer)}): a clone, or no IMU (clocks sit at 0x68 too)",
        "if the board was sold as MPU-6050, set sensor.accept_unknown_id: true and run doctor again",
    )


def _pairs(answer: Answer) -> str:
    return ", ".join(f"register {register:#04x} = {value:#04x}" for register, value in answer.values)


def _refused(answer: Answer, error: OSError, path: str, context: Context) -> Finding:
    if error.errno == errno.EBUSY:
        name, driver = adapter.kernel_client(path, answer.address, context.root)
        client = adapter.client_name(path, answer.address)
        return fail(
            AREA,
            f"a kernel driver{f' ({driver} for {name})' if driver else ''} holds {answer.address:#04x} on {path}",
            "remove its dtoverlay line from config.txt and reboot, or for now: "
            f"`echo {client} | sudo tee /sys/bus/i2c/drivers/{driver or 'DRIVER'}/unbind`",
        )
    what, _, advice = explain_access(error, answer.address, path).partition(": ")
    return fail(AREA, what, advice)


def _nothing(path: str, context: Context) -> Finding:
    asked = ", ".join(f"{address:#04x}" for address in ADDRESSES)
    elsewhere = _elsewhere(path, context)
    if elsewhere:
        return fail(AREA, f"no sensor on {path}, but {elsewhere[1]}", f"set sensor.bus to {elsewhere[0]}")
    return fail(
        AREA,
        f"nothing answers on {path} at any IMU's address ({asked})",
        f"check the wiring ({WIRES}), that the board's power LED is on, and that a 1.8 V part sits behind a level "
        f"shifter; then run `{scan_command(path)}`",
    )


def _elsewhere(path: str, context: Context) -> tuple[str, str] | None:
    """Return the bus on which a sensor answers after all, and what it is."""
    for other in adapter.worth_scanning(path, context.root):
        try:
            answers = scan(other)
        except ImuError:
            continue
        for answer in answers:
            if answer.identity is not None:
                return other.rpartition("-")[2], f"a {answer.identity.part} answers at {answer.address:#04x} on {other}"
    return None
