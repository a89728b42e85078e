"""An emulated ICM-42688-P (TDK DS-000347, kernel drivers/iio/imu/inv_icm42600).

Its FIFO holds packets with a header; until a sensor has started its words in the packets are -32768. When the FIFO is
full the oldest packets go and FIFO_LOST_PKT counts them. The count must be read from its first register, and the
first count after a flush reads as zero (kernel inv_icm42600_buffer_postenable(), "workaround").
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, ClassVar

from emulator.chips.chip import Chip
from emulator.chips.motion import word

if TYPE_CHECKING:
    from collections.abc import Mapping

# Register numbers (kernel inv_icm42600.h INV_ICM42600_REG_*); banks are 0x100 apart.
R_DEVICE_CONFIG, R_INT_CONFIG, R_FIFO_CONFIG = 0x11, 0x14, 0x16
R_TEMP_DATA, R_ACCEL_DATA, R_GYRO_DATA, R_TMST_FSYNC = 0x1D, 0x1F, 0x25, 0x2B
R_INT_STATUS, R_FIFO_COUNTH, R_FIFO_COUNTL, R_FIFO_DATA = 0x2D, 0x2E, 0x2F, 0x30
R_SIGNAL_PATH_RESET, R_INTF_CONFIG0, R_INTF_CONFIG1, R_PWR_MGMT0 = 0x4B, 0x4C, 0x4D, 0x4E
R_GYRO_CONFIG0, R_ACCEL_CONFIG0, R_GYRO_CONFIG1, R_GYRO_ACCEL_CONFIG0, R_ACCEL_CONFIG1 = 0x4F, 0x50, 0x51, 0x52, 0x53
R_TMST_CONFIG, R_FIFO_CONFIG1, R_FIFO_CONFIG2, R_FIFO_CONFIG3 = 0x54, 0x5F, 0x60, 0x61
R_INT_SOURCE0, R_FIFO_LOST_PKT0, R_FIFO_LOST_PKT1, R_WHO_AM_I, R_REG_BANK_SEL = 0x65, 0x6C, 0x6D, 0x75, 0x76

SOFT_RESET_BIT, FIFO_FLUSH_BIT = 0x01, 0x02
"""INV_ICM42600_DEVICE_CONFIG_SOFT_RESET, _SIGNAL_PATH_RESET_FIFO_FLUSH."""
RESET_DONE_BIT, DATA_READY_BIT, THRESHOLD_BIT, FULL_BIT = 0x10, 0x08, 0x04, 0x02
"""INV_ICM42600_INT_STATUS_*."""
COUNT_RECORDS_BIT, COUNT_BIG_ENDIAN_BIT, DATA_BIG_ENDIAN_BIT = 0x40, 0x20, 0x10
"""INV_ICM42600_INTF_CONFIG0_*."""
TEMP_DIS_BIT = 0x20
FIFO_ACCEL_BIT, FIFO_GYRO_BIT = 0x01, 0x02
"""INV_ICM42600_FIFO_CONFIG1_*."""
HEADER_EMPTY, HEADER_ACCEL, HEADER_GYRO, HEADER_TIMESTAMP = 0x80, 0x40, 0x20, 0x08
"""INV_ICM42600_FIFO_HEADER_* (kernel inv_icm42600_buffer.c); DS-000347 6.1: 10b in bits 3:2 is an ODR time stamp."""
NOT_STARTED = -32768
"""INV_ICM42600_DATA_INVALID."""

ACCEL_START_S, GYRO_START_S = 0.020, 0.060
"""INV_ICM42600_ACCEL_STARTUP_TIME_MS, _GYRO_STARTUP_TIME_MS."""
ODR_HZ = (0, 32000, 16000, 8000, 4000, 2000, 1000, 200, 100, 50, 25, 12.5, 6.25, 3.125, 1.5625, 500)
"""By ODR field (enum inv_icm42600_odr; DS-000347 14.37)."""
ACC_LSB_PER_G = (2048.0, 4096.0, 8192.0, 16384.0)
"""By FS field: ±16, 8, 4, 2 g (enum inv_icm42600_accel_fs)."""
GYR_LSB_PER_DPS = (16.4, 32.8, 65.5, 131.0, 262.0, 524.3, 1048.6, 2097.2)
"""By FS field: ±2000 °/s, halved each time (DS-000347, table 1)."""
TEMPERATURE_ZERO_C, TEMPERATURE_LSB_PER_C, TEMPERATURE_FIFO_LSB_PER_C = 25.0, 132.48, 2.07
"""DS-000347 4.13."""
FIFO_BYTES = 2048
BIT_OFF, BIT_LOW_NOISE = 0, 3


class Icm42688(Chip):
    """ICM-42688-P: 2 kB FIFO of packets of 8 or 16 bytes, banked registers."""

    REGISTERS = 0x500
    WHO_AM_I = (R_WHO_AM_I, 0x47)
    """Kernel INV_ICM42600_WHOAMI_ICM42688."""
    RESET_VALUES: ClassVar[Mapping[int, int]] = {
        R_INT_STATUS: RESET_DONE_BIT,
        R_INTF_CONFIG0: 0x30,
        R_INTF_CONFIG1: 0x91,
        R_GYRO_CONFIG0: 0x06,
        R_ACCEL_CONFIG0: 0x06,
        R_GYRO_CONFIG1: 0x16,
        R_GYRO_ACCEL_CONFIG0: 0x11,
        R_ACCEL_CONFIG1: 0x0D,
        R_TMST_CONFIG: 0x23,
        R_INT_SOURCE0: 0x10,
    }
    """DS-000347 13.1, register map of bank 0."""
    READ_ONLY = frozenset({*range(R_TEMP_DATA, R_FIFO_DATA + 1), R_FIFO_LOST_PKT0, R_FIFO_LOST_PKT1, R_WHO_AM_I})
    RESET_TAKES_S = 0.001
    """INV_ICM42600_RESET_TIME_MS."""

    def _reset(self) -> None:
        self._fifo: deque[bytes] = deque()
        self._level = self._count_latch = self._lost = 0
        self._count_is_stale = True
        self._acc_from_s: float | None = None
        self._gyr_from_s: float | None = None
        self._output_data((NOT_STARTED,) * 3, (NOT_STARTED,) * 3)

    def _fifo_bytes(self) -> int:
        return self._level

    def drop_fifo_bytes(self, count: int) -> None:
        """Lose the oldest bytes of the FIFO, which puts it out of step."""
        self._advance()
        rest = b"".join(self._fifo)[count:]
        self._fifo = deque([rest] if rest else [])
        self._level = len(rest)

    # The I2C side.

    def _bank(self, register: int) -> int:
        """Which register a number means now; WHO_AM_I is not in the other banks, REG_BANK_SEL is in all."""
        return register if register == R_REG_BANK_SEL else self._registers[R_REG_BANK_SEL] % 5 << 8 | register

    def _following(self, register: int) -> int:
        return register if self._bank(register) == R_FIFO_DATA else super()._following(register)

    def _write_byte(self, register: int, value: int) -> None:
        super()._write_byte(self._bank(register), value)

    def _write_register(self, register: int, value: int) -> None:
        if register == R_DEVICE_CONFIG and value & SOFT_RESET_BIT:
            self._start_reset()
        elif register == R_SIGNAL_PATH_RESET:
            if value & FIFO_FLUSH_BIT:
                self._flush()
        elif register == R_PWR_MGMT0:
            self._registers[register] = value
            self._acc_from_s = self._started(self._acc_from_s, value & 3, ACCEL_START_S)
            self._gyr_from_s = self._started(self._gyr_from_s, value >> 2 & 3, GYRO_START_S)
        else:
            super()._write_register(register, value)
            if register == R_FIFO_CONFIG and value >> 6 == 0:
                self._flush()

    def _started(self, from_s: float | None, mode: int, takes_s: float) -> float | None:
        if mode == BIT_OFF:
            return None
        return self._clock() + takes_s if from_s is None else from_s

    def _flush(self) -> None:
        self._fifo.clear()
        self._level = 0
        self._count_is_stale = True

    def _read_some(self, count: int) -> bytes:
        if self._bank(self._pointer) != R_FIFO_DATA:
            return super()._read_some(count)
        answer = bytearray()
        while self._fifo and len(answer) < count:
            answer += self._fifo.popleft()
        if len(answer) > count:  # the rest of a packet stays, RESUME_PARTIAL_RD or not
            self._fifo.appendleft(bytes(answer[count:]))
        self._level = sum(map(len, self._fifo))
        return bytes(answer[:count]).ljust(count, b"\xff")

    def _read_register(self, register: int) -> int:
        register = self._bank(register)
        match register:
            case 0x2D:  # INT_STATUS clears when it is read
                status, self._registers[register] = self._registers[register], 0
                return status
            case 0x2E:  # reading the first byte latches both (DS-000347 14.25)
                self._count_latch = 0 if self._count_is_stale else self._count()
                self._count_is_stale = False
                return self._count_byte(0)
            case 0x2F:
                return self._count_byte(1)
            case 0x6C | 0x6D:
                return self._lost >> 8 * (register - R_FIFO_LOST_PKT0) & 0xFF
        return super()._read_register(register)

    def _count(self) -> int:
        records = self._registers[R_INTF_CONFIG0] & COUNT_RECORDS_BIT
        return len(self._fifo) if records else self._level

    def _count_byte(self, index: int) -> int:
        big = self._registers[R_INTF_CONFIG0] & COUNT_BIG_ENDIAN_BIT
        return self._count_latch.to_bytes(2, "big" if big else "little")[index]

    # The sensor side.

    def _rates_hz(self) -> tuple[float, float]:
        acc_hz = 0.0 if self._acc_from_s is None else ODR_HZ[self._registers[R_ACCEL_CONFIG0] & 0x0F]
        gyr_hz = 0.0 if self._gyr_from_s is None else ODR_HZ[self._registers[R_GYRO_CONFIG0] & 0x0F]
        return float(acc_hz), float(gyr_hz)

    def _take(self, at_s: float, acc_due: bool, gyr_due: bool) -> None:
        config = self._registers[R_FIFO_CONFIG1]
        acc_to_fifo, gyr_to_fifo = acc_due and bool(config & FIFO_ACCEL_BIT), gyr_due and bool(config & FIFO_GYRO_BIT)
        queued = self._registers[R_FIFO_CONFIG] >> 6 != 0 and (acc_to_fifo or gyr_to_fifo)
        started = self._has_started(self._acc_from_s, at_s), self._has_started(self._gyr_from_s, at_s)
        if queued and started[0] >= acc_to_fifo and started[1] >= gyr_to_fifo:
            self._start_recording(at_s)
        acc = self._acc(at_s, self._acc_lsb_per_g()) if started[0] else [NOT_STARTED] * 3
        gyr = self._gyr(at_s, self._gyr_lsb_per_dps()) if started[1] else [NOT_STARTED] * 3
        self._output_data(acc if acc_due else None, gyr if gyr_due else None)
        self._registers[R_INT_STATUS] |= DATA_READY_BIT
        if queued:
            self.samples_queued += 1
            self._push(self._packet(at_s, acc if acc_to_fifo else None, gyr if gyr_to_fifo else None))

    @staticmethod
    def _has_started(from_s: float | None, at_s: float) -> bool:
        return from_s is not None and at_s >= from_s

    def _acc_lsb_per_g(self) -> float:
        return ACC_LSB_PER_G[self._registers[R_ACCEL_CONFIG0] >> 5 & 3]

    def _gyr_lsb_per_dps(self) -> float:
        return GYR_LSB_PER_DPS[self._registers[R_GYRO_CONFIG0] >> 5]

    def _order(self) -> str:
        return ">" if self._registers[R_INTF_CONFIG0] & DATA_BIG_ENDIAN_BIT else "<"

    def _output_data(self, acc: list[int] | tuple[int, ...] | None, gyr: list[int] | tuple[int, ...] | None) -> None:
        order = self._order()
        if acc:
            self._put(R_ACCEL_DATA, struct.pack(f"{order}3h", *acc))
        if gyr:
            self._put(R_GYRO_DATA, struct.pack(f"{order}3h", *gyr))
        raw = word((self.temperature_c - TEMPERATURE_ZERO_C) * TEMPERATURE_LSB_PER_C)
        off = self._registers[R_PWR_MGMT0] & TEMP_DIS_BIT
        self._put(R_TEMP_DATA, struct.pack(f"{order}h", NOT_STARTED if off else raw))

    def _packet(self, at_s: float, acc: list[int] | None, gyr: list[int] | None) -> bytes:
        """Packets 1 to 3 of DS-000347 6.1: the time stamp is only in the one with both sensors."""
        order = self._order()
        header = (HEADER_ACCEL if acc else 0) | (HEADER_GYRO if gyr else 0)
        temperature = round((self.temperature_c - TEMPERATURE_ZERO_C) * TEMPERATURE_FIFO_LSB_PER_C)
        words = [*(acc or ()), *(gyr or ())]
        body = struct.pack(f"{order}{len(words)}h", *words) + struct.pack("b", max(-128, min(127, temperature)))
        if acc and gyr:
            header |= HEADER_TIMESTAMP
            body += struct.pack(f"{order}H", int(at_s * 1e6) & 0xFFFF)
        return bytes((header,)) + body

    def _push(self, packet: bytes) -> None:
        """Mode 1 streams: the oldest packets make room; mode 2 stops when it is full."""
        if self._level + len(packet) > FIFO_BYTES and self._registers[R_FIFO_CONFIG] >> 6 != 1:
            self._lose(packet)
            return
        while self._level + len(packet) > FIFO_BYTES:
            oldest = self._fifo.popleft()
            self._level -= len(oldest)
            self._lose(oldest)
        self._fifo.append(packet)
        self._level += len(packet)
        watermark = (self._registers[R_FIFO_CONFIG3] & 0x0F) << 8 | self._registers[R_FIFO_CONFIG2]
        if watermark and self._count() >= watermark:
            self._registers[R_INT_STATUS] |= THRESHOLD_BIT

    def _lose(self, packet: bytes) -> None:
        self._registers[R_INT_STATUS] |= FULL_BIT
        self._lost = (self._lost + 1) & 0xFFFF
        self.samples_dropped += 1
        self.bytes_dropped += len(packet)
