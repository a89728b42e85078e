"""The chips that Footfall knows, and how it finds out which one is fitted.

WHO_AM_I numbers are not unique between vendors (0x68 to 0x6B are InvenSense's and ST's), nor is its register (75h, 00h
or 0Fh): each family is asked in its own register at its own addresses, and by default every family is.
"""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from edge.errors import ImuError
from edge.imu.bus import explain_access, scan_command
from edge.imu.chips import bmi160, bmi270, icm20948, icm42688, lsm6ds3, lsm6dsox, lsm9ds1, mpu6050

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from edge.imu.bus import I2cBus
    from edge.imu.chips.core import Family, Options, Part, RegisterChip

FAMILIES: tuple[Family, ...] = (
    mpu6050.FAMILY,
    icm42688.FAMILY,
    icm20948.FAMILY,
    bmi160.FAMILY,
    bmi270.FAMILY,
    lsm6ds3.FAMILY,
    lsm6dsox.FAMILY,
    lsm9ds1.FAMILY,
)

ANSWERS_OF_NOBODY = frozenset({0x00, 0xFF})
"""What a bus reads whose data line is stuck low or high."""

STUCK_ERRNOS = frozenset({errno.ETIMEDOUT, errno.EAGAIN})


def type_names() -> tuple[str, ...]:
    """Every name that `sensor.type` may have, apart from auto and replay."""
    return tuple(name for family in FAMILIES for name in (*family.types, *family.named))


def find(
    bus: I2cBus,
    sensor_type: str = "auto",
    address: int | None = None,
    *,
    accept_unknown_id: bool = False,
    options: Options | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> RegisterChip:
    """Return the first known chip that answers, not started yet.

    sensor_type: auto, or a name of the family to look for; address: None tries all that a known chip can have.
    Raises ImuError in the user's words: nothing answers, something unknown does, or the bus does not work.
    """
    families = [family for family in FAMILIES if sensor_type in ("auto", *family.types, *family.named)]
    addresses = sorted({one for family in families for one in family.addresses}) if address is None else [address]
    answers: list[str] = []
    absent: list[ImuError] = []
    for one in addresses:
        asked = [family for family in families if one in family.addresses] or families
        try:
            found = identify(bus, one, asked, accept_unknown_id=accept_unknown_id)
        except OSError as error:
            absent.append(ImuError(explain_access(error, one, bus.name)))
            absent[-1].__cause__ = error
            if error.errno in STUCK_ERRNOS:
                break  # the whole bus is: every further try would block for a second
        else:
            if isinstance(found, str):
                answers.append(found)
            else:
                family, part = found
                return family.chip(bus, one, family.part_named(sensor_type, part), options, sleep=sleep)
    if answers:
        raise ImuError(answers[0])
    raise _nobody(absent, addresses, bus.name)


def identify(
    bus: I2cBus, address: int, families: Sequence[Family], *, accept_unknown_id: bool = False
) -> tuple[Family, Part] | str:
    """Return family and row of what answers at an address; a sentence if none of them is it; OSError if nothing."""
    answers: dict[int, int] = {}
    for family in families:
        register = family.identity.address
        if register not in answers:
            answers[register] = bus.read_registers(address, register)[0]
        part = family.part_of(answers[register]) or _part_behind_bank(bus, address, family)
        if part is not None:
            return family, part
    real = [family for family in families if answers[family.identity.address] not in ANSWERS_OF_NOBODY]
    if accept_unknown_id and real:
        return real[0], real[0].guess
    return _unknown(families, answers, address, bus.name)


def _part_behind_bank(bus: I2cBus, address: int, family: Family) -> Part | None:
    """Look again in bank 0: a chip that was left in another one shows something else in its place."""
    bank = family.bank
    if bank is None:
        return None
    selected = bus.read_registers(address, bank.address)[0]
    if selected & ~bank.mask or not bank.get(selected):
        return None
    bus.write_register(address, bank.address, 0)
    part = family.part_of(bus.read_registers(address, family.identity.address)[0])
    if part is None:
        bus.write_register(address, bank.address, selected)  # somebody else's register
    return part


def _unknown(families: Iterable[Family], answers: dict[int, int], address: int, bus_name: str) -> str:
    heard = " and ".join(f"{answer:#04x} in register {register:#04x}" for register, answer in answers.items())
    if len(answers) == 1:
        heard = f"{next(iter(answers.values())):#04x}"
    known = ", ".join(
        f"{identity:#04x} ({part.name})"
        for family in families
        for part in family.parts
        for identity in sorted(part.who_am_i)
    )
    advice = (
        "the data line is stuck: check the wiring and the pull-ups"
        if ANSWERS_OF_NOBODY.issuperset(answers.values())
        else "set sensor.type to the sensor that is fitted, or sensor.address to where it is; if it is a clone of the "
        "one in sensor.type, set sensor.accept_unknown_id"
    )
    return f"the device at {address:#04x} on {bus_name} answers WHO_AM_I {heard}; known are {known}: {advice}"


def _nobody(absent: Sequence[ImuError], addresses: Sequence[int], bus_name: str) -> ImuError:
    """One sentence for all addresses, unless one of them failed in another way than by silence."""
    silence = (errno.EREMOTEIO, errno.ENXIO, errno.EIO)
    other = [one for one in absent if isinstance(one.__cause__, OSError) and one.__cause__.errno not in silence]
    if other or len(absent) == 1:
        return (other or list(absent))[0]
    tried = ", ".join(f"{one:#04x}" for one in addresses)
    return ImuError(
        f"no device at {tried} on {bus_name}: check the wiring and the supply, then run `{scan_command(bus_name)}`"
    )
