"""What is peculiar to each emulated chip, against the words of its data sheet."""

from __future__ import annotations

import errno
import struct

import numpy as np
import numpy.typing as npt
import pytest

from emulator.chips import CHIPS
from tests.emulator.recipes import RATE_HZ, Bench, upload, wake_bmi160, wake_bmi270

G = 9.80665


def walk(seconds: float = 30.0, step_hz: float = 2.0) -> npt.NDArray[np.float64]:
    """Make a recording with a peak of +0.3 g at each step."""
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    rows = np.zeros((len(time_s), 6))
    rows[:, 2] = G * (1.0 + 0.3 * np.sin(2 * np.pi * step_hz * time_s))
    return rows


def little(data: bytes) -> int:
    return int.from_bytes(data, "little")


# The pedometers: 2 steps a second for 20 s.


def test_pedometer_of_the_lsm6ds3() -> None:
    """TAP_CFG PEDO_EN and CTRL10_C FUNC_EN, counter 4Bh, reset PEDO_RST_STEP."""
    bench = Bench("lsm6ds3", walk())
    bench.run()
    bench.set(0x58, 0x40)
    bench.time.sleep(5.0)
    assert bench.get(0x4B, 2) == b"\0\0", "FUNC_EN is missing"
    bench.set(0x19, 0x3C)
    bench.time.sleep(20.0)
    assert little(bench.get(0x4B, 2)) == pytest.approx(40, abs=1)
    bench.set(0x19, 0x3E)
    assert bench.get(0x4B, 2) == b"\0\0"


def test_pedometer_of_the_lsm6ds3trc() -> None:
    bench = Bench("lsm6ds3trc", walk())
    bench.run()
    bench.set(0x19, 0x14)  # PEDO_EN and FUNC_EN in one register
    bench.time.sleep(20.0)
    assert little(bench.get(0x4B, 2)) == pytest.approx(40, abs=1)


def test_pedometer_of_the_lsm6dsox_is_in_the_embedded_bank() -> None:
    bench = Bench("lsm6dsox", walk())
    bench.run()
    bench.set(0x01, 0x80)
    bench.set(0x04, 0x08)
    bench.set(0x01, 0x00)
    bench.time.sleep(20.0)
    assert bench.get(0x0F) == b"\x6c"
    bench.set(0x01, 0x80)
    assert little(bench.get(0x62, 2)) == pytest.approx(40, abs=1)
    bench.set(0x64, 0x80)
    assert bench.get(0x62, 2) == b"\0\0"


def test_pedometer_of_the_bmi160() -> None:
    bench = Bench("bmi160", walk())
    bench.run()
    bench.set(0x7B, 0x0B)
    bench.time.sleep(20.0)
    assert little(bench.get(0x78, 2)) == pytest.approx(40, abs=1)
    bench.set(0x7E, 0xB2)
    assert bench.get(0x78, 2) == b"\0\0"


def test_pedometer_of_the_bmi270_is_on_feature_page_6() -> None:
    bench = Bench("bmi270", walk())
    bench.run()
    bench.set(0x2F, 0x06)
    bench.set(0x33, 0x10)
    bench.time.sleep(20.0)
    assert little(bench.get(0x1E, 2)) == pytest.approx(40, abs=1)


# BMI160.


def test_bmi160_a_command_during_another_is_dropped_and_told() -> None:
    bench = Bench("bmi160")
    bench.set(0x7E, 0x11)
    bench.set(0x7E, 0x15)  # half a millisecond later; the accelerometer needs 3.8 ms
    bench.time.sleep(0.2)
    assert bench.get(0x03) == b"\x10", "only the accelerometer runs"
    assert bench.get(0x02)[0] & 0x40, "drop_cmd_err"
    assert bench.get(0x02) == b"\0", "reading clears it"


