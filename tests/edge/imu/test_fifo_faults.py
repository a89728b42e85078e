"""Everything that can go wrong on the bus: what is lost is reported, and nothing false is ever delivered."""

from __future__ import annotations

import errno
from collections.abc import Callable

import numpy as np
import pytest

from edge.imu.chip import FifoFault
from edge.imu.chips import mpu6050
from edge.imu.chips.core import Options
from edge.imu.drain import FROZEN_S, drain_interval_s
from edge.imu.registers import int16_be
from emulator.bus import Fault
from emulator.inprocess import InProcessBus, VirtualTime
from emulator.mpu6050 import MPU_6050, MPU_6500, Silicon
from tests.edge.imu.bench import BUS, Bench, Run

FIFO_PORT = 0x74
STARTED_S = VirtualTime().now()

Trouble = Callable[[Bench], None]


def busy_host(bench: Bench) -> None:
    bench.time.sleep(2.0)


def stall_between_count_and_burst(bench: Bench) -> None:
    bench.bus.inject_now("stall", argument=1.3, times=1, register=FIFO_PORT)


def burst_fails(bench: Bench) -> None:
    bench.bus.inject_now("nack", times=1, register=FIFO_PORT)


def burst_fails_after_popping(bench: Bench) -> None:
    bench.bus.inject_now("nack_after", times=1, register=FIFO_PORT, argument=errno.EIO)


def bytes_lost(bench: Bench) -> None:
    bench.time.sleep(0.05)
    bench.chip.drop_fifo_bytes(5)


def garbage(bench: Bench) -> None:
    bench.bus.inject_now("garbage", times=1, register=FIFO_PORT)


def garbage_everywhere(bench: Bench) -> None:
    bench.bus.inject_now("garbage", for_s=0.7)


def all_ones(bench: Bench) -> None:
    bench.bus.inject_now("fill", argument=0xFF, for_s=0.5)


def all_zeros(bench: Bench) -> None:
    bench.bus.inject_now("fill", argument=0, for_s=0.5)


def glitch_between_drains(bench: Bench) -> None:
    bench.chip.power_cycle()


def glitch_before_burst(bench: Bench) -> None:
    bench.bus.inject_now("glitch", times=1, register=FIFO_PORT)


def rate_drifts(bench: Bench) -> None:
    bench.chip.poke(0x19, 19)


def asleep(bench: Bench) -> None:
    bench.chip.poke(0x6B, 0x40)


def sources_off(bench: Bench) -> None:
    bench.chip.poke(0x23, 0x00)


def unplugged(bench: Bench) -> None:
    bench.bus.inject_now("nack", for_s=20.0)
    bench.chip.power_cycle()


def unplugged_other_errno(bench: Bench) -> None:
    bench.bus.inject_now("nack", for_s=20.0, argument=errno.ENXIO)
    bench.chip.power_cycle()


def adapter_gone(bench: Bench) -> None:
    bench.bus.inject_now("gone", for_s=5.0)


def bus_stuck(bench: Bench) -> None:
    bench.bus.inject_now("stuck", for_s=4.0)


def bus_times_out(bench: Bench) -> None:
    bench.bus.inject_now("timeout", for_s=6.0)


def driver_bound(bench: Bench) -> None:
    bench.bus.inject_now("busy", for_s=3.0)


def unsupported(bench: Bench) -> None:
    bench.bus.inject_now("unsupported", for_s=3.0)


TROUBLES: list[tuple[Trouble, str]] = [
    (busy_host, "fifo_overflow"),
    (stall_between_count_and_burst, "fifo_overflow"),
    (burst_fails, "bad_transfer"),
    (burst_fails_after_popping, "bad_transfer"),
    (bytes_lost, "bad_transfer"),
    (garbage, "bad_transfer"),
    (garbage_everywhere, "gap_samples"),
    (all_ones, "fifo_overflow"),
    (all_zeros, "bad_register"),
    (glitch_between_drains, "bad_register"),
    (glitch_before_burst, "bad_register"),
    (rate_drifts, "bad_register"),
    (asleep, "bad_register"),
    (sources_off, "bad_register"),
    (unplugged, "reinit"),
    (unplugged_other_errno, "reinit"),
    (adapter_gone, "reinit"),
    (bus_stuck, "reinit"),
    (bus_times_out, "reinit"),
    (driver_bound, "reinit"),
    (unsupported, "reinit"),
]


