"""Bosch BMI270: runs only after 8 kB of configuration have been loaded into it.

That file is Bosch's and not part of Footfall; it is looked for where the Linux kernel's driver looks for it, under the
same name (bmi270_core.c, BMI270_INIT_DATA_FILE). docs/new-sensor.md says how to get it.

Sources: BST-BMI270-DS000-07 (section in brackets); Bosch's BMI270_SensorAPI (bmi2_defs.h, BMI2_*; bmi270.h, BMI270_*);
the Linux kernel's drivers/iio/imu/bmi270/bmi270_core.c.
"""

from __future__ import annotations

from pathlib import Path

from edge.errors import ImuError
from edge.imu.bus import SMBUS_BLOCK_BYTES
from edge.imu.chips.bosch import SOFT_RESET, BoschChip
from edge.imu.chips.core import Family, Part, Rate
from edge.imu.registers import Field, unsigned_le

CHIP_ID = Field(0x00, 0xFF)
STEP_COUNT = Field(0x1E, 0xFF)  # SC_OUT_0, SC_OUT_1
INTERNAL_MESSAGE = Field(0x21, 0x0F)
FIFO_LENGTH = Field(0x25, 0x3F)  # high byte; the low byte is 24h
FIFO_DATA = Field(0x26, 0xFF)
FEAT_PAGE = Field(0x2F, 0x07)
ACC_FILTER_PERF = Field(0x40, 0x80)
ACC_BWP = Field(0x40, 0x70)
ACC_ODR = Field(0x40, 0x0F)
ACC_RANGE = Field(0x41, 0x03)
GYR_FILTER_PERF = Field(0x42, 0x80)
GYR_NOISE_PERF = Field(0x42, 0x40)
GYR_BWP = Field(0x42, 0x30)
GYR_ODR = Field(0x42, 0x0F)
GYR_RANGE = Field(0x43, 0x07)
ACC_FIFO_FILT = Field(0x45, 0x80)
GYR_FIFO_FILT = Field(0x45, 0x08)
FIFO_TIME_EN = Field(0x48, 0x02)
FIFO_STOP_ON_FULL = Field(0x48, 0x01)
FIFO_GYR_EN = Field(0x49, 0x80)
FIFO_ACC_EN = Field(0x49, 0x40)
FIFO_HEADER_EN = Field(0x49, 0x10)
INIT_CTRL = Field(0x59, 0x01)
INIT_ADDR_0 = Field(0x5B, 0x0F)  # in words of two bytes
INIT_ADDR_1 = Field(0x5C, 0xFF)
INIT_DATA = Field(0x5E, 0xFF)
ADV_POWER_SAVE = Field(0x7C, 0x01)
TEMP_EN = Field(0x7D, 0x08)
ACC_EN = Field(0x7D, 0x04)
GYR_EN = Field(0x7D, 0x02)
# Feature page 6, SC_26 (4.8.12): word 1 of the page
STEP_FEATURES = Field(0x32, 0xFF, bank=6)
STEP_COUNT_EN = Field(0x33, 0x10, bank=6)

INIT_OK = 1
BWP_NORMAL = 2
RANGE_8G, RANGE_1000DPS = 2, 1
STEP_PAGE = 6

FIRMWARE_NAME = "bmi270-init-data.fw"
FIRMWARE_DIRECTORIES = (Path("/lib/firmware/updates"), Path("/lib/firmware"), Path("/usr/local/lib/firmware"))
FIRMWARE_BYTES = 8192

RESET_S = 0.002
WAKE_S = 0.0005  # 450 µs until all registers answer (kernel)
INIT_S = 0.15  # "within 150 ms" (4.3)


def _rate(code: int, odr_hz: float) -> Rate:
    # Normal filter: -3 dB of the accelerometer at 40.5 Hz for 100 Hz, in proportion for the others (4.6.2).
    acc = ((ACC_FILTER_PERF, 1), (ACC_BWP, BWP_NORMAL), (ACC_ODR, code))
    gyr = ((GYR_FILTER_PERF, 1), (GYR_NOISE_PERF, 1), (GYR_BWP, BWP_NORMAL), (GYR_ODR, code))
    return Rate(odr_hz, 0.405 * odr_hz, (*acc, *gyr))


