"""An emulated LSM9DS1 (data sheet DocID025715 rev 3, ST's lsm9ds1_reg.h): two devices, at two addresses.

Accelerometer and gyroscope have 32 FIFO slots each, which are read through their output registers; a burst goes round
in those. The magnetometer is a device of its own (Lsm9ds1Magnetometer).
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, ClassVar

from emulator.chips.chip import Chip
from emulator.chips.motion import word

if TYPE_CHECKING:
    from collections.abc import Mapping

# Register numbers (lsm9ds1_reg.h LSM9DS1_*).
R_WHO_AM_I, R_CTRL_REG1_G, R_OUT_TEMP_L, R_STATUS, R_OUT_X_L_G = 0x0F, 0x10, 0x15, 0x17, 0x18
R_CTRL_REG4, R_CTRL_REG5_XL, R_CTRL_REG6_XL, R_CTRL_REG8, R_CTRL_REG9 = 0x1E, 0x1F, 0x20, 0x22, 0x23
R_STATUS_XL, R_OUT_X_L_XL, R_FIFO_CTRL, R_FIFO_SRC = 0x27, 0x28, 0x2E, 0x2F
OUT_BYTES = 6

SW_RESET_BIT, IF_ADD_INC_BIT, BOOT_BIT = 0x01, 0x04, 0x80
"""CTRL_REG8 (data sheet 7.22)."""
FIFO_EN_BIT, STOP_ON_FTH_BIT = 0x02, 0x01
"""CTRL_REG9 (data sheet 7.23)."""
OVER_RUN_BIT, THRESHOLD_BIT = 0x40, 0x80
"""lsm9ds1_fifo_src_t."""
XLDA_BIT, GDA_BIT, TDA_BIT = 0x01, 0x02, 0x04
FIFO_SLOTS = 32
FIFO_BYPASS, FIFO_STOPS_WHEN_FULL = 0, 1

GYR_ODR_HZ = (0.0, 14.9, 59.5, 119.0, 238.0, 476.0, 952.0, 0.0)
"""By ODR_G; with the gyroscope on, the accelerometer runs at this rate too (data sheet, tables 46 and 68)."""
ACC_ODR_HZ = (0.0, 10.0, 50.0, 119.0, 238.0, 476.0, 952.0, 0.0)
"""By ODR_XL, while the gyroscope is off."""
ACC_MG_PER_LSB = (0.061, 0.732, 0.122, 0.244)
"""By FS_XL: ±2, 16, 4, 8 g (data sheet, table 3)."""
GYR_MDPS_PER_LSB = (8.75, 17.5, 8.75, 70.0)
"""By FS_G: ±245, 500, not available, 2000 °/s."""
TEMPERATURE_ZERO_C, TEMPERATURE_LSB_PER_C = 25.0, 16.0
"""Data sheet, table 5."""


class Lsm9ds1(Chip):
    """Accelerometer and gyroscope of the LSM9DS1."""

    RESET_VALUES: ClassVar[Mapping[int, int]] = {
        R_CTRL_REG4: 0x38,
        R_CTRL_REG5_XL: 0x38,
        R_CTRL_REG8: 0x04,
    }
    """Data sheet, table 21."""
    READ_ONLY = frozenset(
        {R_WHO_AM_I, R_STATUS_XL, R_FIFO_SRC, *range(R_OUT_TEMP_L, R_OUT_X_L_G + OUT_BYTES)}
        | {*range(R_OUT_X_L_XL, R_OUT_X_L_XL + OUT_BYTES)}
    )
    WHO_AM_I = (R_WHO_AM_I, 0x68)
    RESET_TAKES_S = 50e-6

    def _reset(self) -> None:
        self._gyr_fifo: deque[bytes] = deque()
        self._acc_fifo: deque[bytes] = deque()
        self._over_run = False

    def _fifo_bytes(self) -> int:
        return OUT_BYTES * (len(self._gyr_fifo) + len(self._acc_fifo))

    def drop_fifo_bytes(self, count: int) -> None:
        """Lose slots of the gyroscope's FIFO only, count / 6 rounded up: the two are out of step then."""
        self._advance()
        for _ in range(min(-(-count // OUT_BYTES), len(self._gyr_fifo))):
            self._gyr_fifo.popleft()

    # The I2C side.

    def _following(self, register: int) -> int:
        """In the output registers a burst goes round (data sheet 3.3, "Multiple reads (burst)")."""
        if not self._registers[R_CTRL_REG8] & IF_ADD_INC_BIT:
            return register
        acc_hz, gyr_hz = self._rates_hz()
        if register == R_OUT_X_L_G + OUT_BYTES - 1 and acc_hz and gyr_hz:
            return R_OUT_X_L_XL
        if register == R_OUT_X_L_XL + OUT_BYTES - 1:
            return R_OUT_X_L_G if gyr_hz else R_OUT_X_L_XL
        return super()._following(register)

    def _write_register(self, register: int, value: int) -> None:
        if register == R_CTRL_REG8 and value & (SW_RESET_BIT | BOOT_BIT):
            self._start_reset()
            return
        super()._write_register(register, value)
        if register in (R_FIFO_CTRL, R_CTRL_REG9) and not self._fifo_mode():
            self._gyr_fifo.clear()
            self._acc_fifo.clear()
            self._over_run = False

    def _read_register(self, register: int) -> int:
        if register == R_CTRL_REG8 and self._clock() < self._ready_s:
            return self._registers[register] | SW_RESET_BIT
        if register == R_FIFO_SRC:
            return self._source()
        for first, fifo, ready in (
            (R_OUT_X_L_G, self._gyr_fifo, GDA_BIT),
            (R_OUT_X_L_XL, self._acc_fifo, XLDA_BIT),
        ):
            if first <= register < first + OUT_BYTES:
                return self._read_output(register, first, fifo, ready)
        return super()._read_register(register)

    def _read_output(self, register: int, first: int, fifo: deque[bytes], ready: int) -> int:
        """With the FIFO on, the output registers show its oldest slot; reading the last of them frees the slot."""
        value = fifo[0][register - first] if fifo else self._registers[register]
        if register == first + OUT_BYTES - 1:
            self._status(clear=ready)
            if fifo:
                fifo.popleft()
                self._over_run = False
        return value

    def _source(self) -> int:
        count = max(len(self._gyr_fifo), len(self._acc_fifo))
        threshold = self._registers[R_FIFO_CTRL] & 0x1F
        status = count | (OVER_RUN_BIT if self._over_run else 0)
        return status | (THRESHOLD_BIT if 0 < threshold <= count else 0)

    def _status(self, *, set_bits: int = 0, clear: int = 0) -> None:
        for register in (R_STATUS, R_STATUS_XL):  # the same register at two addresses
            self._registers[register] = (self._registers[register] | set_bits) & ~clear

    # The sensor side.

    def _rates_hz(self) -> tuple[float, float]:
        gyr_hz = GYR_ODR_HZ[self._registers[R_CTRL_REG1_G] >> 5]
        acc_code = self._registers[R_CTRL_REG6_XL] >> 5
        return gyr_hz or ACC_ODR_HZ[acc_code], gyr_hz

    def _fifo_mode(self) -> int:
        return self._registers[R_FIFO_CTRL] >> 5 if self._registers[R_CTRL_REG9] & FIFO_EN_BIT else FIFO_BYPASS

    def _take(self, at_s: float, acc_due: bool, gyr_due: bool) -> None:
        queued = self._fifo_mode() != FIFO_BYPASS
        if queued:
            self._start_recording(at_s)
            self.samples_queued += 1
        lost = False
        if gyr_due:
            full_scale = self._registers[R_CTRL_REG1_G] >> 3 & 3
            words = self._gyr(at_s, 1000.0 / GYR_MDPS_PER_LSB[full_scale])
            lost |= self._output(R_OUT_X_L_G, words, self._gyr_fifo if queued else None)
        if acc_due:
            full_scale = self._registers[R_CTRL_REG6_XL] >> 3 & 3
            words = self._acc(at_s, 1000.0 / ACC_MG_PER_LSB[full_scale])
            lost |= self._output(R_OUT_X_L_XL, words, self._acc_fifo if queued else None)
        self.samples_dropped += lost
        temperature = word((self.temperature_c - TEMPERATURE_ZERO_C) * TEMPERATURE_LSB_PER_C)
        self._put(R_OUT_TEMP_L, struct.pack("<h", max(-2048, min(2047, temperature))))
        self._status(set_bits=TDA_BIT | (GDA_BIT if gyr_due else 0) | (XLDA_BIT if acc_due else 0))

    def _output(self, register: int, words: list[int], fifo: deque[bytes] | None) -> bool:
        """Show a sample, and queue it if there is a FIFO; returns whether a sample was lost."""
        data = struct.pack("<3h", *words)
        self._put(register, data)
        if fifo is None:
            return False
        depth = FIFO_SLOTS
        if self._registers[R_CTRL_REG9] & STOP_ON_FTH_BIT:
            depth = (self._registers[R_FIFO_CTRL] & 0x1F) + 1  # data sheet 3.5.2
        full = len(fifo) >= depth
        if full:
            self._over_run = True
            self.bytes_dropped += OUT_BYTES
            if self._fifo_mode() == FIFO_STOPS_WHEN_FULL:
                return True
            fifo.popleft()
        fifo.append(data)
        return full


# The magnetometer (data sheet 8).
R_WHO_AM_I_M, R_CTRL_REG1_M, R_CTRL_REG2_M, R_CTRL_REG3_M, R_STATUS_M, R_OUT_X_L_M = 0x0F, 0x20, 0x21, 0x22, 0x27, 0x28
WHO_AM_I_M = 0x3D
MAGNETOMETER_RESET_VALUES = {R_WHO_AM_I_M: WHO_AM_I_M, R_CTRL_REG1_M: 0x10, R_CTRL_REG3_M: 0x03}
SOFT_RST_BIT, AUTO_INCREMENT_BIT, MODE_MASK = 0x04, 0x80, 0x03
GAUSS_PER_LSB = (0.00014, 0.00029, 0.00043, 0.00058)
"""By FS of CTRL_REG2_M: ±4, 8, 12, 16 gauss (data sheet, table 3)."""


class Lsm9ds1Magnetometer:
    """The magnetometer of the LSM9DS1 in a steady field (gauss); in continuous mode it has always just measured."""

    def __init__(self, field_gauss: tuple[float, float, float] = (0.2, 0.0, -0.4)) -> None:
        self.field_gauss = field_gauss
        self.power_cycle()

    def power_cycle(self) -> None:
        """Lose everything that was written."""
        self._registers = bytearray(0x40)
        for register, value in MAGNETOMETER_RESET_VALUES.items():
            self._registers[register] = value
        self._pointer, self._increments = 0, False

    def write(self, data: bytes) -> None:
        """Register number, then values; bit 7 of the number asks for auto-increment (data sheet 5.1.1)."""
        if not data:
            return
        self._pointer, self._increments = data[0] & 0x3F, bool(data[0] & AUTO_INCREMENT_BIT)
        for value in data[1:]:
            if self._pointer == R_CTRL_REG2_M and value & SOFT_RST_BIT:
                self.power_cycle()
                return
            if R_CTRL_REG1_M <= self._pointer < R_STATUS_M:
                self._registers[self._pointer] = value
            self._step()

    def read(self, count: int) -> bytes:
        """Values from the current register on."""
        if self._registers[R_CTRL_REG3_M] & MODE_MASK == 0:
            per_lsb = GAUSS_PER_LSB[self._registers[R_CTRL_REG2_M] >> 5 & 3]
            words = [word(value / per_lsb) for value in self.field_gauss]
            self._registers[R_OUT_X_L_M : R_OUT_X_L_M + OUT_BYTES] = struct.pack("<3h", *words)
            self._registers[R_STATUS_M] = 0x0F
        answer = bytearray()
        for _ in range(count):
            answer.append(self._registers[self._pointer])
            self._step()
        return bytes(answer)

    def _step(self) -> None:
        if self._increments:
            self._pointer = (self._pointer + 1) & 0x3F
