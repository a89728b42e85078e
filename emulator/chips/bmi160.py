"""An emulated BMI160 (Bosch BST-BMI160-DS000, BMI160_SensorAPI bmi160_defs.h, kernel drivers/iio/imu/bmi160).

Awkward where a real one may be: commands take time and a second one meanwhile is dropped, writes that follow too
closely while everything is suspended are lost, the gyroscope joins the FIFO frames only when it has started, and a
change of configuration leaves a frame of its own in the FIFO.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, ClassVar

from emulator.chips import bosch
from emulator.chips.pedometer import Pedometer

if TYPE_CHECKING:
    from collections.abc import Mapping

# Register numbers (bmi160_defs.h "BMI160 Register map").
R_CHIP_ID, R_ERR, R_PMU_STATUS = 0x00, 0x02, 0x03
R_GYR_DATA, R_ACC_DATA, R_SENSOR_TIME, R_STATUS, R_INT_STATUS_1 = 0x0C, 0x12, 0x18, 0x1B, 0x1D
R_TEMPERATURE, R_FIFO_LENGTH_0, R_FIFO_LENGTH_1, R_FIFO_DATA = 0x20, 0x22, 0x23, 0x24
R_ACC_CONF, R_ACC_RANGE, R_GYR_CONF, R_GYR_RANGE, R_FIFO_DOWNS = 0x40, 0x41, 0x42, 0x43, 0x45
R_FIFO_CONFIG_0, R_FIFO_CONFIG_1, R_INT_EN_1 = 0x46, 0x47, 0x51
R_STEP_CNT_0, R_STEP_CNT_1, R_STEP_CONF_0, R_STEP_CONF_1, R_CMD = 0x78, 0x79, 0x7A, 0x7B, 0x7E

# Commands (kernel bmi160_core.c BMI160_CMD_*; data sheet 2.11.38).
CMD_ACC_SUSPEND, CMD_ACC_NORMAL, CMD_GYR_SUSPEND, CMD_GYR_NORMAL = 0x10, 0x11, 0x14, 0x15
CMD_INT_RESET, CMD_STEP_CNT_CLR = 0xB1, 0xB2
ACC_START_S, GYR_START_S = 0.0038, 0.080
"""BMI160_ACCEL_PMU_MIN_USLEEP, BMI160_GYRO_PMU_MIN_USLEEP."""
DROP_CMD_ERR_BIT = 0x40
"""ERR_REG: a command was dropped (data sheet 2.11.2)."""

# STATUS and INT_STATUS_1 (data sheet 2.11.6 and 2.11.7); INT_EN_1 (BMI160_*_INT_EN_MASK).
DRDY_ACC_BIT, DRDY_GYR_BIT, NVM_READY_BIT = 0x80, 0x40, 0x10
INT_DRDY_BIT, INT_FULL_BIT, INT_WATERMARK_BIT = 0x10, 0x20, 0x40
STEP_COUNT_EN_BIT, FIFO_TIME_BIT = 0x08, 0x02
"""BMI160_STEP_COUNT_EN_BIT_MASK, BMI160_FIFO_TIME."""

ACC_LSB_PER_G = {0x03: 16384.0, 0x05: 8192.0, 0x08: 4096.0, 0x0C: 2048.0}
"""By ACC_RANGE: BMI160_ACCEL_RANGE_2G .. _16G; any other value means ±2 g (data sheet 2.11.13)."""
FIFO_BYTES = 1024


class Bmi160(bosch.BoschChip):
    """BMI160: 1024 bytes of FIFO frames, commands through 7Eh, a step counter."""

    RESET_VALUES: ClassVar[Mapping[int, int]] = {
        R_STATUS: NVM_READY_BIT,
        R_ACC_CONF: 0x28,
        R_ACC_RANGE: 0x03,
        R_GYR_CONF: 0x28,
        R_FIFO_DOWNS: 0x88,
        R_FIFO_CONFIG_0: 0x80,
        R_FIFO_CONFIG_1: 0x10,
        R_STEP_CONF_0: 0x15,
        R_STEP_CONF_1: 0x03,
    }
    """A constant of the data sheet's 2.11.1, table 21."""
    READ_ONLY = frozenset({*range(R_FIFO_DATA + 1), R_STEP_CNT_0, R_STEP_CNT_1})
    WHO_AM_I = (R_CHIP_ID, 0xD1)
    """BMI160_CHIP_ID_VAL."""
    RESET_TAKES_S = 0.001
    """BMI160_SOFTRESET_USLEEP."""

    def _reset(self) -> None:
        super()._reset()
        self._fifo = bosch.BoschFifo(FIFO_BYTES)
        self._pedometer = Pedometer()
        self._acc_from_s: float | None = None
        self._gyr_from_s: float | None = None
        self._busy_until_s = 0.0

    def _fifo_bytes(self) -> int:
        return self._fifo.level

    def drop_fifo_bytes(self, count: int) -> None:
        """Lose the oldest bytes of the FIFO, which puts it out of step."""
        self._advance()
        self._fifo.lose(count)

    # Writing.

    def _sleeps(self) -> bool:
        return self._acc_from_s is None and self._gyr_from_s is None

    def _write_register(self, register: int, value: int) -> None:
        if register == R_CMD:
            self._command(value)
            return
        before, self._registers[register] = self._registers[register], value
        if register in (R_ACC_CONF, R_ACC_RANGE, R_GYR_CONF, R_GYR_RANGE, R_FIFO_DOWNS) and value != before:
            self._tell_input_config(0x01 if register < R_GYR_CONF else 0x02)
        elif register == R_FIFO_CONFIG_1:
            self._fifo.reconfigure(before, value)

    def _tell_input_config(self, what: int) -> None:
        """Put a frame into the FIFO that tells of a changed configuration (data sheet 2.5.1.4, FIFO_input_config)."""
        config = self._registers[R_FIFO_CONFIG_1]
        if config & bosch.FIFO_HEADER_BIT and config & (bosch.FIFO_ACC_BIT | bosch.FIFO_GYR_BIT):
            self._push(bytes((bosch.HEADER_INPUT_CONFIG, what)))

    def _command(self, command: int) -> None:
        now_s = self._clock()
        if command == bosch.CMD_SOFT_RESET:
            self._start_reset()
        elif now_s < self._busy_until_s:
            self._registers[R_ERR] |= DROP_CMD_ERR_BIT
        elif command == CMD_ACC_NORMAL:
            self._acc_from_s = self._busy_until_s = now_s + ACC_START_S
            self._change_at(self._busy_until_s)
        elif command == CMD_GYR_NORMAL:
            self._gyr_from_s = self._busy_until_s = now_s + GYR_START_S
            self._change_at(self._busy_until_s)
        elif command == CMD_ACC_SUSPEND:
            self._acc_from_s = None
        elif command == CMD_GYR_SUSPEND:
            self._gyr_from_s = None
        elif command == bosch.CMD_FIFO_FLUSH:
            self._fifo.clear()
        elif command == CMD_INT_RESET:
            self._registers[R_INT_STATUS_1] = 0
        elif command == CMD_STEP_CNT_CLR:
            self._pedometer = Pedometer()

    # Reading.

    def _following(self, register: int) -> int:
        return register if register == R_FIFO_DATA else super()._following(register)

    def _read_some(self, count: int) -> bytes:
        if self._pointer != R_FIFO_DATA:
            return super()._read_some(count)
        config = self._registers[R_FIFO_CONFIG_1]
        timed = config & bosch.FIFO_HEADER_BIT and config & FIFO_TIME_BIT
        tail = bytes((bosch.HEADER_SENSOR_TIME,)) + bosch.sensor_time(self._clock()) if timed else b""
        # FIFO_CONFIG_MSB_CHECK, FIFO_CONFIG_LSB_CHECK: what SensorAPI takes for the end of the data.
        return self._fifo.read(count, tail=tail, over_read=b"\x80\x00")

    def _read_register(self, register: int) -> int:
        value = self._registers[register]
        match register:
            case 0x02 | 0x1D:  # ERR_REG and INT_STATUS clear when they are read
                self._registers[register] = 0
            case 0x03:
                value = 0x10 * self._runs(self._acc_from_s) | 0x04 * self._runs(self._gyr_from_s)
            case 0x18 | 0x19 | 0x1A:
                value = bosch.sensor_time(self._clock())[register - R_SENSOR_TIME]
            case 0x0C | 0x12:  # reading data clears its ready flag
                self._registers[R_STATUS] &= ~(DRDY_GYR_BIT if register == R_GYR_DATA else DRDY_ACC_BIT)
            case 0x22 | 0x23:
                value = self._fifo.level >> 8 * (register - R_FIFO_LENGTH_0) & 0xFF
            case 0x78 | 0x79:
                value = self._pedometer.steps >> 8 * (register - R_STEP_CNT_0) & 0xFF
        return value

    def _runs(self, from_s: float | None) -> bool:
        return from_s is not None and self._now_s >= from_s

    # The sensor side.

    def _rates_hz(self) -> tuple[float, float]:
        acc_hz = bosch.odr_hz(self._registers[R_ACC_CONF] & 0x0F) if self._runs(self._acc_from_s) else 0.0
        gyr_hz = bosch.odr_hz(self._registers[R_GYR_CONF] & 0x0F) if self._runs(self._gyr_from_s) else 0.0
        return acc_hz, gyr_hz

    def _take(self, at_s: float, acc_due: bool, gyr_due: bool) -> None:
        config = self._registers[R_FIFO_CONFIG_1]
        to_fifo = (acc_due and bool(config & bosch.FIFO_ACC_BIT)), (gyr_due and bool(config & bosch.FIFO_GYR_BIT))
        if self._complete(*to_fifo):
            self._start_recording(at_s)
        acc = self._take_acc(at_s) if acc_due else None
        gyr = self._take_gyr(at_s) if gyr_due else None
        self._put(R_TEMPERATURE, bosch.temperature_bytes(self.temperature_c))
        self._flag(INT_DRDY_BIT)
        if any(to_fifo):
            header = bool(config & bosch.FIFO_HEADER_BIT)
            self._push(bosch.frame_of(acc if to_fifo[0] else None, gyr if to_fifo[1] else None, header=header))
            self.samples_queued += 1

    def _complete(self, acc: bool, gyr: bool) -> bool:
        """Whether all that the FIFO is to hold is in it: the recording does not start before."""
        config = self._registers[R_FIFO_CONFIG_1]
        return (acc or gyr) and acc >= bool(config & bosch.FIFO_ACC_BIT) and gyr >= bool(config & bosch.FIFO_GYR_BIT)

    def _take_acc(self, at_s: float) -> list[int]:
        words = self._acc(at_s, ACC_LSB_PER_G.get(self._registers[R_ACC_RANGE] & 0x0F, 16384.0))
        self._put(R_ACC_DATA, struct.pack("<3h", *words))
        self._registers[R_STATUS] |= DRDY_ACC_BIT
        if self._registers[R_STEP_CONF_1] & STEP_COUNT_EN_BIT:
            self._pedometer.feel(self._motion.row(at_s)[:3], at_s)
        return words

    def _take_gyr(self, at_s: float) -> list[int]:
        words = self._gyr(at_s, bosch.GYR_LSB_PER_DPS[min(self._registers[R_GYR_RANGE] & 0x07, 4)])
        self._put(R_GYR_DATA, struct.pack("<3h", *words))
        self._registers[R_STATUS] |= DRDY_GYR_BIT
        return words

    def _push(self, frame: bytes) -> None:
        dropped = self._fifo.push(frame)
        self.samples_dropped += len(dropped)
        self.bytes_dropped += sum(map(len, dropped))
        if dropped:
            self._flag(INT_FULL_BIT)
        if self._fifo.level > 4 * self._registers[R_FIFO_CONFIG_0]:  # in steps of 4 bytes (data sheet 2.11.17)
            self._flag(INT_WATERMARK_BIT)

    def _flag(self, bit: int) -> None:
        self._registers[R_INT_STATUS_1] |= bit & self._registers[R_INT_EN_1]
