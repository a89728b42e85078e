"""InvenSense MPU-6050, 6500, 9250, 9255 and their clones.

Sources: RM-MPU-6000A-00 rev 4.2 (MPU-6050 register map), RM-MPU-6500A-00 rev 2.1, RM-MPU-9250A-00 rev 1.4, and the
Linux kernel's drivers/iio/imu/inv_mpu6050 (inv_mpu_core.c hw_info, inv_mpu_iio.h, inv_mpu_ring.c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge.imu.chips.core import Family, Part, Rate, RegisterChip, TemperatureCanary, widest_below_nyquist
from edge.imu.registers import Field, int16_be, unsigned_be

if TYPE_CHECKING:
    from typing import Any

    from edge.imu.chip import Frames

SMPLRT_DIV = Field(0x19, 0xFF)
DLPF_CFG = Field(0x1A, 0x07)
FS_SEL = Field(0x1B, 0x18)
AFS_SEL = Field(0x1C, 0x18)
A_DLPF_CFG = Field(0x1D, 0x07)  # MPU-6500 and later only
TEMP_FIFO_EN = Field(0x23, 0x80)
GYRO_FIFO_EN = Field(0x23, 0x70)  # XG, YG, ZG
ACCEL_FIFO_EN = Field(0x23, 0x08)
FIFO_OFLOW_EN = Field(0x38, 0x10)
FIFO_OFLOW_INT = Field(0x3A, 0x10)
TEMP_OUT = Field(0x41, 0xFF)
USER_FIFO_EN = Field(0x6A, 0x40)
FIFO_RESET = Field(0x6A, 0x04)
DEVICE_RESET = Field(0x6B, 0x80)
SLEEP = Field(0x6B, 0x40)
CLKSEL = Field(0x6B, 0x07)
STANDBY = Field(0x6C, 0x3F)  # one bit per axis
FIFO_COUNT = Field(0x72, 0xFF)
FIFO_R_W = Field(0x74, 0xFF)
WHO_AM_I = Field(0x75, 0xFF)

WORDS = (4, 7)
"""Accelerometer, temperature, gyroscope if it is wanted: big-endian, by register number (RM-MPU-6000A 4.31)."""

AFS_8G, ACC_LSB_PER_G = 2, 4096.0
"""±8 g: a heel strike reaches 2 to 3 g at the waist and 5 to 6 g at the ankle, a wrist knocked on a table more; ±4 g
clips these, and 1 LSB of ±8 g (2.4 mm/s²) is still below the sensor's own noise (400 µg/√Hz)."""

FS_1000DPS, GYR_LSB_PER_DPS = 2, 32.8
"""±1000 °/s: a shank swings at 400 to 500 °/s and a running arm at 600 to 800 °/s, which ±500 °/s would clip."""

CLOCK_PLL_X_GYRO = 1  # more stable than the internal oscillator (RM-MPU-6000A, register 107)
INTERNAL_HZ = 1000.0  # with the low-pass filter on (RM-MPU-6000A 4.2)
DIVIDERS = range(99, 3, -1)  # 10 to 200 Hz

DLPF_BANDWIDTH_HZ = {1: 184.0, 2: 92.0, 3: 41.0, 4: 20.0, 5: 10.0, 6: 5.0}
"""DLPF_CFG: accelerometer -3 dB, the lower figure of RM-MPU-6000A 4.3 and RM-MPU-6500A 4.8."""

RESET_S = 0.1
WAKE_S = 0.01  # kernel: 5 to 10 ms until registers can be written
TEMPERATURE_READS = 3

SETUP = (
    (FS_SEL, FS_1000DPS),
    (AFS_SEL, AFS_8G),
    (TEMP_FIFO_EN, 1),
    (GYRO_FIFO_EN, 0b111),
    (ACCEL_FIFO_EN, 1),
    (FIFO_OFLOW_EN, 1),
    (STANDBY, 0),
)


def _rate(divider: int, *filters: Field) -> Rate:
    odr_hz = INTERNAL_HZ / (1 + divider)
    cfg, low_pass_hz = widest_below_nyquist(DLPF_BANDWIDTH_HZ, odr_hz)
    return Rate(odr_hz, low_pass_hz, ((SMPLRT_DIV, divider), *((one, cfg) for one in filters)))


ONE_FILTER = tuple(_rate(divider, DLPF_CFG) for divider in DIVIDERS)
TWO_FILTERS = tuple(_rate(divider, DLPF_CFG, A_DLPF_CFG) for divider in DIVIDERS)
"""From the MPU-6500 on the accelerometer's filter is a register of its own."""


