"""InvenSense (TDK) ICM-42688-P: tagged FIFO packets of 16 bytes, or of 8 without the gyroscope.

Sources: DS-000347 rev 1.7 (section in brackets); the Linux kernel's drivers/iio/imu/inv_icm42600 (inv_icm42600.h,
inv_icm42600_buffer.c); for AFSR, which no document mentions, ArduPilot pull request 25332.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge.imu.chip import FifoFault
from edge.imu.chips.core import Family, Part, Rate, RegisterChip, TemperatureCanary, widest_below_nyquist
from edge.imu.registers import Field, bits_of, int16_be, unsigned_be

if TYPE_CHECKING:
    from typing import Any

    from edge.imu.chip import Frames

SOFT_RESET = Field(0x11, 0x01)  # DEVICE_CONFIG
FIFO_MODE = Field(0x16, 0xC0)  # FIFO_CONFIG
TEMP_DATA = Field(0x1D, 0xFF)  # high byte; the low byte follows
FIFO_COUNT = Field(0x2E, 0xFF)
FIFO_DATA = Field(0x30, 0xFF)
FIFO_FLUSH = Field(0x4B, 0x02)  # SIGNAL_PATH_RESET
AFSR = Field(0x4D, 0xC0)  # INTF_CONFIG1
PWR_MGMT0 = Field(0x4E, 0xFF)
TEMP_DIS = Field(0x4E, 0x20)
GYRO_MODE = Field(0x4E, 0x0C)
ACCEL_MODE = Field(0x4E, 0x03)
GYRO_FS_SEL = Field(0x4F, 0xE0)
GYRO_ODR = Field(0x4F, 0x0F)
ACCEL_FS_SEL = Field(0x50, 0xE0)
ACCEL_ODR = Field(0x50, 0x0F)
ACCEL_UI_FILT_BW = Field(0x52, 0xF0)
GYRO_UI_FILT_BW = Field(0x52, 0x0F)
FIFO_TEMP_EN = Field(0x5F, 0x04)  # FIFO_CONFIG1
FIFO_GYRO_EN = Field(0x5F, 0x02)
FIFO_ACCEL_EN = Field(0x5F, 0x01)
WHO_AM_I = Field(0x75, 0xFF)
BANK_SEL = Field(0x76, 0x07)  # in every bank

HEADER_CONTENT = Field(0x00, 0xF0)
"""Of a packet's first byte: empty, accelerometer, gyroscope, 20-bit (6.2)."""
CONTENT = (0b0100, 0b0110)
"""Of a packet with the accelerometer, and with both sensors, in 16 bits."""

FRAME_BYTES = (8, 16)
"""Packet 1: header, accelerometer (big-endian), temperature in one byte. Packet 3: header, accelerometer, gyroscope,
temperature in one byte, time stamp (6.1)."""

STREAM, BYPASS = 1, 0
FS_8G, FS_1000DPS, LOW_NOISE, AFSR_OFF = 1, 1, 3, 1

UI_FILTER_DIVISOR = {1: 4, 2: 5, 3: 8, 4: 10, 5: 16, 6: 20, 7: 40}
"""UI_FILT_BW: -3 dB is max(400 Hz, ODR) over this (14.41). By default, 4, which at 100 Hz aliases: 100 Hz of band."""

RESET_S = 0.01  # 1 ms (14.1)
FIFO_LSB_PER_C, FIFO_OFFSET_C = 2.07, 25.0  # of the one-byte temperature (4.13)
REGISTER_LSB_PER_FIFO_LSB = 64  # 132.48 LSB per °C in the two-byte register
TEMPERATURE_READS = 3
JUMP_C = 4.0  # one byte resolves 0.5 °C


def _rate(code: int, odr_hz: float) -> Rate:
    bandwidth_hz = {bw: max(400.0, odr_hz) / divisor for bw, divisor in UI_FILTER_DIVISOR.items()}
    bw, low_pass_hz = widest_below_nyquist(bandwidth_hz, odr_hz, strictly=True)
    filters = ((ACCEL_UI_FILT_BW, bw), (GYRO_UI_FILT_BW, bw))
    return Rate(odr_hz, low_pass_hz, ((GYRO_ODR, code), (ACCEL_ODR, code), *filters))


