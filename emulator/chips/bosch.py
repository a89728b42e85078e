"""The FIFO of Bosch's BMI parts: whole frames, with or without a header, and what the two parts share beside it."""

from __future__ import annotations

import math
import struct
from collections import deque

from emulator.chips.chip import Chip

HEADER_REGULAR, HEADER_GYR, HEADER_ACC = 0x80, 0x08, 0x04
"""BMI160_FIFO_HEAD_G_A is 8Ch, _G 88h, _A 84h (BMI160_SensorAPI bmi160_defs.h; the same in BMI2_FIFO_HEADER_*)."""
HEADER_SKIP, HEADER_SENSOR_TIME, HEADER_INPUT_CONFIG = 0x40, 0x44, 0x48
"""BMI160_FIFO_HEAD_SKIP_FRAME, _SENSOR_TIME, _INPUT_CONFIG."""
SKIP_FRAME_BYTES = 2
MAX_SKIPPED = 0xFF

# FIFO_CONFIG_1 (BMI160 47h, BMI270 49h): BMI160_FIFO_G_ENABLE, _A_ENABLE, _HEAD_ENABLE.
FIFO_GYR_BIT, FIFO_ACC_BIT, FIFO_HEADER_BIT = 0x80, 0x40, 0x10

SENSOR_TIME_TICK_S = 39.0625e-6
"""One step of the 24-bit sensor time (BMI160 data sheet 2.3.1, table 11)."""

CMD_FIFO_FLUSH, CMD_SOFT_RESET = 0xB0, 0xB6
"""BMI160_FIFO_FLUSH_VALUE, BMI160_SOFT_RESET_CMD."""

TEMPERATURE_OFFSET_C, TEMPERATURE_LSB_PER_C = 23.0, 512.0
"""0000h is 23 °C, 1/512 K a step (BMI160 data sheet 2.11.8; kernel bmi270_core.c BMI270_TEMP_SCALE)."""

GYR_LSB_PER_DPS = (16.4, 32.8, 65.6, 131.2, 262.4)
"""By range 0 to 4: ±2000, 1000, 500, 250, 125 °/s (data sheets, table of gyroscope characteristics)."""


def odr_hz(code: int) -> float:
    """Rate of an ODR field: 08h is 100 Hz, each step doubles (kernel bmi160_core.c bmi160_accel_odr); 0 for 0."""
    return 0.0 if code == 0 else 100.0 * 2.0 ** (code - 8)


def temperature_bytes(temperature_c: float) -> bytes:
    """Content of the temperature registers, low byte first."""
    raw = round((temperature_c - TEMPERATURE_OFFSET_C) * TEMPERATURE_LSB_PER_C)
    return struct.pack("<h", max(-32767, min(32767, raw)))


class BoschFifo:
    """Frames in a memory of `capacity_bytes`; when it is full the oldest frames go, and a skip frame tells how many.

    A frame that was read in part is read again in full by the next burst (BMI160 data sheet 2.5.2). over_read: what
    follows the last frame. A burst that goes beyond the last frame gets the sensor time once, if that is enabled.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.frames: deque[bytes] = deque()
        self.bytes = 0
        self.skipped = 0
        self.tells_skipped = True

    @property
    def level(self) -> int:
        """Bytes to read; the skip frame counts (BMI160 data sheet 2.11.9)."""
        return self.bytes + (SKIP_FRAME_BYTES if self._skip_frame() else 0)

    def clear(self) -> None:
        """Flush; what was skipped is forgotten too."""
        self.frames.clear()
        self.bytes = self.skipped = 0

    def reconfigure(self, before: int, after: int) -> None:
        """FIFO_CONFIG_1 was written: without headers a change of the sensors in the frames empties the FIFO.

        So does the change from or to headers (BMI160 data sheet 2.5.2, automatic resets).
        """
        changed = before ^ after
        self.tells_skipped = bool(after & FIFO_HEADER_BIT)
        if changed & FIFO_HEADER_BIT or (changed and not self.tells_skipped):
            self.clear()

    def push(self, frame: bytes) -> list[bytes]:
        """Append a frame; returns those that had to make room."""
        dropped = []
        while self.frames and self.bytes + len(frame) > self.capacity_bytes:
            dropped.append(self.frames.popleft())
            self.bytes -= len(dropped[-1])
        self.skipped = min(self.skipped + len(dropped), MAX_SKIPPED)
        self.frames.append(frame)
        self.bytes += len(frame)
        return dropped

    def lose(self, count: int) -> None:
        """Corrupt it: the first `count` bytes vanish, wherever frames begin."""
        rest = b"".join(self.frames)[count:]
        self.frames = deque([rest] if rest else [])
        self.bytes = len(rest)

    def read(self, count: int, *, tail: bytes, over_read: bytes) -> bytes:
        """One burst of `count` bytes. tail: comes once after the last frame; over_read: comes then for ever."""
        answer = bytearray()
        skip_frame = self._skip_frame()
        if skip_frame and count >= len(skip_frame):
            self.skipped = 0
        answer += skip_frame
        while self.frames and len(answer) < count:
            if len(answer) + len(self.frames[0]) > count:
                answer += self.frames[0]  # cut off by the end of the burst: it stays
                break
            frame = self.frames.popleft()
            self.bytes -= len(frame)
            answer += frame
        if len(answer) < count:
            answer += tail
        missing = max(0, count - len(answer))
        answer += (over_read * (missing // len(over_read) + 1))[:missing]
        return bytes(answer[:count])

    def _skip_frame(self) -> bytes:
        return bytes((HEADER_SKIP, self.skipped)) if self.skipped and self.tells_skipped else b""


def frame_of(acc: list[int] | None, gyr: list[int] | None, *, header: bool) -> bytes:
    """Gyroscope before accelerometer, low byte first, as in the data registers (BMI160 data sheet 2.5.1.4)."""
    kind = HEADER_REGULAR | (HEADER_GYR if gyr else 0) | (HEADER_ACC if acc else 0)
    words = [*(gyr or ()), *(acc or ())]
    return (bytes((kind,)) if header else b"") + struct.pack(f"<{len(words)}h", *words)


def sensor_time(now_s: float) -> bytes:
    """Three bytes, low byte first."""
    return (int(now_s / SENSOR_TIME_TICK_S) & 0xFFFFFF).to_bytes(3, "little")


SLOW_WRITE_S = 450e-6
"""How long a write takes then (kernel BMI160_SUSPENDED_WRITE_USLEEP, bmi270_write_calibration_data())."""


class BoschChip(Chip):
    """A part that takes its time for a write while it sleeps: a message that follows too soon is lost.

    In that state it takes no bursts either, only the first value (BMI160 data sheet 3.2.4, BMI270 data sheet 6.4).
    """

    def _reset(self) -> None:
        self._slow_until_s = -math.inf

    def write(self, data: bytes) -> None:
        """As Chip.write, while it sleeps with the losses described above."""
        now_s = self._clock()
        self._advance()
        slow = self._sleeps()
        if now_s < self._slow_until_s:
            data = data[:1]
        elif slow:
            data = data[:2]
        super().write(data)
        if slow and len(data) > 1:
            self._slow_until_s = now_s + SLOW_WRITE_S

    def _sleeps(self) -> bool:
        """Whether a write takes its time now."""
        raise NotImplementedError
