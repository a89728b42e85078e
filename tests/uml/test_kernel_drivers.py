"""The kernel's own drivers on the emulated chips: a check of the emulator by code not written here.

`make test-uml` builds the kernel (scripts/uml-kernel) and runs this; elsewhere it is skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.edge.imu.iio_tree import ELEMENTS, MPU6050
from tests.uml import jobs
from tests.uml.wiring import PIN_OF

if TYPE_CHECKING:
    from tests.uml.conftest import Boot

pytestmark = pytest.mark.vm
SECONDS = jobs.MOVEMENT_S
MAX_LAG_S = {"icm42688": 0.045}
"""The kernel's stamps are at most a period late. The accelerometer of an ICM-42600 starts while the gyroscope is being
set up: its stamps begin 38 ms early and come nearer by 2 ms a second (inv_icm42600_timestamp.c)."""
TURNED = {"lsm6dsox"}
"""Chips to which tests/uml/sensors.dts gives a mount matrix."""
IIO_NAMES = {
    "bmi160": ["bmi160"],
    "icm42688": ["icm42605-gyro", "icm42605-accel"],
    "ism330dhcx": ["ism330dhcx_accel", "ism330dhcx_gyro"],
    "lsm6ds3": ["lsm6ds3_accel", "lsm6ds3_gyro"],
    "lsm6ds3trc": ["lsm6ds3tr-c_accel", "lsm6ds3tr-c_gyro"],
    "lsm6dsox": ["lsm6dsox_accel", "lsm6dsox_gyro"],
    "lsm9ds1": ["lsm9ds1-imu_accel", "lsm9ds1-imu_gyro"],
    "mpu6050": ["mpu6050"],
    "mpu6500": ["mpu6500"],
    "mpu9250": ["mpu9250"],
    "mpu9255": ["mpu9255"],
}


@pytest.mark.parametrize("name", sorted(PIN_OF))
def test_the_driver_knows_the_chip(name: str, raw: dict[str, Any]) -> None:
    """WHO_AM_I, reset and set-up are as the driver expects: otherwise there is no IIO device."""
    assert sorted(raw[name]["devices"]) == sorted(IIO_NAMES[name])


@pytest.mark.parametrize("name", sorted(PIN_OF))
def test_the_driver_reads_what_the_chip_feels(name: str, raw: dict[str, Any]) -> None:
    """The right axis, sign, byte order and scale, at the full scale that the driver chooses."""
    values = raw[name]["values"]
    acc = [values[f"accel_{axis}"] for axis in "xyz"]
    gyr = [values[f"anglvel_{axis}"] for axis in "xyz"]
    # At most ±16 g and ±2000 °/s in 16 bits, and the driver's own scale is rounded: 0.3 %.
    np.testing.assert_allclose(acc, jobs.STILL[:3], rtol=0.003, atol=0.005)
    np.testing.assert_allclose(gyr, jobs.STILL[3:], rtol=0.003, atol=0.0012)


@pytest.mark.parametrize("name", jobs.BUFFERED)
def test_the_driver_s_buffer_holds_the_movement_in_order(name: str, moved: dict[str, Any]) -> None:
    """FIFO or output registers, data-ready edge by edge: every channel, at the instant that the kernel says."""
    answer = moved[name]
    assert "error" not in answer, answer["error"]
    times, imu = np.array(answer["time_s"]) - answer["started_s"], np.array(answer["imu"])
    assert len(times) > 0.8 * SECONDS * answer["odr_hz"]
    assert np.diff(times).min() > 0
    assert answer["counters"]["bad_transfer"] == answer["counters"]["reinit"] == 0
    settled = times > times[0] + 1.0
    known = settled & ~np.isnan(imu).any(axis=1)
    assert known.sum() > 0.8 * settled.sum()
    for channels in (slice(0, 3), slice(3, 6)):
        lag_s, error = best_lag(name, times[known], imu[known][:, channels], channels)
        assert abs(lag_s) <= MAX_LAG_S.get(name, 1.1 / answer["odr_hz"])
        assert error.max() < 0.1
        # Second by second: stamps that come nearer while they go on fit no one lag.
        second = times[known].astype(int)
        parts = [second == number for number in np.unique(second)]
        errors = [best_lag(name, times[known][part], imu[known][part][:, channels], channels)[1] for part in parts]
        assert np.median(np.concatenate(errors)) < 0.02


def best_lag(
    name: str, times: np.ndarray[Any, Any], imu: np.ndarray[Any, Any], channels: slice
) -> tuple[float, np.ndarray[Any, Any]]:
    """Return by how much the kernel's stamps are late at best (s), and what error is left then."""
    lags_s = np.arange(-0.05, 0.0501, 0.001)
    errors = [np.abs(imu - felt(name, times - lag_s)[:, channels]) for lag_s in lags_s]
    best = int(np.argmin([error.mean() for error in errors]))
    return float(lags_s[best]), errors[best]


def felt(name: str, times: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[Any, Any]:
    """Return what the chip felt, in the axes of the device."""
    movement = jobs.slow_movement(times)
    return movement[:, [1, 0, 2, 4, 3, 5]] * [-1, 1, 1, -1, 1, 1] if name in TURNED else movement


def test_the_faked_device_of_the_unit_tests_is_like_the_real_one(boot: Boot) -> None:
    seen = boot(jobs.attributes, name="mpu6050")
    assert set(MPU6050) <= set(seen["attributes"])
    assert seen["elements"] == {name: list(element) for name, element in ELEMENTS.items()}
    for name in ("sampling_frequency_available", "in_accel_scale_available", "in_anglvel_scale_available"):
        assert seen["attributes"][name].split() == MPU6050[name].split()
