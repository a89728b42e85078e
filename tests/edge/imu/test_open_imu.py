"""Finding, identifying and starting the sensor, and what the user reads when that fails."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from edge.errors import ImuError
from edge.imu.bus import SmbusBus, bus_path, explain_access, explain_open
from emulator.chips.motion import COUNT_MASK
from emulator.mpu6050 import MPU_6050, MPU_6500, MPU_9250, Silicon
from tests.edge.imu.bench import ACC_M_S2, STILL, Bench


def test_a_started_sensor_delivers_si_units(bench: Bench) -> None:
    imu = bench.open()
    run = bench.run(imu, 2.0)
    run.check()
    assert (imu.name, imu.sampling_rate_hz) == ("MPU-6050", 100.0)
    assert run.lost == 0
    assert 198 <= len(run.counts) <= 210
    assert run.batches[-1].temperature_c == pytest.approx(31.0, abs=0.01)
    assert set(imu.counters().values()) == {0}


@pytest.mark.parametrize("address", [0x68, 0x69])
def test_auto_looks_at_both_addresses(address: int) -> None:
    bench = Bench(address)
    bench.run(bench.open(type="auto"), 0.5).check()


@pytest.mark.parametrize(("silicon", "name"), [(MPU_6050, "MPU-6050"), (MPU_6500, "MPU-6500"), (MPU_9250, "MPU-9250")])
def test_every_part_runs_under_any_type_of_the_family(silicon: Silicon, name: str) -> None:
    bench = Bench(silicon=silicon)
    imu = bench.open(type="mpu6050")
    run = bench.run(imu, 1.0)
    run.check()
    assert imu.name == name
    assert run.batches[-1].temperature_c == pytest.approx(31.0, abs=0.1)


@pytest.mark.parametrize("who_am_i", [0x98, 0x72])
def test_clones_are_accepted(who_am_i: int) -> None:
    bench = Bench(who_am_i=who_am_i)
    imu = bench.open()
    bench.run(imu, 1.0).check()
    assert imu.name == "MPU-6050 clone"


@pytest.mark.parametrize(
    ("who_am_i", "advice"), [(0x00, "wiring"), (0xFF, "wiring"), (0x47, "sensor.type"), (0xD1, "sensor.type")]
)
def test_another_identity_is_refused_with_what_was_found(who_am_i: int, advice: str) -> None:
    with pytest.raises(ImuError, match=rf"0x68 on /dev/i2c-1 answers WHO_AM_I {who_am_i:#04x}.*{advice}"):
        Bench(who_am_i=who_am_i).open(type="mpu6050")


def test_an_unknown_identity_can_be_allowed() -> None:
    bench = Bench(who_am_i=0x1A)
    bench.run(bench.open(accept_unknown_id=True), 0.5).check()
    with pytest.raises(ImuError):
        Bench(who_am_i=0xFF).open(accept_unknown_id=True)


def test_absent_sensor(bench: Bench) -> None:
    with pytest.raises(ImuError) as caught:
        bench.open(address=0x6A)
    assert str(caught.value) == "no device at 0x6a on /dev/i2c-1: check the wiring, then run `i2cdetect -y 1`"


def test_absent_bus(bench: Bench) -> None:
    with pytest.raises(ImuError, match="no I2C bus at /dev/i2c-7: enable I2C"):
        bench.open(bus=7)


def test_absent_bus_through_smbus2() -> None:
    with pytest.raises(ImuError, match="no I2C bus at /nonexistent/i2c-1"):
        SmbusBus("/nonexistent/i2c-1")


def test_a_file_that_is_no_bus() -> None:
    with pytest.raises(ImuError, match="/dev/null is not an I2C bus: run `i2cdetect -l`"):
        SmbusBus("/dev/null")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "usermod -aG i2c"),
        (errno.ENOENT, "enable I2C"),
        (errno.ENOTTY, "not an I2C bus"),
        (errno.EMFILE, "Too many open files"),
    ],
)
def test_words_for_a_bus_that_does_not_open(number: int, words: str) -> None:
    assert words in explain_open(OSError(number, os.strerror(number)), "/dev/i2c-1")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EREMOTEIO, "no device at 0x68 on /dev/i2c-1"),
        (errno.ENXIO, "i2cdetect -y 1"),
        (errno.EBUSY, "kernel driver"),
        (errno.ETIMEDOUT, "stuck (ETIMEDOUT)"),
        (errno.ENODEV, "No such device"),
    ],
)
def test_words_for_a_device_that_does_not_answer(number: int, words: str) -> None:
    assert words in explain_access(OSError(number, os.strerror(number)), 0x68, "/dev/i2c-1")


@pytest.mark.parametrize(
    ("bus", "path"),
    [(1, "/dev/i2c-1"), ("1", "/dev/i2c-1"), ("/dev/i2c-3", "/dev/i2c-3"), (Path("/run/bus"), "/run/bus")],
)
def test_bus_by_number_or_path(bus: int | str | Path, path: str) -> None:
    assert bus_path(bus) == path


@pytest.mark.parametrize(
    ("asked_hz", "odr_hz"), [(100, 100.0), (50, 50.0), (104, 100.0), (26, 1000 / 38), (200, 200.0)]
)
def test_nearest_possible_rate(bench: Bench, asked_hz: float, odr_hz: float) -> None:
    imu = bench.open(sampling_rate_hz=asked_hz)
    run = bench.run(imu, 3.0)
    run.check()
    assert imu.sampling_rate_hz == pytest.approx(odr_hz)
    assert len(run.counts) == pytest.approx(3.1 * odr_hz, abs=0.2 * odr_hz)
    assert len(run.batches) <= 3.1 * 12


@pytest.mark.parametrize("asked_hz", [0.0, 9.0, 400.0])
def test_impossible_rate(bench: Bench, asked_hz: float) -> None:
    with pytest.raises(ImuError, match="10 to 200 Hz"):
        bench.open(sampling_rate_hz=asked_hz)


def test_mount_matrix_turns_both_sensors() -> None:
    bench = Bench(gyroscope=True)
    quarter_turn = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))  # about z: x becomes y
    batch = bench.run(bench.open(mount_matrix=quarter_turn), 0.3).batches[0]
    ax, ay, az, gx, gy, _ = STILL
    np.testing.assert_allclose(batch.imu[0, :5], [-ay, ax, az, -gy, gx], atol=COUNT_MASK * ACC_M_S2)
    assert batch.imu.dtype == np.float32


def test_a_sensor_that_does_not_keep_its_registers_is_refused(bench: Bench) -> None:
    bench.bus.inject_now("fill", argument=0x68)  # answers everything with its identity
    with pytest.raises(ImuError, match="does not start"):
        bench.open()