BMI270 = Part(
    "BMI270",
    frozenset({0x24}),
    fifo_bytes=2048,
    rates=(_rate(6, 25.0), _rate(7, 50.0), _rate(8, 100.0), _rate(9, 200.0)),
    setup=(
        (ACC_RANGE, RANGE_8G),
        (GYR_RANGE, RANGE_1000DPS),
        (ACC_FIFO_FILT, 1),
        (GYR_FIFO_FILT, 1),
        (FIFO_TIME_EN, 0),
        (FIFO_STOP_ON_FULL, 0),
        (FIFO_GYR_EN, 1),
        (FIFO_ACC_EN, 1),
        (FIFO_HEADER_EN, 1),
        (ADV_POWER_SAVE, 0),
        (TEMP_EN, 1),
        (ACC_EN, 1),
        (GYR_EN, 1),
    ),
    acc_lsb_per_g=4096.0,
    gyr_lsb_per_dps=32.768,
    without_gyroscope=((FIFO_GYR_EN, 0),),
)


class Bmi270(BoschChip):
    """The family's start: load the configuration, wait until the chip has accepted it, enable the step counter."""

    FIFO_PORT = FIFO_DATA
    FIFO_LENGTH = FIFO_LENGTH
    PLAIN = {0: (ACC_ODR.address, FIFO_ACC_EN.address)}  # noqa: RUF012
    POWER_DOWN = ((TEMP_EN, 0), (ACC_EN, 0), (GYR_EN, 0))

    def reset(self) -> None:
        """Reset and load; ImuError if the file is not there, RegisterFault if the chip does not accept it."""
        firmware = load_firmware(self.options.firmware)
        self._command(SOFT_RESET)
        self._sleep(RESET_S)
        self._write(ADV_POWER_SAVE.address, 0)
        self._sleep(WAKE_S)
        self._write(INIT_CTRL.address, 0)
        for first in range(0, len(firmware), SMBUS_BLOCK_BYTES):
            high, low = divmod(first // 2, 16)
            self._write(INIT_ADDR_0.address, INIT_ADDR_0.put(low))
            self._write(INIT_ADDR_1.address, INIT_ADDR_1.put(high))
            self._bus.write_burst(self._address, INIT_DATA.address, firmware[first : first + SMBUS_BLOCK_BYTES])
        self._write(INIT_CTRL.address, INIT_CTRL.put(1))
        self._wait_for(INTERNAL_MESSAGE, INIT_OK, INIT_S, "loading the configuration")

    def configure(self) -> None:
        """Enable the step counter in its feature page, then write the table."""
        self._write(FEAT_PAGE.address, FEAT_PAGE.put(STEP_PAGE))
        low, high = self._read(STEP_FEATURES.address, 2)
        # Features are words: both bytes in one transaction.
        word = bytes([low, STEP_COUNT_EN.put(1, high)])
        self._bus.write_burst(self._address, STEP_FEATURES.address, word)
        self._write(FEAT_PAGE.address, 0)
        super().configure()

    def pedometer_steps(self) -> int | None:
        """Return SC_OUT."""
        return unsigned_le(self._read(STEP_COUNT.address, 2))


def load_firmware(path: Path | None = None) -> bytes:
    """Read the chip's configuration; ImuError says where it was looked for and how to get it."""
    places = [directory / FIRMWARE_NAME for directory in FIRMWARE_DIRECTORIES] if path is None else [path]
    for place in places:
        try:
            data = place.read_bytes()
        except OSError:
            continue
        if len(data) != FIRMWARE_BYTES:
            raise ImuError(
                f"{place} has {len(data)} bytes; the BMI270's configuration has {FIRMWARE_BYTES}: "
                "docs/new-sensor.md says how to get it"
            )
        return data
    raise ImuError(
        f"a BMI270 needs its configuration, Bosch's bmi270_config_file, in {' or '.join(map(str, places))}; it is not "
        "there, or not readable: docs/new-sensor.md says how to get it"
    )


FAMILY = Family(
    types=("bmi270",),
    addresses=(0x68, 0x69),  # SDO low, high
    identity=CHIP_ID,
    parts=(BMI270,),
    chip=Bmi270,
    guess=BMI270,
)
