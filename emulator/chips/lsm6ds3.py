"""An emulated LSM6DS3 and LSM6DS3TR-C (data sheets DocID026899 and DocID030071, AN4650, AN5130).

Their FIFO holds bare 16-bit words. When it is full the oldest *words* make room; 4096 and 2048 are no multiples of the
six of a set, so an overflow leaves a reader out of step that does not look at FIFO_PATTERN.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, ClassVar

from emulator.chips import st
from emulator.chips.pedometer import Pedometer

if TYPE_CHECKING:
    from collections.abc import Mapping

# Register numbers (data sheet, table "Registers address map").
R_FIFO_CTRL1, R_FIFO_CTRL2, R_FIFO_CTRL3, R_FIFO_CTRL4, R_FIFO_CTRL5 = 0x06, 0x07, 0x08, 0x09, 0x0A
R_CTRL4_C, R_CTRL9_XL, R_CTRL10_C = 0x13, 0x18, 0x19
R_FIFO_STATUS1, R_FIFO_STATUS2, R_FIFO_STATUS3, R_FIFO_STATUS4 = 0x3A, 0x3B, 0x3C, 0x3D
R_FIFO_DATA_OUT_L, R_FIFO_DATA_OUT_H, R_STEP_COUNTER_L, R_STEP_COUNTER_H, R_TAP_CFG = 0x3E, 0x3F, 0x4B, 0x4C, 0x58

DECIMATION = (0, 1, 2, 3, 4, 8, 16, 32)
"""By DEC_FIFO, 0: not in the FIFO (kernel st_lsm6dsx_buffer.c st_lsm6dsx_decimator_table)."""
WATERMARK_BIT, OVER_RUN_BIT, FULL_BIT, EMPTY_BIT = 0x80, 0x40, 0x20, 0x10
"""FIFO_STATUS2 (data sheet 9.46; kernel ST_LSM6DSX_FIFO_EMPTY_MASK)."""
FUNC_EN_BIT, PEDO_RST_STEP_BIT = 0x04, 0x02
"""CTRL10_C."""
STOP_ON_FTH_BIT = 0x01
"""CTRL4_C."""
R_TIMESTAMP2, R_WAKE_UP_DUR = 0x42, 0x5C
TIMER_TO_FIFO_BIT, TIMER_HR_BIT, TIMESTAMP_RESET = 0x80, 0x10, 0xAA
"""FIFO_CTRL2, WAKE_UP_DUR, TIMESTAMP2 (kernel st_lsm6dsx_core.c .ts_settings, ST_LSM6DSX_TS_RESET_VAL)."""
TIMER_TICK_S, TIMER_HR_TICK_S = 6.4e-3, 25e-6
"""Data sheet, WAKE_UP_DUR.TIMER_HR; the kernel's ST_LSM6DSX_TS_SENSITIVITY is the latter."""


