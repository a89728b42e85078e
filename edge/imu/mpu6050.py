"""InvenSense MPU-6050, 6500, 9250, 9255 and their clones: a register table, a row per part, and FIFO primitives.

Sources: RM-MPU-6000A-00 rev 4.2 (MPU-6050 register map), RM-MPU-6500A-00 rev 2.1, RM-MPU-9250A-00 rev 1.4, and the
Linux kernel's drivers/iio/imu/inv_mpu6050 (inv_mpu_core.c hw_info, inv_mpu_iio.h, inv_mpu_ring.c).
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge.errors import ImuError
from edge.imu.bus import explain_access
from edge.imu.chip import FifoFault, Frames, RegisterFault
from edge.imu.registers import Field, combine, int16_be, runs, unsigned_be

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.imu.bus import I2cBus

ADDRESSES = (0x68, 0x69)  # AD0 low, AD0 high

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

FRAME_BYTES = 14
"""Accelerometer, temperature, gyroscope, 7 big-endian words, in order of register number (RM-MPU-6000A 4.31)."""

AFS_8G, ACC_LSB_PER_G = 2, 4096.0
"""±8 g: a heel strike reaches 2 to 3 g at the waist and 5 to 6 g at the ankle, a wrist knocked on a table more; ±4 g
clips these, and 1 LSB of ±8 g (2.4 mm/s²) is still below the sensor's own noise (400 µg/√Hz)."""

FS_1000DPS, GYR_LSB_PER_DPS = 2, 32.8
"""±1000 °/s: a shank swings at 400 to 500 °/s and a running arm at 600 to 800 °/s, which ±500 °/s would clip."""

CLOCK_PLL_X_GYRO = 1  # more stable than the internal oscillator (RM-MPU-6000A, register 107)
INTERNAL_HZ = 1000.0  # with the low-pass filter on (RM-MPU-6000A 4.2)
ODR_RANGE_HZ = (10.0, 200.0)
"""Below, a batch would wait too long for its pipeline; above, a 512-byte FIFO leaves less than 0.15 s for a stall."""

DLPF_BANDWIDTH_HZ = ((1, 184.0), (2, 92.0), (3, 41.0), (4, 20.0), (5, 10.0), (6, 5.0))
"""(DLPF_CFG, accelerometer -3 dB): the lower figure of RM-MPU-6000A 4.3 and RM-MPU-6500A 4.8."""

RESET_S = 0.1
WAKE_S = 0.01  # kernel: 5 to 10 ms until registers can be written
STARTUP_S = 0.1  # kernel: gyroscope 60 to 70 ms, accelerometer 20 to 30 ms
RESET_POLLS = 10

VERIFY_OTHERS_EVERY = 4
TEMPERATURE_READS = 3
CANARY_C = 2.5
"""Temperature moves far less than this between two frames; a frame out of step puts other data in its place."""
TEMPERATURE_RANGE_C = (-45.0, 90.0)  # the parts are rated -40 to 85

