"""What every emulated chip must do, whatever its registers: one set of tests, one recipe a chip."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.chips import CHIPS
from emulator.chips.motion import count_in
from tests.emulator.recipes import RATE_HZ, RECIPES, Bench, ramp

NAMES = sorted(CHIPS)
G = 9.80665


@pytest.fixture(params=NAMES)
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


def has_finished(bench: Bench) -> bool:
    return bench.chip.finished


def test_every_chip_has_a_recipe() -> None:
    assert set(RECIPES) == set(CHIPS)


def test_who_am_i_and_reset_values(bench: Bench) -> None:
    recipe = RECIPES[bench.name]
    register, value = recipe.who_am_i
    assert bench.get(register) == bytes([value])
    assert recipe.reset
    for register, value in recipe.reset.items():
        assert bench.get(register) == bytes([value]), f"register {register:#04x}"


def test_another_identity_can_be_given() -> None:
    for name in NAMES:
        bench = Bench(name, who_am_i=0x98)
        assert bench.get(RECIPES[name].who_am_i[0]) == b"\x98"


def test_who_am_i_cannot_be_written(bench: Bench) -> None:
    register, value = RECIPES[bench.name].who_am_i
    bench.set(register, 0x11)
    assert bench.get(register) == bytes([value])


def test_it_sleeps_until_it_is_woken(bench: Bench) -> None:
    if bench.name.startswith("mpu"):
        assert bench.chip.peek(0x6B) & 0x40
    bench.time.sleep(1.0)
    bench.get(0x00)
    assert (bench.chip.samples_taken, bench.chip.fifo_level) == (0, 0)
    assert bench.chip.started_s is None


def test_the_fifo_holds_the_recording_from_its_first_sample(bench: Bench) -> None:
    recipe = RECIPES[bench.name]
    bench.time.sleep(2.0)
    bench.run()
    while bench.chip.fifo_level < 20 * recipe.frame_bytes:
        bench.time.sleep(0.001)
    frames = bench.frames()
    assert len(frames) == 20
    row = np.arange(20) * RATE_HZ / recipe.odr_hz
    acc_x = [acc[0] / recipe.acc_lsb_per_g * G for acc, _ in frames]
    gyr_y = [np.radians(gyr[1] / recipe.gyr_lsb_per_dps) for _, gyr in frames]
    np.testing.assert_allclose(acc_x, row * 0.01, atol=0.6 * G / recipe.acc_lsb_per_g)
    np.testing.assert_allclose(gyr_y, row * 0.001, atol=np.radians(0.6 / recipe.gyr_lsb_per_dps))
    assert {acc[2] for acc, _ in frames} == {round(recipe.acc_lsb_per_g)}
    assert bench.chip.fifo_level == 0


@pytest.mark.parametrize("rate_error", [-0.03, 0.0, 0.19])
def test_true_rate(bench: Bench, rate_error: float) -> None:
    odr_hz = RECIPES[bench.name].odr_hz
    bench = Bench(bench.name, rate_error=rate_error)
    bench.run()
    before = bench.chip.samples_taken
    bench.time.sleep(10.0)
    bench.get(0x00)
    assert bench.chip.samples_taken - before == pytest.approx(10 * odr_hz * (1 + rate_error), abs=1.5)
    assert bench.chip.sample_rate_hz == pytest.approx(odr_hz * (1 + rate_error))


def test_an_oscillator_that_changes_its_pace_goes_on_from_where_it_is(bench: Bench) -> None:
    """No sample comes twice or is left out at the change, however long it has run."""
    bench.run()
    bench.time.sleep(100.0)
    bench.chip.take_due()
    before, odr_hz = bench.chip.samples_taken, RECIPES[bench.name].odr_hz
    for rate_error in (0.05, -0.05, 0.0):
        bench.chip.rate_error = rate_error
        assert bench.chip.samples_taken - before <= 1
        bench.time.sleep(10.0)
        bench.chip.take_due()
        assert bench.chip.samples_taken - before == pytest.approx(10 * odr_hz * (1 + rate_error), abs=1.5)
        before = bench.chip.samples_taken


def test_full_scale_saturates(bench: Bench) -> None:
    recipe = RECIPES[bench.name]
    bench = Bench(bench.name, np.array([[200.0, -200.0, G, 60.0, np.nan, -60.0]]))
    bench.run()
    bench.time.sleep(0.05)
    acc, gyr = bench.frames()[0]
    assert acc == (32767, -32768, round(recipe.acc_lsb_per_g))
    assert (gyr[0] | 1, *gyr[1:]) == (32767, 0, -32768), "but for the noise in the lowest bit"


def test_a_sensor_at_rest_has_noise_until_it_is_frozen(bench: Bench) -> None:
    bench = Bench(bench.name, np.array([[0.0, 0.0, G, 0.0, 0.0, 0.0]]))
    bench.run()
    bench.time.sleep(0.1)
    assert {gyr[0] for _, gyr in bench.frames()} == {0, 1}
    bench.chip.frozen = True
    bench.time.sleep(0.1)
    assert len(set(bench.frames())) == 1


def test_a_recording_can_repeat(bench: Bench) -> None:
    bench = Bench(bench.name, ramp(1.0), repeats=True)
    recipe = RECIPES[bench.name]
    bench.run()
    bench.time.sleep(0.2)
    for _ in range(8):
        bench.time.sleep(0.1)
        bench.frames()
    bench.time.sleep(0.2)
    last = bench.frames()[-1][0][0] / recipe.acc_lsb_per_g * G
    assert last == pytest.approx(0.2, abs=0.1), "0.01 m/s² a sample, from the beginning again after 0.99 s"
    assert not bench.chip.finished


def test_the_next_sample_can_be_waited_for(bench: Bench) -> None:
    assert bench.chip.next_sample_s is None or bench.name.startswith("mpu")
    bench.run()
    next_s = bench.chip.next_sample_s
    assert next_s is not None
    taken = bench.chip.samples_taken
    bench.time.sleep(next_s - bench.time.now() - 1e-5)
    bench.get(0x00)
    assert bench.chip.samples_taken == taken
    bench.time.sleep(2e-5)
    bench.get(0x00)
    assert bench.chip.samples_taken == taken + 1


def test_overflow_keeps_the_newest_and_counts_what_was_lost(bench: Bench) -> None:
    recipe = RECIPES[bench.name]
    bench.run()
    bench.time.sleep(20.0)
    level = bench.chip.fifo_level
    assert recipe.capacity_bytes - 16 < level <= recipe.capacity_bytes + 2, "a skip frame may come on top"
    queued = bench.chip.samples_queued
    assert queued == pytest.approx(20.0 * recipe.odr_hz, abs=3)
    kept = level - level % recipe.frame_bytes if bench.name.startswith("bmi") else level
    assert bench.chip.bytes_dropped == queued * recipe.frame_bytes - kept


def test_counted_samples_show_each_lost_one(bench: Bench) -> None:
    recipe = RECIPES[bench.name]
    bench = Bench(bench.name, counted=True)
    bench.run()
    bench.time.sleep(8 / recipe.odr_hz)
    first = [count_in(acc) for acc, _ in bench.frames()]
    bench.time.sleep(12 / recipe.odr_hz)
    second = [count_in(acc) for acc, _ in bench.frames()]
    counts = first + second
    assert set(np.diff(counts)) == {1}
    assert len(counts) >= 18


def test_after_the_end_the_last_sample_is_held(bench: Bench) -> None:
    bench = Bench(bench.name, ramp(1.0))
    recipe = RECIPES[bench.name]
    bench.run()
    assert not has_finished(bench)
    bench.time.sleep(1.2)
    bench.frames()
    assert has_finished(bench)
    bench.time.sleep(0.1)
    held = round(0.99 / G * recipe.acc_lsb_per_g)
    assert {acc[0] for acc, _ in bench.frames()} == {held, held ^ 1}, "with noise in the lowest bit"


def test_a_power_cycle_forgets_everything(bench: Bench) -> None:
    bench.run()
    bench.time.sleep(0.2)
    bench.chip.power_cycle()
    assert bench.chip.fifo_level == 0
    for register, value in (RECIPES[bench.name].reset or {}).items():
        assert bench.get(register) == bytes([value])


RESETS = {
    **dict.fromkeys(("mpu6050", "mpu6500", "mpu9250", "mpu9255"), (0x6B, 0x80, 0x19)),
    "icm20948": (0x06, 0x80, 0x07),
    "icm42688": (0x11, 0x01, 0x4F),
    **dict.fromkeys(("lsm6ds3", "lsm6ds3trc", "lsm6dsox", "ism330dhcx"), (0x12, 0x01, 0x10)),
    "bmi160": (0x7E, 0xB6, 0x40),
    "bmi270": (0x7E, 0xB6, 0x40),
    "lsm9ds1": (0x22, 0x01, 0x10),
}
"""Register and value that reset it, and a register to write."""


def test_writes_during_a_reset_are_lost(bench: Bench) -> None:
    reset, value, register = RESETS[bench.name]
    bench.run()
    before = bench.chip.peek(register)
    bench.chip.write(bytes([reset, value]))
    bench.chip.write(bytes([register, before ^ 0x31]))
    bench.time.sleep(0.2)
    expected = (RECIPES[bench.name].reset or {}).get(register, 0)
    assert bench.get(register) == bytes([expected])


def test_corruption_puts_a_reader_out_of_step(bench: Bench) -> None:
    bench.run()
    bench.time.sleep(0.3)
    level = bench.chip.fifo_level
    bench.chip.drop_fifo_bytes(6)
    assert 0 < bench.chip.fifo_level < level


TEMPERATURES = {
    **dict.fromkeys(("mpu6050",), (0x41, ">h", 340.0, 36.53)),
    **dict.fromkeys(("mpu6500", "mpu9250", "mpu9255"), (0x41, ">h", 333.87, 21.0)),
    "icm20948": (0x39, ">h", 333.87, 21.0),
    "icm42688": (0x1D, ">h", 132.48, 25.0),
    "lsm6ds3": (0x20, "<h", 16.0, 25.0),
    **dict.fromkeys(("lsm6ds3trc", "lsm6dsox", "ism330dhcx"), (0x20, "<h", 256.0, 25.0)),
    **dict.fromkeys(("bmi160",), (0x20, "<h", 512.0, 23.0)),
    "bmi270": (0x22, "<h", 512.0, 23.0),
    "lsm9ds1": (0x15, "<h", 16.0, 25.0),
}


@pytest.mark.parametrize("temperature_c", [-10.0, 40.0])
def test_temperature(bench: Bench, temperature_c: float) -> None:
    register, order, lsb_per_c, zero_c = TEMPERATURES[bench.name]
    bench = Bench(bench.name, temperature_c=temperature_c)
    bench.run()
    bench.time.sleep(0.1)
    bench.get(0x00)
    raw = int.from_bytes(bench.get(register, 2), "big" if order == ">h" else "little", signed=True)
    assert raw / lsb_per_c + zero_c == pytest.approx(temperature_c, abs=0.6 / lsb_per_c)
