"""How to wake each emulated chip and read its FIFO: literal register numbers from the data sheets.

Each recipe sets both sensors to about 100 Hz, ±8 g and ±1000 °/s (LSM9DS1: ±2000 °/s) and both into the FIFO.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from emulator.chips import CHIPS
from emulator.inprocess import VirtualTime

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

Frames = list[tuple[tuple[int, ...], tuple[int, ...]]]
"""(accelerometer, gyroscope) raw words."""
RATE_HZ = 100.0
BIG, LITTLE = ">3h", "<3h"


def ramp(seconds: float = 30.0) -> npt.NDArray[np.float64]:
    """Make a recording in which every row differs."""
    row = np.arange(int(seconds * RATE_HZ))
    rows = np.tile([0.0, 0.0, 9.80665, 0.0, 0.0, 0.0], (len(row), 1))
    rows[:, 0] = row * 0.01
    rows[:, 4] = row * 0.001
    return rows


class Bench:
    """One chip on a virtual clock."""

    def __init__(self, name: str, recording: npt.NDArray[np.float64] | None = None, **options: Any) -> None:
        self.name = name
        self.time = VirtualTime()
        rows = ramp() if recording is None else recording
        self.chip = CHIPS[name].make(rows, RATE_HZ, clock=self.time.now, **options)

    def set(self, register: int, *values: int) -> None:
        """Write, and let half a millisecond pass, which is more than any of them asks for."""
        self.chip.write(bytes([register, *values]))
        self.time.sleep(0.0005)

    def get(self, register: int, count: int = 1) -> bytes:
        self.chip.write(bytes([register]))
        return self.chip.read(count)

    def run(self) -> None:
        """Wake it up as the recipe says."""
        recipe = RECIPES[self.name]
        recipe.wake(self)

    def frames(self) -> Frames:
        """Drain the FIFO."""
        return RECIPES[self.name].frames(self)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a test must know of a part."""

    odr_hz: float
    wake: Callable[[Bench], None]
    frames: Callable[[Bench], Frames]
    frame_bytes: int
    capacity_bytes: int
    acc_lsb_per_g: float = 4096.0
    gyr_lsb_per_dps: float = 32.8
    who_am_i: tuple[int, int] = (0x75, 0)
    reset: dict[int, int] | None = None
    """Registers with what they hold after a reset."""


def pairs(data: bytes, order: str, *, gyro_first: bool, skip: int = 0, frame: int = 12) -> Frames:
    """Split plain frames of two triples; skip: bytes before them in each frame."""
    frames: Frames = []
    for start in range(0, len(data) - frame + 1, frame):
        first = struct.unpack_from(order, data, start + skip)
        second = struct.unpack_from(order, data, start + skip + 6)
        frames.append((second, first) if gyro_first else (first, second))
    return frames


def wake_mpu(bench: Bench) -> None:
    bench.set(0x6B, 0x01)
    bench.set(0x19, 9, 3, 0x10, 0x10)
    bench.set(0x6A, 0x40)
    bench.set(0x23, 0x78)


def mpu_frames(bench: Bench) -> Frames:
    count = int.from_bytes(bench.get(0x72, 2), "big")
    return pairs(bench.get(0x74, count), BIG, gyro_first=False)


def wake_icm20948(bench: Bench) -> None:
    bench.set(0x06, 0x01)
    bench.set(0x7F, 0x20)
    bench.set(0x00, 10, 0x05)
    bench.set(0x10, 0, 10)
    bench.set(0x14, 0x05)
    bench.set(0x7F, 0x00)
    bench.set(0x03, 0x40)
    bench.set(0x67, 0x1E)


def icm20948_frames(bench: Bench) -> Frames:
    count = int.from_bytes(bench.get(0x70, 2), "big")
    return pairs(bench.get(0x72, count), BIG, gyro_first=False)


def wake_icm42688(bench: Bench) -> None:
    bench.set(0x4F, 0x28)
    bench.set(0x50, 0x28)
    bench.set(0x4E, 0x0F)
    bench.time.sleep(0.1)
    bench.set(0x5F, 0x07)
    bench.set(0x16, 0x40)
    assert bench.get(0x2E, 2) == b"\0\0", "the first count after a flush"


def icm42688_frames(bench: Bench) -> Frames:
    count = int.from_bytes(bench.get(0x2E, 2), "big")
    return pairs(bench.get(0x30, count), BIG, gyro_first=False, skip=1, frame=16)


def wake_lsm6ds3(bench: Bench) -> None:
    bench.set(0x10, 0x4C)
    bench.set(0x11, 0x48)
    bench.set(0x08, 0x09)
    bench.set(0x0A, 0x26)


def lsm6ds3_frames(bench: Bench) -> Frames:
    low, high = bench.get(0x3A, 2)
    words = (high & 0x0F) << 8 | low
    return pairs(bench.get(0x3E, 2 * words), LITTLE, gyro_first=True)


def wake_lsm6dsox(bench: Bench) -> None:
    bench.set(0x10, 0x4C)
    bench.set(0x11, 0x48)
    bench.set(0x09, 0x44)
    bench.set(0x0A, 0x06)


def lsm6dsox_frames(bench: Bench) -> Frames:
    low, high = bench.get(0x3A, 2)
    data = bench.get(0x78, 7 * ((high & 3) << 8 | low))
    frames: Frames = []
    for start in range(0, len(data), 14):
        assert (data[start] >> 3, data[start + 7] >> 3) == (1, 2), "gyroscope, accelerometer"
        gyr = struct.unpack_from(LITTLE, data, start + 1)
        frames.append((struct.unpack_from(LITTLE, data, start + 8), gyr))
    return frames