class Lsm6ds3(st.LsmChip):
    """LSM6DS3: 8 kB FIFO of untagged words, a step counter that TAP_CFG switches on."""

    WHO_AM_I = (st.R_WHO_AM_I, 0x69)
    """Kernel st_lsm6dsx_core.c: .wai = 0x69 for the LSM6DS3, 0x6a for LSM6DS3TR-C."""
    RESET_VALUES: ClassVar[Mapping[int, int]] = {st.R_CTRL3_C: 0x04, R_CTRL9_XL: 0x38, R_CTRL10_C: 0x38}
    """Data sheet, table 16."""
    READ_ONLY = st.LsmChip.READ_ONLY | frozenset(
        {*range(R_FIFO_STATUS1, R_FIFO_DATA_OUT_H + 1), R_STEP_COUNTER_L, R_STEP_COUNTER_H}
    )
    TEMPERATURE_LSB_PER_C = 16.0
    """Data sheet, table 5 "Temperature sensor characteristics"."""
    FIFO_WORDS: ClassVar[int] = 4096
    DIFF_BITS: ClassVar[int] = 12
    """Width of DIFF_FIFO (kernel .fifo_diff: GENMASK(11, 0), for the TR-C GENMASK(10, 0))."""
    PEDO_EN: ClassVar[tuple[int, int]] = (R_TAP_CFG, 0x40)
    TIMER_EN: ClassVar[tuple[int, int]] = (R_TAP_CFG, 0x80)
    """Kernel .ts_settings.timer_en: 58h bit 7; for the TR-C 19h bit 5."""

    def _reset(self) -> None:
        self._fifo: deque[tuple[int, int, int]] = deque()  # low byte, high byte, place in the pattern
        self._over_run = False
        self._fifo_ticks = 0
        self._timer_zero_s = self._clock()
        self._pedometer = Pedometer()

    def _fifo_bytes(self) -> int:
        return 2 * len(self._fifo)

    def drop_fifo_bytes(self, count: int) -> None:
        """Lose the oldest words of the FIFO, count / 2 of them, which puts a reader out of step."""
        self._advance()
        for _ in range(min(count // 2, len(self._fifo))):
            self._fifo.popleft()

    # The I2C side.

    def _following(self, register: int) -> int:
        # Rounding: a burst stays at the FIFO's two data registers (AN4650 8.8).
        if register == R_FIFO_DATA_OUT_H:
            return R_FIFO_DATA_OUT_L
        return super()._following(register)

    def _write_register(self, register: int, value: int) -> None:
        super()._write_register(register, value)
        if register == R_FIFO_CTRL5 and value & 0x07 == st.FIFO_BYPASS:
            self._fifo.clear()
            self._over_run, self._fifo_ticks = False, 0
        elif register == R_CTRL10_C and value & PEDO_RST_STEP_BIT:
            self._pedometer = Pedometer()
        elif register == R_TIMESTAMP2 and value == TIMESTAMP_RESET:
            self._timer_zero_s = self._clock()

    def _read_register(self, register: int) -> int:
        match register:
            case 0x3A:
                value = self._diff() & 0xFF
            case 0x3B:
                value = self._status2()
            case 0x3C | 0x3D:
                value = self._pattern() >> 8 * (register - R_FIFO_STATUS3) & 0xFF
            case 0x3E:
                value = self._fifo[0][0] if self._fifo else 0
            case 0x3F:
                value = self._pop()
            case 0x4B | 0x4C:
                value = self._pedometer.steps >> 8 * (register - R_STEP_COUNTER_L) & 0xFF
            case _:
                value = super()._read_register(register)
        return value

    def _diff(self) -> int:
        """Unread words. A full FIFO does not fit into the field: it reads as 0, with OVER_RUN or FULL set."""
        return len(self._fifo) & ((1 << self.DIFF_BITS) - 1)

    def _status2(self) -> int:
        count = len(self._fifo)
        watermark = (self._registers[R_FIFO_CTRL2] & 0x0F) << 8 | self._registers[R_FIFO_CTRL1]
        status = self._diff() >> 8
        status |= WATERMARK_BIT if watermark and count >= watermark else 0
        status |= OVER_RUN_BIT if self._over_run else 0
        status |= FULL_BIT if count + self._set_words() > self._depth() else 0
        return status | (0 if count else EMPTY_BIT)

    def _pattern(self) -> int:
        return self._fifo[0][2] if self._fifo else 0

    def _pop(self) -> int:
        if not self._fifo:
            return 0
        self._over_run = False
        return self._fifo.popleft()[1]

    # The FIFO's other end.

    def _decimations(self) -> tuple[int, int]:
        """Of gyroscope and accelerometer."""
        control = self._registers[R_FIFO_CTRL3]
        return DECIMATION[control >> 3 & 7], DECIMATION[control & 7]

    def _timer_every(self) -> int:
        """Decimation of the fourth data set, time stamp and steps; 0: it is not in the FIFO."""
        enabled = self._registers[R_FIFO_CTRL2] & TIMER_TO_FIFO_BIT
        return DECIMATION[self._registers[R_FIFO_CTRL4] >> 3 & 7] if enabled else 0

    def _set_words(self) -> int:
        return 3 * sum(1 for decimation in (*self._decimations(), self._timer_every()) if decimation)

    def _depth(self) -> int:
        watermark = (self._registers[R_FIFO_CTRL2] & 0x0F) << 8 | self._registers[R_FIFO_CTRL1]
        return watermark if self._registers[R_CTRL4_C] & STOP_ON_FTH_BIT and watermark else self.FIFO_WORDS

    def _about_to_queue(self, acc_due: bool, gyr_due: bool) -> bool:  # noqa: ARG002  sets are written at the FIFO's rate
        control = self._registers[R_FIFO_CTRL5]
        return control & 0x07 != st.FIFO_BYPASS and self._set_words() > 0 and self._due(self._rate(control >> 3 & 0x0F))

    def _queue(self, at_s: float, acc_due: bool, gyr_due: bool) -> None:
        if not self._about_to_queue(acc_due, gyr_due):
            return
        gyr_every, acc_every = self._decimations()
        place = 0
        for every, register in ((gyr_every, st.R_OUTX_L_G), (acc_every, st.R_OUTX_L_XL)):
            if every and self._fifo_ticks % every == 0:
                place = self._push(self._registers[register : register + 6], place, register == st.R_OUTX_L_XL)
        timer_every = self._timer_every()
        if timer_every and self._fifo_ticks % timer_every == 0:
            self._push(self._timer_set(at_s), place, False)
        self._fifo_ticks += 1
        self.samples_queued += 1

    def _timer_set(self, at_s: float) -> bytes:
        """Give the fourth data set: bytes 1, 2 and 0 of the timer, and the steps (kernel st_lsm6dsx_read_fifo)."""
        register, bit = self.TIMER_EN
        ticks = 0
        if self._registers[register] & bit:
            fine = self._registers[R_WAKE_UP_DUR] & TIMER_HR_BIT
            elapsed_s = (at_s - self._timer_zero_s) * (1.0 + self.rate_error)
            ticks = max(0, int(elapsed_s / (TIMER_HR_TICK_S if fine else TIMER_TICK_S)))
        low, middle, high = (ticks & 0xFFFFFF).to_bytes(3, "little")
        return bytes((middle, high, 0, low)) + (self._pedometer.steps & 0xFFFF).to_bytes(2, "little")

    def _push(self, data: bytes | bytearray, place: int, is_acc: bool) -> int:
        if self._registers[R_FIFO_CTRL5] & 0x07 == st.FIFO_STOPS_WHEN_FULL and len(self._fifo) + 3 > self._depth():
            self.samples_dropped += is_acc
            return place + 3
        for offset in range(0, 6, 2):
            self._fifo.append((data[offset], data[offset + 1], place))
            place += 1
        while len(self._fifo) > self._depth():
            self._over_run = True
            self.bytes_dropped += 2
            self.samples_dropped += self._fifo.popleft()[2] == 0
        return place

    def _walk(self, at_s: float, acceleration: list[float]) -> None:
        register, bit = self.PEDO_EN
        if self._registers[register] & bit and self._registers[R_CTRL10_C] & FUNC_EN_BIT:
            self._pedometer.feel(acceleration, at_s)


class Lsm6ds3trc(Lsm6ds3):
    """LSM6DS3TR-C: 4 kB FIFO, and the step counter is switched on in CTRL10_C."""

    WHO_AM_I = (st.R_WHO_AM_I, 0x6A)
    RESET_VALUES: ClassVar[Mapping[int, int]] = {st.R_CTRL3_C: 0x04, R_CTRL9_XL: 0xE0}
    """DocID030071, table "Registers address map"."""
    TEMPERATURE_LSB_PER_C = 256.0
    FIFO_WORDS = 2048
    DIFF_BITS = 11
    PEDO_EN = (R_CTRL10_C, 0x10)
    TIMER_EN = (R_CTRL10_C, 0x20)
    """pedo_en of lsm6ds3tr_c_ctrl10_c_t in ST's lsm6ds3tr-c_reg.h."""