def test_bmi160_suspended_loses_writes_that_follow_too_closely() -> None:
    bench = Bench("bmi160")
    bench.chip.write(b"\x40\x27")
    bench.time.sleep(0.0002)
    bench.chip.write(b"\x42\x27")
    bench.time.sleep(0.001)
    assert bench.get(0x40, 3) == b"\x27\x03\x28"


def test_bmi160_gyroscope_joins_the_frames_when_it_has_started() -> None:
    bench = Bench("bmi160")
    bench.set(0x7E, 0x11)
    bench.time.sleep(0.005)
    bench.set(0x40, 0x28)
    bench.set(0x42, 0x28)
    bench.set(0x47, 0xD0)
    bench.set(0x7E, 0x15)
    bench.time.sleep(0.105)
    data = bench.get(0x24, little(bench.get(0x22, 2)))
    assert data[0] == 0x84, "accelerometer only"
    assert data[-13] == 0x8C
    assert bench.chip.started_s == pytest.approx(bench.time.now(), abs=0.03), "the recording waits for both"


def test_bmi160_over_reading_gives_the_sensor_time_once_then_nothing_valid() -> None:
    bench = Bench("bmi160")
    wake_bmi160(bench)
    bench.set(0x47, 0xD2)
    bench.time.sleep(0.02)
    count = little(bench.get(0x22, 2))
    data = bench.get(0x24, count + 10)
    assert data[count] == 0x44
    sensor_time = little(data[count + 1 : count + 4])
    assert sensor_time == int(bench.time.now() / 39.0625e-6) & 0xFFFFFF
    assert data[count + 4 :] == b"\x80\0\x80\0\x80\0"


def test_bmi160_a_frame_read_in_part_comes_again() -> None:
    bench = Bench("bmi160")
    wake_bmi160(bench)
    bench.time.sleep(0.05)
    level = bench.chip.fifo_level
    part = bench.get(0x24, 13 + 5)
    assert bench.chip.fifo_level == level - 13
    assert bench.get(0x24, 13)[:5] == part[13:]


def test_bmi160_overflow_tells_with_a_skip_frame() -> None:
    bench = Bench("bmi160")
    wake_bmi160(bench)
    bench.set(0x51, 0x20)
    bench.time.sleep(1.0)
    assert little(bench.get(0x22, 2)) == 78 * 13 + 2
    assert bench.get(0x1D)[0] & 0x20, "ffull"
    lost = bench.chip.samples_dropped
    assert bench.get(0x24, 3) == bytes((0x40, lost, 0x8C))
    assert bench.get(0x24, 1) == b"\x8c", "only once"


def test_bmi160_without_headers_frames_are_bare_and_skips_untold() -> None:
    bench = Bench("bmi160")
    wake_bmi160(bench)
    bench.set(0x47, 0xC0)
    bench.time.sleep(2.0)
    assert little(bench.get(0x22, 2)) == 85 * 12
    words = struct.unpack("<6h", bench.get(0x24, 12))
    assert words[5] == 4096, "gyroscope first"


def test_bmi160_a_new_range_leaves_an_input_config_frame() -> None:
    bench = Bench("bmi160")
    wake_bmi160(bench)
    bench.set(0x7E, 0xB0)
    bench.set(0x41, 0x0C)
    assert bench.get(0x24, 2) == b"\x48\x01"


# BMI270.


def test_bmi270_measures_nothing_without_its_configuration() -> None:
    bench = Bench("bmi270")
    bench.set(0x7C, 0x00)
    bench.time.sleep(0.001)
    bench.set(0x7D, 0x0E)
    bench.time.sleep(1.0)
    bench.get(0x00)
    assert bench.chip.samples_taken == 0
    assert bench.get(0x21) == b"\0"


@pytest.mark.parametrize(("missing", "status"), [(None, 1), (100, 2)])
def test_bmi270_judges_the_upload(missing: int | None, status: int) -> None:
    bench = Bench("bmi270")
    upload(bench, missing)
    assert bench.get(0x21) == bytes([status])


