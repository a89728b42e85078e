"""An emulated MPU-6050 that plays a recording.

Written from RM-MPU-6000A-00 rev 4.2 and RM-MPU-6500A-00 rev 2.1, not from Footfall's driver. Where the documents leave
room it is as awkward as a real part may be: status flags are raised only for enabled interrupts, writes are lost
during a reset, and an overflowing FIFO drops its oldest *bytes*, which leaves it out of step.
"""

from __future__ import annotations

import math
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Recording = npt.NDArray[np.floating]

# Register numbers (RM-MPU-6000A section 3).
R_SMPLRT_DIV, R_CONFIG, R_GYRO_CONFIG, R_ACCEL_CONFIG = 0x19, 0x1A, 0x1B, 0x1C
R_FIFO_EN, R_INT_ENABLE, R_INT_STATUS = 0x23, 0x38, 0x3A
R_ACCEL_XOUT_H, R_TEMP_OUT_H, R_GYRO_XOUT_H, R_EXT_SENS_DATA_23 = 0x3B, 0x41, 0x43, 0x60
R_USER_CTRL, R_PWR_MGMT_1, R_FIFO_COUNTH, R_FIFO_COUNTL, R_FIFO_R_W, R_WHO_AM_I = 0x6A, 0x6B, 0x72, 0x73, 0x74, 0x75

READ_ONLY = frozenset({R_FIFO_COUNTH, R_FIFO_COUNTL, R_WHO_AM_I, *range(R_INT_STATUS, R_EXT_SENS_DATA_23 + 1)})

DEVICE_RESET_BIT, SLEEP_BIT, TEMP_DIS_BIT = 0x80, 0x40, 0x08
USER_FIFO_EN_BIT, USER_RESET_BITS, FIFO_RESET_BIT = 0x40, 0x07, 0x04
DATA_READY_BIT, OVERFLOW_BIT = 0x01, 0x10

RESET_TAKES_S = 0.05
STANDARD_GRAVITY = 9.80665


@dataclass(frozen=True, slots=True)
class Silicon:
    """What differs between parts. temperature: raw = (°C - offset_c) * lsb_per_c."""

    who_am_i: int
    fifo_bytes: int
    lsb_per_c: float
    offset_c: float
    empty_fifo_byte: int | None
    """What reading an empty FIFO gives; None: the byte that was read last (RM-MPU-6000A 4.31)."""


MPU_6050 = Silicon(0x68, 1024, 340.0, 36.53, None)
MPU_6500 = Silicon(0x70, 512, 333.87, 21.0, 0xFF)
MPU_9250 = Silicon(0x71, 512, 333.87, 21.0, 0xFF)
MPU_9255 = Silicon(0x73, 512, 333.87, 21.0, 0xFF)