@pytest.mark.parametrize("gyroscope", [False, True], ids=["acceleration", "six axes"])
@pytest.mark.parametrize("silicon", [MPU_6050, MPU_6500], ids=["6050", "6500"])
@pytest.mark.parametrize(("trouble", "counter"), TROUBLES, ids=lambda value: getattr(value, "__name__", None))
def test_trouble_is_survived_and_reported(trouble: Trouble, counter: str, silicon: Silicon, gyroscope: bool) -> None:
    bench = Bench(silicon=silicon, gyroscope=gyroscope)
    imu = bench.open()
    before = bench.run(imu, 2.0)
    trouble(bench)
    after = bench.run(imu, 30.0)
    whole = Run(before.batches + after.batches, after.longest_wait_s)
    whole.check()
    counters = imu.counters()
    assert counters[counter] >= 1
    assert counters["gap_samples"] >= 1
    assert whole.gaps >= 1
    assert whole.batches[-1].segment == whole.gaps
    assert len(after.batches[-1].imu) > 0, "the sensor is back"
    if counters["reinit"] == 0:  # a sensor that is reset also stops counting
        assert counters["gap_samples"] == pytest.approx(whole.lost, abs=2)


def test_a_short_burst_of_nacks_on_registers_is_retried_without_loss(bench: Bench) -> None:
    imu = bench.open()
    first = bench.run(imu, 1.0)
    bench.bus.inject_now("nack", for_s=0.004)
    bench.bus.inject_now("nack", times=3, register=0x72)
    run = Run(first.batches + bench.run(imu, 1.0).batches, 0.0)
    run.check()
    assert (run.lost, run.gaps) == (0, 0)
    assert set(imu.counters().values()) == {0}


@pytest.mark.parametrize(("after_s", "from_s"), [(1.0, 0.0), *((10.0, 0.1 * tenth) for tenth in range(1, 6))])
def test_half_a_second_without_bus_is_bridged_by_the_fifo(bench: Bench, after_s: float, from_s: float) -> None:
    """Whenever between two readings it begins: soon after a failure the next one is tried."""
    imu = bench.open()
    first = bench.run(imu, after_s)
    begin_s = bench.time.now() - STARTED_S + from_s
    bench.bus.inject(Fault("nack", begin_s, begin_s + 0.6))
    run = Run(first.batches + bench.run(imu, 2.0).batches, 0.0)
    run.check()
    assert (run.lost, run.gaps) == (0, 0)
    assert imu.counters()["bad_transfer"] >= 1


def test_a_chip_that_is_reset_during_the_burst_is_noticed_even_if_zeros_look_right() -> None:
    bench = Bench(temperature_c=36.53)  # raw temperature 0, as in the zeros of a chip that has just been reset
    imu = bench.open()
    before = bench.run(imu, 1.0)
    glitch_before_burst(bench)
    Run(before.batches + bench.run(imu, 2.0).batches, 0.0).check()
    assert imu.counters()["bad_register"] == 1