def test_bmi270_upload_takes_time() -> None:
    bench = Bench("bmi270")
    upload(bench)
    bench.set(0x59, 0x00)
    bench.set(0x59, 0x01)
    assert bench.get(0x21) == b"\0"
    bench.time.sleep(0.02)
    assert bench.get(0x21) == b"\x01"


def test_bmi270_saving_power_gives_no_fifo_and_loses_close_writes() -> None:
    bench = Bench("bmi270")
    wake_bmi270(bench)
    bench.time.sleep(0.1)
    bench.set(0x7C, 0x01)
    assert bench.get(0x26, 4) == bytes(4)
    bench.time.sleep(0.001)
    bench.chip.write(b"\x41\x00")
    bench.chip.write(b"\x43\x00")  # at once
    bench.time.sleep(0.001)
    assert bench.get(0x41) == b"\0"
    assert bench.get(0x43) == b"\x01", "as before"


def test_bmi270_can_stop_when_it_is_full() -> None:
    bench = Bench("bmi270")
    wake_bmi270(bench)
    bench.set(0x48, 0x03)
    bench.time.sleep(3.0)
    assert little(bench.get(0x24, 2)) == 157 * 13
    assert bench.get(0x26, 1) == b"\x8c", "no skip frame"
    assert bench.get(0x1D)[0] & 0x01


# LSM6DS3.


@pytest.mark.parametrize(("name", "words"), [("lsm6ds3", 4096), ("lsm6ds3trc", 2048)])
def test_lsm6ds3_full_reads_as_zero_with_the_overrun_and_is_out_of_step(name: str, words: int) -> None:
    bench = Bench(name)
    bench.run()
    bench.time.sleep(10.0)
    status = bench.get(0x3A, 4)
    assert bench.chip.fifo_level == 2 * words
    assert status[0] == 0
    assert status[1] == 0x60, "OVER_RUN and FIFO_FULL, not EMPTY, DIFF_FIFO wrapped to 0"
    pattern = little(status[2:])
    assert pattern == (6 - words % 6) % 6, "the oldest word left is in the middle of a set"
    bench.get(0x3E, 2)
    assert little(bench.get(0x3A, 2)) & 0xFFF == words - 1
    assert little(bench.get(0x3C, 2)) == (pattern + 1) % 6


def test_lsm6ds3_bypass_empties_it() -> None:
    bench = Bench("lsm6ds3")
    bench.run()
    bench.time.sleep(0.5)
    bench.set(0x0A, 0x20)
    assert bench.get(0x3B) == b"\x10", "EMPTY"
    bench.time.sleep(0.5)
    assert bench.chip.fifo_level == 0


def test_lsm6ds3_decimation_thins_one_sensor() -> None:
    """Gyroscope at 104 Hz, accelerometer at 52: G A G | G A G is written as the kernel's comment says."""
    bench = Bench("lsm6ds3")
    bench.run()
    bench.set(0x0A, 0x00)
    bench.set(0x08, 0x0A)
    bench.set(0x0A, 0x26)
    bench.time.sleep(10.5 / 104)
    assert bench.chip.fifo_level == 10 * 6 + 5 * 6


def test_lsm6ds3_watermark_can_stop_it() -> None:
    bench = Bench("lsm6ds3")
    bench.set(0x13, 0x01)
    bench.set(0x06, 60)
    bench.run()
    bench.time.sleep(2.0)
    assert bench.chip.fifo_level == 120
    assert bench.get(0x3B)[0] & 0x80


# LSM6DSOX.


def test_lsm6dsox_tags_carry_a_slot_counter_and_even_parity() -> None:
    bench = Bench("lsm6dsox")
    bench.run()
    bench.time.sleep(10.5 / 104)
    tags = bench.get(0x78, 7 * 20)[::7]
    assert all(tag.bit_count() % 2 == 0 for tag in tags)
    slots = [tag >> 1 & 3 for tag in tags]
    assert slots[::2] == slots[1::2], "both words of a time slot"
    assert set(np.diff(slots[::2]) & 3) == {1}


