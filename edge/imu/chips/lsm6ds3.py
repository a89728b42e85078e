"""ST LSM6DS3 and LSM6DS3TR-C (also LSM6DSL, LSM6DSM, ISM330DLC): an untagged FIFO that says where it stands.

Sources: DocID026899 rev 10 (LSM6DS3), DocID030071 rev 3 (LSM6DS3TR-C), section in brackets; ST's own lsm6ds3-pid and
lsm6ds3tr-c-pid (*_reg.h, the bit fields of *_t); the Linux kernel's drivers/iio/imu/st_lsm6dsx (st_lsm6dsx_core.c,
st_lsm6dsx_buffer.c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.imu.chip import FifoFault
from edge.imu.chips.core import Family, Part, Rate, RegisterChip
from edge.imu.registers import Field, int16_le, unsigned_le

if TYPE_CHECKING:
    from edge.imu.chip import Frames

FUNC_CFG_EN = Field(0x01, 0x80)
FIFO_CTRL3 = Field(0x08, 0xFF)
DEC_FIFO_GYRO = Field(0x08, 0x38)
DEC_FIFO_XL = Field(0x08, 0x07)
ODR_FIFO = Field(0x0A, 0x78)
FIFO_MODE = Field(0x0A, 0x07)
WHO_AM_I = Field(0x0F, 0xFF)
ODR_XL = Field(0x10, 0xF0)
FS_XL = Field(0x10, 0x0C)
LPF1_BW_SEL = Field(0x10, 0x02)  # LSM6DS3TR-C
ODR_G = Field(0x11, 0xF0)
FS_G = Field(0x11, 0x0C)
BDU = Field(0x12, 0x40)
IF_INC = Field(0x12, 0x04)
SW_RESET = Field(0x12, 0x01)
XL_BW_SCAL_ODR = Field(0x13, 0x80)  # LSM6DS3
AXES_G = Field(0x19, 0x38)  # LSM6DS3: Z, Y, X
PEDO_EN_TRC = Field(0x19, 0x10)  # LSM6DS3TR-C
FUNC_EN = Field(0x19, 0x04)
FIFO_STATUS = Field(0x3A, 0xFF)
DIFF_FIFO_HIGH = Field(0x3B, 0x0F)  # the LSM6DS3TR-C needs three bits of it
FIFO_OVER_RUN = Field(0x3B, 0x40)
FIFO_EMPTY = Field(0x3B, 0x10)
FIFO_PATTERN_HIGH = Field(0x3D, 0x03)
FIFO_DATA_OUT = Field(0x3E, 0xFF)
STEP_COUNTER = Field(0x4B, 0xFF)
PEDO_EN = Field(0x58, 0x40)  # LSM6DS3

WORDS = (3, 6)
"""Gyroscope if it is wanted, then accelerometer, little-endian (5.5.6; st_lsm6dsx_buffer.c)."""

BYPASS, CONTINUOUS = 0, 6
FS_8G, FS_1000DPS = 3, 2
RESET_S = 0.05  # kernel: 50 ms


def _rate(code: int, odr_hz: float, low_pass_hz: float, *filters: tuple[Field, int]) -> Rate:
    return Rate(odr_hz, low_pass_hz, ((ODR_FIFO, code), (ODR_XL, code), (ODR_G, code), *filters))


def _part(name: str, who_am_i: int, fifo_bytes: int, rates: tuple[Rate, ...], *pedometer: tuple[Field, int]) -> Part:
    return Part(
        name,
        frozenset({who_am_i}),
        fifo_bytes=fifo_bytes,
        rates=rates,
        setup=(
            (DEC_FIFO_GYRO, 1),
            (DEC_FIFO_XL, 1),
            (FIFO_MODE, CONTINUOUS),
            (FS_XL, FS_8G),
            (FS_G, FS_1000DPS),
            (BDU, 1),
            (IF_INC, 1),
            (FUNC_EN, 1),
            *pedometer,
        ),
        acc_lsb_per_g=1000.0 / 0.244,
        gyr_lsb_per_dps=1000.0 / 35.0,
        without_gyroscope=((DEC_FIFO_GYRO, 0),),
    )


LSM6DS3 = _part(
    "LSM6DS3",
    0x69,
    8192,
    # Its analogue filter follows the rate (XL_BW_SCAL_ODR = 0): 50 Hz up to 104 Hz, 100 Hz at 208 Hz; below 104 Hz
    # it would alias (9.12, table 51).
    (_rate(4, 104.0, 50.0, (XL_BW_SCAL_ODR, 0)), _rate(5, 208.0, 100.0, (XL_BW_SCAL_ODR, 0))),
    (AXES_G, 0b111),
    (PEDO_EN, 1),
)
LSM6DS3TR_C = _part(
    "LSM6DS3TR-C",
    0x6A,
    4096,
    # LPF1 at a quarter of the rate; its other choice, half the rate, is no anti-aliasing filter (9.12).
    tuple(
        _rate(code, odr_hz, odr_hz / 4.0, (LPF1_BW_SEL, 1))
        for code, odr_hz in ((2, 26.0), (3, 52.0), (4, 104.0), (5, 208.0))
    ),
    (PEDO_EN_TRC, 1),
)


class Lsm6ds3(RegisterChip):
    """The family's FIFO: untagged words, kept in step by the pattern register, which numbers the next one."""

    FIFO_PORT = FIFO_DATA_OUT
    POWER_DOWN = ((ODR_XL, 0), (ODR_G, 0))
    FRAME_BYTES = (2 * WORDS[False], 2 * WORDS[True])
    PLAIN = {0: (FIFO_CTRL3.address, FUNC_EN.address)}  # noqa: RUF012

    def reset(self) -> None:
        """Reset, also out of the embedded functions' page."""
        self._write(FUNC_CFG_EN.address, 0)
        self._write(SW_RESET.address, SW_RESET.put(1))
        self._wait_for(SW_RESET, 0, RESET_S, "reset")

    def restart_fifo(self) -> None:
        """Empty the FIFO: bypass mode clears it."""
        mode = self._settings[0][FIFO_MODE.address]
        self._write(FIFO_MODE.address, FIFO_MODE.put(BYPASS, mode))
        self._write(FIFO_MODE.address, mode)
        self._overrun = False

    def fifo_level(self) -> int:
        """Bytes waiting; FifoFault if some were overwritten, or if the next word is not the first of a frame."""
        words, pattern = self._status()
        if self._overrun:  # it drops words, not frames, so the pattern would tell of it too, but not of the reason
            self._overrun = False
            raise FifoFault("fifo_overflow", "FIFO overflow")
        if words and pattern % WORDS[self.gyroscope]:
            raise FifoFault("bad_transfer", f"the FIFO stands at word {pattern} of a frame")
        return words * 2

    def decode(self, data: bytes) -> Frames:
        """Frames to m/s² and rad/s."""
        words = int16_le(data, WORDS[self.gyroscope])
        return self._frames(words[:, -3:], words[:, :3] if self.gyroscope else None, None)

    def pedometer_steps(self) -> int | None:
        """Return STEP_COUNTER."""
        return unsigned_le(self._read(STEP_COUNTER.address, 2))

    def _status(self) -> tuple[int, int]:
        """Words waiting, and which word of the pattern is next; all four status registers in one read (5.5.6)."""
        low, flags, pattern, pattern_high = self._read(FIFO_STATUS.address, 4)
        self._overrun |= bool(FIFO_OVER_RUN.get(flags))
        words = unsigned_le(bytes([low, DIFF_FIFO_HIGH.get(flags)])) % (self.fifo_bytes // 2)
        if words == 0 and not FIFO_EMPTY.get(flags):
            words = self.fifo_bytes // 2  # full: one bit more than the counter has
        return words, unsigned_le(bytes([pattern, FIFO_PATTERN_HIGH.get(pattern_high)]))


FAMILY = Family(
    types=("lsm6ds3",),
    addresses=(0x6A, 0x6B),  # SA0 low, high
    identity=WHO_AM_I,
    parts=(LSM6DS3, LSM6DS3TR_C),
    chip=Lsm6ds3,
    guess=LSM6DS3TR_C,
    bank=FUNC_CFG_EN,
)
