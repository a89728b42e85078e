"""Other people's drivers read the emulated chips: a check of the emulator by code that was not written here.

`make test-third-party` makes the environment with the drivers and runs these.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from emulator.bus import EmulatedBus
from emulator.chips import CHIPS
from emulator.fuse import FuseI2c
from emulator.namespace import unavailable

if TYPE_CHECKING:
    import numpy.typing as npt

pytestmark = [pytest.mark.third_party, pytest.mark.bus]

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "build" / "third-party" / "bin" / "python"
CLIENTS = Path(__file__).with_name("clients.py")

ACCELERATION = (1.5, -3.25, 9.0)
GYRO = (0.5, -0.75, 1.0)
TEMPERATURE_C = 33.5
RATE_HZ = 100.0
STEP_HZ = 2.0

READERS = (
    ("mpu6050", "mpu6050_raspberrypi"),
    ("mpu6050", "adafruit_mpu6050"),
    ("mpu9250", "mpu9250_jmdev"),
    ("icm20948", "pimoroni_icm20948"),
    ("icm20948", "adafruit_icm20948"),
    ("lsm6ds3", "adafruit_lsm6ds3"),
    ("lsm6ds3trc", "adafruit_lsm6ds3trc"),
    ("lsm6dsox", "adafruit_lsm6dsox"),
    ("ism330dhcx", "adafruit_ism330dhcx"),
    ("bmi160", "bmi160_i2c"),
    ("bmi270", "bmi270"),
    ("lsm9ds1", "adafruit_lsm9ds1"),
)
WALKERS = (("lsm6ds3", "adafruit_lsm6ds3"), ("lsm6ds3trc", "lsm6ds3"), ("bmi160", "bmi160_i2c"))


@pytest.fixture(autouse=True)
def _needs() -> None:
    if reason := unavailable():
        pytest.skip(reason)


def still() -> npt.NDArray[np.float64]:
    return np.array([[*ACCELERATION, *GYRO]])


def walk(seconds: float = 60.0) -> npt.NDArray[np.float64]:
    """Make a recording with STEP_HZ peaks a second of ±0.3 g along gravity."""
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    rows = np.zeros((len(time_s), 6))
    rows[:, 2] = 9.80665 * (1.0 + 0.3 * np.sin(2 * np.pi * STEP_HZ * time_s))
    return rows


def run_client(client: str, chip_name: str, recording: npt.NDArray[np.float64], path: Path) -> dict[str, Any]:
    """Let a driver read one chip; start_s None would hold the first sample, as it never uses the FIFO."""
    if not PYTHON.exists():
        pytest.skip("no drivers here: make test-third-party")
    part = CHIPS[chip_name]
    chip = part.make(recording, RATE_HZ, temperature_c=TEMPERATURE_C, start_s=time.monotonic())
    with FuseI2c(path, EmulatedBus(part.devices(chip))):
        done = subprocess.run(
            [PYTHON, CLIENTS, client, str(path)], check=False, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(("chip_name", "client"), READERS, ids=[client for _, client in READERS])
def test_a_public_driver_reads_the_recording(chip_name: str, client: str, tmp_path: Path) -> None:
    reading = run_client(client, chip_name, still(), tmp_path / "i2c-1")
    # The BMI270's takes 9.813 m/s² for g.
    np.testing.assert_allclose(reading["acceleration"], ACCELERATION, rtol=0.001, atol=0.005)
    # Their gyroscope scale is 0.1 % off in places (131 for 131.072 steps a degree per second).
    np.testing.assert_allclose(reading["gyro"], GYRO, rtol=0.003, atol=0.001)
    if reading["temperature"] is not None:
        assert reading["temperature"] == pytest.approx(TEMPERATURE_C, abs=0.1)
    if "magnetic_ut" in reading:
        np.testing.assert_allclose(reading["magnetic_ut"], (18.0, 0.0, -45.0), atol=0.2)
    if "magnetic_gauss" in reading:
        np.testing.assert_allclose(reading["magnetic_gauss"], (0.2, 0.0, -0.4), atol=0.001)


@pytest.mark.parametrize(("chip_name", "client"), WALKERS, ids=[client for _, client in WALKERS])
def test_a_public_driver_reads_the_step_counter(chip_name: str, client: str, tmp_path: Path) -> None:
    """Two steps a second for five seconds, more where the machine lets the driver wait for longer."""
    reading = run_client(client, chip_name, walk(), tmp_path / "i2c-1")
    assert 9 <= reading["steps"] <= 100


# i2c-tools take numbers only, so the bus has to be in /dev.


@pytest.fixture
def number() -> int:
    if shutil.which("i2cget") is None:
        pytest.skip("no i2c-tools here: apt install i2c-tools")
    if not os.access("/dev", os.W_OK):
        pytest.skip("no right to make /dev/i2c-N")
    return next(number for number in range(71, 99) if not Path(f"/dev/i2c-{number}").exists())


def tool(*arguments: str) -> str:
    return subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=60).stdout


WHO_AM_I = {
    "mpu6050": (0x75, 0x68),
    "mpu6500": (0x75, 0x70),
    "mpu9250": (0x75, 0x71),
    "mpu9255": (0x75, 0x73),
    "icm20948": (0x00, 0xEA),
    "icm42688": (0x75, 0x47),
    "lsm6ds3": (0x0F, 0x69),
    "lsm6ds3trc": (0x0F, 0x6A),
    "lsm6dsox": (0x0F, 0x6C),
    "ism330dhcx": (0x0F, 0x6B),
    "bmi160": (0x00, 0xD1),
    "bmi270": (0x00, 0x24),
    "lsm9ds1": (0x0F, 0x68),
}


@pytest.mark.parametrize("name", sorted(CHIPS))
def test_i2c_tools_find_and_identify_every_chip(name: str, number: int) -> None:
    part = CHIPS[name]
    register, value = WHO_AM_I[name]
    address = f"{part.address:#x}"
    with FuseI2c(f"/dev/i2c-{number}", EmulatedBus(part.devices(part.make(still(), RATE_HZ)))):
        scan = tool("i2cdetect", "-y", "-r", str(number))
        found = tool("i2cget", "-y", str(number), address, f"{register:#x}")
        dump = tool("i2cdump", "-y", "-r", f"{register:#x}-{register:#x}", str(number), address, "b")
    present = [word for line in scan.splitlines()[1:] for word in line.split()[1:] if word != "--"]
    assert f"{part.address:02x}" in present
    assert int(found, 16) == value
    assert f"{value:02x}" in dump.splitlines()[-1].split()


def test_i2ctransfer_reads_a_fifo_burst_of_the_lsm6dsox(number: int) -> None:
    """Wake both sensors at 104 Hz, batch them, and read tags 1 (gyroscope) and 2 (accelerometer) in turn."""
    part = CHIPS["lsm6dsox"]
    chip = part.make(still(), RATE_HZ)
    with FuseI2c(f"/dev/i2c-{number}", EmulatedBus(part.devices(chip))):
        for register, value in ((0x10, 0x40), (0x11, 0x40), (0x09, 0x44), (0x0A, 0x06)):
            tool("i2cset", "-y", str(number), "0x6a", f"{register:#x}", f"{value:#x}")
        while chip.fifo_level < 10 * 14:
            time.sleep(0.01)
        burst = tool("i2ctransfer", "-y", str(number), "w1@0x6a", "0x78", "r140")
    data = bytes(int(word, 16) for word in burst.split())
    words = np.frombuffer(data, dtype=np.dtype([("tag", "u1"), ("xyz", "<i2", 3)]))
    assert (words["tag"] >> 3).tolist() == [1, 2] * 10
    acceleration = words["xyz"][1::2] * 0.061e-3 * 9.80665
    np.testing.assert_allclose(acceleration, np.tile(ACCELERATION, (10, 1)), atol=0.001)
    gyro = np.radians(words["xyz"][0::2] * 8.75e-3)
    np.testing.assert_allclose(gyro, np.tile(GYRO, (10, 1)), atol=0.001)