def test_lsm6dsox_a_word_goes_with_its_last_byte() -> None:
    bench = Bench("lsm6dsox")
    bench.run()
    bench.time.sleep(0.1)
    level = bench.chip.fifo_level
    bench.get(0x78)
    assert bench.chip.fifo_level == level
    bench.get(0x79, 6)
    assert bench.chip.fifo_level == level - 7


def test_lsm6dsox_overrun_is_latched_until_it_is_read() -> None:
    bench = Bench("lsm6dsox")
    bench.run()
    bench.time.sleep(5.0)
    low, high = bench.get(0x3A, 2)
    assert (high & 3) << 8 | low == 512
    assert high & 0x48 == 0x48
    assert bench.get(0x3B)[0] & 0x48 == 0x40


@pytest.mark.parametrize(("rate_error", "fine"), [(0.0525, 35), (-0.03, -20), (0.0, 0)])
def test_lsm6dsox_knows_its_oscillator(rate_error: float, fine: int) -> None:
    """INTERNAL_FREQ_FINE in steps of 0.15 % (AN5272)."""
    bench = Bench("lsm6dsox", rate_error=rate_error)
    assert struct.unpack("b", bench.get(0x63)) == (fine,)


def test_lsm6dsox_temperature_can_be_batched() -> None:
    bench = Bench("lsm6dsox")
    bench.run()
    bench.set(0x0A, 0x36)
    bench.time.sleep(1.0)
    count = little(bench.get(0x3A, 2)) & 0x3FF
    tags = [tag >> 3 for tag in bench.get(0x78, 7 * count)[::7]]
    assert tags.count(3) == pytest.approx(52, abs=2)


def test_lsm6_without_auto_increment_a_burst_stays() -> None:
    bench = Bench("lsm6dsox")
    bench.set(0x12, 0x00)
    assert bench.get(0x0F, 3) == b"\x6c\x6c\x6c"


# ICM-42688-P.


def test_icm42688_words_are_invalid_until_the_sensor_has_started() -> None:
    bench = Bench("icm42688")
    bench.set(0x4F, 0x28)
    bench.set(0x50, 0x28)
    bench.set(0x5F, 0x03)
    bench.set(0x16, 0x40)
    bench.set(0x4E, 0x0F)
    bench.time.sleep(0.1)
    bench.get(0x2E, 2)
    data = bench.get(0x30, int.from_bytes(bench.get(0x2E, 2), "big"))
    gyr_x = [struct.unpack_from(">h", data, start + 7)[0] for start in range(0, len(data), 16)]
    assert gyr_x[:5] == [-32768] * 5, "60 ms"
    assert set(gyr_x[6:]) == {0}


def test_icm42688_empty_fifo_has_the_message_header() -> None:
    bench = Bench("icm42688")
    assert bench.get(0x30, 2)[0] & 0x80


def test_icm42688_counts_lost_packets_and_can_stop() -> None:
    bench = Bench("icm42688")
    bench.run()
    bench.time.sleep(2.0)
    assert bench.chip.fifo_level == 128 * 16
    assert little(bench.get(0x6C, 2)) == bench.chip.samples_dropped > 0
    assert bench.get(0x2D)[0] & 0x02
    newest = bench.get(0x30, 2048)[-15:-13]
    bench.set(0x16, 0x80)
    bench.time.sleep(3.0)
    assert bench.get(0x30, 16)[1:3] > newest, "the first after the stream, not the last"
    assert bench.chip.fifo_level == 127 * 16


def test_icm42688_count_is_latched_and_can_be_of_records() -> None:
    bench = Bench("icm42688")
    bench.run()
    bench.time.sleep(0.105)
    high = bench.get(0x2E)
    bench.time.sleep(0.1)
    assert bench.get(0x2F) == bytes([160]), "what it was when 2Eh was read"
    assert high == b"\0"
    bench.set(0x4C, 0x70)
    assert bench.get(0x2E, 2) == b"\0\x14"


