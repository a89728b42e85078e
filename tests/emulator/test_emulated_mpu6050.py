"""The emulated MPU-6050 against the words of its data sheet (RM-MPU-6000A-00 rev 4.2)."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from emulator.chips.motion import COUNTS, count_in
from emulator.inprocess import VirtualTime
from emulator.mpu6050 import MPU_6050, MPU_6500, MPU_9250, Mpu6050, Silicon

RATE_HZ = 100.0


def walk(seconds: float = 5.0) -> npt.NDArray[np.float64]:
    """Make a recording in which every row differs."""
    row = np.arange(int(seconds * RATE_HZ))
    still = np.tile([0.0, 0.0, 9.80665, 0.0, 0.0, 0.0], (len(row), 1))
    still[:, 0] = row * 0.01
    still[:, 4] = row * 0.001
    return still


class Bench:
    def __init__(self, silicon: Silicon = MPU_6050, **options: Any) -> None:
        self.time = VirtualTime()
        self.chip = Mpu6050(walk(), RATE_HZ, silicon=silicon, clock=self.time.now, **options)

    def set(self, register: int, *values: int) -> None:
        self.chip.write(bytes([register, *values]))

    def get(self, register: int, count: int = 1) -> bytes:
        self.chip.write(bytes([register]))
        return self.chip.read(count)

    def run(self, *, divider: int = 9) -> None:
        """Wake, 1 kHz / (1 + divider), ±8 g, ±1000 °/s, accelerometer + temperature + gyroscope in the FIFO."""
        self.set(0x6B, 0x01)
        self.set(0x19, divider, 3, 0x10, 0x10)
        self.set(0x38, 0x11)
        self.set(0x6A, 0x04)
        self.set(0x6A, 0x40)
        self.set(0x23, 0xF8)

    def frames(self) -> list[tuple[int, ...]]:
        count = int.from_bytes(self.get(0x72, 2), "big")
        return list(struct.iter_unpack(">7h", self.get(0x74, count)))


def has_finished(bench: Bench) -> bool:
    bench.get(0x6A)  # any access lets the sensor catch up
    return bench.chip.finished


def test_reset_values() -> None:
    bench = Bench()
    assert bench.get(0x6B) == b"\x40", "asleep (section 3)"
    assert bench.get(0x75) == b"\x68"
    assert bench.get(0x19, 5) == bytes(5)


def test_asleep_it_takes_no_samples() -> None:
    bench = Bench()
    bench.set(0x6A, 0x40)
    bench.set(0x23, 0xF8)
    bench.time.sleep(1.0)
    assert bench.get(0x72, 2) == b"\0\0"


@pytest.mark.parametrize(("config", "divider", "rate_hz"), [(3, 9, 100), (3, 19, 50), (0, 79, 100), (7, 79, 100)])
def test_sample_rate(config: int, divider: int, rate_hz: int) -> None:
    """8 kHz without the filter, 1 kHz with it, divided by 1 + SMPLRT_DIV (4.2)."""
    bench = Bench()
    bench.run(divider=divider)
    bench.set(0x1A, config)
    before = bench.chip.samples_taken
    bench.time.sleep(2.0)
    bench.get(0x75)
    assert bench.chip.samples_taken - before == pytest.approx(2 * rate_hz, abs=1)


def test_frames_are_the_recording_from_its_first_sample() -> None:
    bench = Bench()
    bench.time.sleep(3.0)
    bench.run()
    assert bench.chip.started_s is None
    bench.time.sleep(0.305)
    frames = bench.frames()
    assert len(frames) == 30
    expected = walk()[:30]
    np.testing.assert_allclose([f[0] / 4096 * 9.80665 for f in frames], expected[:, 0], atol=0.5 / 4096 * 9.81)
    np.testing.assert_allclose([np.radians(f[5] / 32.8) for f in frames], expected[:, 4], atol=np.radians(0.5 / 32.8))
    assert {f[3] for f in frames} == {round((31.0 - 36.53) * 340)}


def test_a_recording_between_its_samples_is_interpolated() -> None:
    bench = Bench()
    bench.run(divider=4)  # 200 Hz from a recording of 100 Hz
    bench.time.sleep(0.2)
    acc_x = [frame[0] for frame in bench.frames()]
    np.testing.assert_allclose(np.diff(acc_x), 0.005 / 9.80665 * 4096, atol=1.01)


def test_after_the_end_the_last_sample_is_held() -> None:
    bench = Bench()
    bench.run()
    assert not has_finished(bench)
    bench.time.sleep(4.5)
    assert not has_finished(bench)
    bench.time.sleep(1.0)
    assert has_finished(bench)
    bench.set(0x6A, 0x04)
    bench.set(0x6A, 0x40)
    bench.time.sleep(0.05)
    held = round(4.99 / 9.80665 * 4096)
    assert {frame[0] for frame in bench.frames()} == {held, held ^ 1}, "with noise in the lowest bit"


def test_a_recording_can_start_at_an_instant() -> None:
    bench = Bench(start_s=1000.5)
    bench.run()
    bench.time.sleep(0.7)
    acc_x = [frame[0] for frame in bench.frames()]
    assert set(acc_x[:50]) == {0, 1}
    assert acc_x[60] == pytest.approx(0.11 / 9.80665 * 4096, abs=1)


def test_reading_the_count_high_byte_latches_both() -> None:
    """FIFO_COUNT_L alone is not updated (4.30)."""
    bench = Bench()
    bench.run()
    bench.time.sleep(0.1)
    assert bench.get(0x72, 2) == (140).to_bytes(2, "big")
    bench.time.sleep(0.1)
    assert bench.get(0x73) == bytes([140])
    assert bench.get(0x72, 2) == (280).to_bytes(2, "big")


@pytest.mark.parametrize(("silicon", "size"), [(MPU_6050, 1024), (MPU_6500, 512)])
def test_overflow_drops_the_oldest_bytes_and_raises_the_flag(silicon: Silicon, size: int) -> None:
    bench = Bench(silicon)
    bench.run()
    bench.time.sleep(2.0)
    assert bench.get(0x72, 2) == size.to_bytes(2, "big")
    assert bench.chip.bytes_dropped == 200 * 14 - size
    assert bench.get(0x3A)[0] & 0x10
    assert bench.get(0x3A) == b"\0", "reading clears it"


def test_flags_are_raised_only_for_enabled_interrupts() -> None:
    bench = Bench()
    bench.run()
    bench.set(0x38, 0x00)
    bench.get(0x3A)
    bench.time.sleep(2.0)
    assert bench.get(0x3A) == b"\0"


@pytest.mark.parametrize(("value", "level"), [(0x04, 0), (0x44, 140)])
def test_fifo_reset_works_only_while_the_fifo_is_off(value: int, level: int) -> None:
    bench = Bench()
    bench.run()
    bench.time.sleep(0.1)
    bench.set(0x6A, value)
    assert int.from_bytes(bench.get(0x72, 2), "big") == level
    assert bench.get(0x6A)[0] == value & 0x40, "the bit clears itself"


@pytest.mark.parametrize(("silicon", "empty"), [(MPU_6050, b"\x12\x12"), (MPU_6500, b"\xff\xff")])
def test_reading_an_empty_fifo(silicon: Silicon, empty: bytes) -> None:
    """RM-MPU-6000A 4.31: the last byte that was read."""
    bench = Bench(silicon)
    bench.run()
    bench.time.sleep(0.01)
    bench.set(0x23, 0)
    last = bench.get(0x74, 14)[-1:]
    expected = last * 2 if silicon is MPU_6050 else empty
    assert bench.get(0x74, 2) == expected


def test_only_enabled_sensors_enter_the_fifo() -> None:
    bench = Bench()
    bench.run()
    bench.set(0x23, 0x08)
    bench.time.sleep(0.1)
    assert bench.get(0x72, 2) == (60).to_bytes(2, "big")


def test_saturation_and_full_scale() -> None:
    bench = Bench()
    bench.chip = Mpu6050(np.array([[100.0, -100.0, 9.80665, 40.0, np.nan, 1.0]]), 100.0, clock=bench.time.now)
    bench.run()
    bench.time.sleep(0.02)
    assert bench.frames()[0] == (32767, -32768, 4096, round((31.0 - 36.53) * 340), 32767, 0, round(57.29578 * 32.8))
    bench.set(0x1B, 0x18, 0x18)  # ±2000 °/s, ±16 g
    bench.time.sleep(0.02)
    acc_x, _, acc_z, _, _, _, gyr_z = struct.unpack(">7h", bench.get(0x3B, 14))
    assert (acc_x & ~1, acc_z, gyr_z) == (round(100 / 9.80665 * 2048) & ~1, 2048, round(57.29578 * 16.4))


def test_device_reset_takes_time_and_loses_writes() -> None:
    bench = Bench()
    bench.run()
    bench.set(0x6B, 0x80)
    assert bench.get(0x6B)[0] & 0x80
    bench.set(0x19, 9)
    bench.time.sleep(0.1)
    assert bench.get(0x6B) == b"\x40"
    assert bench.get(0x19) == b"\0"


def test_read_only_registers_do_not_change() -> None:
    bench = Bench()
    bench.set(0x75, 0x11)
    bench.set(0x3B, 0x11)
    assert (bench.get(0x75), bench.get(0x3B)) == (b"\x68", b"\0")


def test_counter_counts_every_sample_and_wraps() -> None:
    bench = Bench(counted=True)
    bench.run(divider=0)
    bench.time.sleep(66.0)
    bench.set(0x6A, 0x04)
    bench.set(0x6A, 0x40)
    bench.time.sleep(0.05)
    counts = [count_in(frame[:3]) for frame in bench.frames()]
    assert set(np.diff(counts) % COUNTS) == {1}
    assert counts[-1] == bench.chip.samples_taken % COUNTS


def test_rate_error_speeds_up_the_sensor_and_not_the_recording() -> None:
    bench = Bench(rate_error=0.05)
    bench.run()
    bench.time.sleep(0.5)
    frames = bench.frames()
    assert len(frames) == 52
    assert frames[-1][0] == pytest.approx(51 / 1.05 * 0.01 / 9.80665 * 4096, abs=1)


def test_power_cycle_forgets_everything() -> None:
    bench = Bench()
    bench.run()
    bench.time.sleep(0.1)
    bench.chip.power_cycle()
    assert bench.get(0x6B) == b"\x40"
    assert bench.get(0x72, 2) == b"\0\0"


def test_the_magnetometer_answers_through_the_chip_s_own_master() -> None:
    time = VirtualTime()
    chip = Mpu6050(np.zeros((1, 6)), 100.0, silicon=MPU_9250, clock=time.now)
    chip.write(b"\x6b\x01")
    for address, register, expected in ((0x8C, b"\x49", 0x48), (0x8D, b"\x36", 0x01)):  # WIA; I2C_SLV0_NACK
        for setting in ((0x25, address), (0x26, 0x00), (0x27, 0x81), (0x6A, 0x20)):
            chip.write(bytes(setting))
        time.sleep(0.01)
        chip.write(register)
        assert chip.read(1)[0] == expected
