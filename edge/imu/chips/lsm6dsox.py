"""ST LSM6DSOX (also LSM6DSO), LSM6DSO32 and ISM330DHCX: a FIFO of 512 tagged words of 7 bytes.

An LSM6DSO32 gives the same WHO_AM_I as an LSM6DSOX, and no documented register tells them apart: only its accelerometer
does, whose four ranges are ±4, 32, 8 and 16 g where the others' are ±2, 16, 4 and 8 g. It has to be named in
`sensor.type`; taken for an LSM6DSOX it shows half of gravity at rest, which is said.

Sources: DS12814 rev 3 (LSM6DSOX), DS13012 rev 7 (ISM330DHCX), section in brackets; ST's own lsm6dsox-pid
(lsm6dsox_reg.h, the bit fields of *_t); AN5192 for FREQ_FINE; the Linux kernel's drivers/iio/imu/st_lsm6dsx
(st_lsm6dsx_core.c, st_lsm6dsx_buffer.c); for the LSM6DSO32, Adafruit_CircuitPython_LSM6DS/lsm6dso32.py.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edge.imu.chip import FifoFault
from edge.imu.chips.core import Family, Part, Rate, RegisterChip
from edge.imu.registers import Field, bits_of, int16_le, signed, unsigned_le

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from edge.imu.chip import Frames
    from edge.imu.registers import Int16Array

log = logging.getLogger(__name__)

FUNC_CFG_ACCESS = Field(0x01, 0x80)
REG_ACCESS = Field(0x01, 0xC0)  # embedded functions, sensor hub
BDR_GY = Field(0x09, 0xF0)
BDR_XL = Field(0x09, 0x0F)
FIFO_MODE = Field(0x0A, 0x07)
WHO_AM_I = Field(0x0F, 0xFF)
ODR_XL = Field(0x10, 0xF0)
FS_XL = Field(0x10, 0x0C)
LPF2_XL_EN = Field(0x10, 0x02)
ODR_G = Field(0x11, 0xF0)
FS_G = Field(0x11, 0x0C)
BDU = Field(0x12, 0x40)
IF_INC = Field(0x12, 0x04)
SW_RESET = Field(0x12, 0x01)
HPCF_XL = Field(0x17, 0xE0)
DEN_AXES = Field(0x18, 0xE0)
I3C_DISABLE = Field(0x18, 0x02)
FIFO_STATUS = Field(0x3A, 0xFF)
DIFF_FIFO_HIGH = Field(0x3B, 0x03)
FIFO_OVR = Field(0x3B, 0x40)
OVER_RUN_LATCHED = Field(0x3B, 0x08)
FREQ_FINE = Field(0x63, 0xFF)
FIFO_DATA_OUT = Field(0x78, 0xFF)
# Embedded functions' page, visible while FUNC_CFG_ACCESS is set (11)
PEDO_EN = Field(0x04, 0x08, bank=1)
STEP_COUNTER = Field(0x62, 0xFF, bank=1)
PEDO_RST_STEP = Field(0x64, 0x80, bank=1)
STEP_DET_INIT = Field(0x66, 0x08, bank=1)
# A word's first byte (9.76, FIFO_DATA_OUT_TAG)
TAG_SENSOR = Field(0x78, 0xF8)
TAG_CNT = Field(0x78, 0x06)

TAG_GYRO, TAG_ACCEL = 1, 2
WORD_BYTES = 7
WORDS = (1, 2)
"""An accelerometer word, and a gyroscope word of the same time slot if it is wanted."""

BYPASS, CONTINUOUS = 0, 6
FS_8G, FS_1000DPS = 3, 2
QUARTER_OF_RATE = 0
RESET_S = 0.05  # kernel: 50 ms
FREQ_FINE_STEP = 0.0015  # of the rate per LSB (AN5192 6.4; st_lsm6dsx_init_hw_timer)
HALF_G, STILL_G, HALF_S = (0.4, 0.6), 0.03, 5.0
"""Nobody lies still for 5 s, to 30 mg, at half of gravity."""
SEEDED_TOLERANCE = 0.05
"""FREQ_FINE is trimmed in the factory at room temperature; without it these parts are off by up to 20 %."""


def _rate(code: int, odr_hz: float) -> Rate:
    # LPF2 at a quarter of the rate; without it LPF1 passes half the rate (9.17, HPCF_XL).
    codes = ((BDR_GY, code), (BDR_XL, code), (ODR_XL, code), (ODR_G, code))
    return Rate(odr_hz, odr_hz / 4.0, (*codes, (LPF2_XL_EN, 1), (HPCF_XL, QUARTER_OF_RATE)))


def _part(name: str, who_am_i: int) -> Part:
    return Part(
        name,
        frozenset({who_am_i}),
        fifo_bytes=512 * WORD_BYTES,
        rates=tuple(_rate(code, odr_hz) for code, odr_hz in ((2, 26.0), (3, 52.0), (4, 104.0), (5, 208.0))),
        setup=(
            (FIFO_MODE, CONTINUOUS),
            (FS_XL, FS_8G),
            (FS_G, FS_1000DPS),
            (BDU, 1),
            (IF_INC, 1),
            (DEN_AXES, 0b111),
            (I3C_DISABLE, 1),
        ),
        acc_lsb_per_g=1000.0 / 0.244,
        gyr_lsb_per_dps=1000.0 / 35.0,
        without_gyroscope=((BDR_GY, 0),),
    )


LSM6DSOX = _part("LSM6DSOX", 0x6C)
FS_8G_OF_32 = 2
LSM6DSO32 = replace(
    LSM6DSOX,
    name="LSM6DSO32",
    setup=tuple((field, FS_8G_OF_32 if field is FS_XL else value) for field, value in LSM6DSOX.setup),
)
ISM330DHCX = _part("ISM330DHCX", 0x6B)


class Lsm6dsox(RegisterChip):
    """The family's FIFO: each word says which sensor and which time slot it belongs to."""

    FIFO_PORT = FIFO_DATA_OUT
    POWER_DOWN = ((ODR_XL, 0), (ODR_G, 0))
    FRAME_BYTES = (WORDS[False] * WORD_BYTES, WORDS[True] * WORD_BYTES)
    PLAIN = {0: (BDR_XL.address, DEN_AXES.address)}  # noqa: RUF012

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._nominal_hz = self.odr_hz
        self._half_samples = 0

    def reset(self) -> None:
        """Reset, also out of another page."""
        self._write(FUNC_CFG_ACCESS.address, 0)
        self._write(SW_RESET.address, SW_RESET.put(1))
        self._wait_for(SW_RESET, 0, RESET_S, "reset")

    def configure(self) -> None:
        """Write the table, enable the pedometer, ask what the factory says of the oscillator."""
        super().configure()
        with self._embedded_functions():
            self._update(PEDO_EN, 1)
            self._write(STEP_DET_INIT.address, STEP_DET_INIT.put(1))
            self._write(PEDO_RST_STEP.address, PEDO_RST_STEP.put(1))
        trim = signed(self._read(FREQ_FINE.address, 1)[0], 8)
        self.odr_hz = self._nominal_hz * (1.0 + FREQ_FINE_STEP * trim)
        self.rate_tolerance = SEEDED_TOLERANCE if trim else self.part.rate_tolerance

    def restart_fifo(self) -> None:
        """Empty the FIFO: bypass mode clears it."""
        self._write(FIFO_MODE.address, FIFO_MODE.put(BYPASS))
        self._status()
        self._write(FIFO_MODE.address, FIFO_MODE.put(CONTINUOUS))
        self._overrun = False

    def fifo_level(self) -> int:
        """Bytes waiting."""
        return self._status() * WORD_BYTES

    def decode(self, data: bytes) -> Frames:
        """Words to m/s² and rad/s; FifoFault if tags or time slots do not fit."""
        words = np.frombuffer(data, np.uint8).reshape(-1, WORDS[self.gyroscope], WORD_BYTES)
        tags = words[:, :, 0]
        sensor, slot = bits_of(tags, TAG_SENSOR), bits_of(tags, TAG_CNT)
        frame, place = np.arange(len(words)), np.argmax(sensor == TAG_ACCEL, axis=1)
        fits = (sensor[frame, place] == TAG_ACCEL) & (slot[:, 0] == slot[:, -1])
        gyr = None
        if self.gyroscope:
            fits &= sensor[frame, 1 - place] == TAG_GYRO
            gyr = int16_le(words[frame, 1 - place, 1:].tobytes(), 3)
        if not fits.all() or np.any(np.diff(slot[:, 0]) & np.uint8(3) != 1):
            raise FifoFault("bad_transfer", "FIFO words are out of step")
        acc = int16_le(words[frame, place, 1:].tobytes(), 3)
        if self.part is LSM6DSOX:
            self._weigh(acc)
        return self._frames(acc, gyr, None)

    def _weigh(self, acc: Int16Array) -> None:
        """Say once if the device lies still at half of gravity for seconds: it is an LSM6DSO32 then."""
        in_g = acc / self.part.acc_lsb_per_g
        low, high = HALF_G
        still = in_g.std(axis=0).max() < STILL_G and low < float(np.linalg.norm(in_g.mean(axis=0))) < high
        before, self._half_samples = self._half_samples, self._half_samples + len(acc) if still else 0
        if before < HALF_S * self.odr_hz <= self._half_samples:
            log.warning("gravity reads about half: an LSM6DSO32? then set sensor.type: lsm6dso32")

    def pedometer_steps(self) -> int | None:
        """Return STEP_COUNTER of the embedded functions' page."""
        with self._embedded_functions():
            return unsigned_le(self._read(STEP_COUNTER.address, 2))

    def _status(self) -> int:
        """Words waiting and whether some were overwritten; reading the flags clears the latched one."""
        low, flags = self._read(FIFO_STATUS.address, 2)
        self._overrun = bool(FIFO_OVR.get(flags) or OVER_RUN_LATCHED.get(flags))
        return unsigned_le(bytes([low, DIFF_FIFO_HIGH.get(flags)]))

    @contextlib.contextmanager
    def _embedded_functions(self) -> Iterator[None]:
        """Turn the page; if turning it back fails, the next check of the main page's registers tells."""
        self._write(FUNC_CFG_ACCESS.address, FUNC_CFG_ACCESS.put(1))
        try:
            yield
        finally:
            self._write(FUNC_CFG_ACCESS.address, 0)


FAMILY = Family(
    types=("lsm6dsox", "ism330dhcx"),
    addresses=(0x6A, 0x6B),  # SA0 low, high
    identity=WHO_AM_I,
    parts=(LSM6DSOX, ISM330DHCX),
    chip=Lsm6dsox,
    guess=LSM6DSOX,
    named={"lsm6dso32": LSM6DSO32},
    bank=REG_ACCESS,
)
