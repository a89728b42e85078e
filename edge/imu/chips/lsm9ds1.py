"""ST LSM9DS1, accelerometer and gyroscope (the Sense HAT's): a FIFO of 32 samples behind the output registers.

Sources: DocID025715 rev 3 (section in brackets); ST's own lsm9ds1-pid (lsm9ds1_reg.h, the bit fields of *_t); the
Linux kernel's drivers/iio/imu/st_lsm6dsx/st_lsm6dsx_core.c (the entry with wai 0x68).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.imu.chips.core import Family, Part, Rate, RegisterChip
from edge.imu.registers import Field, int16_le

if TYPE_CHECKING:
    from edge.imu.chip import Frames

WHO_AM_I = Field(0x0F, 0xFF)
ODR_G = Field(0x10, 0xE0)
FS_G = Field(0x10, 0x18)
BW_G = Field(0x10, 0x03)
OUT_G = Field(0x18, 0xFF)  # six bytes
ODR_XL = Field(0x20, 0xE0)
FS_XL = Field(0x20, 0x18)
BW_SCAL_ODR = Field(0x20, 0x04)
BW_XL = Field(0x20, 0x03)
BDU = Field(0x22, 0x40)
IF_ADD_INC = Field(0x22, 0x04)
SW_RESET = Field(0x22, 0x01)
FIFO_EN = Field(0x23, 0x02)
FIFO_MODE = Field(0x2E, 0xE0)
OVRN = Field(0x2F, 0x40)
FSS = Field(0x2F, 0x3F)

FRAME_BYTES = 12
"""As they are read here: gyroscope, then accelerometer, little-endian. Both are in the FIFO, or neither."""

BYPASS, CONTINUOUS = 0, 6
FS_8G = 3
FS_2000DPS = 3  # there is no ±1000 °/s, and ±500 °/s would clip
RESET_S = 0.05  # kernel: 50 ms


def _rate(code: int, odr_hz: float, bw_xl: int, low_pass_hz: float, bw_g: int) -> Rate:
    # BW_XL: 408, 211, 105, 50 Hz (7.25); BW_G: at 119 Hz 14 or 31 Hz, at 238 Hz 14, 29, 63 or 78 Hz (table 47).
    # Below 119 Hz the accelerometer has no filter that is narrow enough.
    accelerometer = ((ODR_XL, code), (BW_SCAL_ODR, 1), (BW_XL, bw_xl))
    return Rate(odr_hz, low_pass_hz, ((ODR_G, code), (BW_G, bw_g), *accelerometer))


LSM9DS1 = Part(
    "LSM9DS1",
    frozenset({0x68}),
    fifo_bytes=32 * FRAME_BYTES,
    rates=(_rate(3, 119.0, 3, 50.0, 1), _rate(4, 238.0, 2, 105.0, 2)),
    setup=((FS_G, FS_2000DPS), (FS_XL, FS_8G), (BDU, 1), (IF_ADD_INC, 1), (FIFO_EN, 1), (FIFO_MODE, CONTINUOUS)),
    acc_lsb_per_g=1000.0 / 0.244,
    gyr_lsb_per_dps=1000.0 / 70.0,
)


class Lsm9ds1(RegisterChip):
    """The family's FIFO: each reading of both sensors' output registers takes the oldest sample out.

    While both run at one rate a burst goes round in them, from the gyroscope's to the accelerometer's and back (3.3,
    figure 7): one transaction reads all samples. A burst always begins with the gyroscope's first byte: frames cannot
    be out of step.
    """

    FIFO_PORT = OUT_G
    POWER_DOWN = ((ODR_G, 0), (ODR_XL, 0))
    FRAME_BYTES = (FRAME_BYTES, FRAME_BYTES)
    PLAIN = {0: (ODR_XL.address, FIFO_EN.address)}  # noqa: RUF012

    def reset(self) -> None:
        """Reset."""
        self._write(SW_RESET.address, SW_RESET.put(1))
        self._wait_for(SW_RESET, 0, RESET_S, "reset")

    def restart_fifo(self) -> None:
        """Empty the FIFO: bypass mode clears it (3.5.2)."""
        self._write(FIFO_MODE.address, FIFO_MODE.put(BYPASS))
        self._write(FIFO_MODE.address, FIFO_MODE.put(CONTINUOUS))
        self._overrun = False

    def fifo_level(self) -> int:
        """Bytes waiting."""
        source = self._read(FSS.address, 1)[0]
        self._overrun = bool(OVRN.get(source))
        return FSS.get(source) * FRAME_BYTES

    def decode(self, data: bytes) -> Frames:
        """Turn samples into m/s² and rad/s."""
        words = int16_le(data, FRAME_BYTES // 2)
        return self._frames(words[:, 3:6], words[:, 0:3], None)


FAMILY = Family(
    types=("lsm9ds1",),
    addresses=(0x6A, 0x6B),  # SDO_A/G low, high
    identity=WHO_AM_I,
    parts=(LSM9DS1,),
    chip=Lsm9ds1,
    guess=LSM9DS1,
)
