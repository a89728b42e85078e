"""An emulated BMI270 (Bosch BST-BMI270-DS000, BMI270_SensorAPI, kernel drivers/iio/imu/bmi270).

It measures nothing until 8 kB of configuration were uploaded and INTERNAL_STATUS says that they are good. Any content
is good as long as every byte was written, at its own address: the blob is Bosch's, and what is in it is secret.
With advanced power save on, the FIFO cannot be read and writes that follow too closely are lost.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, ClassVar

from emulator.chips import bosch
from emulator.chips.pedometer import Pedometer

if TYPE_CHECKING:
    from collections.abc import Mapping

# Register numbers (kernel bmi270_core.c BMI270_*_REG; BMI270_SensorAPI bmi2_defs.h BMI2_*_ADDR).
R_CHIP_ID, R_ERR, R_STATUS, R_ACC_DATA, R_GYR_DATA, R_SENSOR_TIME = 0x00, 0x02, 0x03, 0x0C, 0x12, 0x18
R_EVENT, R_INT_STATUS_0, R_INT_STATUS_1, R_SC_OUT_0, R_INTERNAL_STATUS = 0x1B, 0x1C, 0x1D, 0x1E, 0x21
R_TEMPERATURE, R_FIFO_LENGTH_0, R_FIFO_DATA, R_FEAT_PAGE, R_FEATURES = 0x22, 0x24, 0x26, 0x2F, 0x30
R_ACC_CONF, R_ACC_RANGE, R_GYR_CONF, R_GYR_RANGE, R_FIFO_DOWNS = 0x40, 0x41, 0x42, 0x43, 0x45
R_FIFO_WTM_0, R_FIFO_WTM_1, R_FIFO_CONFIG_0, R_FIFO_CONFIG_1 = 0x46, 0x47, 0x48, 0x49
R_INIT_CTRL, R_INIT_ADDR_0, R_INIT_ADDR_1, R_INIT_DATA = 0x59, 0x5B, 0x5C, 0x5E
R_PWR_CONF, R_PWR_CTRL, R_CMD = 0x7C, 0x7D, 0x7E

NOT_INITIALISED, INIT_OK, INIT_ERROR = 0, 1, 2
"""INTERNAL_STATUS message (BMI270_INTERNAL_STATUS_MSG_INIT_OK; data sheet 5.2.24)."""
CONFIG_BYTES = 8192
INIT_TAKES_S = 0.015
"""Data sheet 4.4: it may take 20 ms."""

ADVANCED_POWER_SAVE_BIT = 0x01
"""BMI270_PWR_CONF_ADV_PWR_SAVE_MSK."""
GYR_EN_BIT, ACC_EN_BIT, TEMP_EN_BIT = 0x02, 0x04, 0x08
"""BMI270_PWR_CTRL_*_MSK."""
DRDY_ACC_BIT, DRDY_GYR_BIT, CMD_READY_BIT = 0x80, 0x40, 0x10
INT_FULL_BIT, INT_WATERMARK_BIT = 0x01, 0x02
"""BMI2_FFULL_INT_STATUS_MASK, BMI2_FWM_INT_STATUS_MASK of INT_STATUS_1."""
FIFO_TIME_BIT, STOP_ON_FULL_BIT = 0x02, 0x01
"""BMI2_FIFO_TIME_EN, BMI2_FIFO_STOP_ON_FULL of FIFO_CONFIG_0."""
INVALID_TEMPERATURE = b"\x00\x80"

STEP_PAGE, STEP_BYTE = 6, 0x02 + 1
"""Page of the step counter's settings, and BMI270_STEP_CNT_4_STRT_ADDR + BMI2_STEP_COUNT_FEAT_EN_OFFSET in it."""
STEP_COUNT_EN_BIT, STEP_COUNT_RESET_BIT = 0x10, 0x04
"""BMI2_STEP_COUNT_FEAT_EN_MASK, BMI2_STEP_COUNT_RST_CNT_MASK."""
FEATURE_PAGES, FEATURE_BYTES = 8, 16

ACC_LSB_PER_G = (16384.0, 8192.0, 4096.0, 2048.0)
FIFO_BYTES = 2048


