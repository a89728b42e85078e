"""Which chip is this? One table over (addresses, WHO_AM_I register, value), read-only by construction.

Sources: the Linux kernel's drivers/iio/imu: inv_mpu6050/inv_mpu_iio.h (INV_*_WHOAMI_VALUE, register 117 = 0x75),
inv_icm42600/inv_icm42600.h (WHOAMI, bank 0 0x75), st_lsm6dsx/st_lsm6dsx_core.c (`.wai`, register 0x0f),
bmi160/bmi160_core.c and bmi270/bmi270_core.c (CHIP_ID, register 0x00); ICM-20948: data sheet DS-000189, bank 0 0x00.

Every register here has no side effect when read in any of the chips that may sit at these addresses; what clears on
reading (INT_STATUS, FIFO ports) is never touched. The chip's register bank is not switched either: with a daemon at
work on an ICM, an identity read in another bank may not match, and nothing worse.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

INVENSENSE, BOSCH, ST = (0x68, 0x69), (0x68, 0x69), (0x6A, 0x6B)
ADDRESSES = (*INVENSENSE, *ST)


@dataclass(frozen=True, slots=True)
class Identity:
    """One row. driver: the sensor.type that reads it, None where Footfall has none; note: what a user should know."""

    part: str
    addresses: tuple[int, ...]
    register: int
    value: int
    driver: str | None = None
    note: str = ""


_CLONE = "sold as MPU-6050 or GY-521, but another chip; it works, with a FIFO of 512 bytes"
IDENTITIES = (
    Identity("MPU-6050", INVENSENSE, 0x75, 0x68, "mpu6050"),
    Identity("MPU-6500", INVENSENSE, 0x75, 0x70, "mpu6500"),
    Identity("MPU-9250", INVENSENSE, 0x75, 0x71, "mpu9250"),
    Identity("MPU-9255", INVENSENSE, 0x75, 0x73, "mpu9255"),
    Identity("MPU-6515", INVENSENSE, 0x75, 0x74, "mpu6500"),
    Identity("ICM-20689 or a clone of the MPU-6050", INVENSENSE, 0x75, 0x98, "mpu6050", _CLONE),
    Identity("clone of the MPU-6050", INVENSENSE, 0x75, 0x72, "mpu6050", _CLONE),
    Identity("ICM-42688-P", INVENSENSE, 0x75, 0x47, "icm42688"),
    Identity("MPU-6880", INVENSENSE, 0x75, 0x78),
    Identity("ICM-20600", INVENSENSE, 0x75, 0x11),
    Identity("ICM-20602", INVENSENSE, 0x75, 0x12),
    Identity("ICM-20608", INVENSENSE, 0x75, 0xAF),
    Identity("ICM-20608-D", INVENSENSE, 0x75, 0xAE),
    Identity("ICM-20609", INVENSENSE, 0x75, 0xA6),
    Identity("ICM-20690", INVENSENSE, 0x75, 0x20),
    Identity("ICM-20948", INVENSENSE, 0x00, 0xEA, "icm20948", "its I/O runs at 1.8 V: the board needs a level shifter"),
    Identity("BMI160", BOSCH, 0x00, 0xD1, "bmi160"),
    Identity("BMI270", BOSCH, 0x00, 0x24, "bmi270"),
    Identity("BMI260", BOSCH, 0x00, 0x27),
    Identity("LSM6DS3", ST, 0x0F, 0x69, "lsm6ds3"),
    Identity("LSM6DS3TR-C, LSM6DSL or LSM6DSM", ST, 0x0F, 0x6A, "lsm6ds3"),
    Identity("ISM330DHCX or LSM6DSR", ST, 0x0F, 0x6B, "lsm6dsox"),
    Identity("LSM6DSO, LSM6DSOX or LSM6DSO32", ST, 0x0F, 0x6C, "lsm6dsox"),
    Identity("LSM9DS1", ST, 0x0F, 0x68, "lsm9ds1"),
    Identity("L3GD20 (gyroscope only)", ST, 0x0F, 0xD4),
    Identity("L3GD20H (gyroscope only)", ST, 0x0F, 0xD7),
)


FAMILIES = (
    ("mpu6050", "mpu6500", "mpu9250", "mpu9255"),
    ("lsm6dsox", "ism330dhcx", "lsm6dso32"),
)
"""Names of sensor.type that mean the same driver."""


def is_of_type(identity: Identity, sensor_type: str) -> bool:
    """Whether a daemon told to look for this sensor.type takes the chip."""
    family = next((names for names in FAMILIES if sensor_type in names), (sensor_type,))
    return sensor_type == "auto" or identity.driver in family


def registers_at(address: int) -> tuple[int, ...]:
    """Return the identity registers worth reading at an address, the most telling first."""
    found = dict.fromkeys(row.register for row in IDENTITIES if address in row.addresses)
    return tuple(found)


def identify(address: int, values: Iterable[tuple[int, int]], rows: Iterable[Identity] = IDENTITIES) -> Identity | None:
    """Return the row that fits (register, value) pairs read at an address; earlier pairs decide first."""
    table = {(row.register, row.value): row for row in rows if address in row.addresses}
    return next((table[pair] for pair in values if pair in table), None)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an address did. values: (register, value) pairs as read; error: what the adapter said instead.

    unsteady: the same register gave different values; retries: reads that had to be repeated.
    """

    address: int
    values: tuple[tuple[int, int], ...] = ()
    error: OSError | None = None
    unsteady: bool = False
    retries: int = 0

    @property
    def identity(self) -> Identity | None:
        """The part, None where the table knows none."""
        return identify(self.address, self.values)


READS = 25
"""Of one identity register: a marginal line loses about one transfer in ten."""


SECONDS_COUNTER = (0x00, 0x24)
"""The BMI270's identity is also what a DS3231 clock, which sits at 0x68 too, shows for one second in each minute."""
MORE_THAN_A_SECOND_S = 1.1


def ask(
    address: int,
    read: Callable[[int, int], int],
    retries: Callable[[], int],
    sleep: Callable[[float], None] = time.sleep,
) -> Answer:
    """Read the identity registers of one address; read(address, register) may raise OSError."""
    before = retries()
    values: list[tuple[int, int]] = []
    try:
        for register in registers_at(address):
            values.append((register, read(address, register)))
            if identify(address, values) is not None:
                break
        register, first = values[-1]
        if values[-1] == SECONDS_COUNTER:
            sleep(MORE_THAN_A_SECOND_S)
        unsteady = any(read(address, register) != first for _ in range(READS - 1))
    except OSError as error:
        return Answer(address, tuple(values), error)
    return Answer(address, tuple(values), unsteady=unsteady, retries=retries() - before)
