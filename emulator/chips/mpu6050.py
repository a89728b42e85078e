"""An emulated MPU-6050 that plays a recording.

Written from RM-MPU-6000A-00 rev 4.2 and RM-MPU-6500A-00 rev 2.1, not from Footfall's driver. Where the documents leave
room it is as awkward as a real part may be: status flags are raised only for enabled interrupts, writes are lost
during a reset, and an overflowing FIFO drops its oldest *bytes*, which leaves it out of step.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emulator.chips.ak8963 import Ak8963
from emulator.chips.chip import Chip
from emulator.chips.motion import STANDARD_GRAVITY, word

if TYPE_CHECKING:
    from emulator.chips.motion import Recording

__all__ = ["MPU_6050", "MPU_6500", "MPU_9250", "MPU_9255", "STANDARD_GRAVITY", "Mpu6050", "Silicon"]

# Register numbers (RM-MPU-6000A section 3).
R_SMPLRT_DIV, R_CONFIG, R_GYRO_CONFIG, R_ACCEL_CONFIG = 0x19, 0x1A, 0x1B, 0x1C
R_FIFO_EN, R_INT_ENABLE, R_INT_STATUS = 0x23, 0x38, 0x3A
R_ACCEL_XOUT_H, R_TEMP_OUT_H, R_GYRO_XOUT_H, R_EXT_SENS_DATA_23 = 0x3B, 0x41, 0x43, 0x60
R_USER_CTRL, R_PWR_MGMT_1, R_FIFO_COUNTH, R_FIFO_COUNTL, R_FIFO_R_W, R_WHO_AM_I = 0x6A, 0x6B, 0x72, 0x73, 0x74, 0x75

READ_ONLY = frozenset({R_FIFO_COUNTH, R_FIFO_COUNTL, R_WHO_AM_I, *range(R_INT_STATUS, R_EXT_SENS_DATA_23 + 1)})

DEVICE_RESET_BIT, SLEEP_BIT, TEMP_DIS_BIT = 0x80, 0x40, 0x08
USER_FIFO_EN_BIT, USER_I2C_MST_EN_BIT, USER_RESET_BITS, FIFO_RESET_BIT = 0x40, 0x20, 0x07, 0x04
DATA_READY_BIT, OVERFLOW_BIT = 0x01, 0x10

GYR_LSB_PER_DPS = (131.0, 65.5, 32.8, 16.4)


@dataclass(frozen=True, slots=True)
class Silicon:
    """What differs between parts. temperature: raw = (°C - offset_c) * lsb_per_c."""

    who_am_i: int
    fifo_bytes: int
    lsb_per_c: float
    offset_c: float
    empty_fifo_byte: int | None
    """What reading an empty FIFO gives; None: the byte that was read last (RM-MPU-6000A 4.31)."""
    has_magnetometer: bool = False
    register_0: int = 0
    """The MPU-6050's XG_OFFS_TC, bit 0 OTP_BNK_VLD (i2cdevlib's register list; RM-MPU-6000A hides it). The driver of
    Linux 6.1 has no INT_STATUS in its table for this part: it reads register 0 and takes this bit for data-ready.
    """


MPU_6050 = Silicon(0x68, 1024, 340.0, 36.53, None, register_0=0x01)
MPU_6500 = Silicon(0x70, 512, 333.87, 21.0, 0xFF)
MPU_9250 = Silicon(0x71, 512, 333.87, 21.0, 0xFF, has_magnetometer=True)
MPU_9255 = Silicon(0x73, 512, 333.87, 21.0, 0xFF, has_magnetometer=True)


class Mpu6050(Chip):
    """MPU-6050 and its relatives: a FIFO of bare bytes. silicon: which part; the rest as Chip."""

    READ_ONLY = READ_ONLY
    WHO_AM_I = (R_WHO_AM_I, 0x68)
    RESET_TAKES_S = 0.05

    def __init__(self, recording: Recording, rate_hz: float, *, silicon: Silicon = MPU_6050, **options: Any) -> None:
        self.silicon = silicon
        self._magnetometer = Ak8963() if silicon.has_magnetometer else None
        if options.get("who_am_i") is None:
            options["who_am_i"] = silicon.who_am_i
        super().__init__(recording, rate_hz, **options)

    def _reset(self) -> None:
        self._registers[0] = self.silicon.register_0
        self._registers[R_PWR_MGMT_1] = SLEEP_BIT
        self._fifo = bytearray()
        self._last_fifo_byte = 0
        self._count_latch = 0

    def _fifo_bytes(self) -> int:
        return len(self._fifo)

    def drop_fifo_bytes(self, count: int) -> None:
        """Lose the oldest bytes of the FIFO, which puts it out of step."""
        self._advance()
        del self._fifo[:count]

    # The I2C side.

    def _following(self, register: int) -> int:
        """Go on to the next register, but stay at the FIFO port (RM-MPU-6000A 4.31)."""
        return register if register == R_FIFO_R_W else super()._following(register)

    def _write_register(self, register: int, value: int) -> None:
        if register == R_PWR_MGMT_1 and value & DEVICE_RESET_BIT:
            self._start_reset()
        elif register == R_USER_CTRL:
            # FIFO_RESET works only while FIFO_EN is 0; the reset bits clear themselves (register 106).
            if value & FIFO_RESET_BIT and not value & USER_FIFO_EN_BIT:
                self._fifo.clear()
            self._registers[register] = value & ~USER_RESET_BITS
        elif register != R_FIFO_R_W:
            self._registers[register] = value

    def _read_register(self, register: int) -> int:
        match register:
            case 0x72:  # FIFO_COUNTH latches both bytes (4.30)
                self._count_latch = len(self._fifo)
                return self._count_latch >> 8
            case 0x73:
                return self._count_latch & 0xFF
            case 0x3A:  # flags clear when they are read
                status, self._registers[register] = self._registers[register], 0
                return status
            case 0x6B if self._clock() < self._ready_s:
                return DEVICE_RESET_BIT | self._registers[register]
        return self._registers[register]

    def _read_some(self, count: int) -> bytes:
        """Pop them all at once; an empty FIFO gives the same byte again and again."""
        if self._pointer != R_FIFO_R_W:
            return super()._read_some(count)
        taken = bytes(self._fifo[:count])
        del self._fifo[:count]
        if taken:
            self._last_fifo_byte = taken[-1]
        over_read = self.silicon.empty_fifo_byte
        return taken.ljust(count, bytes((self._last_fifo_byte if over_read is None else over_read,)))

    # The sensor side.

    @property
    def sample_rate_hz(self) -> float:
        """True output rate, asleep too: 8 kHz without the low-pass filter, 1 kHz with it, over 1 + SMPLRT_DIV (4.2)."""
        base_hz = 8000.0 if self._registers[R_CONFIG] & 0x07 in (0, 7) else 1000.0
        return base_hz / (1 + self._registers[R_SMPLRT_DIV]) * (1.0 + self.rate_error)

    def _rates_hz(self) -> tuple[float, float]:
        if self._registers[R_PWR_MGMT_1] & SLEEP_BIT:
            return 0.0, 0.0
        rate_hz = self.sample_rate_hz / (1.0 + self.rate_error)
        return rate_hz, rate_hz

    def _queues(self) -> bool:
        return bool(self._registers[R_USER_CTRL] & USER_FIFO_EN_BIT and self._registers[R_FIFO_EN])

    def _only_last_counts(self) -> bool:
        return not self._queues()

    def _take(self, at_s: float, acc_due: bool, gyr_due: bool) -> None:  # noqa: ARG002  both have one rate
        if self._queues():
            self._start_recording(at_s)
        self._put(R_ACCEL_XOUT_H, struct.pack(">7h", *self._words(at_s)))
        if self._magnetometer is not None and self._registers[R_USER_CTRL] & USER_I2C_MST_EN_BIT:
            self._magnetometer.turn(self._registers)
        self._raise_flag(DATA_READY_BIT)
        if self._queues():
            self._queue()

    def _words(self, at_s: float) -> list[int]:
        """Accelerometer, temperature, gyroscope at the configured full scale, saturated."""
        acc = self._acc(at_s, float(16384 >> (self._registers[R_ACCEL_CONFIG] >> 3 & 3)))
        gyr = self._gyr(at_s, GYR_LSB_PER_DPS[self._registers[R_GYRO_CONFIG] >> 3 & 3])
        temperature = word((self.temperature_c - self.silicon.offset_c) * self.silicon.lsb_per_c)
        if self._registers[R_PWR_MGMT_1] & TEMP_DIS_BIT:
            temperature = 0
        return [*acc, temperature, *gyr]

    def _queue(self) -> None:
        """Append the enabled sensors in order of register number (4.31); the oldest bytes make room."""
        enabled = self._registers[R_FIFO_EN]
        parts = (
            (0x08, R_ACCEL_XOUT_H, 6),
            (0x80, R_TEMP_OUT_H, 2),
            (0x40, R_GYRO_XOUT_H, 2),
            (0x20, 0x45, 2),
            (0x10, 0x47, 2),
        )
        for bit, register, count in parts:
            if enabled & bit:
                self._fifo += self._registers[register : register + count]
        self.samples_queued += 1
        excess = len(self._fifo) - self.silicon.fifo_bytes
        if excess > 0:
            del self._fifo[:excess]
            self.bytes_dropped += excess
            self.samples_dropped += 1
            self._raise_flag(OVERFLOW_BIT)

    def _raise_flag(self, bit: int) -> None:
        self._registers[R_INT_STATUS] |= bit & self._registers[R_INT_ENABLE]
