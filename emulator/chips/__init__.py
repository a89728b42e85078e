"""Emulated IMUs by name: one per chip that Footfall knows, each written from its data sheet."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from emulator.chips.bmi160 import Bmi160
from emulator.chips.bmi270 import Bmi270
from emulator.chips.icm20948 import AK09916_ADDRESS, Icm20948
from emulator.chips.icm42688 import Icm42688
from emulator.chips.lsm6ds3 import Lsm6ds3, Lsm6ds3trc
from emulator.chips.lsm6dsox import Ism330dhcx, Lsm6dsox
from emulator.chips.lsm9ds1 import Lsm9ds1, Lsm9ds1Magnetometer
from emulator.chips.mpu6050 import MPU_6050, MPU_6500, MPU_9250, MPU_9255, Mpu6050

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from emulator.bus import Device


class EmulatedImu(Protocol):
    """What every emulated chip offers beside its I2C side."""

    samples_taken: int
    samples_queued: int
    samples_dropped: int
    bytes_dropped: int
    rate_error: float
    temperature_c: float
    frozen: bool
    """While it is set no word changes any more, as from a sensor that hangs."""

    @property
    def finished(self) -> bool:
        """Whether the whole recording has been played."""

    @property
    def duration_s(self) -> float:
        """Length of the recording."""

    @property
    def started_s(self) -> float | None:
        """Instant at which the recording started, None before."""

    @property
    def sample_rate_hz(self) -> float:
        """True output rate."""

    @property
    def next_sample_s(self) -> float | None:
        """Instant at which the next sample will be taken; None while it sleeps."""

    @property
    def fifo_level(self) -> int:
        """Bytes in the FIFO now."""

    def take_due(self) -> None:
        """Take the samples that are due by now."""

    def write(self, data: bytes) -> None:
        """Take a write message."""

    def read(self, count: int) -> bytes:
        """Answer a read message."""

    def power_cycle(self) -> None:
        """Lose everything that was written."""

    def poke(self, register: int, value: int) -> None:
        """Change a register behind the driver's back."""

    def peek(self, register: int) -> int:
        """Look at a register without the side effects of reading it."""

    def drop_fifo_bytes(self, count: int) -> None:
        """Lose the oldest bytes of the FIFO."""


@dataclass(frozen=True, slots=True)
class Part:
    """One row: how to make the chip, and the addresses that it can have, the usual one first."""

    title: str
    make: Callable[..., EmulatedImu]
    """Takes what emulator.chips.chip.Chip takes: recording, rate_hz, rate_error=…, temperature_c=…, …"""
    addresses: tuple[int, int]
    companions: Callable[[Any], Mapping[int, Device]] = lambda _: {}
    """Devices that share the package, by address."""

    @property
    def address(self) -> int:
        """The usual address."""
        return self.addresses[0]

    def devices(self, chip: EmulatedImu, address: int | None = None) -> dict[int, Device]:
        """All that answers on the bus where this chip sits."""
        return {self.address if address is None else address: chip, **self.companions(chip)}


FIRMWARE_BYTES = 8192


def write_firmware(directory: Path) -> Path:
    """Write what stands for Bosch's configuration of a BMI270: the emulated one takes anything of its size."""
    path = directory / "bmi270-init-data.fw"
    path.write_bytes(bytes(FIRMWARE_BYTES))
    return path


def unknown(name: str) -> str:
    """Return what to say of a name that is no emulated part's."""
    nearest = difflib.get_close_matches(name.lower(), CHIPS, n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"{name!r}; allowed: {', '.join(CHIPS)}{hint}"


_INVENSENSE, _ST = (0x68, 0x69), (0x6A, 0x6B)

CHIPS: dict[str, Part] = {
    "mpu6050": Part("MPU-6050", partial(Mpu6050, silicon=MPU_6050), _INVENSENSE),
    "mpu6500": Part("MPU-6500", partial(Mpu6050, silicon=MPU_6500), _INVENSENSE),
    "mpu9250": Part("MPU-9250", partial(Mpu6050, silicon=MPU_9250), _INVENSENSE),
    "mpu9255": Part("MPU-9255", partial(Mpu6050, silicon=MPU_9255), _INVENSENSE),
    "icm20948": Part("ICM-20948", Icm20948, _INVENSENSE, lambda chip: {AK09916_ADDRESS: chip.magnetometer}),
    "icm42688": Part("ICM-42688-P", Icm42688, _INVENSENSE),
    "lsm6ds3": Part("LSM6DS3", Lsm6ds3, _ST),
    "lsm6ds3trc": Part("LSM6DS3TR-C", Lsm6ds3trc, _ST),
    "lsm6dsox": Part("LSM6DSOX", Lsm6dsox, _ST),
    "ism330dhcx": Part("ISM330DHCX", Ism330dhcx, _ST),
    "bmi160": Part("BMI160", Bmi160, _INVENSENSE),
    "bmi270": Part("BMI270", Bmi270, _INVENSENSE),
    "lsm9ds1": Part("LSM9DS1", Lsm9ds1, _ST, lambda _: {0x1C: Lsm9ds1Magnetometer()}),
}
"""By the name of the part: `make run SENSOR=lsm6dsox`."""
