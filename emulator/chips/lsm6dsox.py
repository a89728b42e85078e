"""An emulated LSM6DSOX and ISM330DHCX (data sheets DS12814 and DS13012, AN5272, ST's lsm6dsox_reg.h).

Their FIFO holds words of seven bytes, each with a tag that says what it is, in which time slot, and a parity bit.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, ClassVar

from emulator.chips import st
from emulator.chips.pedometer import Pedometer

if TYPE_CHECKING:
    from collections.abc import Mapping

# Register numbers (lsm6dsox_reg.h LSM6DSOX_*).
R_FUNC_CFG_ACCESS, R_PIN_CTRL = 0x01, 0x02
R_FIFO_CTRL1, R_FIFO_CTRL2, R_FIFO_CTRL3, R_FIFO_CTRL4 = 0x07, 0x08, 0x09, 0x0A
R_CTRL9_XL, R_CTRL10_C = 0x18, 0x19
R_FIFO_STATUS1, R_FIFO_STATUS2, R_TIMESTAMP0, R_INTERNAL_FREQ_FINE = 0x3A, 0x3B, 0x40, 0x63
R_FIFO_DATA_OUT_TAG, R_FIFO_DATA_OUT_Z_H = 0x78, 0x7E

# In the bank of embedded functions, which FUNC_CFG_ACCESS opens.
EMBEDDED_BANK = 0x100
R_EMB_FUNC_EN_A, R_STEP_COUNTER_L, R_EMB_FUNC_SRC = EMBEDDED_BANK + 0x04, EMBEDDED_BANK + 0x62, EMBEDDED_BANK + 0x64
FUNC_CFG_EN_BIT, PEDO_EN_BIT, PEDO_RST_STEP_BIT = 0x80, 0x08, 0x80

TAG_GYR, TAG_ACC, TAG_TEMPERATURE, TAG_TIMESTAMP = 0x01, 0x02, 0x03, 0x04
"""Kernel st_lsm6dsx_buffer.c ST_LSM6DSX_GYRO_TAG, _ACC_TAG, _TS_TAG; lsm6dsox_reg.h LSM6DSOX_TEMPERATURE_TAG."""
WATERMARK_BIT, OVER_RUN_BIT, FULL_BIT, OVER_RUN_LATCHED_BIT = 0x80, 0x40, 0x20, 0x08
"""lsm6dsox_fifo_status2_t."""
STOP_ON_WTM_BIT, TIMESTAMP_EN_BIT = 0x80, 0x20
FIFO_WORDS, WORD_BYTES = 512, 7
"""3 kB of data, without the tags (kernel .max_fifo_size = 512)."""

OSCILLATOR_HZ = 6667.0
"""ODR = (6667 + 0.0015 * INTERNAL_FREQ_FINE * 6667) / coefficient (AN5272 6.4; kernel ST_LSM6DSX_FREQ_FINE)."""
ODR_COEFFICIENT = (0, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1)
FREQ_FINE_STEP = 0.0015
BATCH_TEMPERATURE_HZ = (0.0, 1.6, 12.5, 52.0)
"""By ODR_T_BATCH of FIFO_CTRL4."""
TIMESTAMP_TICK_S = 25e-6
BATCH_TIMESTAMP_EVERY = (0, 1, 8, 32)
"""By DEC_TS_BATCH of FIFO_CTRL4, in samples of the faster sensor; 0: time stamps are not in the FIFO."""


class Lsm6dsox(st.LsmChip):
    """LSM6DSOX: tagged FIFO, embedded functions in a second bank, an oscillator that says how wrong it is."""

    REGISTERS = 0x180
    WHO_AM_I = (st.R_WHO_AM_I, 0x6C)
    """Kernel st_lsm6dsx_core.c: .wai = 0x6c for the LSM6DSOX, 0x6b for the ISM330DHCX."""
    RESET_VALUES: ClassVar[Mapping[int, int]] = {R_PIN_CTRL: 0x3F, st.R_CTRL3_C: 0x04, R_CTRL9_XL: 0xE0}
    """DS12814, table "Registers address map"."""
    READ_ONLY = st.LsmChip.READ_ONLY | frozenset(
        {R_FIFO_STATUS1, R_FIFO_STATUS2, *range(R_TIMESTAMP0, R_TIMESTAMP0 + 2), R_INTERNAL_FREQ_FINE}
        | {*range(R_FIFO_DATA_OUT_TAG, R_FIFO_DATA_OUT_Z_H + 1), R_STEP_COUNTER_L, R_STEP_COUNTER_L + 1}
    )
    ODR_HZ = (0.0, *(OSCILLATOR_HZ / coefficient for coefficient in ODR_COEFFICIENT[1:]))

    def _reset(self) -> None:
        self._fifo: deque[bytes] = deque()
        self._slot = self._slots = 0
        self._over_run = self._over_run_latched = False
        self._timestamp_zero_s = self._clock()
        self._pedometer = Pedometer()
        fine = max(-128, min(127, round(self.rate_error / FREQ_FINE_STEP)))
        self._registers[R_INTERNAL_FREQ_FINE] = fine & 0xFF

    def _fifo_bytes(self) -> int:
        return WORD_BYTES * len(self._fifo)

    def drop_fifo_bytes(self, count: int) -> None:
        """Lose the oldest words of the FIFO, count / 7 rounded up: it can lose no part of one."""
        self._advance()
        for _ in range(min(-(-count // WORD_BYTES), len(self._fifo))):
            self._fifo.popleft()

    # The I2C side.

    def _bank(self, register: int) -> int:
        """Which register a number means now; FUNC_CFG_ACCESS is in both banks."""
        embedded = self._registers[R_FUNC_CFG_ACCESS] & FUNC_CFG_EN_BIT and register != R_FUNC_CFG_ACCESS
        return register + EMBEDDED_BANK if embedded else register

    def _following(self, register: int) -> int:
        # A burst goes round in the seven data registers of the FIFO (AN5272 9.5).
        if register == R_FIFO_DATA_OUT_Z_H:
            return R_FIFO_DATA_OUT_TAG
        return super()._following(register)

    def _write_byte(self, register: int, value: int) -> None:
        super()._write_byte(self._bank(register), value)

    def _write_register(self, register: int, value: int) -> None:
        super()._write_register(register, value)
        if register == R_FIFO_CTRL4 and value & 0x07 == st.FIFO_BYPASS:
            self._fifo.clear()
            self._over_run = self._over_run_latched = False
        elif register == R_EMB_FUNC_SRC and value & PEDO_RST_STEP_BIT:
            self._pedometer = Pedometer()
        elif register == R_TIMESTAMP0 + 2 and value == 0xAA:  # TIMESTAMP2: ST_LSM6DSX_TS_RESET_VAL
            self._timestamp_zero_s = self._clock()

    def _read_register(self, register: int) -> int:
        register = self._bank(register)
        if R_FIFO_DATA_OUT_TAG <= register <= R_FIFO_DATA_OUT_Z_H:
            return self._read_fifo(register - R_FIFO_DATA_OUT_TAG)
        if R_TIMESTAMP0 <= register < R_TIMESTAMP0 + 4:
            return self._timestamp(self._clock()) >> 8 * (register - R_TIMESTAMP0) & 0xFF
        match register:
            case 0x3A:
                return len(self._fifo) & 0xFF
            case 0x3B:
                return self._status2()
            case 0x162 | 0x163:
                return self._pedometer.steps >> 8 * (register - R_STEP_COUNTER_L) & 0xFF
        return super()._read_register(register)

    def _read_fifo(self, place: int) -> int:
        """Give one byte. A word is gone with its last byte; an empty FIFO gives zeros, whose tag means nothing."""
        if not self._fifo:
            return 0
        value = self._fifo[0][place]
        if place == WORD_BYTES - 1:
            self._fifo.popleft()
            self._over_run = False
        return value

    def _status2(self) -> int:
        """FIFO_STATUS2 now; reading it clears the latched overrun."""
        count = len(self._fifo)
        status = count >> 8
        status |= WATERMARK_BIT if 0 < self._watermark() <= count else 0
        status |= OVER_RUN_BIT if self._over_run else 0
        status |= FULL_BIT if count + 1 > self._depth() else 0
        status |= OVER_RUN_LATCHED_BIT if self._over_run_latched else 0
        self._over_run_latched = False
        return status

    def _timestamp(self, at_s: float) -> int:
        if not self._registers[R_CTRL10_C] & TIMESTAMP_EN_BIT:
            return 0
        elapsed_s = max(0.0, at_s - self._timestamp_zero_s) * (1.0 + self.rate_error)
        return int(elapsed_s / TIMESTAMP_TICK_S) & 0xFFFFFFFF

    # The FIFO's other end.

    def _watermark(self) -> int:
        return (self._registers[R_FIFO_CTRL2] & 0x01) << 8 | self._registers[R_FIFO_CTRL1]

    def _depth(self) -> int:
        stops = self._registers[R_FIFO_CTRL2] & STOP_ON_WTM_BIT and self._watermark()
        return self._watermark() if stops else FIFO_WORDS

    def _batched(self, acc_due: bool, gyr_due: bool) -> tuple[bool, bool]:
        """Whether gyroscope and accelerometer enter the FIFO with this sample."""
        if self._registers[R_FIFO_CTRL4] & 0x07 == st.FIFO_BYPASS:
            return False, False
        batch = self._registers[R_FIFO_CTRL3]
        return (
            gyr_due and self._due(self._rate(batch >> 4)),
            acc_due and self._due(self._rate(batch & 0x0F)),
        )

    def _about_to_queue(self, acc_due: bool, gyr_due: bool) -> bool:
        return any(self._batched(acc_due, gyr_due))

    def _queue(self, at_s: float, acc_due: bool, gyr_due: bool) -> None:
        gyr, acc = self._batched(acc_due, gyr_due)
        if not gyr and not acc:
            return
        self._slot = (self._slot + 1) & 3
        every = BATCH_TIMESTAMP_EVERY[self._registers[R_FIFO_CTRL4] >> 6]
        if every and self._registers[R_CTRL10_C] & TIMESTAMP_EN_BIT and self._slots % every == 0:
            # Before the data of its slot, as the kernel's st_lsm6dsx_read_tagged_fifo needs it.
            self._push(TAG_TIMESTAMP, bytearray(self._timestamp(at_s).to_bytes(4, "little") + bytes(2)))
        self._slots += 1
        if gyr:
            self._push(TAG_GYR, self._registers[st.R_OUTX_L_G : st.R_OUTX_L_G + 6])
        if acc:
            self._push(TAG_ACC, self._registers[st.R_OUTX_L_XL : st.R_OUTX_L_XL + 6])
        if self._due(BATCH_TEMPERATURE_HZ[self._registers[R_FIFO_CTRL4] >> 4 & 3]):
            temperature = self._registers[st.R_OUT_TEMP_L : st.R_OUT_TEMP_L + 2]
            self._push(TAG_TEMPERATURE, temperature + bytes(4))
        self.samples_queued += 1

    def _push(self, tag: int, data: bytearray) -> None:
        """Append a word; in the continuous mode the oldest word makes room, in FIFO mode this one is lost."""
        head = tag << 3 | self._slot << 1
        head |= head.bit_count() & 1  # the parity of the whole byte is even (DS12814 9.74)
        word = bytes((head,)) + bytes(data)
        if len(self._fifo) >= self._depth():
            self._over_run = self._over_run_latched = True
            stops = self._registers[R_FIFO_CTRL4] & 0x07 == st.FIFO_STOPS_WHEN_FULL
            lost = word if stops or self._depth() < FIFO_WORDS else self._fifo.popleft()
            self.bytes_dropped += WORD_BYTES
            self.samples_dropped += lost[0] >> 3 == TAG_ACC
            if lost is word:
                return
        self._fifo.append(word)

    def _walk(self, at_s: float, acceleration: list[float]) -> None:
        if self._registers[R_EMB_FUNC_EN_A] & PEDO_EN_BIT:
            self._pedometer.feel(acceleration, at_s)


class Ism330dhcx(Lsm6dsox):
    """ISM330DHCX: the same in this respect, under another name."""

    WHO_AM_I = (st.R_WHO_AM_I, 0x6B)


class Lsm6dso32(Lsm6dsox):
    """LSM6DSO32: the same identity, other ranges."""

    ACC_MG_PER_LSB = (0.122, 0.976, 0.244, 0.488)
    """By FS_XL: ±4, 32, 8, 16 g (Adafruit_CircuitPython_LSM6DS/lsm6dso32.py, _add_accel_ranges)."""