def wake_bmi160(bench: Bench) -> None:
    bench.set(0x7E, 0x11)
    bench.time.sleep(0.005)
    bench.set(0x7E, 0x15)
    bench.time.sleep(0.1)
    bench.set(0x40, 0x28, 0x08, 0x28, 0x01)
    bench.set(0x47, 0xD0)


def bosch_frames(length: int, data: int) -> Callable[[Bench], Frames]:
    def frames(bench: Bench) -> Frames:
        count = int.from_bytes(bench.get(length, 2), "little")
        burst = bench.get(data, count)
        if burst[:1] == b"\x40":  # the skip frame
            burst = burst[2:]
        assert set(burst[::13]) <= {0x8C}
        return pairs(burst, LITTLE, gyro_first=True, skip=1, frame=13)

    return frames


def upload(bench: Bench, missing: int | None = None) -> None:
    """Give a BMI270 something in place of Bosch's secret 8 kB, but for one block of 32."""
    bench.set(0x7C, 0x00)
    bench.time.sleep(0.001)
    bench.set(0x59, 0x00)
    for block in range(256):
        if block != missing:
            bench.set(0x5B, 0x00, block)
            bench.set(0x5E, *range(32))
    bench.set(0x59, 0x01)
    bench.time.sleep(0.02)


def wake_bmi270(bench: Bench) -> None:
    upload(bench)
    assert bench.get(0x21) == b"\x01"
    bench.set(0x40, 0xA8, 0x02, 0xA8, 0x01)
    bench.set(0x49, 0xD0)
    bench.set(0x7D, 0x0E)


def wake_lsm9ds1(bench: Bench) -> None:
    bench.set(0x10, 0x78)
    bench.set(0x20, 0x78)
    bench.set(0x23, 0x02)
    bench.set(0x2E, 0xC0)


def lsm9ds1_frames(bench: Bench) -> Frames:
    return pairs(bench.get(0x18, 12 * (bench.get(0x2F)[0] & 0x3F)), LITTLE, gyro_first=True)


def _mpu(who_am_i: int, capacity: int) -> Recipe:
    return Recipe(100.0, wake_mpu, mpu_frames, 12, capacity, who_am_i=(0x75, who_am_i), reset={0x6B: 0x40, 0x19: 0})


ST_SCALE = {"acc_lsb_per_g": 1 / 0.244e-3, "gyr_lsb_per_dps": 1 / 35e-3}
_LSM6DSOX = Recipe(
    6667 / 64,
    wake_lsm6dsox,
    lsm6dsox_frames,
    14,
    512 * 7,
    **ST_SCALE,
    who_am_i=(0x0F, 0x6C),
    reset={0x12: 4, 0x02: 0x3F},
)

RECIPES = {
    "mpu6050": _mpu(0x68, 1024),
    "mpu6500": _mpu(0x70, 512),
    "mpu9250": _mpu(0x71, 512),
    "mpu9255": _mpu(0x73, 512),
    "icm20948": Recipe(
        1125 / 11, wake_icm20948, icm20948_frames, 12, 512, who_am_i=(0x00, 0xEA), reset={0x05: 0x40, 0x06: 0x41}
    ),
    "icm42688": Recipe(
        100.0,
        wake_icm42688,
        icm42688_frames,
        16,
        2048,
        who_am_i=(0x75, 0x47),
        reset={0x4C: 0x30, 0x4F: 0x06, 0x50: 0x06, 0x2D: 0x10},
    ),
    "lsm6ds3": Recipe(
        104.0, wake_lsm6ds3, lsm6ds3_frames, 12, 8192, **ST_SCALE, who_am_i=(0x0F, 0x69), reset={0x12: 4, 0x19: 0x38}
    ),
    "lsm6ds3trc": Recipe(
        104.0, wake_lsm6ds3, lsm6ds3_frames, 12, 4096, **ST_SCALE, who_am_i=(0x0F, 0x6A), reset={0x12: 4, 0x19: 0x00}
    ),
    "lsm6dsox": _LSM6DSOX,
    "ism330dhcx": Recipe(
        6667 / 64, wake_lsm6dsox, lsm6dsox_frames, 14, 512 * 7, **ST_SCALE, who_am_i=(0x0F, 0x6B), reset={0x12: 4}
    ),
    "bmi160": Recipe(
        100.0,
        wake_bmi160,
        bosch_frames(0x22, 0x24),
        13,
        1024,
        who_am_i=(0x00, 0xD1),
        reset={0x40: 0x28, 0x41: 0x03, 0x42: 0x28, 0x46: 0x80, 0x47: 0x10},
    ),
    "bmi270": Recipe(
        100.0,
        wake_bmi270,
        bosch_frames(0x24, 0x26),
        13,
        2048,
        who_am_i=(0x00, 0x24),
        reset={0x40: 0xA8, 0x41: 0x02, 0x42: 0xA9, 0x7C: 0x03, 0x21: 0x00},
    ),
    "lsm9ds1": Recipe(
        119.0,
        wake_lsm9ds1,
        lsm9ds1_frames,
        12,
        32 * 12,
        acc_lsb_per_g=1 / 0.244e-3,
        gyr_lsb_per_dps=1 / 70e-3,
        who_am_i=(0x0F, 0x68),
        reset={0x1E: 0x38, 0x1F: 0x38, 0x22: 0x04},
    ),
}