def _part(name: str, who_am_i: int, rates: tuple[Rate, ...], temperature: tuple[float, float], **more: Any) -> Part:
    lsb_per_c, offset_c = temperature
    defaults: dict[str, Any] = {"fifo_bytes": 512}
    return Part(
        name,
        frozenset({who_am_i}),
        rates=rates,
        setup=SETUP,
        acc_lsb_per_g=ACC_LSB_PER_G,
        gyr_lsb_per_dps=GYR_LSB_PER_DPS,
        lsb_per_c=lsb_per_c,
        offset_c=offset_c,
        without_gyroscope=((GYRO_FIFO_EN, 0),),
        **(defaults | more),
    )


# What need not be the silicon it says: the smaller FIFO, and the filter register written but not read back.
UNSURE = {"unchecked": frozenset({A_DLPF_CFG.address})}
CLONE = _part("MPU-6050 clone", 0x72, TWO_FILTERS, (340.0, 36.53), **UNSURE)  # jrowberg/i2cdevlib#478

PARTS = (
    _part("MPU-6050", 0x68, ONE_FILTER, (340.0, 36.53), fifo_bytes=1024),
    _part("MPU-6500", 0x70, TWO_FILTERS, (333.87, 21.0)),
    _part("MPU-9250", 0x71, TWO_FILTERS, (333.87, 21.0)),
    _part("MPU-9255", 0x73, TWO_FILTERS, (333.87, 21.0)),
    _part("MPU-6515", 0x74, TWO_FILTERS, (333.87, 21.0)),
    # The kernel's ICM-20689; 13 of 20 boards sold as MPU-6050 (ElectronicCats/mpu6050#21). 512 bytes unless enlarged.
    _part("MPU-6050 clone", 0x98, TWO_FILTERS, (326.8, 25.0), **UNSURE),
    CLONE,
)


class Mpu6050(RegisterChip):
    """The family's FIFO: untagged frames, kept in step by the temperature in each of them."""

    FIFO_PORT = FIFO_R_W
    POWER_DOWN = ((SLEEP, 1),)
    FRAME_BYTES = (2 * WORDS[False], 2 * WORDS[True])
    PLAIN = {0: (SMPLRT_DIV.address, STANDBY.address)}  # noqa: RUF012
    """All of them. Of the registers between them reading changes only status registers that nobody uses; the first port
    is MEM_R_W, 6Fh."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._canary = TemperatureCanary(self.part.lsb_per_c, self.part.offset_c)

    def reset(self) -> None:
        """Reset, then wake on the gyroscope's clock."""
        self._write(DEVICE_RESET.address, DEVICE_RESET.put(1))
        self._sleep(RESET_S)
        self._wait_for(DEVICE_RESET, 0, RESET_S, "reset")
        self._write(CLKSEL.address, CLKSEL.put(CLOCK_PLL_X_GYRO))
        self._sleep(WAKE_S)

    def checked(self) -> dict[int, dict[int, int]]:
        """Include the power registers: they are written in a fixed order, outside the table."""
        registers = super().checked()
        registers[0] |= {USER_FIFO_EN.address: USER_FIFO_EN.put(1), CLKSEL.address: CLKSEL.put(CLOCK_PLL_X_GYRO)}
        return registers

    def restart_fifo(self) -> None:
        """Empty the FIFO; FIFO_RESET works only while FIFO_EN is 0, and the sources are opened last, on a frame."""
        self._canary.settle(int16_be(self._read(TEMP_OUT.address, 2), 1)[0, 0] for _ in range(TEMPERATURE_READS))
        sources = TEMP_FIFO_EN.address
        self._write(sources, 0)
        self._write(USER_FIFO_EN.address, 0)
        self._write(USER_FIFO_EN.address, FIFO_RESET.put(1))
        self._write(USER_FIFO_EN.address, USER_FIFO_EN.put(1))
        self._read(FIFO_OFLOW_INT.address, 1)  # clears it
        self._write(sources, self._settings[0][sources])

    def judge(self) -> bool:
        """As the base class, with the overflow flag, which lies among the settings."""
        settings = self._blocks[0]
        found = self._read(settings.first, settings.length)
        settings.check(found)
        return bool(FIFO_OFLOW_INT.get(found[FIFO_OFLOW_INT.address - settings.first]))

    def fifo_level(self) -> int:
        """Bytes waiting; the high byte is read first, which latches both."""
        return unsigned_be(self._read(FIFO_COUNT.address, 2))

    def decode(self, data: bytes) -> Frames:
        """Frames to m/s² and rad/s; FifoFault if the temperature in any of them betrays a frame out of step."""
        words = int16_be(data, WORDS[self.gyroscope])
        celsius = self._canary.check(words[:, 3].astype(np.float64))
        return self._frames(words[:, 0:3], words[:, 4:7] if self.gyroscope else None, celsius)


FAMILY = Family(
    types=("mpu6050", "mpu6500", "mpu9250", "mpu9255"),
    addresses=(0x68, 0x69),  # AD0 low, AD0 high
    identity=WHO_AM_I,
    parts=PARTS,
    chip=Mpu6050,
    guess=CLONE,
)