def test_icm42688_banks() -> None:
    bench = Bench("icm42688")
    bench.set(0x76, 0x01)
    assert bench.get(0x75) == b"\0", "WHO_AM_I is in bank 0"
    bench.set(0x76, 0x00)
    assert bench.get(0x75) == b"\x47"


# ICM-20948.


def test_icm20948_registers_are_in_banks() -> None:
    bench = Bench("icm20948")
    bench.set(0x7F, 0x20)
    assert bench.get(0x00) == b"\0", "GYRO_SMPLRT_DIV"
    assert bench.get(0x14) == b"\x01", "ACCEL_CONFIG"
    bench.set(0x7F, 0x00)
    assert bench.get(0x00) == b"\xea"


def test_icm20948_overflow_drops_bytes_and_leaves_it_out_of_step() -> None:
    bench = Bench("icm20948")
    bench.run()
    bench.set(0x12, 0x01)
    bench.time.sleep(2.0)
    assert bench.get(0x70, 2) == b"\x02\0"
    assert bench.get(0x1B) == b"\x01"
    assert 512 % 12 == 8
    words = struct.unpack(">4h", bench.get(0x72, 8))
    assert words[0] == 4096, "the rest of a cut frame: acc_z, then the gyroscope"
    bench.set(0x68, 0x1F)
    bench.set(0x68, 0x1E)
    assert bench.get(0x72) == b"\xff", "empty"


def test_icm20948_magnetometer_is_behind_it() -> None:
    bench = Bench("icm20948")
    magnetometer = CHIPS["icm20948"].devices(bench.chip)[0x0C]
    with pytest.raises(OSError, match=r"(?i)remote") as caught:
        magnetometer.read(1)
    assert caught.value.errno == errno.EREMOTEIO
    bench.set(0x0F, 0x02)
    magnetometer.write(b"\x01")
    assert magnetometer.read(1) == b"\x09"


# LSM9DS1.


def test_lsm9ds1_a_burst_goes_round_and_one_sensor_alone_stays_in_its_registers() -> None:
    bench = Bench("lsm9ds1")
    bench.run()
    bench.time.sleep(10.5 / 119)
    assert bench.get(0x2F) == b"\x0a"
    bench.get(0x28, 6)
    assert bench.get(0x2F) == b"\x0a", "the gyroscope still has ten"
    bench.get(0x18, 6)
    assert bench.get(0x2F) == b"\x09"


def test_lsm9ds1_overrun() -> None:
    bench = Bench("lsm9ds1")
    bench.run()
    bench.time.sleep(1.0)
    assert bench.get(0x2F) == b"\x60", "32 slots, overrun"
    bench.set(0x2E, 0x00)
    assert bench.get(0x2F) == b"\0", "bypass empties it"


def test_lsm9ds1_accelerometer_alone_has_its_own_rates() -> None:
    bench = Bench("lsm9ds1")
    bench.set(0x20, 0x40)
    assert bench.chip.sample_rate_hz == 50.0
    bench.set(0x10, 0x40)
    assert bench.chip.sample_rate_hz == 59.5


def test_lsm9ds1_magnetometer() -> None:
    magnetometer = CHIPS["lsm9ds1"].devices(Bench("lsm9ds1").chip)[0x1C]
    magnetometer.write(b"\x0f")
    assert magnetometer.read(2) == b"\x3d\x3d", "no auto-increment without the top bit"
    magnetometer.write(b"\x22\x00")
    magnetometer.write(b"\xa8")
    field = struct.unpack("<3h", magnetometer.read(6))
    np.testing.assert_allclose(np.array(field) * 0.00014, (0.2, 0.0, -0.4), atol=0.0001)