STANDARD_GRAVITY = 9.80665


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the family.

    who_am_i: identities it answers with; fifo_bytes: FIFO size; temperature: °C = raw / lsb_per_c + offset_c;
    has_accel_dlpf: the accelerometer's filter is a register of its own; exact: the register map is known to hold, so
    that the filter register can be read back.
    """

    name: str
    who_am_i: frozenset[int]
    fifo_bytes: int
    lsb_per_c: float
    offset_c: float
    has_accel_dlpf: bool
    exact: bool = True


CLONE = Part("MPU-6050 clone", frozenset({0x72}), 512, 340.0, 36.53, has_accel_dlpf=True, exact=False)
"""Unknown silicon: the smaller FIFO, the filter register written but not read back."""

PARTS = (
    Part("MPU-6050", frozenset({0x68}), 1024, 340.0, 36.53, has_accel_dlpf=False),
    Part("MPU-6500", frozenset({0x70}), 512, 333.87, 21.0, has_accel_dlpf=True),
    Part("MPU-9250", frozenset({0x71}), 512, 333.87, 21.0, has_accel_dlpf=True),
    Part("MPU-9255", frozenset({0x73}), 512, 333.87, 21.0, has_accel_dlpf=True),
    Part("MPU-6515", frozenset({0x74}), 512, 333.87, 21.0, has_accel_dlpf=True),
    # The kernel's ICM-20689; 13 of 20 boards sold as MPU-6050 (ElectronicCats/mpu6050#21). 512 bytes unless enlarged.
    Part("MPU-6050 clone", frozenset({0x98}), 512, 326.8, 25.0, has_accel_dlpf=True, exact=False),
    CLONE,  # jrowberg/i2cdevlib#478
)


def part_of(who_am_i: int) -> Part | None:
    """Return the table row for an identity, None if no part of the family answers so."""
    return next((part for part in PARTS if who_am_i in part.who_am_i), None)


def probe(bus: I2cBus, address: int, *, accept_unknown_id: bool = False) -> Part:
    """Identify what answers at an address; ImuError if nothing does, or if it is not of this family."""
    try:
        who_am_i = bus.read_registers(address, WHO_AM_I.address)[0]
    except OSError as error:
        raise ImuError(explain_access(error, address, bus.name)) from error
    part = part_of(who_am_i) or (CLONE if accept_unknown_id and who_am_i not in {0x00, 0xFF} else None)
    if part is None:
        raise ImuError(_unknown(who_am_i, address, bus.name))
    return part


def _unknown(who_am_i: int, address: int, bus_name: str) -> str:
    known = ", ".join(f"{identity:#04x} ({part.name})" for part in PARTS for identity in sorted(part.who_am_i))
    advice = (
        "the data line is stuck: check the wiring and the pull-ups"
        if who_am_i in {0x00, 0xFF}
        else "set sensor.type to the sensor that is fitted, or sensor.address to where it is"
    )
    return f"the device at {address:#04x} on {bus_name} answers WHO_AM_I {who_am_i:#04x}; known are {known}: {advice}"


class Mpu6050:
    """A Chip of the MPU-6050 family at a known address.

    sampling_rate_hz: 10 to 200; the nearest rate 1000/(1 + divider) is used and given as `odr_hz`.
    """

    rate_tolerance = 0.2  # the data sheet says 1 %; boards with other silicon are followed as well
    frame_bytes = FRAME_BYTES

    def __init__(
        self,
        bus: I2cBus,
        address: int,
        part: Part,
        *,
        sampling_rate_hz: float = 100.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        divider = divider_for(sampling_rate_hz)
        self.name = part.name
        self.odr_hz = INTERNAL_HZ / (1 + divider)
        self.fifo_bytes = part.fifo_bytes
        self._bus = bus
        self._address = address
        self._part = part
        self._sleep = sleep
        self._registers = configuration(part, divider)
        self._power = combine([(USER_FIFO_EN, 1), (CLKSEL, CLOCK_PLL_X_GYRO)])
        checked = {a: v for a, v in self._registers.items() if part.exact or a != A_DLPF_CFG.address}
        self._blocks = runs(checked | self._power)
        self._verified = 0
        self._temperature = 0.0

    def start(self) -> None:
        """Reset, wake, configure, read back, start the FIFO."""
        self._reset()
        self._write(CLKSEL.address, CLKSEL.put(CLOCK_PLL_X_GYRO))
        self._sleep(WAKE_S)
        for register, value in self._registers.items():
            self._write(register, value)
        self._sleep(max(STARTUP_S, 2.0 / self.odr_hz))
        self.restart_fifo()
        self.verify(everything=True)

    def restart_fifo(self) -> None:
        """Empty the FIFO; FIFO_RESET works only while FIFO_EN is 0, and the sources are opened last, on a frame."""
        # What frames are compared with is read anew, and as a median: one corrupt read must not condemn all frames.
        reads = [float(int16_be(self._read(TEMP_OUT.address, 2), 1)[0, 0]) for _ in range(TEMPERATURE_READS)]
        self._temperature = sorted(reads)[TEMPERATURE_READS // 2]
        sources = TEMP_FIFO_EN.address
        self._write(sources, 0)
        self._write(USER_FIFO_EN.address, 0)
        self._write(USER_FIFO_EN.address, FIFO_RESET.put(1))
        self._write(USER_FIFO_EN.address, USER_FIFO_EN.put(1))
        self.overflowed()
        self._write(sources, self._registers[sources])

    def overflowed(self) -> bool:
        """Whether the FIFO has overflowed since the last call: reading INT_STATUS clears it."""
        return bool(FIFO_OFLOW_INT.get(self._read(FIFO_OFLOW_INT.address, 1)[0]))

    def fifo_level(self) -> int:
        """Bytes waiting; the high byte is read first, which latches both."""
        return unsigned_be(self._read(FIFO_COUNT.address, 2))

    def read_fifo(self, count: int) -> bytes:
        """Pop bytes, in one transaction, without retry."""
        return self._bus.read_burst(self._address, FIFO_R_W.address, count)

    def decode(self, data: bytes) -> Frames:
        """14-byte frames to m/s² and rad/s; FifoFault if the temperature in any of them betrays a frame out of step."""
        words = int16_be(data, FRAME_BYTES // 2)
        raw = words[:, 3].astype(np.float64)
        celsius = raw / self._part.lsb_per_c + self._part.offset_c
        low, high = TEMPERATURE_RANGE_C
        jump = np.abs(raw - self._temperature) > CANARY_C * self._part.lsb_per_c
        if np.any(jump | (celsius < low) | (celsius > high)):
            raise FifoFault("bad_transfer", "FIFO frames are out of step")
        self._temperature = float(raw[-1])
        acc = words[:, 0:3] * np.float32(STANDARD_GRAVITY / ACC_LSB_PER_G)
        gyr = words[:, 4:7] * np.float32(np.pi / 180.0 / GYR_LSB_PER_DPS)
        return Frames(np.hstack([acc, gyr]).astype(np.float32), float(celsius.mean()))

    def verify(self, *, everything: bool) -> None:
        """RegisterFault if the chip was reset or has drifted: rate, filter and ranges always, the others in turn.

        A reset clears every block, so one of them shows it; a transaction more is spent on every fourth call only.
        """
        first, *others = self._blocks
        self._verified += 1
        turn, now = divmod(self._verified, VERIFY_OTHERS_EVERY)
        checked = self._blocks if everything else [first, others[turn % len(others)]] if now == 0 else [first]
        for register, value in checked:
            self._expect(register, value)

    def shutdown(self) -> None:
        """Put the chip to sleep and release the bus; never raises; may be called twice."""
        with contextlib.suppress(OSError, ValueError, TypeError):  # gone, or closed before: nothing to put to sleep
            self._write(SLEEP.address, SLEEP.put(1))
        self._bus.close()

    def _reset(self) -> None:
        self._write(DEVICE_RESET.address, DEVICE_RESET.put(1))
        self._sleep(RESET_S)
        for _ in range(RESET_POLLS):
            if not DEVICE_RESET.get(self._read(DEVICE_RESET.address, 1)[0]):
                return
            self._sleep(RESET_S / RESET_POLLS)
        raise RegisterFault("reset does not end")

    def _expect(self, register: int, value: bytes) -> None:
        found = self._read(register, len(value))
        if found != value:
            raise RegisterFault(f"registers from {register:#04x} hold {found.hex()} instead of {value.hex()}")

    def _read(self, register: int, count: int) -> bytes:
        return self._bus.read_registers(self._address, register, count)

    def _write(self, register: int, value: int) -> None:
        self._bus.write_register(self._address, register, value)


def divider_for(sampling_rate_hz: float) -> int:
    """SMPLRT_DIV for the nearest possible rate; ImuError outside 10 to 200 Hz."""
    lowest, highest = ODR_RANGE_HZ
    if not lowest <= sampling_rate_hz <= highest:
        raise ImuError(
            f"sensor.sampling_rate_hz is {sampling_rate_hz:g}; an MPU-6050 is read at {lowest:g} to {highest:g} Hz, "
            "100 suits most models"
        )
    return round(INTERNAL_HZ / sampling_rate_hz) - 1


def dlpf_for(odr_hz: float) -> int:
    """DLPF_CFG of the widest low-pass filter that stays below half the output rate."""
    return next(cfg for cfg, bandwidth_hz in DLPF_BANDWIDTH_HZ if bandwidth_hz <= odr_hz / 2)


def configuration(part: Part, divider: int) -> dict[int, int]:
    """Register values, by address, of the running chip apart from its power registers."""
    dlpf = dlpf_for(INTERNAL_HZ / (1 + divider))
    settings = [
        (SMPLRT_DIV, divider),
        (DLPF_CFG, dlpf),
        (FS_SEL, FS_1000DPS),
        (AFS_SEL, AFS_8G),
        (TEMP_FIFO_EN, 1),
        (GYRO_FIFO_EN, 0b111),
        (ACCEL_FIFO_EN, 1),
        (FIFO_OFLOW_EN, 1),
        (STANDBY, 0),
    ]
    if part.has_accel_dlpf:
        settings.append((A_DLPF_CFG, dlpf))
    return combine(settings)
