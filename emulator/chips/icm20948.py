"""An emulated ICM-20948 (TDK DS-000189): four banks of registers, a FIFO of bare bytes, an AK09916 behind it.

An overflowing FIFO drops its oldest *bytes*, which leaves it out of step. The magnetometer is reached through the
chip's own I2C master (slave 0), or directly at 0Ch while BYPASS_EN is set.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, ClassVar

from emulator.chips.chip import Chip
from emulator.chips.motion import word

if TYPE_CHECKING:
    from collections.abc import Mapping

# Register numbers (DS-000189 section 7); banks are 0x100 apart.
R_WHO_AM_I, R_USER_CTRL, R_LP_CONFIG, R_PWR_MGMT_1, R_PWR_MGMT_2, R_INT_PIN_CFG = 0x00, 0x03, 0x05, 0x06, 0x07, 0x0F
R_INT_ENABLE_1, R_INT_ENABLE_2, R_INT_STATUS_1, R_INT_STATUS_2 = 0x11, 0x12, 0x1A, 0x1B
R_ACCEL_XOUT_H, R_GYRO_XOUT_H, R_TEMP_OUT_H, R_EXT_SLV_SENS_DATA_00, R_EXT_SLV_SENS_DATA_23 = (
    0x2D,
    0x33,
    0x39,
    0x3B,
    0x52,
)
R_FIFO_EN_2, R_FIFO_RST, R_FIFO_MODE, R_FIFO_COUNTH, R_FIFO_COUNTL, R_FIFO_R_W = 0x67, 0x68, 0x69, 0x70, 0x71, 0x72
R_DATA_RDY_STATUS, R_REG_BANK_SEL = 0x74, 0x7F
R_GYRO_SMPLRT_DIV, R_GYRO_CONFIG_1, R_ACCEL_SMPLRT_DIV_1, R_ACCEL_SMPLRT_DIV_2, R_ACCEL_CONFIG = (
    0x200,
    0x201,
    0x210,
    0x211,
    0x214,
)
R_I2C_SLV0_ADDR, R_I2C_SLV0_REG, R_I2C_SLV0_CTRL, R_I2C_SLV0_DO = 0x303, 0x304, 0x305, 0x306

DEVICE_RESET_BIT, SLEEP_BIT, TEMP_DIS_BIT = 0x80, 0x40, 0x08
USER_FIFO_EN_BIT, I2C_MST_EN_BIT, USER_RESET_BITS = 0x40, 0x20, 0x0E
BYPASS_EN_BIT = 0x02
DISABLE_ACCEL_BITS, DISABLE_GYRO_BITS = 0x38, 0x07
FCHOICE_BIT = 0x01
FIFO_ACCEL_BIT, FIFO_GYRO_BITS, FIFO_TEMP_BIT = 0x10, 0x0E, 0x01
RAW_DATA_READY_BIT, OVERFLOW_BIT = 0x01, 0x01

ODR_BASE_HZ, GYRO_UNFILTERED_HZ, ACCEL_UNFILTERED_HZ = 1125.0, 9000.0, 4500.0
"""1.125 kHz / (1 + divider) with the low-pass filter (8.2, 8.18), 9 and 4.5 kHz without (table 16 and 18)."""
GYR_LSB_PER_DPS = (131.0, 65.5, 32.8, 16.4)
TEMPERATURE_ZERO_C, TEMPERATURE_LSB_PER_C = 21.0, 333.87
"""Section 3.4 and 8.30, RoomTemp_Offset taken as 0."""
FIFO_BYTES = 512
"""Section 1.2 and 4.16."""


class Icm20948(Chip):
    """ICM-20948: 512 bytes of FIFO, separate rates of accelerometer and gyroscope, AK09916 behind it."""

    REGISTERS = 0x400
    WHO_AM_I = (R_WHO_AM_I, 0xEA)
    RESET_VALUES: ClassVar[Mapping[int, int]] = {
        R_LP_CONFIG: 0x40,
        R_PWR_MGMT_1: 0x41,
        R_GYRO_CONFIG_1: 0x01,
        R_ACCEL_CONFIG: 0x01,
    }
    """DS-000189 section 7 and 8."""
    READ_ONLY = frozenset(
        {R_WHO_AM_I, R_FIFO_COUNTH, R_FIFO_COUNTL, R_INT_STATUS_1, R_INT_STATUS_2}
        | {*range(R_ACCEL_XOUT_H, R_EXT_SLV_SENS_DATA_23 + 1)}
    )
    RESET_TAKES_S = 0.005

    def _reset(self) -> None:
        self._fifo = bytearray()
        self._count_latch = 0
        if not hasattr(self, "magnetometer"):
            self.magnetometer = Ak09916(self)
        self.magnetometer.forget()

    def _fifo_bytes(self) -> int:
        return len(self._fifo)

    def drop_fifo_bytes(self, count: int) -> None:
        """Lose the oldest bytes of the FIFO, which puts it out of step."""
        self._advance()
        del self._fifo[:count]

    @property
    def bypasses(self) -> bool:
        """Whether the magnetometer is on the outer bus."""
        return bool(self._registers[R_INT_PIN_CFG] & BYPASS_EN_BIT)

    # The I2C side.

    def _bank(self, register: int) -> int:
        """Which register a number means now; REG_BANK_SEL is in all banks."""
        return register if register == R_REG_BANK_SEL else (self._registers[R_REG_BANK_SEL] >> 4 & 3) << 8 | register

    def _following(self, register: int) -> int:
        return register if self._bank(register) == R_FIFO_R_W else super()._following(register)

    def _write_byte(self, register: int, value: int) -> None:
        super()._write_byte(self._bank(register), value)

    def _write_register(self, register: int, value: int) -> None:
        if register == R_PWR_MGMT_1 and value & DEVICE_RESET_BIT:
            self._start_reset()
        elif register == R_USER_CTRL:
            self._registers[register] = value & ~USER_RESET_BITS
            if value & I2C_MST_EN_BIT:
                self._use_master()
        elif register == R_FIFO_RST:
            self._registers[register] = value
            if value & 0x1F:
                self._fifo.clear()
        elif register != R_FIFO_R_W:
            super()._write_register(register, value)

    def _use_master(self) -> None:
        """One turn of the I2C master: slave 0 reads up to 15 bytes, or writes one."""
        address, register = self._registers[R_I2C_SLV0_ADDR], self._registers[R_I2C_SLV0_REG]
        control = self._registers[R_I2C_SLV0_CTRL]
        if not control & 0x80 or address & 0x7F != AK09916_ADDRESS:
            return
        if address & 0x80:
            data = self.magnetometer.registers_from(register, control & 0x0F)
            self._put(R_EXT_SLV_SENS_DATA_00, data)
        else:
            self.magnetometer.set(register, self._registers[R_I2C_SLV0_DO])

    def _read_register(self, register: int) -> int:
        register = self._bank(register)
        match register:
            case 0x06 if self._clock() < self._ready_s:
                return DEVICE_RESET_BIT | self._registers[register]
            case 0x1A | 0x1B | 0x74:  # flags clear when they are read
                status, self._registers[register] = self._registers[register], 0
                return status
            case 0x70:  # FIFO_COUNTH latches both bytes (8.54)
                self._count_latch = len(self._fifo)
                return self._count_latch >> 8
            case 0x71:
                return self._count_latch & 0xFF
            case 0x72:
                return self._pop()
        return super()._read_register(register)

    def _pop(self) -> int:
        if not self._fifo:
            return 0xFF
        first = self._fifo[0]
        del self._fifo[:1]
        return first

    # The sensor side.

    def _rates_hz(self) -> tuple[float, float]:
        power = self._registers[R_PWR_MGMT_2]
        if self._registers[R_PWR_MGMT_1] & SLEEP_BIT:
            return 0.0, 0.0
        acc_hz, gyr_hz = ACCEL_UNFILTERED_HZ, GYRO_UNFILTERED_HZ
        if self._registers[R_ACCEL_CONFIG] & FCHOICE_BIT:
            divider = (self._registers[R_ACCEL_SMPLRT_DIV_1] & 0x0F) << 8 | self._registers[R_ACCEL_SMPLRT_DIV_2]
            acc_hz = ODR_BASE_HZ / (1 + divider)
        if self._registers[R_GYRO_CONFIG_1] & FCHOICE_BIT:
            gyr_hz = ODR_BASE_HZ / (1 + self._registers[R_GYRO_SMPLRT_DIV])
        return (
            0.0 if power & DISABLE_ACCEL_BITS == DISABLE_ACCEL_BITS else acc_hz,
            0.0 if power & DISABLE_GYRO_BITS == DISABLE_GYRO_BITS else gyr_hz,
        )

    def _take(self, at_s: float, acc_due: bool, gyr_due: bool) -> None:
        enabled = self._registers[R_FIFO_EN_2] if self._registers[R_USER_CTRL] & USER_FIFO_EN_BIT else 0
        if not acc_due:
            enabled &= ~FIFO_ACCEL_BIT
        if not gyr_due:
            enabled &= ~(FIFO_GYRO_BITS | FIFO_TEMP_BIT)
        if enabled:
            self._start_recording(at_s)
        if acc_due:
            lsb_per_g = float(16384 >> (self._registers[R_ACCEL_CONFIG] >> 1 & 3))
            self._put(R_ACCEL_XOUT_H, struct.pack(">3h", *self._acc(at_s, lsb_per_g)))
        if gyr_due:
            lsb_per_dps = GYR_LSB_PER_DPS[self._registers[R_GYRO_CONFIG_1] >> 1 & 3]
            self._put(R_GYRO_XOUT_H, struct.pack(">3h", *self._gyr(at_s, lsb_per_dps)))
        raw = word((self.temperature_c - TEMPERATURE_ZERO_C) * TEMPERATURE_LSB_PER_C)
        self._put(R_TEMP_OUT_H, struct.pack(">h", 0 if self._registers[R_PWR_MGMT_1] & TEMP_DIS_BIT else raw))
        self._registers[R_DATA_RDY_STATUS] |= 0x01
        self._flag(R_INT_STATUS_1, R_INT_ENABLE_1, RAW_DATA_READY_BIT)
        if self._registers[R_USER_CTRL] & I2C_MST_EN_BIT:
            self._use_master()
        if enabled:
            self._queue(enabled)

    def _queue(self, enabled: int) -> None:
        """Append the enabled sensors in order of register number (8.44); the oldest bytes make room."""
        frame = bytearray()
        parts = (
            (FIFO_ACCEL_BIT, R_ACCEL_XOUT_H, 6),
            (0x02, R_GYRO_XOUT_H, 2),
            (0x04, R_GYRO_XOUT_H + 2, 2),
            (0x08, R_GYRO_XOUT_H + 4, 2),
            (FIFO_TEMP_BIT, R_TEMP_OUT_H, 2),
        )
        for bit, register, count in parts:
            if enabled & bit:
                frame += self._registers[register : register + count]
        self.samples_queued += 1
        excess = len(self._fifo) + len(frame) - FIFO_BYTES
        if excess > 0:
            self.samples_dropped += 1
            self._flag(R_INT_STATUS_2, R_INT_ENABLE_2, OVERFLOW_BIT)
            if self._registers[R_FIFO_MODE] & 0x1F:  # snapshot: it stops when it is full
                self.bytes_dropped += len(frame)
                return
            del self._fifo[:excess]
            self.bytes_dropped += excess
        self._fifo += frame

    def _flag(self, status: int, enable: int, bit: int) -> None:
        self._registers[status] |= bit & self._registers[enable]


# The magnetometer inside the package (AK09916 data sheet MS1652; DS-000189 section 12 and 13).
AK09916_ADDRESS = 0x0C
R_WIA1, R_WIA2, R_ST1, R_HXL, R_ST2, R_CNTL2, R_CNTL3 = 0x00, 0x01, 0x10, 0x11, 0x18, 0x31, 0x32
MICROTESLA_PER_LSB = 0.15


class Ak09916:
    """The magnetometer in a steady field (µT); it has always just measured."""

    def __init__(self, host: Icm20948, field_ut: tuple[float, float, float] = (18.0, 0.0, -45.0)) -> None:
        self.field_ut = field_ut
        self._host = host
        self.forget()

    def power_cycle(self) -> None:
        """Nothing of its own: it loses power with its host."""

    def forget(self) -> None:
        """Go back to the reset values."""
        self._registers = bytearray(0x40)
        self._registers[R_WIA1], self._registers[R_WIA2] = 0x48, 0x09
        self._pointer = 0

    def registers_from(self, register: int, count: int) -> bytes:
        """Read, measuring first if a mode is set."""
        if self._registers[R_CNTL2]:
            words = [word(value / MICROTESLA_PER_LSB) for value in self.field_ut]
            self._registers[R_HXL : R_HXL + 6] = struct.pack("<3h", *words)
            self._registers[R_ST1] = 0x01
        return bytes(self._registers[register & 0x3F : (register & 0x3F) + count]).ljust(count, b"\0")

    def set(self, register: int, value: int) -> None:
        """Write one register; CNTL3 resets."""
        if register == R_CNTL3 and value & 1:
            self.forget()
        elif register in (R_CNTL2, R_CNTL3):
            self._registers[register] = value

    # On the outer bus, while the host lets it through.

    def write(self, data: bytes) -> None:
        """Register number, then values. Raises OSError (no acknowledge) unless the host bypasses."""
        self._answer()
        for offset, value in enumerate(data):
            if offset == 0:
                self._pointer = value
            else:
                self.set(self._pointer + offset - 1, value)

    def read(self, count: int) -> bytes:
        """Values from the current register on. Raises OSError (no acknowledge) unless the host bypasses."""
        self._answer()
        return self.registers_from(self._pointer, count)

    def _answer(self) -> None:
        if not self._host.bypasses:
            raise OSError(errno.EREMOTEIO, os.strerror(errno.EREMOTEIO))
