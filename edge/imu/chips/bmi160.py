"""Bosch BMI160.

Sources: BST-BMI160-DS000-09 (section in brackets); Bosch's BMI160_SensorAPI (bmi160_defs.h, BMI160_*); the Linux
kernel's drivers/iio/imu/bmi160/bmi160_core.c.
"""

from __future__ import annotations

from edge.imu.chips.bosch import SOFT_RESET, BoschChip
from edge.imu.chips.core import Family, Part, Rate
from edge.imu.registers import Field, unsigned_le

CHIP_ID = Field(0x00, 0xFF)
PMU_STATUS = Field(0x03, 0xFF)
ACC_PMU_STATUS = Field(0x03, 0x30)
GYR_PMU_STATUS = Field(0x03, 0x0C)
FIFO_LENGTH = Field(0x23, 0x07)  # high byte; the low byte is 22h
FIFO_DATA = Field(0x24, 0xFF)
ACC_UNDERSAMPLING = Field(0x40, 0x80)
ACC_BW = Field(0x40, 0x70)
ACC_ODR = Field(0x40, 0x0F)
ACC_RANGE = Field(0x41, 0x0F)
GYR_BW = Field(0x42, 0x30)
GYR_ODR = Field(0x42, 0x0F)
GYR_RANGE = Field(0x43, 0x07)
ACC_FIFO_FILT = Field(0x45, 0x80)
GYR_FIFO_FILT = Field(0x45, 0x08)
FIFO_GYR_EN = Field(0x47, 0x80)
FIFO_ACC_EN = Field(0x47, 0x40)
FIFO_HEADER_EN = Field(0x47, 0x10)
FIFO_TIME_EN = Field(0x47, 0x02)
STEP_CNT = Field(0x78, 0xFF)
STEP_CONF_0 = Field(0x7A, 0xFF)
STEP_CONF_1 = Field(0x7B, 0x07)
STEP_CNT_EN = Field(0x7B, 0x08)

ACC_NORMAL_MODE, ACC_SUSPEND, GYR_NORMAL_MODE, GYR_SUSPEND = 0x11, 0x10, 0x15, 0x14
NORMAL = 1
BW_NORMAL = 2
RANGE_8G, RANGE_1000DPS = 0x08, 0x01
STEP_NORMAL_0, STEP_NORMAL_1 = 0x15, 0x03
"""Step counter in "normal" mode: its choice between missing steps and inventing them (2.11.37)."""

RESET_S = 0.015
ACC_START_S, GYR_START_S = 0.005, 0.081  # bmi160_defs.h: BMI160_ACCEL_DELAY_MS, BMI160_GYRO_DELAY_MS


def _rate(code: int, odr_hz: float) -> Rate:
    # Normal filter: -3 dB of the accelerometer at 40.5 Hz for 100 Hz, in proportion for the others (2.4.2, table 12).
    return Rate(odr_hz, 0.405 * odr_hz, ((ACC_BW, BW_NORMAL), (ACC_ODR, code), (GYR_BW, BW_NORMAL), (GYR_ODR, code)))


BMI160 = Part(
    "BMI160",
    frozenset({0xD1}),
    fifo_bytes=1024,
    rates=(_rate(6, 25.0), _rate(7, 50.0), _rate(8, 100.0), _rate(9, 200.0)),
    setup=(
        (ACC_UNDERSAMPLING, 0),
        (ACC_RANGE, RANGE_8G),
        (GYR_RANGE, RANGE_1000DPS),
        (ACC_FIFO_FILT, 1),
        (GYR_FIFO_FILT, 1),
        (FIFO_GYR_EN, 1),
        (FIFO_ACC_EN, 1),
        (FIFO_HEADER_EN, 1),
        (FIFO_TIME_EN, 0),
        (STEP_CONF_0, STEP_NORMAL_0),
        (STEP_CONF_1, STEP_NORMAL_1),
        (STEP_CNT_EN, 1),
    ),
    acc_lsb_per_g=4096.0,
    gyr_lsb_per_dps=32.8,
    without_gyroscope=((FIFO_GYR_EN, 0),),
)


class Bmi160(BoschChip):
    """Power by command; the power status register tells whether it still is as commanded."""

    FIFO_PORT = FIFO_DATA
    FIFO_LENGTH = FIFO_LENGTH
    PLAIN = {0: (ACC_ODR.address, FIFO_ACC_EN.address)}  # noqa: RUF012
    POWER_DOWN = ()

    def reset(self) -> None:
        """Reset, then both sensors to normal mode: in suspend mode registers take 0.4 ms each."""
        self._command(SOFT_RESET)
        self._sleep(RESET_S)
        self._command(ACC_NORMAL_MODE)
        self._sleep(ACC_START_S)
        self._command(GYR_NORMAL_MODE)
        self._sleep(GYR_START_S)
        self._wait_for(GYR_PMU_STATUS, NORMAL, GYR_START_S, "start of the gyroscope")

    def checked(self) -> dict[int, dict[int, int]]:
        """Include the power status: a reset suspends both sensors."""
        registers = super().checked()
        registers[0][PMU_STATUS.address] = ACC_PMU_STATUS.put(NORMAL, GYR_PMU_STATUS.put(NORMAL))
        return registers

    def pedometer_steps(self) -> int | None:
        """Return STEP_CNT."""
        return unsigned_le(self._read(STEP_CNT.address, 2))

    def power_down(self) -> None:
        """Suspend both sensors."""
        self._command(GYR_SUSPEND)
        self._command(ACC_SUSPEND)


FAMILY = Family(
    types=("bmi160",),
    addresses=(0x68, 0x69),  # SDO low, high
    identity=CHIP_ID,
    parts=(BMI160,),
    chip=Bmi160,
    guess=BMI160,
)