class Bmi270(bosch.BoschChip):
    """BMI270: 2 kB of FIFO frames, configuration upload, feature pages, a step counter."""

    RESET_VALUES: ClassVar[Mapping[int, int]] = {
        R_STATUS: CMD_READY_BIT,
        R_EVENT: 0x01,
        R_ACC_CONF: 0xA8,
        R_ACC_RANGE: 0x02,
        R_GYR_CONF: 0xA9,
        R_FIFO_DOWNS: 0x88,
        R_FIFO_WTM_1: 0x02,
        R_FIFO_CONFIG_0: 0x02,
        R_FIFO_CONFIG_1: 0x10,
        R_PWR_CONF: 0x03,
    }
    """Constants of the data sheet's 5.2, register map."""
    READ_ONLY = frozenset(range(R_FIFO_DATA + 1))
    WHO_AM_I = (R_CHIP_ID, 0x24)
    """BMI270_CHIP_ID_VAL."""
    RESET_TAKES_S = 0.002
    """BMI2_SOFT_RESET_DELAY is 2000 µs."""

    def _reset(self) -> None:
        super()._reset()
        self._fifo = bosch.BoschFifo(FIFO_BYTES)
        self._pedometer = Pedometer()
        self._config_missing = set(range(CONFIG_BYTES))
        self._init_from_s: float | None = None
        self._init_result = NOT_INITIALISED
        self._pages = [bytearray(FEATURE_BYTES) for _ in range(FEATURE_PAGES)]
        self._upload_address = 0
        self._put(R_TEMPERATURE, INVALID_TEMPERATURE)

    def _fifo_bytes(self) -> int:
        return self._fifo.level

    def drop_fifo_bytes(self, count: int) -> None:
        """Lose the oldest bytes of the FIFO, which puts it out of step."""
        self._advance()
        self._fifo.lose(count)

    # Writing.

    def _sleeps(self) -> bool:
        return bool(self._registers[R_PWR_CONF] & ADVANCED_POWER_SAVE_BIT)

    def write(self, data: bytes) -> None:
        """As BoschChip.write; a burst into INIT_DATA goes to consecutive addresses from INIT_ADDR on."""
        words = self._registers[R_INIT_ADDR_1] << 4 | self._registers[R_INIT_ADDR_0] & 0x0F  # bmi2.c upload_file()
        self._upload_address = 2 * words
        super().write(data)

    def _write_register(self, register: int, value: int) -> None:
        if register == R_INIT_DATA:
            self._config_missing.discard(self._upload_address)
            self._upload_address += 1
        elif R_FEATURES <= register < R_FEATURES + FEATURE_BYTES:
            self._write_feature(register - R_FEATURES, value)
        elif register == R_CMD:
            self._command(value)
        else:
            before, self._registers[register] = self._registers[register], value
            self._changed(register, before, value)

    def _changed(self, register: int, before: int, value: int) -> None:
        if register == R_INIT_CTRL:
            self._init_from_s = self._clock() + INIT_TAKES_S if value & 1 else None
            self._init_result = NOT_INITIALISED
            if self._init_from_s is not None:
                self._change_at(self._init_from_s)
        elif register in (R_ACC_CONF, R_ACC_RANGE, R_GYR_CONF, R_GYR_RANGE, R_FIFO_DOWNS) and value != before:
            self._tell_input_config()
        elif register == R_FIFO_CONFIG_1:
            self._fifo.reconfigure(before, value)

    def _tell_input_config(self) -> None:
        """Put a frame into the FIFO that tells of a changed configuration; BMI2_FIFO_INPUT_CFG_LENGTH is 4."""
        config = self._registers[R_FIFO_CONFIG_1]
        if config & bosch.FIFO_HEADER_BIT and config & (bosch.FIFO_ACC_BIT | bosch.FIFO_GYR_BIT):
            self._push(bytes((bosch.HEADER_INPUT_CONFIG, 0x01)) + bosch.sensor_time(self._clock()))

    def _write_feature(self, index: int, value: int) -> None:
        page = self._registers[R_FEAT_PAGE] & 0x07
        if self._status() != INIT_OK or self._sleeps():
            return
        if (page, index) == (STEP_PAGE, STEP_BYTE) and value & STEP_COUNT_RESET_BIT:
            self._pedometer = Pedometer()
            value &= ~STEP_COUNT_RESET_BIT
        self._pages[page][index] = value

    def _command(self, command: int) -> None:
        if command == bosch.CMD_SOFT_RESET:
            self._start_reset()
        elif command == bosch.CMD_FIFO_FLUSH:
            self._fifo.clear()

    def _following(self, register: int) -> int:
        return register if register in (R_FIFO_DATA, R_INIT_DATA) else super()._following(register)

    # Reading.

    def _status(self) -> int:
        """INTERNAL_STATUS: the upload is judged when the initialisation is over."""
        if self._init_from_s is not None and self._now_s >= self._init_from_s:
            self._init_from_s = None
            self._init_result = INIT_ERROR if self._config_missing else INIT_OK
        return self._init_result

    def _read_some(self, count: int) -> bytes:
        if self._pointer != R_FIFO_DATA:
            return super()._read_some(count)
        if self._sleeps():
            return bytes(count)  # data sheet 4.7: not in advanced power save
        header = self._registers[R_FIFO_CONFIG_1] & bosch.FIFO_HEADER_BIT
        timed = header and self._registers[R_FIFO_CONFIG_0] & FIFO_TIME_BIT
        tail = bytes((bosch.HEADER_SENSOR_TIME,)) + bosch.sensor_time(self._clock()) if timed else b""
        # Header mode ends with BMI2_FIFO_HEAD_OVER_READ_MSB, the other with words of 8000h (check_empty_fifo()).
        return self._fifo.read(count, tail=tail, over_read=b"\x80\x00" if header else b"\x00\x80")

    def _read_register(self, register: int) -> int:
        value = self._registers[register]
        match register:
            case 0x1B | 0x1C | 0x1D:  # EVENT and INT_STATUS clear when they are read
                self._registers[register] = 0
            case 0x0C | 0x12:
                self._registers[R_STATUS] &= ~(DRDY_GYR_BIT if register == R_GYR_DATA else DRDY_ACC_BIT)
            case 0x18 | 0x19 | 0x1A:
                value = bosch.sensor_time(self._clock())[register - R_SENSOR_TIME]
            case 0x1E | 0x1F:
                value = self._pedometer.steps >> 8 * (register - R_SC_OUT_0) & 0xFF
            case 0x21:
                value = self._status()
            case 0x24 | 0x25:
                value = self._fifo.level >> 8 * (register - R_FIFO_LENGTH_0) & 0xFF
            case _ if R_FEATURES <= register < R_FEATURES + FEATURE_BYTES:
                value = self._pages[self._registers[R_FEAT_PAGE] & 0x07][register - R_FEATURES]
        return value

    # The sensor side.

    def _rates_hz(self) -> tuple[float, float]:
        if self._status() != INIT_OK:
            return 0.0, 0.0
        power = self._registers[R_PWR_CTRL]
        acc_hz = bosch.odr_hz(self._registers[R_ACC_CONF] & 0x0F) if power & ACC_EN_BIT else 0.0
        gyr_hz = bosch.odr_hz(self._registers[R_GYR_CONF] & 0x0F) if power & GYR_EN_BIT else 0.0
        return acc_hz, gyr_hz

    def _take(self, at_s: float, acc_due: bool, gyr_due: bool) -> None:
        config = self._registers[R_FIFO_CONFIG_1]
        acc_to_fifo = acc_due and bool(config & bosch.FIFO_ACC_BIT)
        gyr_to_fifo = gyr_due and bool(config & bosch.FIFO_GYR_BIT)
        if acc_to_fifo or gyr_to_fifo:
            self._start_recording(at_s)
        acc = self._take_acc(at_s) if acc_due else None
        gyr = self._take_gyr(at_s) if gyr_due else None
        warm = self._registers[R_PWR_CTRL] & TEMP_EN_BIT
        self._put(R_TEMPERATURE, bosch.temperature_bytes(self.temperature_c) if warm else INVALID_TEMPERATURE)
        if acc_to_fifo or gyr_to_fifo:
            header = bool(config & bosch.FIFO_HEADER_BIT)
            frame = bosch.frame_of(acc if acc_to_fifo else None, gyr if gyr_to_fifo else None, header=header)
            self._push(frame)
            self.samples_queued += 1

    def _take_acc(self, at_s: float) -> list[int]:
        words = self._acc(at_s, ACC_LSB_PER_G[self._registers[R_ACC_RANGE] & 0x03])
        self._put(R_ACC_DATA, struct.pack("<3h", *words))
        self._registers[R_STATUS] |= DRDY_ACC_BIT
        if self._pages[STEP_PAGE][STEP_BYTE] & STEP_COUNT_EN_BIT:
            self._pedometer.feel(self._motion.row(at_s)[:3], at_s)
        return words

    def _take_gyr(self, at_s: float) -> list[int]:
        words = self._gyr(at_s, bosch.GYR_LSB_PER_DPS[min(self._registers[R_GYR_RANGE] & 0x07, 4)])
        self._put(R_GYR_DATA, struct.pack("<3h", *words))
        self._registers[R_STATUS] |= DRDY_GYR_BIT
        return words

    def _push(self, frame: bytes) -> None:
        full = self._fifo.bytes + len(frame) > FIFO_BYTES
        stops = self._registers[R_FIFO_CONFIG_0] & STOP_ON_FULL_BIT
        dropped = [frame] if full and stops else self._fifo.push(frame)
        self.samples_dropped += len(dropped)
        self.bytes_dropped += sum(map(len, dropped))
        watermark = self._registers[R_FIFO_WTM_1] << 8 | self._registers[R_FIFO_WTM_0]
        if dropped:
            self._registers[R_INT_STATUS_1] |= INT_FULL_BIT
        if self._fifo.level > watermark:
            self._registers[R_INT_STATUS_1] |= INT_WATERMARK_BIT
