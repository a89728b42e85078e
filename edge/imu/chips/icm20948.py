"""InvenSense (TDK) ICM-20948: an MPU-9250's successor with four register banks and the FIFO elsewhere.

Sources: DS-000189 rev 1.3 (section in brackets), and SparkFun_ICM-20948_ArduinoLibrary, src/util/ICM_20948_REGISTERS.h
(AGB0_REG_*, AGB2_REG_*, the bit fields of ICM_20948_*_t).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge.imu.chips.core import Family, Part, Rate, RegisterChip, TemperatureCanary, widest_below_nyquist
from edge.imu.registers import Field, int16_be, unsigned_be

if TYPE_CHECKING:
    from typing import Any

    from edge.imu.chip import Frames

# Bank 0 (8)
WHO_AM_I = Field(0x00, 0xFF)
USER_FIFO_EN = Field(0x03, 0x40)
DEVICE_RESET = Field(0x06, 0x80)
SLEEP = Field(0x06, 0x40)
CLKSEL = Field(0x06, 0x07)
DISABLE_AXES = Field(0x07, 0x3F)
TEMP_OUT = Field(0x39, 0xFF)
ACCEL_FIFO_EN = Field(0x67, 0x10)
GYRO_FIFO_EN = Field(0x67, 0x0E)  # Z, Y, X
TEMP_FIFO_EN = Field(0x67, 0x01)
FIFO_RESET = Field(0x68, 0x1F)
FIFO_MODE = Field(0x69, 0x1F)
FIFO_COUNT = Field(0x70, 0x1F)  # high byte; the low byte follows
FIFO_R_W = Field(0x72, 0xFF)
USER_BANK = Field(0x7F, 0x30)  # in every bank
# Bank 2 (10)
GYRO_SMPLRT_DIV = Field(0x00, 0xFF, bank=2)
GYRO_DLPFCFG = Field(0x01, 0x38, bank=2)
GYRO_FS_SEL = Field(0x01, 0x06, bank=2)
GYRO_FCHOICE = Field(0x01, 0x01, bank=2)
ACCEL_SMPLRT_DIV_HIGH = Field(0x10, 0x0F, bank=2)
ACCEL_SMPLRT_DIV_LOW = Field(0x11, 0xFF, bank=2)
ACCEL_DLPFCFG = Field(0x14, 0x38, bank=2)
ACCEL_FS_SEL = Field(0x14, 0x06, bank=2)
ACCEL_FCHOICE = Field(0x14, 0x01, bank=2)

WORDS = (4, 7)
"""Accelerometer, gyroscope if it is wanted, temperature: big-endian, in order of register number (4.19)."""

FS_8G, FS_1000DPS = 2, 2
CLOCK_AUTO = 1
INTERNAL_HZ = 1125.0  # with the low-pass filters on (10.1, 10.11)
DIVIDERS = range(97, 4, -1)  # 11.5 to 187.5 Hz; slower, its narrowest filter would alias
DLPF_BANDWIDTH_HZ = {1: 246.0, 2: 111.4, 3: 50.4, 4: 23.9, 5: 11.5, 6: 5.7}
"""ACCEL_DLPFCFG: -3 dB (10.15, table 18); GYRO_DLPFCFG has nearly the same: 151.8, 119.5, 51.2, 23.9, 11.6, 5.7 Hz."""

RESET_S = 0.1
WAKE_S = 0.02
TEMPERATURE_READS = 3


def _rate(divider: int) -> Rate:
    odr_hz = INTERNAL_HZ / (1 + divider)
    cfg, low_pass_hz = widest_below_nyquist(DLPF_BANDWIDTH_HZ, odr_hz)
    dividers = ((GYRO_SMPLRT_DIV, divider), (ACCEL_SMPLRT_DIV_HIGH, 0), (ACCEL_SMPLRT_DIV_LOW, divider))
    return Rate(odr_hz, low_pass_hz, (*dividers, (GYRO_DLPFCFG, cfg), (ACCEL_DLPFCFG, cfg)))


ICM_20948 = Part(
    "ICM-20948",
    frozenset({0xEA}),
    fifo_bytes=512,
    rates=tuple(_rate(divider) for divider in DIVIDERS),
    setup=(
        (DISABLE_AXES, 0),
        (ACCEL_FIFO_EN, 1),
        (GYRO_FIFO_EN, 0b111),
        (TEMP_FIFO_EN, 1),
        (FIFO_MODE, 0),  # a stream: when it is full the oldest give way
        (GYRO_FS_SEL, FS_1000DPS),
        (GYRO_FCHOICE, 1),
        (ACCEL_FS_SEL, FS_8G),
        (ACCEL_FCHOICE, 1),
    ),
    acc_lsb_per_g=4096.0,
    gyr_lsb_per_dps=32.8,
    lsb_per_c=333.87,
    offset_c=21.0,
    without_gyroscope=((GYRO_FIFO_EN, 0),),
)


class Icm20948(RegisterChip):
    """The family's FIFO: untagged frames, kept in step by the temperature in each of them."""

    FIFO_PORT = FIFO_R_W
    POWER_DOWN = ((SLEEP, 1),)
    FRAME_BYTES = (2 * WORDS[False], 2 * WORDS[True])
    PLAIN = {  # noqa: RUF012
        0: (USER_FIFO_EN.address, FIFO_MODE.address),
        2: (GYRO_SMPLRT_DIV.address, ACCEL_FCHOICE.address),
    }
    """In bank 0 reading changes only status registers that nobody uses; the first port is FIFO_R_W, 72h."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._canary = TemperatureCanary(self.part.lsb_per_c, self.part.offset_c)

    def reset(self) -> None:
        """Reset, whatever bank was selected, then wake on the best clock there is."""
        self._bank = -1
        self._select(0)
        self._write(DEVICE_RESET.address, DEVICE_RESET.put(1))
        self._sleep(RESET_S)
        self._wait_for(DEVICE_RESET, 0, RESET_S, "reset")
        self._write(CLKSEL.address, CLKSEL.put(CLOCK_AUTO))
        self._sleep(WAKE_S)

    def checked(self) -> dict[int, dict[int, int]]:
        """Include the power registers: they are written in a fixed order, outside the table."""
        registers = super().checked()
        registers[0] |= {USER_FIFO_EN.address: USER_FIFO_EN.put(1), CLKSEL.address: CLKSEL.put(CLOCK_AUTO)}
        return registers

    def restart_fifo(self) -> None:
        """Empty the FIFO by asserting and releasing its reset (8.54); the sources are opened last, on a frame."""
        self._canary.settle(int16_be(self._read(TEMP_OUT.address, 2), 1)[0, 0] for _ in range(TEMPERATURE_READS))
        sources = ACCEL_FIFO_EN.address
        self._write(sources, 0)
        self._write(USER_FIFO_EN.address, 0)
        self._write(FIFO_RESET.address, FIFO_RESET.put(0x1F))
        self._write(FIFO_RESET.address, 0)
        self._write(USER_FIFO_EN.address, USER_FIFO_EN.put(1))
        self._write(sources, self._settings[0][sources])

    def fifo_level(self) -> int:
        """Bytes waiting; the high byte is read first, which latches both."""
        high, low = self._read(FIFO_COUNT.address, 2)
        return unsigned_be(bytes([FIFO_COUNT.get(high), low]))

    def decode(self, data: bytes) -> Frames:
        """Frames to m/s² and rad/s; FifoFault if the temperature in any of them betrays a frame out of step."""
        words = int16_be(data, WORDS[self.gyroscope])
        celsius = self._canary.check(words[:, -1].astype(np.float64))
        return self._frames(words[:, 0:3], words[:, 3:6] if self.gyroscope else None, celsius)

    def _select(self, bank: int) -> None:
        if bank != self._bank:
            self._write(USER_BANK.address, USER_BANK.put(bank))
            self._bank = bank


FAMILY = Family(
    types=("icm20948",),
    addresses=(0x68, 0x69),  # AD0 low, AD0 high
    identity=WHO_AM_I,
    parts=(ICM_20948,),
    chip=Icm20948,
    guess=ICM_20948,
    bank=USER_BANK,
)