ICM_42688_P = Part(
    "ICM-42688-P",
    frozenset({0x47}),
    fifo_bytes=2048,
    rates=(_rate(10, 25.0), _rate(9, 50.0), _rate(8, 100.0), _rate(7, 200.0)),
    setup=(
        (GYRO_FS_SEL, FS_1000DPS),
        (ACCEL_FS_SEL, FS_8G),
        (FIFO_TEMP_EN, 1),
        (FIFO_GYRO_EN, 1),
        (FIFO_ACCEL_EN, 1),
    ),
    acc_lsb_per_g=4096.0,
    gyr_lsb_per_dps=32.8,
    lsb_per_c=FIFO_LSB_PER_C,
    offset_c=FIFO_OFFSET_C,
    without_gyroscope=((FIFO_GYRO_EN, 0),),
)


class Icm42688(RegisterChip):
    """The family's FIFO: packets that say what they are, with a temperature that says it again."""

    FIFO_PORT = FIFO_DATA
    POWER_DOWN = ((GYRO_MODE, 0), (ACCEL_MODE, 0))
    FRAME_BYTES = FRAME_BYTES
    PLAIN = {0: (PWR_MGMT0.address, FIFO_TEMP_EN.address)}  # noqa: RUF012

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._canary = TemperatureCanary(self.part.lsb_per_c, self.part.offset_c, JUMP_C)

    def reset(self) -> None:
        """Reset, whatever bank was selected."""
        self._write(BANK_SEL.address, BANK_SEL.put(0))
        self._write(SOFT_RESET.address, SOFT_RESET.put(1))
        self._sleep(RESET_S)
        self._wait_for(SOFT_RESET, 0, RESET_S, "reset")

    def configure(self) -> None:
        """Rate and range while the sensors are off (12.9), then both to low-noise mode."""
        self._update(AFSR, AFSR_OFF)  # left on, it changes the full scale by itself, and the gyroscope sticks
        super().configure()
        for register, value in self._power().items():
            self._write(register, value)

    def checked(self) -> dict[int, dict[int, int]]:
        """Include the power and FIFO mode registers: they are written in a fixed order, outside the table."""
        registers = super().checked()
        registers[0] |= {**self._power(), FIFO_MODE.address: FIFO_MODE.put(STREAM)}
        return registers

    def restart_fifo(self) -> None:
        """Empty the FIFO; the first count after a flush is 0 whatever is in it (inv_icm42600_buffer_postenable)."""
        words = (int16_be(self._read(TEMP_DATA.address, 2), 1)[0, 0] for _ in range(TEMPERATURE_READS))
        self._canary.settle(float(word) / REGISTER_LSB_PER_FIFO_LSB for word in words)
        self._write(FIFO_MODE.address, FIFO_MODE.put(BYPASS))
        self._write(FIFO_FLUSH.address, FIFO_FLUSH.put(1))
        self._write(FIFO_MODE.address, FIFO_MODE.put(STREAM))
        self.fifo_level()

    def fifo_level(self) -> int:
        """Bytes waiting."""
        return unsigned_be(self._read(FIFO_COUNT.address, 2))

    def decode(self, data: bytes) -> Frames:
        """Packets to m/s² and rad/s; FifoFault if header or temperature of any of them is not what it must be."""
        packets = np.frombuffer(data, np.uint8).reshape(-1, self.frame_bytes)
        if np.any(bits_of(packets[:, 0], HEADER_CONTENT) != CONTENT[self.gyroscope]):
            raise FifoFault("bad_transfer", "FIFO packets are out of step")
        columns = 6 if self.gyroscope else 3
        temperature = 1 + 2 * columns
        celsius = self._canary.check(packets[:, temperature].view(np.int8).astype(np.float64))
        words = int16_be(packets[:, 1:temperature].tobytes(), columns)
        return self._frames(words[:, 0:3], words[:, 3:6] if self.gyroscope else None, celsius)

    @staticmethod
    def _power() -> dict[int, int]:
        return {PWR_MGMT0.address: GYRO_MODE.put(LOW_NOISE, ACCEL_MODE.put(LOW_NOISE))}


FAMILY = Family(
    types=("icm42688",),
    addresses=(0x68, 0x69),  # AP_AD0 low, high
    identity=WHO_AM_I,
    parts=(ICM_42688_P,),
    chip=Icm42688,
    guess=ICM_42688_P,
    bank=BANK_SEL,
)