class Mpu6050:
    """An I2C device that samples a recording [N, 6] (m/s², rad/s; NaN becomes 0) in real time.

    rate_hz: of the recording; silicon: which part; who_am_i: another identity for the same part;
    rate_error: 0.03 makes the sensor's oscillator 3 % fast; temperature_c: of the die;
    start_s: instant on `clock` at which the recording starts, None: with the first sample that enters the FIFO;
    gyro_counter: gyr_z carries a 16-bit count of the samples taken, so that a reader can count lost ones exactly.
    After its end the recording's last sample is held. Where samples repeat, the gyroscope's lowest bit moves: no real
    sensor is without noise. `frozen` takes that away, and every change with it. A recording that `repeats` has no end.
    """

    def __init__(
        self,
        recording: Recording,
        rate_hz: float,
        *,
        silicon: Silicon = MPU_6050,
        who_am_i: int | None = None,
        rate_error: float = 0.0,
        temperature_c: float = 31.0,
        start_s: float | None = None,
        gyro_counter: bool = False,
        repeats: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.silicon = silicon
        self.who_am_i = silicon.who_am_i if who_am_i is None else who_am_i
        self.rate_error = rate_error
        self.temperature_c = temperature_c
        self.frozen = False
        self.samples_taken = 0
        self.samples_queued = 0
        self.bytes_dropped = 0
        self._recording = np.nan_to_num(np.asarray(recording, dtype=np.float64))
        self._rate_hz = rate_hz
        self._start_s = start_s
        self._gyro_counter = gyro_counter
        self._repeats = repeats
        self._words_before: list[int] = []
        self._frozen_words: list[int] = []
        self._clock = clock
        self._origin_s = self._period_s = 0.0
        self.power_cycle()

    # What a test or a demonstration may look at or do.

    @property
    def finished(self) -> bool:
        """Whether the whole recording has been played."""
        over = self._start_s is not None and self._clock() >= self._start_s + self.duration_s
        return over and not self._repeats

    @property
    def duration_s(self) -> float:
        """Length of the recording."""
        return len(self._recording) / self._rate_hz

    @property
    def started_s(self) -> float | None:
        """Instant at which the recording started, None before."""
        return self._start_s

    @property
    def fifo_level(self) -> int:
        """Bytes in the FIFO now."""
        self._advance()
        return len(self._fifo)

    def power_cycle(self) -> None:
        """Lose everything that was written, as in a brown-out."""
        self._registers = bytearray(128)
        self._registers[R_PWR_MGMT_1] = SLEEP_BIT
        self._registers[R_WHO_AM_I] = self.who_am_i
        self._fifo = bytearray()
        self._last_fifo_byte = 0
        self._pointer = 0
        self._count_latch = 0
        self._ready_s = self._clock()
        self._ticks: int | None = None

    def poke(self, register: int, value: int) -> None:
        """Change a register behind the driver's back."""
        self._advance()
        self._registers[register] = value
        self._advance()

    def peek(self, register: int) -> int:
        """Look at a register without the side effects of reading it."""
        return self._registers[register]

    def take_due(self) -> None:
        """Take the samples that are due by now, as things are now."""
        self._advance()

    def drop_fifo_bytes(self, count: int) -> None:
        """Lose the oldest bytes of the FIFO, which puts it out of step."""
        self._advance()
        del self._fifo[:count]

    # The I2C side.

    def write(self, data: bytes) -> None:
        """Register number, then values for it and the following registers."""
        if not data:
            return
        self._advance()
        self._pointer = data[0] & 0x7F
        for value in data[1:]:
            self._write_register(self._pointer, value)
            self._step()

    def read(self, count: int) -> bytes:
        """Values from the current register on; the FIFO port does not move on (RM-MPU-6000A 4.31)."""
        self._advance()
        if self._pointer == R_FIFO_R_W:
            return self._pop(count)
        answer = bytearray()
        for _ in range(count):
            answer.append(self._read_register(self._pointer))
            self._step()
            if self._pointer == R_FIFO_R_W:
                return bytes(answer) + self._pop(count - len(answer))
        return bytes(answer)

    def _step(self) -> None:
        if self._pointer != R_FIFO_R_W:
            self._pointer = (self._pointer + 1) & 0x7F

    def _write_register(self, register: int, value: int) -> None:
        if register in READ_ONLY or self._clock() < self._ready_s:
            return
        if register == R_PWR_MGMT_1 and value & DEVICE_RESET_BIT:
            self.power_cycle()
            self._ready_s = self._clock() + RESET_TAKES_S
        elif register == R_USER_CTRL:
            # FIFO_RESET works only while FIFO_EN is 0; the reset bits clear themselves (register 106).
            if value & FIFO_RESET_BIT and not value & USER_FIFO_EN_BIT:
                self._fifo.clear()
            self._registers[register] = value & ~USER_RESET_BITS
        elif register != R_FIFO_R_W:
            self._registers[register] = value
        self._advance()  # a wake-up or a new rate counts from now

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

    def _pop(self, count: int) -> bytes:
        """Take the oldest bytes; an empty FIFO gives what this silicon gives then."""
        data = bytes(self._fifo[:count])
        del self._fifo[:count]
        if data:
            self._last_fifo_byte = data[-1]
        empty = self.silicon.empty_fifo_byte
        return data + bytes([self._last_fifo_byte if empty is None else empty]) * (count - len(data))

    # The sensor side.

    @property
    def sample_rate_hz(self) -> float:
        """True output rate: 8 kHz without the low-pass filter, 1 kHz with it, over 1 + SMPLRT_DIV (4.2)."""
        base_hz = 8000.0 if self._registers[R_CONFIG] & 0x07 in (0, 7) else 1000.0
        return base_hz / (1 + self._registers[R_SMPLRT_DIV]) * (1.0 + self.rate_error)

    def _advance(self) -> None:
        """Take all samples that are due by now."""
        now_s = self._clock()
        if self._registers[R_PWR_MGMT_1] & SLEEP_BIT:
            self._ticks = None
            return
        period_s = 1.0 / self.sample_rate_hz
        if self._ticks is None or period_s != self._period_s:
            self._ticks, self._origin_s, self._period_s = 0, now_s, period_s
        due = math.floor((now_s - self._origin_s) / period_s)
        while self._ticks < due:
            self._ticks += 1
            self._take(self._origin_s + self._ticks * period_s)

    def _take(self, at_s: float) -> None:
        queued = bool(self._registers[R_USER_CTRL] & USER_FIFO_EN_BIT and self._registers[R_FIFO_EN])
        if self._start_s is None and queued:
            self._start_s = at_s
        self.samples_taken += 1
        self._registers[R_ACCEL_XOUT_H : R_ACCEL_XOUT_H + 14] = struct.pack(">7h", *self._words(at_s))
        self._raise_flag(DATA_READY_BIT)
        if queued:
            self._queue()

    def _words(self, at_s: float) -> list[int]:
        """Accelerometer, temperature, gyroscope as they go into the registers, with noise where nothing moves."""
        if self.frozen and self._frozen_words:
            return self._frozen_words
        words = self._measured(at_s)
        before, self._words_before = self._words_before, words
        if words == before:
            words = [*words[:4], words[4] ^ (self.samples_taken & 1), *words[5:]]
        self._frozen_words = words
        return words

    def _measured(self, at_s: float) -> list[int]:
        """Accelerometer, temperature, gyroscope at the configured full scale, saturated."""
        row = self._row(at_s)
        acc_lsb_per_g = 16384 >> (self._registers[R_ACCEL_CONFIG] >> 3 & 3)
        gyr_lsb_per_dps = (131.0, 65.5, 32.8, 16.4)[self._registers[R_GYRO_CONFIG] >> 3 & 3]
        acc = [_word(value / STANDARD_GRAVITY * acc_lsb_per_g) for value in row[:3]]
        gyr = [_word(math.degrees(value) * gyr_lsb_per_dps) for value in row[3:]]
        temperature = _word((self.temperature_c - self.silicon.offset_c) * self.silicon.lsb_per_c)
        if self._registers[R_PWR_MGMT_1] & TEMP_DIS_BIT:
            temperature = 0
        if self._gyro_counter:
            gyr[2] = ((self.samples_taken + 32768) & 0xFFFF) - 32768
        return [*acc, temperature, *gyr]

    def _row(self, at_s: float) -> list[float]:
        """Interpolate the recording at an instant, linearly."""
        last = len(self._recording) - 1
        position = 0.0 if self._start_s is None else (at_s - self._start_s) * self._rate_hz
        position = math.fmod(position, last) if self._repeats else min(max(position, 0.0), float(last))
        index = min(int(position), max(last - 1, 0))
        part = position - index
        first, second = self._recording[index], self._recording[min(index + 1, last)]
        row: list[float] = (first + part * (second - first)).tolist()
        return row

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
            self._raise_flag(OVERFLOW_BIT)

    def _raise_flag(self, bit: int) -> None:
        self._registers[R_INT_STATUS] |= bit & self._registers[R_INT_ENABLE]


def _word(value: float) -> int:
    return max(-32768, min(32767, round(value)))