def test_an_hour_of_a_sensor_that_comes_and_goes_fills_no_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    imu = bench.open()
    bench.run(imu, 20.0)
    with caplog.at_level("INFO"):
        for _ in range(3600 // 3):
            bench.chip.poke(0x6B, 0x40)  # asleep
            bench.run(imu, 3.0)
    assert imu.counters()["reinit"] > 700
    assert 10 < len(caplog.records) < 60
    caplog.clear()
    bench.run(imu, 60.0)
    with caplog.at_level("INFO"):
        bench.chip.poke(0x6B, 0x40)
        bench.run(imu, 3.0)
    assert len(caplog.records) >= 3
    assert {record.name for record in caplog.records} == {"edge.imu.status"}, "told in full again"


def test_a_level_that_is_too_high_brings_no_frames_of_ones_even_if_their_temperature_looks_right() -> None:
    """An empty FIFO reads as 0xFF; as a temperature of an MPU-6500 that is 21.0 °C."""
    bench = Bench(silicon=MPU_6500, temperature_c=21.0)
    imu = bench.open()
    before = bench.run(imu, 2.0)
    bench.bus.inject_now("fill", argument=0xFF, times=1, register=FIFO_PORT)
    Run(before.batches + bench.run(imu, 2.0).batches, 0.0).check()
    assert imu.counters()["bad_transfer"] == imu.counters()["fifo_reset"] == 1


@pytest.mark.parametrize(("surplus", "gaps"), [([6], 0), ([6, 4], 1)])
def test_a_level_between_two_frames_is_looked_at_twice(bench: Bench, surplus: list[int], gaps: int) -> None:
    """Once may be a read that met the chip while it was writing a frame; twice is a FIFO out of step."""
    imu = bench.open()
    first = bench.run(imu, 1.0)
    assert imu._chip is not None
    level = imu._chip.fifo_level
    imu._chip.fifo_level = lambda: level() + (surplus.pop(0) if surplus else 0)  # type: ignore[method-assign]
    run = Run(first.batches + bench.run(imu, 1.0).batches, 0.0)
    run.check()
    assert run.gaps == imu.counters()["bad_transfer"] == gaps
    assert (run.lost > 0) == (gaps > 0)


def test_a_nearly_full_fifo_is_restarted(bench: Bench) -> None:
    imu = bench.open()
    bench.run(imu, 1.0)
    bench.time.sleep(1.265)  # 126 frames, 1008 bytes: three more would overflow
    bench.run(imu, 0.2)
    assert bench.chip.bytes_dropped == 0
    assert imu.counters()["fifo_overflow"] == 1


def test_an_overflow_is_noticed_whatever_the_level_is_now(bench: Bench) -> None:
    imu = bench.open()
    before = bench.run(imu, 1.0)
    bench.time.sleep(1.5)
    bench.chip.drop_fifo_bytes(1024 - 20 * 8)
    run = Run(before.batches + bench.run(imu, 1.0).batches, 0.0)
    run.check()
    assert (imu.counters()["fifo_overflow"], imu.counters()["bad_transfer"]) == (1, 0)


def test_a_burst_is_never_repeated(bench: Bench) -> None:
    imu = bench.open()
    bench.run(imu, 1.0)
    retries_before = bench.bus.errors
    bench.bus.inject_now("nack", times=50, register=FIFO_PORT)
    bench.run(imu, 0.5)
    bursts = imu.counters()["fifo_reset"]
    assert bench.bus.errors - retries_before == bursts > 1


def test_heartbeats_go_on_while_the_sensor_is_gone(bench: Bench) -> None:
    imu = bench.open()
    bench.run(imu, 1.0)
    bench.bus.inject_now("nack", for_s=60.0)
    run = bench.run(imu, 59.0)
    assert run.longest_wait_s <= 0.8
    assert run.counts == []
    assert bench.bus.transfers < 1500, "back-off keeps the bus quiet"


def test_the_bus_node_vanishes_and_returns(bench: Bench) -> None:
    imu = bench.open()
    bench.run(imu, 1.0)
    bench.bus.inject_now("gone", for_s=4.0)
    bus = bench.buses.pop(BUS)
    assert bench.run(imu, 5.0).counts == []
    bench.buses[BUS] = bus
    back = bench.run(imu, 5.0)
    back.check()
    assert len(back.counts) > 200
    assert imu.counters()["reinit"] == 1


def test_another_sensor_in_its_place_is_not_believed(bench: Bench) -> None:
    imu = bench.open()
    bench.run(imu, 1.0)
    bench.chip.who_am_i = 0x47
    bench.chip.power_cycle()
    assert bench.run(imu, 10.0).counts == []
    bench.chip.who_am_i = 0x68
    bench.chip.power_cycle()
    assert len(bench.run(imu, 5.0).counts) > 200


@pytest.mark.parametrize(
    ("gyroscope", "frame", "shift"),
    [(wanted, frame, shift) for wanted, frame in ((True, 14), (False, 8)) for shift in range(1, frame)],
)
def test_frames_out_of_step_are_recognised(bench: Bench, gyroscope: bool, frame: int, shift: int) -> None:
    bus = InProcessBus(bench.bus)
    options = Options(gyroscope=gyroscope)
    chip = mpu6050.Mpu6050(bus, 0x68, mpu6050.PARTS[0], options, sleep=bench.time.sleep)
    chip.start()
    bench.time.sleep(0.3)
    data = chip.read_fifo(20 * frame)
    assert len(chip.decode(data).imu) == 20
    with pytest.raises(FifoFault, match="out of step"):
        chip.decode(data[shift : shift + frame * 19])


def test_a_warming_sensor_is_not_taken_for_one_out_of_step(bench: Bench) -> None:
    imu = bench.open()
    for _ in range(50):
        bench.chip.temperature_c += 0.5
        bench.run(imu, 1.0).check()
    assert set(imu.counters().values()) == {0}


@pytest.mark.parametrize("rate_error", [-0.05, -0.01, 0.0, 0.03, 0.05])
def test_a_sensor_with_a_wrong_clock_is_timed_by_the_host(rate_error: float) -> None:
    bench = Bench(rate_error=rate_error)
    imu = bench.open()
    run = bench.run(imu, 60.0)
    run.check()
    assert run.lost == 0
    assert imu.rate_hz == pytest.approx(100.0 * (1.0 + rate_error), rel=5e-4)
    burst_s, period_s = 63 * 8 * 9 / 400_000.0, 0.01
    assert run.batches[-1].time_s[-1] == pytest.approx(bench.time.now(), abs=burst_s + period_s + 0.003)


def test_one_corrupt_temperature_at_the_start_condemns_nothing() -> None:
    bench = Bench()
    bench.bus.inject_now("garbage", times=1, register=0x41)
    imu = bench.open()
    run = bench.run(imu, 5.0)
    run.check()
    assert run.lost == 0
    assert imu.counters()["bad_transfer"] == 0


def test_a_fault_that_a_fifo_restart_does_not_cure_sets_the_chip_up_anew(bench: Bench) -> None:
    imu = bench.open()
    bench.run(imu, 1.0)
    bench.bus.inject_now("garbage", times=6, register=FIFO_PORT)
    run = bench.run(imu, 5.0)
    run.check()
    assert imu.counters()["reinit"] == 1
    assert len(run.batches[-1].imu) > 0


def test_a_slow_bus_is_only_slow() -> None:
    bench = Bench()
    bench.bus.bitrate_hz = 10_000.0  # i2c-gpio; a 140-byte burst takes 0.13 s
    imu = bench.open(sampling_rate_hz=25)
    run = bench.run(imu, 10.0)
    run.check()
    assert (run.lost, run.gaps) == (0, 0)


def test_wakes_at_most_twelve_times_a_second(bench: Bench) -> None:
    imu = bench.open()
    assert len(bench.run(imu, 10.0).batches) <= 120
    assert bench.run(imu, 10.0).batches
    assert len(bench.run(imu, 10.0).batches) <= 17, "after the clock has learnt the rate"
    assert all(drain_interval_s(odr_hz) <= 0.6 for odr_hz in np.arange(10.0, 210.0))


def test_a_reading_takes_three_transactions(bench: Bench) -> None:
    """Level, burst, then all settings and the overflow flag together."""
    imu = bench.open()
    bench.run(imu, 10.0)
    before = bench.bus.transfers
    run = bench.run(imu, 10.0)
    assert bench.bus.transfers - before == 3 * len(run.batches)


@pytest.mark.parametrize("register", [0x19, 0x1A, 0x1B, 0x1C, 0x23, 0x38, 0x6A, 0x6B, 0x6C])
def test_after_every_burst_each_of_these_settings_is_looked_at(bench: Bench, register: int) -> None:
    imu = bench.open()
    bench.run(imu, 10.0)
    bench.chip.poke(register, bench.chip.peek(register) ^ 0x01)
    assert [len(batch.imu) for batch in bench.run(imu, 0.1).batches] == [0]
    assert imu.counters()["bad_register"] == 1


@pytest.mark.parametrize("odr_hz", [50.0, 100.0, 104.0, 200.0])
@pytest.mark.parametrize("fifo_frames", [32.0, 64.0, 73.1, 128.0, 512.0])
def test_a_drain_leaves_two_thirds_of_the_fifo_or_time_for_a_long_stall(odr_hz: float, fifo_frames: float) -> None:
    for learning in (False, True):
        taken = drain_interval_s(odr_hz, fifo_frames, learning=learning) * odr_hz
        assert taken <= fifo_frames / 3.0 or fifo_frames - taken >= 0.65 * odr_hz


def test_without_the_gyroscope_more_than_half_a_second_of_stall_is_survived(bench: Bench) -> None:
    imu = bench.open()
    run = bench.run(imu, 10.0)
    for _ in range(20):
        bench.time.sleep(0.64)
        run = Run(run.batches + bench.run(imu, 1.3).batches, 0.0)
    run.check()
    assert (run.lost, run.gaps) == (0, 0)
    assert all(np.isnan(batch.imu[:, 3:]).all() for batch in run.batches)


def test_close_ends_the_batches_and_puts_the_chip_to_sleep(bench: Bench) -> None:
    imu = bench.open()
    taken = 0
    for _ in imu.batches():
        taken += 1
        if taken == 5:
            imu.close()
    assert taken == 5
    assert bench.chip.peek(0x6B) == 0x40
    imu.close()
    assert list(imu.batches()) == []


def test_close_in_the_middle_of_a_burst_waits_for_its_end(bench: Bench) -> None:
    imu = bench.open()
    stream = imu.batches()
    next(stream)
    sleep = bench.bus.sleep
    slept: list[float] = []

    def close_while_on_the_wire(seconds: float) -> None:
        if seconds > 70 * 9 / 400_000 and not slept:
            slept.append(seconds)
            imu.close()
        sleep(seconds)

    bench.bus.sleep = close_while_on_the_wire
    rest = list(stream)
    assert len(slept) == 1
    assert [len(batch.imu) > 0 for batch in rest] == [True]
    assert bench.chip.peek(0x6B) == 0x40


def test_a_consumer_that_stops_listening_releases_the_sensor(bench: Bench) -> None:
    imu = bench.open()
    for _ in imu.batches():
        break
    assert bench.chip.peek(0x6B) == 0x40


def test_saturated_samples_stay_saturated() -> None:
    words = int16_be(bytes.fromhex("7fff800000000000000000000000"), 7)
    assert words[0, :2].tolist() == [32767, -32768]


@pytest.mark.parametrize("taken_after_s", [0.03, 0.1, 0.2])
def test_samples_that_somebody_else_took_from_the_fifo_are_missed(bench: Bench, taken_after_s: float) -> None:
    """Whole frames vanish, without an overflow and in step: only the time tells."""
    imu = bench.open()
    before = bench.run(imu, 5.0)
    bench.time.sleep(taken_after_s)
    bench.chip.drop_fifo_bytes(2000)
    after = bench.run(imu, 5.0)
    both = Run(before.batches + after.batches, 0.0)
    both.check()
    assert both.lost >= 2
    assert both.gaps == 1
    assert abs(imu.counters()["gap_samples"] - both.lost) <= 1
    assert imu.counters()["bad_transfer"] == 1


def test_a_frozen_sensor_is_found_out_once_and_not_believed_until_it_moves(bench: Bench) -> None:
    imu = bench.open()
    before = bench.run(imu, 2.1)
    bench.chip.frozen = True
    frozen = bench.run(imu, 20.0)
    repeated = int((np.diff(before.counts[-1:] + frozen.counts) == 0).sum())
    assert FROZEN_S * 100.0 - 65 <= repeated <= FROZEN_S * 100.0
    assert imu.counters()["frozen_samples"] == repeated
    assert imu.counters()["reinit"] <= 12, "with back-off, though it comes back every time"
    bench.time.sleep(0.02)  # frozen frames and living ones in one burst
    bench.chip.take_due()
    bench.chip.frozen = False
    living = bench.run(imu, 5.0)
    assert len(living.counts) > 200
    assert frozen.counts[-1] not in living.counts
    assert imu.counters()["frozen_samples"] == repeated
    living.check()


def test_a_few_frozen_samples_are_no_frozen_sensor(bench: Bench) -> None:
    imu = bench.open()
    bench.run(imu, 2.0)
    for _ in range(3):
        bench.chip.frozen = True
        bench.run(imu, 4.0)
        bench.chip.frozen = False
        bench.run(imu, 1.0)
    assert set(imu.counters().values()) == {0}
